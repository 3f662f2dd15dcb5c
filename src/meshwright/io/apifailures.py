"""What can go wrong between us and an API server, as one sentence with a next step. Pure.

Format: the Status object of the Kubernetes API. Text from the server is shortened and keys are taken out of it.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from meshwright.errors import ClusterError
from meshwright.io import host
from meshwright.io.kubeconfig import Login

BUSY = frozenset({429, 502, 503, 504})
"""Answers that say: not now."""


@dataclass(frozen=True)
class Failure:
    """error: for the user. untouched: the server did nothing with the request. after: seconds it asks us to wait.

    fleeting: it may go by itself. hung: it cost a whole time limit, so one more attempt is enough.
    """

    error: ClusterError
    untouched: bool = False
    fleeting: bool = False
    hung: bool = False
    after: float = 0

    def passing(self, again: bool) -> bool:
        """Whether another attempt is allowed; `again`: the request may be sent twice."""
        return self.fleeting and (again or self.untouched)


def judged(status: int, headers: Mapping[str, str], content: bytes, login: Login) -> Any:
    """The JSON of a good answer, or a Failure."""
    good = 200 <= status < 300
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if good and isinstance(body, dict):
        return body
    if not isinstance(body, dict) or (not good and body.get("kind") != "Status"):
        return _gibberish(status, headers, content, login)
    return _refused(status, headers, body, login)


def _gibberish(status: int, headers: Mapping[str, str], content: bytes, login: Login) -> Failure:
    """An answer that is no JSON of an API server: a proxy's page, or half an answer. Its status means nothing then."""
    kind = headers.get("content-type", "").partition(";")[0] or "no content type"
    if kind == "application/json":
        what = f"the answer of {login.server} is cut off or garbled (status {status})"
        return Failure(ClusterError(what, "try again; if it stays, look at what is between"), fleeting=True)
    if status == 401:
        return Failure(_unaccepted(login))
    if status == 404 and "audit-id" in headers:
        # an API server, asked for a path of a kind that it does not have
        return Failure(ClusterError(f"{login.server}: it has no such kind of object", "", 404, "NotFound"))
    what = f"{login.server} answered {status} with {kind}, which is not what an API server says"
    hint = f"a proxy or another service answers there; check `server` of context {login.context!r}"
    return Failure(
        ClusterError(what, hint), fleeting=status in BUSY, untouched=status == 429, after=_after(headers, {})
    )


def _refused(status: int, headers: Mapping[str, str], body: Mapping[str, Any], login: Login) -> Failure:
    if status == 401:
        return Failure(_unaccepted(login))
    after = _after(headers, body)
    details = body.get("details") or {}
    said = clean(str(body.get("message") or f"status {status}"))
    error = ClusterError(
        f"{login.server}: {said}",
        _known(said) or _next_step(status, str(body.get("reason") or ""), login),
        status,
        str(body.get("reason") or ""),
        tuple(_cause(each) for each in details.get("causes") or () if isinstance(each, dict)),
    )
    fleeting = status in BUSY or (status >= 500 and after > 0)
    return Failure(error, untouched=status == 429, fleeting=fleeting, after=after)


def _after(headers: Mapping[str, str], body: Mapping[str, Any]) -> float:
    """How long the server wants to be left alone."""
    said = headers.get("retry-after") or (body.get("details") or {}).get("retryAfterSeconds") or 0
    try:
        return max(0.0, float(said))
    except (TypeError, ValueError):
        return 1.0


def _unaccepted(login: Login) -> ClusterError:
    return ClusterError(
        f"{login.server}: the credentials of context {login.context!r} (user {login.user!r}) are not accepted: "
        "expired, revoked, or of another cluster",
        f"log in again or get a fresh kubeconfig, then see that `kubectl --context {login.context} auth whoami` works",
        401,
        "Unauthorized",
    )


_MANAGER = re.compile(r'conflict with "((?:[^"\\]|\\.)*)"')


def _cause(each: Mapping[str, Any]) -> tuple[str, str]:
    """A cause as (field, what is wrong with it); for a conflict of server-side apply (field, who manages it)."""
    text = clean(str(each.get("message") or ""))
    if each.get("reason") == "FieldManagerConflict" and (found := _MANAGER.match(text)):
        text = found[1]
    return str(each.get("field") or ""), text


_REASONS = (
    (
        r"ValidatingAdmissionPolicy '(.*?)' .*denied request",
        "the admission policy {} of this cluster refuses it: change that policy, or have this user left out of it",
    ),
    (
        r'admission webhook "(.*?)" denied the request',
        "the webhook {} of this cluster refuses it: change what it checks, or have this user left out of it",
    ),
    (
        r'failed calling webhook "(.*?)"',
        "the cluster asks the webhook {} about this object and gets no answer: bring it up, or unregister it",
    ),
    (r"exceeded quota: (.+?),", "the quota {} of that namespace is used up: make room, then apply again"),
    (
        r"status unknown for quota: ([^,]+)",
        "nobody has counted for the quota {} yet: see whether kube-controller-manager runs, then apply again",
    ),
    (r"because it is being terminated", "wait until the namespace is gone, then apply again"),
    (
        r"attempting to grant RBAC permissions not currently held",
        "nobody can give rights that he lacks: use a context with all rights (cluster-admin), or grant this user the "
        "verbs bind and escalate",
    ),
    (
        r"field is immutable",
        "nobody can change that field: save what is in the object, delete it, then apply again",
    ),
    (r'namespaces "(.*?)" not found', "make the namespace {} first, then apply again"),
)
"""What the server says of things beside the request itself, and what to do then."""


