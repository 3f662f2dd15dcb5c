"""Requests to one API server: TLS, credentials, second attempts, and one plain sentence when it fails.

What may be sent twice without doing something twice is sent again, for a bounded time, when the server is away, busy
or broke off. No message holds a token, a key, or the body of a request.
"""

from __future__ import annotations

import json
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from meshwright.errors import ClusterError, MeshwrightError
from meshwright.io import apifailures, pool, proxies
from meshwright.io.apifailures import Failure
from meshwright.io.credentials import Credentials, Identity
from meshwright.io.kubeconfig import Login
from meshwright.io.tls import Context

FIRST_PATIENCE = 5.0
"""Seconds for a server that never answered: more likely not there than away for a moment."""


@dataclass(frozen=True)
class Request:
    """again: it may be sent twice, since the second time changes nothing more than the first.

    may: called right before it is sent, each time; raises MeshwrightError when it must not be.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = field(default=None, repr=False)
    kind: str = "application/json"
    accept: str = "application/json"
    again: bool = False
    may: Callable[[], None] = field(default=lambda: None, repr=False)


class Connection:
    """A way to the server of `login`; threads share it. patience: seconds for second attempts, and for one answer."""

    def __init__(self, login: Login, socket: Path | None, warn: Callable[[str, str], None], patience: float) -> None:
        self.login = login
        self._socket = socket
        self._warn = warn
        self._patience = patience
        self._proxy = None if socket else proxies.proxy(login)
        self._via = str(socket) if socket else proxies.shown(self._proxy)
        self._credentials = Credentials(login)
        self._lock = threading.Lock()
        self._pools: dict[Identity, Any] = {}
        limits = {"connect": min(10, patience), "read": patience, "write": patience, "pool": patience}
        name = {"sni_hostname": login.tls_name} if login.tls_name else {}
        self._extensions: Mapping[str, Any] = {"timeout": limits, **name}
        self._clock: tuple[datetime, float] | None = None

    def send(self, request: Request) -> Any:
        """The JSON of the answer. ClusterError when there is none, or it is a refusal."""
        begun, delay, renewed, hung = time.monotonic(), 0.1, False, False
        found: Any = None
        while True:
            identity = self._credentials.identity()
            _ask(request, found)
            found = self._attempt(request, identity)
            if not isinstance(found, Failure):
                return found
            if found.error.status == 401 and not renewed:
                renewed = True
                if self._credentials.renew(identity):
                    continue
            wait = max(found.after, delay * random.uniform(0.5, 1.5))  # noqa: S311 - spreads the load, hides nothing
            late = time.monotonic() + wait - begun > self._left() and not found.hung
            if late or hung or not found.passing(request.again):
                raise found.error
            hung = found.hung
            time.sleep(wait)
            delay = min(delay * 2, 5)

    def _left(self) -> float:
        return self._patience if self._clock else min(FIRST_PATIENCE, self._patience)

    def now(self) -> datetime | None:
        """The server's clock, as its last answer told it; None before the first."""
        if not self._clock:
            return None
        said, then = self._clock
        return said + timedelta(seconds=time.monotonic() - then)

    def _attempt(self, request: Request, identity: Identity) -> Any:
        """One request: the JSON of a good answer, or a Failure."""
        body = b"" if request.body is None else _compact(request.body)
        url = self.login.server, request.path + (f"?{urlencode(request.query)}" if request.query else "")
        connections, headers = self._pool(identity), self._headers(request, identity)
        try:
            answer = pool.ask(connections, request.method, url, headers, body, self._extensions)
        except pool.failures() as error:
            return apifailures.unanswered(error, self.login, self._via, request.method)
        self._note(request.path, answer)
        return apifailures.judged(answer.status, answer.headers, answer.content, self.login)

    def _headers(self, request: Request, identity: Identity) -> dict[str, str]:
        packed = "identity" if self.login.cluster.get("disable-compression") else "gzip"
        about = {"Accept": request.accept, "Accept-Encoding": packed, "User-Agent": "meshwright"}
        kind = {} if request.body is None else {"Content-Type": request.kind}
        return {**about, **kind, **identity.headers}

    def _note(self, path: str, answer: pool.Answer) -> None:
        """Keep what every answer tells beside its body: the server's clock and its warnings."""
        with suppress(ValueError, TypeError):
            said = parsedate_to_datetime(answer.headers["date"]) if "date" in answer.headers else None
            if said:
                self._clock = said.astimezone(UTC), time.monotonic()
        for line in answer.warnings:
            for text in re.findall(r'299 \S+ "((?:[^"\\]|\\.)*)"', line):
                self._warn(path, apifailures.clean(re.sub(r"\\(.)", r"\1", text)))

    def _pool(self, identity: Identity) -> Any:
        """The connections that show this identity's certificate; made once."""
        with self._lock:
            found = next((p for i, p in self._pools.items() if i.certificate == identity.certificate), None)
            if found is None:
                found = pool.pool(_tls(self.login, identity), self._socket, self._proxy)
                self._pools[identity] = found
            return found

    def close(self) -> None:
        with self._lock:
            for each in self._pools.values():
                each.close()
            self._pools.clear()


def _compact(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _ask(request: Request, last: Failure | None) -> None:
    """Whether it may be sent now. After an attempt that may have done it, that attempt's end is the news."""
    try:
        request.may()
    except MeshwrightError:
        if last and not last.untouched:
            raise last.error from None
        raise


def _tls(login: Login, identity: Identity) -> ssl.SSLContext:
    """What kubectl asks of a server: its certificate from our authority and for our name, TLS 1.2 at least."""
    context = Context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if login.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif login.ca is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(cadata=login.ca.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise ClusterError(
                f"{login.origin}: the certificate authority of context {login.context!r} is not a PEM certificate",
                "write the kubeconfig anew",
            ) from None
    if identity.certificate:
        identity.load_into(context)
    return context
