"""Whether an exporter answers, as the hub finds out: no token is shown, and nobody else is taken for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from meshwright.hubd import status
from meshwright.hubd.host.system import HubError
from meshwright.hubd.metrics import scrape


@contextmanager
def exporter(code: int, body: bytes = b"", realm: str = "", asked: list[Any] | None = None) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if asked is not None:
                asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(code)
            if realm:
                self.send_header("WWW-Authenticate", f'Bearer realm="{realm}"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def said(port: int, **more: Any) -> dict[str, Any]:
    return status.answers({"address": "127.0.0.1", "port": port, "own": True, **more})


PAGE = b"# HELP wireguard_sent_bytes_total Bytes sent to the peer\n"


@pytest.mark.parametrize(
    ("own", "path", "answer"),
    [
        (True, "/", {"code": 200, "body": scrape.HELLO}),
        (True, "/", {"code": 401, "realm": "meshwright"}),
        (False, "/metrics", {"code": 200, "body": PAGE}),
    ],
)
def test_it_is_known_by_what_it_says(own: bool, path: str, answer: dict[str, Any]) -> None:
    asked: list[Any] = []
    with exporter(**answer, asked=asked) as port:
        assert said(port, own=own) == {"answers": True, "said": f"127.0.0.1:{port}"}
    assert asked == [(path, None)]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    "answer",
    [
        {"code": 200},
        {"code": 200, "body": b"<html>wireguard</html>"},
        {"code": 401, "realm": "router"},
        {"code": 404},
    ],
)
def test_nobody_else_passes_for_it(own: bool, answer: dict[str, Any]) -> None:
    with exporter(**answer) as port:
        assert said(port, own=own) == {"answers": False, "said": f"something else answers at 127.0.0.1:{port}"}


def test_each_kind_is_told_from_the_other() -> None:
    with exporter(200, scrape.HELLO) as port:
        assert said(port, own=False)["answers"] is False
    with exporter(200, PAGE) as port:
        assert said(port)["answers"] is False


def test_one_that_is_broken_does_not() -> None:
    with exporter(503) as port:
        assert said(port) == {"answers": False, "said": f"it answers 503 at 127.0.0.1:{port}"}


def test_nobody_there_says_why() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        assert said(port) == {"answers": False, "said": f"nothing answers at 127.0.0.1:{port}: Connection refused"}


def test_one_that_never_says_anything_does_not_hold_us_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "WAIT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert said(silent.getsockname()[1])["answers"] is False
        assert said(silent.getsockname()[1], tls=True)["answers"] is False


def test_what_speaks_no_http_or_no_tls_does_not_answer() -> None:
    with exporter(200) as port:
        assert said(port, tls=True)["answers"] is False


def test_an_operation_that_is_none_is_refused() -> None:
    with pytest.raises(HubError, match="unknown operation"):
        status.operate("write", {})