def _known(said: str) -> str:
    """The next step where the server's own words tell it."""
    for pattern, hint in _REASONS:
        if found := re.search(pattern, said):
            return hint.format(*found.groups())
    return ""


def _next_step(status: int, reason: str, login: Login) -> str:
    if status == 403:
        return f"the rights of user {login.user!r} do not reach this far: grant them, or use another context"
    if status == 429:
        return "the server is too busy, or a quota of requests is used up; try again later"
    if status == 422 or reason == "BadRequest" or (status == 500 and not reason):
        # server-side apply answers 500 without a reason to a field that its schema lacks
        return "the server does not take this object: correct what it names"
    if status in BUSY or status >= 500:
        return "the server has trouble of its own; look at its log, then try again"
    if status == 409:
        return "somebody else changed or holds it; run `meshwright plan` to see what is there now"
    return ""


def unanswered(error: Exception, login: Login, via: str, method: str) -> Failure:
    """No answer came. `via`: the Unix socket or the proxy that leads there, or ""."""
    import httpcore2

    causes = list(_causes(error))
    where = f"{login.server} (by {via})" if via else login.server
    ends = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
    if found := next((each for each in causes if isinstance(each, ssl.SSLError) and not isinstance(each, ends)), None):
        return Failure(_tls(found, login, where))
    never = (httpcore2.ConnectError, httpcore2.ConnectTimeout, httpcore2.PoolTimeout, httpcore2.ProxyError)
    unsent = isinstance(error, never)
    what, hint = _unreached(causes, error, where, login)
    if not unsent and method not in {"GET", "HEAD"}:
        hint = f"it may or may not have done what was asked: look with `meshwright plan`; {hint}"
    hung = isinstance(error, httpcore2.TimeoutException) and not unsent
    final = isinstance(error, httpcore2.UnsupportedProtocol | httpcore2.LocalProtocolError | ValueError)
    dns = any(isinstance(each, socket.gaierror) and each.errno != socket.EAI_AGAIN for each in causes)
    return Failure(ClusterError(what, hint), untouched=unsent, fleeting=not (final or dns), hung=hung)


def _unreached(causes: list[BaseException], error: Exception, where: str, login: Login) -> tuple[str, str]:
    import httpcore2

    context = f"check `server` of context {login.context!r} in {login.origin}"
    if any(isinstance(each, socket.gaierror) for each in causes):
        return f"{where}: the name of the server is not known to DNS", context
    if isinstance(error, httpcore2.ProxyError):
        return (
            f"{where}: the proxy does not lead there: {_why(causes)}",
            "check proxy-url of the kubeconfig, HTTPS_PROXY and NO_PROXY",
        )
    if isinstance(error, httpcore2.TimeoutException):
        return f"{where}: nobody answers", f"is the server up, and is there a way to it? {context}"
    if isinstance(error, httpcore2.ConnectError):
        refused = any(isinstance(each, ConnectionRefusedError) for each in causes)
        said = "the connection is refused" if refused else f"no connection: {_why(causes)}"
        return f"{where}: {said}", f"is the API server running? {context}"
    broke = isinstance(error, httpcore2.RemoteProtocolError | httpcore2.ReadError | httpcore2.WriteError)
    said = "the connection broke before the answer was whole" if broke else f"nothing can be sent: {_why(causes)}"
    return f"{where}: {said}", context


def _tls(error: ssl.SSLError, login: Login, where: str) -> ClusterError:
    code = getattr(error, "verify_code", 0)
    if code in {62, 64}:
        name = login.tls_name or urlsplit(login.server).hostname
        return ClusterError(
            f"{where}: the server's certificate does not name {name}",
            "add that name or address to the certificate's list (SAN; tls-san of k3s), or use one that is in it: "
            "`server` or tls-server-name in the kubeconfig",
        )
    if code in {9, 10}:
        late = "has expired" if code == 10 else "is not valid yet"
        return ClusterError(
            f"{where}: the server's certificate {late}", "renew it on the server; check the clocks of both machines"
        )
    if code:
        return ClusterError(
            f"{where}: the server's certificate is not from the authority that context {login.context!r} trusts",
            "is this the right server? If its authority was made anew, get a fresh kubeconfig",
        )
    reason = (error.reason or "").upper()
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        return ClusterError(
            f"{where}: the server does not take the client certificate of context {login.context!r}",
            "it may have expired or be of another cluster: get a fresh kubeconfig",
            401,
        )
    said = reason.replace("_", " ").lower() or "no reason given"
    return ClusterError(f"{where}: no TLS connection: {said}", "is this the port of an API server (https)?")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _why(causes: list[BaseException]) -> str:
    found = next((each for each in causes if isinstance(each, OSError) and each.strerror), None)
    return str(found.strerror) if found else clean(str(causes[0]))


_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")


def clean(text: str) -> str:
    """The text on one line, bounded, without keys and tokens."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return host.public(_TOKEN.sub("(token)", text))[:2000]
