"""A Kubernetes API server: plain JSON in, plain JSON out. The only home of lightkube.

Formats: the Kubernetes API (v1.36) reference, "API concepts" and "Server-side apply".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Object = dict[str, Any]


class Cluster:
    """A connection to one API server, as one context of a kubeconfig describes it.

    Nothing is read and nobody is asked before the first call. Threads may share one. Every method raises ClusterError.
    Paths are those of the API, e.g. /apis/rbac.authorization.k8s.io/v1/namespaces/ham/rolebindings/meshwright-admin.
    """

    def __init__(self, context: str | None, kubeconfig: Path | None = None) -> None:
        self._context = context
        self._kubeconfig = kubeconfig

    @property
    def name(self) -> str:
        """The context's name, for people."""
        raise NotImplementedError

    @property
    def server(self) -> str:
        """The URL of the API server."""
        raise NotImplementedError

    @property
    def namespace(self) -> str:
        """The context's namespace; `default` where it names none."""
        raise NotImplementedError

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        """One object, or whatever else a GET answers."""
        raise NotImplementedError

    def list(self, path: str, *, label: str = "", field: str = "", metadata: bool = False) -> list[Object]:
        """All objects of a collection, in pages where it is large. metadata: only apiVersion, kind and metadata.

        Each object has apiVersion and kind, which the server leaves out in lists.
        """
        raise NotImplementedError

    def apply(self, path: str, body: Object, *, manager: str, force: bool = False, dry_run: bool = False) -> Object:
        """Server-side apply with strict field validation."""
        raise NotImplementedError

    def merge(self, path: str, body: Object, *, manager: str) -> Object:
        """JSON merge patch (RFC 7386): null takes a field away."""
        raise NotImplementedError

    def create(self, path: str, body: Object, *, manager: str = "", dry_run: bool = False) -> Object:
        """POST to a collection, or to a subresource such as .../token and selfsubjectaccessreviews."""
        raise NotImplementedError

    def replace(self, path: str, body: Object, *, manager: str) -> Object:
        """PUT; metadata.resourceVersion in `body` makes it compare-and-set."""
        raise NotImplementedError

    def delete(self, path: str, *, uid: str = "", version: str = "", propagation: str = "Background") -> None:
        """DELETE with preconditions; what is already gone is no error."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the connections back."""


def connect(context: str | None = None, kubeconfig: Path | None = None) -> Cluster:
    """The API server that kubectl would talk to; with `kubeconfig` the one of that file. Reads nothing yet."""
    return Cluster(context, kubeconfig)
