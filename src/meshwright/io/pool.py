"""HTTP connections to one server: straight, through a Unix socket or through a proxy; one request and its answer.

On httpcore2 itself: the URLs, cookies, redirects and records of a whole HTTP client cost more CPU than all the rest.
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

PARALLEL = 32
"""Connections at most."""
IDLE = 5.0
"""Seconds after which a connection that nobody uses is not used again."""
_IN_PATHS = "/%?&=+,;:@!$'()*~"


@dataclass(frozen=True, slots=True)
class Answer:
    """headers: by their names in small letters. warnings: every header of that name."""

    status: int
    headers: Mapping[str, str]
    warnings: tuple[str, ...]
    content: bytes = field(repr=False)


def pool(tls: ssl.SSLContext, socket: Path | None, proxy: str | None) -> Any:
    """Connections that threads share."""
    import httpcore2

    limits: dict[str, Any] = {
        "max_connections": PARALLEL,
        "max_keepalive_connections": PARALLEL,
        "keepalive_expiry": IDLE,
    }
    if not proxy:
        return httpcore2.ConnectionPool(ssl_context=tls, uds=str(socket) if socket else None, **limits)
    parts = urlsplit(proxy)
    login = (unquote(parts.username or "").encode(), unquote(parts.password or "").encode())
    there = httpcore2.URL(scheme=parts.scheme, host=parts.hostname or "", port=parts.port, target="/")
    return httpcore2.HTTPProxy(there, proxy_auth=login if any(login) else None, ssl_context=tls, **limits)


def failures() -> tuple[type[Exception], ...]:
    """What `ask` raises when there is no answer."""
    import httpcore2

    broken = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.ProxyError, httpcore2.UnsupportedProtocol)
    return (httpcore2.TimeoutException, *broken, OSError, ValueError)


def ask(
    connections: Any,
    method: str,
    url: tuple[str, str],
    headers: Mapping[str, str],
    body: bytes,
    more: Mapping[str, Any],
) -> Answer:
    """url: that of the server, and the path with the query below it. more: extensions of httpcore2."""
    import httpcore2

    server = urlsplit(url[0])
    host = (server.hostname or "").encode("ascii" if ":" in (server.hostname or "") else "idna")
    target = quote(server.path + url[1], _IN_PATHS) or "/"
    named = b"[%b]" % host if b":" in host else host
    lines = [(b"Host", b"%b:%d" % (named, server.port) if server.port else named)]
    lines += [(name.encode(), value.encode()) for name, value in headers.items()]
    if body:
        lines.append((b"Content-Length", b"%d" % len(body)))
    where = httpcore2.URL(scheme=server.scheme, host=host, port=server.port, target=target)
    asked = httpcore2.Request(method, where, headers=lines, content=body, extensions=dict(more))
    answer = connections.handle_request(asked)
    try:
        content = answer.read()
    finally:
        answer.close()
    told = [(name.decode("latin-1").lower(), value.decode(errors="replace")) for name, value in answer.headers]
    warnings = tuple(value for name, value in told if name == "warning")
    return Answer(answer.status, dict(told), warnings, _unpacked(dict(told), content))


def _unpacked(headers: Mapping[str, str], content: bytes) -> bytes:
    """The content without its compression; nothing where that is broken, as where an answer is cut off."""
    if headers.get("content-encoding") != "gzip":
        return content
    try:
        return zlib.decompress(content, wbits=zlib.MAX_WBITS | 16)
    except zlib.error:
        return b""
