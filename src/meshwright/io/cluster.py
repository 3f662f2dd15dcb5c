"""A Kubernetes API server: plain JSON in, plain JSON out. The way there is `apiserver`, who we are `kubeconfig`.

Formats: the Kubernetes API (v1.36) reference, "API concepts" and "Server-side apply".
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshwright.errors import ClusterError

if TYPE_CHECKING:
    from meshwright.io.apiserver import Connection
    from meshwright.io.kubeconfig import Login

Object = dict[str, Any]
Objects = list[Object]

PAGE = 2000
"""Objects in one answer to a LIST; what is more comes in pages."""
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
ONE_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class Cluster:
    """A connection to one API server, as one context of a kubeconfig describes it.

    Nothing is read and nobody is asked before the first call. Threads may share one. Every method raises ClusterError.
    Paths are those of the API, e.g. /apis/rbac.authorization.k8s.io/v1/namespaces/ham/rolebindings/meshwright-admin.

    socket: every connection goes to this Unix socket instead; the URL, the name in the certificate and its authority
    stay the kubeconfig's. warn: called with (path, text) for each warning of the server, in the thread that asked.
    patience: seconds for second attempts of what may be sent twice, and for one answer.
    """

    def __init__(
        self,
        context: str | None,
        kubeconfig: Path | None = None,
        *,
        socket: Path | None = None,
        warn: Callable[[str, str], None] = lambda path, text: None,
        patience: float = 30,
    ) -> None:
        self._context = context
        self._kubeconfig = kubeconfig
        self._socket = socket
        self._warn = warn
        self._patience = patience
        self._lock = threading.Lock()
        self._made: Connection | None = None
        self._may: Callable[[], None] = lambda: None
        self._said: dict[str, None] = {}

    def asking(self, may: Callable[[], None]) -> Cluster:
        """The same connection. `may` is called before every write, second attempts too; it raises to forbid it."""
        self._connection()
        other = copy.copy(self)
        other._may = may
        return other

    def _connection(self) -> Connection:
        from meshwright.io import apiserver, kubeconfig

        with self._lock:
            if self._made is None:
                login = kubeconfig.find(self._context, self._kubeconfig)
                self._made = apiserver.Connection(login, self._socket, self._heard, self._patience)
            return self._made

    def _heard(self, path: str, text: str) -> None:
        if text.startswith(_MEANT):
            return
        self._said.setdefault(text)
        self._warn(path, text)

    def note(self, text: str) -> None:
        """Something to be told among `warnings`."""
        self._said.setdefault(text)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What whoever used this connection should know, each once: what the server warned of, and no check of it."""
        if self._made is None:
            return ()
        unchecked = (
            f"the certificate of {self.server} is not checked (insecure-skip-tls-verify of context {self.name!r}): "
            "whoever stands in between can read and change everything"
        )
        return (*([unchecked] if self.insecure else []), *list(self._said))

    def _login(self) -> Login:
        return self._connection().login

    @property
    def name(self) -> str:
        """The context's name, for people."""
        return self._login().context

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return self._login().server

    @property
    def namespace(self) -> str:
        """The context's namespace; `default` where it names none."""
        return self._login().namespace

    @property
    def insecure(self) -> bool:
        """Whether the kubeconfig says to take any certificate; somebody in between can then read and change all."""
        return self._login().insecure

    def now(self) -> datetime:
        """The server's clock."""
        connection = self._connection()
        if connection.now() is None:
            self.get("/version")
        return connection.now() or datetime.now(UTC)

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        """One object, or whatever else a GET answers."""
        return self._send("GET", path, query or {}, again=True)

    def list(self, path: str, *, label: str = "", field: str = "", metadata: bool = False) -> Objects:
        """All objects of a collection, in pages where it is large. metadata: only apiVersion, kind and metadata.

        Each object has apiVersion and kind, which the server leaves out in lists.
        """
        query = {"labelSelector": label, "fieldSelector": field}
        chosen = {key: value for key, value in query.items() if value}
        accept = METADATA if metadata else "application/json"
        try:
            return self._pages(path, {**chosen, "limit": str(PAGE)}, accept)
        except ClusterError as error:
            if error.status != 410:
                raise
        # the pages had become too old to go on with: everything at once then
        return self._pages(path, chosen, accept)

    def _pages(self, path: str, query: Mapping[str, str], accept: str) -> Objects:
        items: Objects = []
        token = ""
        while True:
            page = self._send(
                "GET", path, {**query, **({"continue": token} if token else {})}, accept=accept, again=True
            )
            if not isinstance(page.get("items") or [], list) or "metadata" not in page:
                raise ClusterError(f"{self.server}: {path} is not a collection", "this is a bug of meshwright")
            items += [_named(item, page) for item in page.get("items") or []]
            token = page["metadata"].get("continue", "")
            if not token:
                return items

    def apply(self, path: str, body: Object, *, manager: str, force: bool = False, dry_run: bool = False) -> Object:
        """Server-side apply with strict field validation. Of a Secret the answer is only the metadata."""
        query = _writing(manager, dry_run) | {"force": "true" if force else "false"}
        kind = "application/apply-patch+yaml"
        return self._send("PATCH", path, query, body, kind=kind, again=True, accept=_answer(path))

    def merge(self, path: str, body: Object, *, manager: str) -> Object:
        """JSON merge patch (RFC 7386): null takes a field away. With metadata.resourceVersion it is compare-and-set.

        Then 409 may also be the answer to a second attempt: look at the object. Of a Secret the answer is only the
        metadata.
        """
        kind = "application/merge-patch+json"
        return self._send("PATCH", path, _writing(manager), body, kind=kind, again=True, accept=_answer(path))

    def create(self, path: str, body: Object, *, manager: str = "", dry_run: bool = False) -> Object:
        """POST to a collection, or to a subresource such as .../token and selfsubjectaccessreviews."""
        return self._send("POST", path, _writing(manager, dry_run), body, again=dry_run or path.endswith("reviews"))

    def replace(self, path: str, body: Object, *, manager: str) -> Object:
        """PUT; metadata.resourceVersion in `body` makes it compare-and-set, as in `merge`."""
        return self._send("PUT", path, _writing(manager), body, again=True)

    def delete(
        self, path: str, *, uid: str = "", version: str = "", propagation: str = "Background", grace: int | None = None
    ) -> None:
        """DELETE with preconditions; what is already gone is no error. grace: seconds that a pod gets to end."""
        conditions = {key: value for key, value in (("uid", uid), ("resourceVersion", version)) if value}
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if conditions:
            body["preconditions"] = conditions
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        try:
            self._send("DELETE", path, {}, body, again=True)
        except ClusterError as error:
            if error.status != 404:
                raise

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None = None,
        **more: Any,
    ) -> Object:
        from meshwright.io.apiserver import Request

        if method != "GET":
            more["may"] = self._may
        found: Object = self._connection().send(Request(method, path, query, body, **more))
        return found

    def close(self) -> None:
        """Give the connections back."""
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None


_MEANT = "v1 Endpoints is deprecated"
"""Warnings of what is done knowingly (decision 018), of which nobody has to be told at each command."""


def connect(
    context: str | None = None,
    kubeconfig: Path | None = None,
    *,
    socket: Path | None = None,
    warn: Callable[[str, str], None] = lambda path, text: None,
) -> Cluster:
    """The API server that kubectl would talk to; with `kubeconfig` the one of that file. Reads nothing yet."""
    return Cluster(context, kubeconfig, socket=socket, warn=warn)


def _named(item: Object, page: Object) -> Object:
    """An item of a list with its apiVersion and kind first, as an object of its own has them."""
    kind = page["kind"].removesuffix("List")
    return {"apiVersion": page["apiVersion"], "kind": kind, **item}


def _answer(path: str) -> str:
    """What a PATCH is to answer with: what is in a Secret stays where it is."""
    return ONE_METADATA if path.split("/")[-2] == "secrets" else "application/json"


def _writing(manager: str, dry_run: bool = False) -> dict[str, str]:
    query = {"fieldValidation": "Strict"}
    if manager:
        query["fieldManager"] = manager
    if dry_run:
        query["dryRun"] = "All"
    return query
