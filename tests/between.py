"""Something between us and the real API server: it ends TLS, passes requests on, and spoils the answers it is told to.

The server behind it is real, so what was or was not done there can be looked at by another way.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from controlplane import ControlPlane
from meshwright.lab.cluster import pki

Fault = Callable[["Handler"], None]


class Between(ThreadingHTTPServer):
    """faults: what happens to the next requests, first to last; then `rule` says it of each, and without it they pass.

    asked: (method, path) seen.
    """

    daemon_threads = True

    def __init__(self, plane: ControlPlane, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[Fault] = []
        self.rule: Callable[[Handler], Fault] = lambda handler: passes
        self.asked: list[tuple[str, str]] = []
        self.tokens: list[str] = []
        self.plane = plane
        self.lock = threading.Lock()
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(f"{certificate}.crt", f"{certificate}.key")

    def get_request(self) -> tuple[socket.socket, object]:
        plain, address = self.socket.accept()
        return self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away, or do not trust us, are what the tests are about."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Between

    def answer(self) -> None:
        self.content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            self.server.asked.append((self.command, self.path))
            self.server.tokens.append((self.headers.get("Authorization") or "").removeprefix("Bearer "))
            fault = self.server.faults.pop(0) if self.server.faults else None
        (fault or self.server.rule(self))(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def ask(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """What the real server says to this request."""
        trust = ssl.create_default_context(cafile=str(self.server.plane.ca))
        url = self.server.plane.server.removeprefix("https://")
        real = http.client.HTTPSConnection(url, context=trust, timeout=30)
        headers = {key: value for key, value in self.headers.items() if key.lower() != "accept-encoding"}
        real.request(self.command, self.path, self.content, headers)
        answer = real.getresponse()
        body = answer.read()
        real.close()
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in {"transfer-encoding", "content-length"}]
        return answer.status, kept, body

    def say(self, status: int, headers: list[tuple[str, str]], body: bytes, length: int | None = None) -> None:
        self.send_response_only(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def cut(self) -> None:
        """The connection ends here, without good-bye."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """The tests look at `asked`."""


def passes(handler: Handler) -> None:
    handler.say(*handler.ask())


def refuses(status: int, **headers: str) -> Fault:
    """A Status object that the real server never made."""
    body = b'{"kind":"Status","apiVersion":"v1","status":"Failure","message":"not now","code":%d}' % status
    pairs = [("Content-Type", "application/json"), *((key.replace("_", "-"), value) for key, value in headers.items())]
    return lambda handler: handler.say(status, pairs, body)


def page(status: int) -> Fault:
    return lambda handler: handler.say(status, [("Content-Type", "text/html; charset=utf-8")], b"<html>hello</html>")


def cut_before(handler: Handler) -> None:
    """The server never hears of it."""
    handler.cut()


def cut_after(handler: Handler) -> None:
    """The server did what was asked; nobody learns it."""
    handler.ask()
    handler.cut()


def cut_within(handler: Handler) -> None:
    """Half of the real answer."""
    status, headers, body = handler.ask()
    handler.say(status, headers, body[: len(body) // 2], len(body))
    handler.cut()


def garbled(handler: Handler) -> None:
    """Half of the real answer, as if it were whole."""
    status, headers, body = handler.ask()
    handler.say(status, headers, body[: len(body) // 2])


def hangs(seconds: float) -> Fault:
    def fault(handler: Handler) -> None:
        time.sleep(seconds)
        handler.cut()

    return fault


@contextmanager
def between(plane: ControlPlane, folder: Path, names: tuple[str, ...] = ("127.0.0.1",)) -> Iterator[Between]:
    """The thing itself, with a certificate of the cluster's authority for `names`."""
    folder.mkdir(exist_ok=True)
    for name in ("ca.crt", "ca.key"):
        (folder / name).write_bytes((plane.ca.parent / name).read_bytes())
    pki.issue(folder, "between", "/CN=between", names)
    server = Between(plane, folder / "between")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
