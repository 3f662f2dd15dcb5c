"""One request and its answer on the wire, against a server of plain HTTP that says what it was asked."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from meshwright.io import pool

BODY = b'{"kind":"Namespace"}' * 100
LIMITS = {"timeout": {"connect": 5, "read": 5, "write": 5, "pool": 5}}


class Server(ThreadingHTTPServer):
    """coded: what it says of the body's form. body: what it answers. asked: first lines and headers that came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.coded, self.body, self.asked = "", b"{}", []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.requestline, dict(self.headers)))
        self.send_response(200)
        for name, value in (
            ("Content-Length", str(len(self.server.body))),
            ("Warning", '299 - "one"'),
            ("Warning", '299 - "two"'),
        ):
            self.send_header(name, value)
        if self.server.coded:
            self.send_header("Content-Encoding", self.server.coded)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(
    server: Server, path: str = "/x", headers: dict[str, str] | None = None, proxy: str | None = None
) -> pool.Answer:
    connections = pool.pool(ssl.create_default_context(), None, proxy)
    try:
        return pool.ask(connections, "GET", (server.url, path), headers or {}, b"", LIMITS)
    finally:
        connections.close()


def test_a_packed_answer_is_unpacked(server: Server) -> None:
    server.coded, server.body = "gzip", gzip.compress(BODY)
    assert ask(server).content == BODY


def test_of_a_packed_answer_that_is_broken_nothing_is_left(server: Server) -> None:
    server.coded, server.body = "gzip", gzip.compress(BODY)[:-9]
    answer = ask(server)
    assert answer.status == 200
    assert answer.content == b""


def test_every_warning_is_told(server: Server) -> None:
    assert ask(server).warnings == ('299 - "one"', '299 - "two"')


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/api/v1/namespaces/a?limit=5&labelSelector=a%3Db", "/api/v1/namespaces/a?limit=5&labelSelector=a%3Db"),
        ("/roles/a%2Fb:c", "/roles/a%2Fb:c"),
        ("/roles/b c\r\nX: y#ü", "/roles/b%20c%0D%0AX:%20y%23%C3%BC"),
    ],
)
def test_a_path_is_sent_as_it_is_and_what_fits_into_none_is_quoted(server: Server, path: str, sent: str) -> None:
    ask(server, path)
    assert server.asked[0][0] == f"GET {sent} HTTP/1.1"
    assert server.asked[0][1]["Host"] == f"127.0.0.1:{server.server_port}"


@pytest.mark.parametrize("value", ["a\r\nX-More: b", "a\nb", "a\0b"])
def test_no_header_brings_another_one(server: Server, value: str) -> None:
    with pytest.raises(pool.failures()):
        ask(server, headers={"Impersonate-User": value})
    assert server.asked == []


def test_a_header_may_have_letters_of_every_language(server: Server) -> None:
    ask(server, headers={"Impersonate-User": "jürgen"})
    assert server.asked[0][1]["Impersonate-User"].encode("latin-1").decode() == "jürgen"


def test_a_proxy_gets_the_whole_url_and_its_own_password(server: Server) -> None:
    proxy = server.url.replace("http://", "http://user:p%40ss@")
    ask(server, proxy=proxy)
    line, headers = server.asked[0]
    assert line == f"GET {server.url}/x HTTP/1.1"
    assert headers["Proxy-Authorization"] == "Basic dXNlcjpwQHNz"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "https://127.0.0.1:99999", f"https://{'a' * 64}.example"])
def test_what_is_no_server_is_a_failure(url: str) -> None:
    connections = pool.pool(ssl.create_default_context(), None, None)
    with pytest.raises(pool.failures()):
        pool.ask(connections, "GET", (url, "/x"), {}, b"", LIMITS)
