"""The listener with real sockets on this machine: what it answers, and what nobody can do to it."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest

from meshwright.hubd.host import system
from meshwright.hubd.metrics import listening, scrape

TOKEN = "a-token-that-nobody-guesses"
PAGE = b"wireguard_interface_up 1\n"
KIND = "text/plain; version=0.0.4; charset=utf-8"
HOST = "127.0.0.1"


class Here:
    """A server in a thread of this process; `made` counts its pages."""

    def __init__(self, body: bytes = PAGE, takes: float = 0.0, token: str = TOKEN) -> None:
        self.made, self.said, self.body, self.takes = 0, [], body, takes  # type: ignore[var-annotated]
        self.fault: Exception | None = None
        self.ended = threading.Event()
        self.server = scrape.Server(self.make, self.said.append)
        self.server.token = sha256(token.encode()).hexdigest() if token else ""
        self.server.listener = listening.opened(HOST, 0)
        self.server.serves = True
        self.port = self.server.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.server.run(self.look)
        except EOFError:
            self.server.close()
            self.server.listener.close()  # type: ignore[union-attr]

    def look(self) -> None:
        if self.ended.is_set():
            raise EOFError

    def make(self) -> tuple[bytes, str]:
        self.made += 1
        time.sleep(self.takes)
        if self.fault:
            raise self.fault
        return self.body, KIND

    def link(self) -> socket.socket:
        return socket.create_connection((HOST, self.port), timeout=10)

    def get(self, path: str = "/metrics", token: str = TOKEN, method: str = "GET") -> http.client.HTTPResponse:
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=10)) as link:
            link.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = link.getresponse()
            answer.text = answer.read()  # type: ignore[attr-defined]
            return answer


@contextmanager
def running(**how: object) -> Iterator[Here]:
    here = Here(**how)  # type: ignore[arg-type]
    try:
        yield here
    finally:
        here.ended.set()
        with suppress(OSError):
            here.link().close()  # wakes it
        here.thread.join(10)
        assert not here.thread.is_alive()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "LOOK", 0.1)


@pytest.fixture
def here() -> Iterator[Here]:
    with running() as it:
        yield it


def until(true: Callable[[], object], patience: float = 10) -> None:
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def everything(link: socket.socket) -> bytes:
    return b"".join(iter(lambda: link.recv(65536), b""))


def test_the_page(here: Here) -> None:
    answer = here.get()
    assert (answer.status, answer.text, answer.headers["Content-Type"]) == (200, PAGE, KIND)  # type: ignore[attr-defined]
    assert b"/metrics" in here.get("/").text  # type: ignore[attr-defined]


def test_head_has_no_body(here: Here) -> None:
    with closing(here.link()) as link:
        link.sendall(f"HEAD /metrics HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        said = everything(link)
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"\r\n\r\n")
    assert f"Content-Length: {len(PAGE)}".encode() in said


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), sha256(TOKEN.encode()).hexdigest()])
@pytest.mark.parametrize("path", ["/metrics", "/", "/other"])
def test_without_the_token_nobody_learns_anything(here: Here, token: str, path: str) -> None:
    answer = here.get(path, token)
    assert (answer.status, answer.text) == (401, b"Unauthorized\n")  # type: ignore[attr-defined]
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert here.made == 0


def test_no_token_wanted_none_needed() -> None:
    with running(token="") as open_to_all:
        assert [open_to_all.get(token=token).status for token in ("", "anything")] == [200, 200]


def test_an_empty_token_is_not_the_token() -> None:
    with running() as it:
        it.server.token = sha256(b"").hexdigest()
        assert it.get(token="").status == 401


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/x", "GET", 404), ("/metrics", "DELETE", 405), ("/", "POST", 405)]
)
def test_what_there_is_not(here: Here, path: str, method: str, status: int) -> None:
    assert here.get(path, method=method).status == status


def test_it_stays_open_as_prometheus_likes_it(here: Here) -> None:
    with closing(http.client.HTTPConnection(HOST, here.port, timeout=10)) as link:
        local = set()
        for _ in range(5):
            link.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
            assert link.getresponse().read() == PAGE
            local.add(link.sock.getsockname())
    assert len(local) == 1


def test_many_requests_in_one_packet_get_as_many_answers(here: Here) -> None:
    many = 250
    with closing(here.link()) as link:
        ask = f"GET / HTTP/1.1\r\nAuthorization:Bearer {TOKEN}\r\n\r\n".encode()
        link.sendall(ask * (many - 1) + ask.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert everything(link).count(b"HTTP/1.1 200 OK") == many


def test_requests_that_come_together_share_one_reading() -> None:
    with running(takes=0.3) as slow:
        threads = [threading.Thread(target=slow.get) for _ in range(12)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(20)
        assert slow.made <= 2


def test_who_asks_all_the_time_gets_the_page_of_just_now() -> None:
    with running(takes=0.2) as slow:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            slow.get()
        assert slow.made <= 3


def test_a_page_that_cannot_be_made_is_503_and_told_without_a_word_to_who_asks(here: Here) -> None:
    here.fault = system.HubError("the device does not answer")
    answer = here.get()
    assert (answer.status, answer.text) == (503, b"Service Unavailable\n")  # type: ignore[attr-defined]
    assert here.said == ["metrics: the page could not be made: the device does not answer"]
    here.fault = RecursionError("a bug")
    assert here.get().status == 503
    here.fault = None
    assert here.get().status == 200


def test_a_head_without_end_is_cut_off(here: Here) -> None:
    with closing(here.link()) as link:
        link.sendall(b"GET / HTTP/1.1\r\nX: " + b"y" * 10000)
        assert everything(link).startswith(b"HTTP/1.1 431 ")


def test_who_asks_too_slowly_is_let_go_and_nobody_waits_for_him(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "ASKING", 1.0)
    with closing(here.link()) as link:
        begun = time.monotonic()
        for letter in b"GET /metr":
            link.send(bytes([letter]))
            time.sleep(0.02)
        assert here.get().status == 200
        assert everything(link) == b""
        assert time.monotonic() - begun < 8


def test_who_does_not_take_his_answer_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "STALLED", 0.5)
    with running(body=PAGE * 1_000_000, token="") as large, closing(large.link()) as link:
        link.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        until(lambda: large.made)
        assert len(large.get("/", "").text) < 100  # type: ignore[attr-defined]
        until(lambda: not any(guest.stage == "read" for guest in list(large.server.guests.values())))
        with suppress(ConnectionResetError):
            assert len(everything(link)) < len(large.body)


def test_a_large_page_arrives_whole() -> None:
    with running(body=PAGE * 400_000) as large:
        assert large.get().text == large.body  # type: ignore[attr-defined]


def test_more_guests_than_seats_cost_the_strangers_theirs_and_not_the_scraper(here: Here) -> None:
    with closing(http.client.HTTPConnection(HOST, here.port, timeout=10)) as prometheus:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        prometheus.request("GET", "/metrics", headers=headers)
        prometheus.getresponse().read()
        port = prometheus.sock.getsockname()[1]
        crowd = [here.link() for _ in range(3 * scrape.CONNECTIONS)]
        until(lambda: len(here.server.guests) == scrape.CONNECTIONS)
        handles = len(os.listdir("/proc/self/fd"))
        prometheus.request("GET", "/metrics", headers=headers)
        assert prometheus.getresponse().status == 200
        assert prometheus.sock.getsockname()[1] == port
        assert here.get().status == 200
        for each in crowd:
            each.close()
    assert handles < 5 * scrape.CONNECTIONS + 60


def test_slow_readers_hold_only_so_many_pages() -> None:
    with running(body=PAGE * 1_000_000, token="") as large:
        links = []
        for number in range(1, 5):
            links.append(large.link())
            links[-1].sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            until(lambda number=number: large.made == number)  # type: ignore[misc]
            large.server.page = None  # as time does
        held = {id(guest.page) for guest in list(large.server.guests.values()) if guest.page}
        assert 0 < len(held) <= scrape.PAGES
        for link in links:
            link.close()


def test_it_rests_as_long_as_it_works_so_nobody_can_take_a_whole_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    server = scrape.Server(lambda: (PAGE, KIND), print)
    work = iter([0.03, 0.001, 7.0])
    monkeypatch.setattr(server, "step", lambda _: next(work))
    monkeypatch.setattr(time, "sleep", rests.append)
    with pytest.raises(StopIteration):
        server.run(lambda: None)
    assert rests == [0.03, 0.001, 0.05]


# -- TLS


def openssl(folder: Path, name: str, *more: str) -> tuple[str, str]:
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{HOST}", "-keyout", str(key)]
    subprocess.run([*argv, *words, "-out", str(certificate), *more], check=True, capture_output=True, timeout=60)
    return certificate.read_text(), key.read_text()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("tls")
    return [openssl(folder, name) for name in ("one", "two")]


def over_tls(here: Here, trusted: str, **more: object) -> tuple[int, bytes]:
    context = ssl.create_default_context(cadata=trusted)
    for name, value in more.items():
        setattr(context, name, value)
    with closing(http.client.HTTPSConnection(HOST, here.port, timeout=10, context=context)) as link:
        for _ in range(2):
            link.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
            answer = link.getresponse()
            text = answer.read()
        return answer.status, text


@pytest.mark.lab  # openssl makes the certificates
def test_over_tls_and_a_new_certificate_for_the_next_connection(here: Here, pairs: list[tuple[str, str]]) -> None:
    for certificate, key in pairs:
        here.server.wrap = scrape.context(certificate, key)
        assert over_tls(here, certificate) == (200, PAGE)
    with pytest.raises(ssl.SSLCertVerificationError):
        over_tls(here, pairs[0][0])


@pytest.mark.lab  # openssl makes the certificates
def test_a_large_page_over_tls(pairs: list[tuple[str, str]]) -> None:
    with running(body=PAGE * 400_000) as large:
        large.server.wrap = scrape.context(*pairs[0])
        assert over_tls(large, pairs[0][0])[1] == large.body


@pytest.mark.lab  # openssl makes the certificates
def test_old_tls_is_refused(here: Here, pairs: list[tuple[str, str]]) -> None:
    here.server.wrap = scrape.context(*pairs[0])
    with pytest.raises(ssl.SSLError), pytest.warns(DeprecationWarning, match="deprecated"):
        over_tls(here, pairs[0][0], minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)


@pytest.mark.lab  # openssl makes the certificates
def test_who_speaks_no_tls_gets_no_page_and_holds_up_nobody(here: Here, pairs: list[tuple[str, str]]) -> None:
    here.server.wrap = scrape.context(*pairs[0])
    with closing(here.link()) as silent, closing(here.link()) as plain:
        plain.sendall(f"GET /metrics HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        with suppress(ConnectionResetError):
            assert PAGE not in everything(plain)
        assert over_tls(here, pairs[0][0])[0] == 200
        assert silent.fileno()


@pytest.mark.lab  # openssl makes the certificates
def test_whoever_is_refused_over_tls_reads_why(here: Here, pairs: list[tuple[str, str]]) -> None:
    here.server.wrap, here.server.token = scrape.context(*pairs[0]), "another"
    assert over_tls(here, pairs[0][0])[0] == 401
