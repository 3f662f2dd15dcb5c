"""What a running Prometheus says of an object, and how one that cannot be asked is told of."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from meshwright.cli.commands import doctor
from meshwright.errors import MeshwrightError
from meshwright.io import prometheus
from meshwright.verify.scraping import Way, live
from meshwright.verify.scraping.hops import Hop

POOL = "serviceMonitor/bryce/bryce-autodiscover/0"


def target(**more: Any) -> dict[str, Any]:
    labels = {"namespace": "bryce", "service": "web", "pod": "web-1", "job": "bryce/web"}
    return {"scrapePool": POOL, "labels": labels, "discoveredLabels": {}, "health": "up", "lastError": ""} | more


WEB, POD = Way("Service", "web", ()), Way("Pod", "web-1", ())


def test_a_target_that_is_up_is_ok_with_its_samples() -> None:
    hop = live.judge("bryce", WEB, [target()], [{"metric": {}, "value": [1, "412"]}])
    assert (hop.state, hop.what) == ("ok", "1 up, 412 samples in the last scrape")


def test_a_target_that_is_down_says_why() -> None:
    down = target(health="down", lastError="sample limit exceeded", scrapeUrl="http://10.42.0.7:9090/metrics")
    hop = live.judge("bryce", WEB, [down], [])
    assert hop.state == "failed"
    assert hop.what == 'http://10.42.0.7:9090/metrics is down: "sample limit exceeded"'
    assert live.judge("bryce", WEB, [down, target()], []).state == "warned", "one of two"


@pytest.mark.parametrize(
    "reason",
    ["Gone\n! hub: broken", 'Gone"; next: rm -rf /', "Gone\r\x1b[2K", "Gone\u2028next: rm", 'Get "http://x": EOF'],
)
def test_what_a_friend_has_his_app_answer_is_quoted_whole_and_in_one_line(reason: str) -> None:
    down = target(health="down", lastError=f"server returned HTTP status 410 {reason}", scrapeUrl="http://10.42.0.7/")
    hop = live.judge("bryce", WEB, [down], [])
    assert hop.what.isprintable()
    before, quoted, after = hop.what.split('"')
    assert (before, after) == ("http://10.42.0.7/ is down: ", "")
    assert quoted.startswith("server returned HTTP status 410 G")


def test_a_hop_is_one_line_whatever_it_quotes() -> None:
    way = Way("Service", "web", (Hop("pods", "ok", "web-1\n! port: broken"), Hop("port", "ok", "\x1b[1A9090")))
    assert doctor.lines(way).splitlines()[1:] == ["ok pods: web-1\\n! port: broken", "ok port: \\x1b[1A9090"]


def test_one_that_was_not_scraped_yet_is_no_fault() -> None:
    assert live.judge("bryce", WEB, [target(health="unknown")], []).state == "warned"


@pytest.mark.parametrize(
    "other",
    [
        target(scrapePool="podMonitor/bryce/bryce-pods/0"),
        target(scrapePool="serviceMonitor/jake/jake-autodiscover/0"),
        target(labels={"namespace": "bryce", "service": "other"}),
    ],
)
def test_what_is_of_others_is_not_taken_for_it(other: dict[str, Any]) -> None:
    assert live.judge("bryce", WEB, [other], []).state == "failed"


def test_a_pod_is_found_by_its_own_monitor() -> None:
    found = target(scrapePool="podMonitor/bryce/bryce-pods/0")
    assert live.judge("bryce", POD, [found], []).state == "ok"
    assert live.judge("bryce", POD, [target()], []).state == "failed"


@contextmanager
def answering(status: int, body: bytes, tls: Path | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server. tls: the folder of its certificate."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "cert", tls / "key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_prometheus_is_asked_for_targets_and_samples() -> None:
    body = json.dumps({"status": "success", "data": {"activeTargets": [target()], "result": []}}).encode()
    with answering(200, body) as (url, asked):
        way = live.ask(f"{url}/", "bryce", WEB)
    assert [hop.state for hop in way.hops] == ["ok"]
    assert asked[0] == "/api/v1/targets?state=active"
    assert "scrape_samples_scraped" in asked[1]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"", "answers 404"),
        (200, b"<html>", "answers no JSON"),
        (200, b'{"status": "error"}', "answers no JSON"),
        (200, b'{"status": "success", "data": []}', "answers no JSON"),
    ],
)
def test_what_is_no_prometheus_is_told_in_one_sentence(status: int, body: bytes, said: str) -> None:
    with answering(status, body) as (url, _), pytest.raises(MeshwrightError, match=said) as caught:
        prometheus.get(url, "targets")
    assert caught.value.hint


@pytest.mark.parametrize("url", ["prometheus", "file:///etc/passwd", "http://", "https://me:secret@example.net"])
def test_what_is_no_url_is_told_without_its_password(url: str) -> None:
    with pytest.raises(MeshwrightError, match="is no URL") as caught:
        prometheus.get(url, "targets")
    assert "secret" not in caught.value.message


def test_one_that_is_not_there_is_told() -> None:
    with pytest.raises(MeshwrightError, match="cannot be asked"):
        prometheus.get("http://127.0.0.1:1", "targets")


@pytest.mark.cluster  # whose tier has openssl
def test_a_certificate_that_nobody_knows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")]
    subprocess.run([*words, *names, *files], check=True, capture_output=True, timeout=60)
    body = json.dumps({"status": "success", "data": {}}).encode()
    with answering(200, body, tmp_path) as (url, asked):
        with pytest.raises(MeshwrightError, match="CERTIFICATE_VERIFY_FAILED"):
            prometheus.get(url, "targets")
        assert not asked
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
        assert prometheus.get(url, "targets") == {}
