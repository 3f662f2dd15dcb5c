"""What a scraper's bytes are taken for; and that no bytes at all can hurt."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwright.hubd.metrics import head
from meshwright.hubd.metrics.head import LIMIT, Request, Wrong, parse

PROMETHEUS = (
    b"GET /metrics HTTP/1.1\r\nHost: 192.0.2.10:9586\r\nUser-Agent: Prometheus/3.5.0\r\n"
    b"Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\nAccept-Encoding: gzip\r\n"
    b"Authorization: Bearer abc.DEF-123_~+/==\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
)


def request(data: bytes) -> Request | Wrong:
    found = parse(data)
    assert found
    return found[0]


def test_prometheus_is_understood_and_what_comes_next_is_kept() -> None:
    assert parse(PROMETHEUS + b"GET / HT") == (Request("GET", "/metrics", b"abc.DEF-123_~+/==", True), b"GET / HT")


@pytest.mark.parametrize("cut", range(0, len(PROMETHEUS), 7))
def test_half_a_request_is_waited_for(cut: int) -> None:
    assert parse(PROMETHEUS[:cut]) is None


@pytest.mark.parametrize(
    ("lines", "lasts"),
    [("HTTP/1.1", True), ("HTTP/1.0", False), ("HTTP/1.1\r\nConnection: close", False),
     ("HTTP/1.0\r\nConnection: Keep-Alive", True), ("HTTP/1.1\r\nConnection: keep-alive, CLOSE", False)],
)  # fmt: skip
def test_how_long_it_lasts(lines: str, lasts: bool) -> None:
    assert request(f"GET / {lines}\r\n\r\n".encode()) == Request("GET", "/", None, lasts)


@pytest.mark.parametrize(
    "shown", ["Basic YTpi", "Bearer", "Bearer ", "Bearer a b", "Bearer =", "Bearer \xe9", "bearer\ta", "abc"]
)
def test_what_is_no_bearer_token_is_none(shown: str) -> None:
    assert request(f"GET / HTTP/1.1\r\nAuthorization: {shown}\r\n\r\n".encode("latin-1")) == Request(
        "GET", "/", None, True
    )


def test_a_query_is_no_part_of_the_path() -> None:
    assert request(b"HEAD /metrics?name=x HTTP/1.1\r\n\r\n") == Request("HEAD", "/metrics", None, True)


@pytest.mark.parametrize(
    "data",
    [b"GET /metrics\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n", b"GET / HTTP/1.1 \r\n\r\n",
     b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
     b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"GET / HTTP/1.1\r\nA: \0\r\n\r\n",
     b"GET / HTTP/1.1\nHost: x\r\n\r\n",
     b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
     b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
     b"GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
     b"GET / HTTP/1.1\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n"],
)  # fmt: skip
def test_what_is_doubtful_is_refused_with_all_that_follows(data: bytes) -> None:
    assert parse(data + b"GET / HTTP/1.1\r\n\r\n") == (Wrong(400), b"")


@pytest.mark.parametrize(
    "data",
    [b"A" * (LIMIT + 1), b"\r\n" * LIMIT, b"GET / HTTP/1.1\r\nX: " + b"y" * LIMIT + b"\r\n\r\n",
     b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * LIMIT + b"\r\n"],
)  # fmt: skip
def test_a_head_has_an_end(data: bytes) -> None:
    assert parse(data) == (Wrong(431), b"")


@pytest.mark.parametrize("filling", [b" ", b"\t", b"x ", b"\r", b":", b"\r\n", b"=", b"a:b\r\n", b"Bearer "])
def test_no_head_takes_long(filling: bytes) -> None:
    data = b"GET / HTTP/1.1\r\nAuthorization: Bearer " + (filling * LIMIT)[: LIMIT - 60] + b"\x01\r\n\r\n"
    begun = time.process_time()
    parse(data)
    assert time.process_time() - begun < 0.2  # one that goes back and forth needs seconds


@given(st.binary(max_size=400))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    found = parse(data + b"x\r\n\r\n")
    assert found is not None
    if isinstance(found[0], Wrong):
        assert found[0].status in head.REASONS


words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)


@given(st.lists(st.tuples(words, words), max_size=8), words, words, st.binary(max_size=50))
def test_what_was_asked_comes_out_whatever_stands_beside_it(
    fields: list[tuple[str, str]], path: str, token: str, rest: bytes
) -> None:
    lines = "".join(f"X-{name}: {value}\r\n" for name, value in fields)
    data = f"GET /{path} HTTP/1.1\r\n{lines}authorization:Bearer {token}\r\n\r\n".encode()
    assert parse(data + rest) == (Request("GET", f"/{path}", token.encode(), True), rest)


@given(st.binary(max_size=60), st.integers(1, 5))
def test_pieces_mean_the_same_as_the_whole(data: bytes, size: int) -> None:
    whole = data + b"x\r\n\r\n"
    seen = next(found for end in range(size, len(whole) + size, size) if (found := parse(whole[:end])))
    assert seen[0] == request(whole)


@pytest.mark.parametrize(
    ("status", "line"), [(401, b'WWW-Authenticate: Bearer realm="meshwright"'), (405, b"Allow: GET, HEAD")]
)
def test_an_answer_says_what_it_must(status: int, line: bytes) -> None:
    lines = head.answer(status, "text/plain", 3, lasts=False).split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    assert {line, b"Connection: close", b"Content-Length: 3", b"Content-Type: text/plain"} < set(lines)
