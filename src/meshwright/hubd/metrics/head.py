"""What a scraper asks, out of the bytes that it sent: the head of an HTTP/1 request (RFC 9112). Pure.

Only what Prometheus and a person with curl send is understood: GET and HEAD without a body. Everything else is refused,
and whatever is doubtful ends the connection.
"""

from __future__ import annotations

import re
import typing
from typing import NamedTuple

LIMIT = 8192  # bytes; the head of Prometheus has about 400
_line = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.([01])").fullmatch
_field = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([ -~\t\x80-\xff]*)").fullmatch
_bearer = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)").fullmatch


class Request(NamedTuple):
    """token: what was shown as Bearer, None where nothing usable was. lasts: whether more may come after it."""

    method: str
    path: str
    token: typing.Optional[bytes]  # noqa: UP045  Python 3.9 has no | when it runs
    lasts: bool


class Wrong(NamedTuple):
    """A request that is refused as it stands, with this status; nothing after it can be trusted."""

    status: int


def parse(data: bytes) -> tuple[Request | Wrong, bytes] | None:
    """(the first request, what came after it), None while its head is not complete."""
    begin = len(data) - len(data.lstrip(b"\r\n"))
    end = data.find(b"\r\n\r\n", begin)
    if end < 0 or end + 4 > LIMIT:
        return (Wrong(431), b"") if len(data) > LIMIT or end >= 0 else None
    first, *lines = data[begin:end].split(b"\r\n")
    asked, fields = _line(first), _fields(lines)
    if asked is None or fields is None:
        return Wrong(400), b""
    if b"transfer-encoding" in fields or fields.get(b"content-length", b"0").strip(b"0"):
        return Wrong(400), b""  # it has a body, and what is body and what the next request is anybody's guess
    method, target, minor = asked.groups()
    shown = _bearer(fields.get(b"authorization", b""))
    word = fields.get(b"connection", b"").lower()
    lasts = b"close" not in word and (minor == b"1" or b"keep-alive" in word)
    path = target.partition(b"?")[0].decode("ascii")
    return Request(method.decode("ascii"), path, shown[1] if shown else None, lasts), data[end + 4 :]


def _fields(lines: list[bytes]) -> dict[bytes, bytes] | None:
    """The header fields by small name; None where a line is none, or where one that decides comes twice."""
    out: dict[bytes, bytes] = {}
    for line in lines:
        found = _field(line)
        if found is None:
            return None
        name = found[1].lower()
        if name in out and name in (b"authorization", b"content-length", b"transfer-encoding", b"host"):
            return None
        out[name] = found[2].strip(b" \t")
    return out


REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
MORE = {401: 'WWW-Authenticate: Bearer realm="meshwright"\r\n', 405: "Allow: GET, HEAD\r\n", 503: "Retry-After: 5\r\n"}


def answer(status: int, kind: str, length: int, *, lasts: bool) -> bytes:
    """The head of an answer. length: bytes of the body."""
    return (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
        f"{MORE.get(status, '')}Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"Connection: {'keep-alive' if lasts else 'close'}\r\n\r\n"
    ).encode("ascii")
