"""What verify says of the exporter, by what the hub answered; and the asking itself."""

from __future__ import annotations

from typing import Any

import pytest
import test_exporter_listener as listener

from meshwright.hubd import asking
from meshwright.hubd.metrics import scrape
from meshwright.verify import metrics

GOOD = {"status": 200, "series": 9, "success": "1", "refused": [401, 401], "why": ""}


def said(**how: Any) -> dict[str, bool]:
    return {check.name: check.ok for check in metrics._answered({**GOOD, **how}, "192.0.2.10 port 9586")}


def test_all_is_well() -> None:
    assert said() == {"metrics of the hub": True, "metrics without the token": True}
    assert said(refused=[]) == {"metrics of the hub": True}


@pytest.mark.parametrize("how", [{"why": "Connection refused", "status": 0}, {"status": 401}, {"status": 503}])
def test_who_cannot_be_read_fails(how: dict[str, Any]) -> None:
    assert said(**how) == {"metrics of the hub": False}


@pytest.mark.parametrize("success", ["0", ""])
def test_a_page_that_is_not_whole_fails(success: str) -> None:
    assert not said(success=success)["metrics of the hub"]


@pytest.mark.parametrize("refused", [[200, 401], [401, 200], [200, 200], [404, 401]])
def test_who_lets_in_without_the_token_fails(refused: list[int]) -> None:
    assert said(refused=refused) == {"metrics of the hub": True, "metrics without the token": False}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "LOOK", 0.1)


def asked(here: listener.Here, token: str, ca: str = "") -> dict[str, Any]:
    return asking.scrape({"address": listener.HOST, "port": here.port, "token": token, "ca": ca})


def test_it_asks_with_without_and_with_a_wrong_token() -> None:
    page = b'# HELP x y\nwireguard_scrape_success{interface="wg1"} 1\nx 1\n'
    with listener.running(body=page) as here:
        assert asked(here, listener.TOKEN) == {**GOOD, "series": 2}
        assert asked(here, "wrong")["status"] == 401
        here.server.token = ""
        assert asked(here, listener.TOKEN)["refused"] == [200, 200]
        assert asked(here, "")["refused"] == []


@pytest.mark.lab  # openssl makes the certificates
def test_a_certificate_that_nobody_signed_is_told(pairs: list[tuple[str, str]]) -> None:
    with listener.running() as here:
        here.server.wrap = scrape.context(*pairs[0])
        assert asked(here, listener.TOKEN, pairs[0][0])["status"] == 200
        assert "self-signed" in asked(here, listener.TOKEN, pairs[1][0])["why"].replace(" ", "-")


def test_nobody_there_is_told() -> None:
    with listener.running() as here:
        port = here.port
    gone = asking.scrape({"address": listener.HOST, "port": port, "token": "", "ca": ""})
    assert (gone["status"], gone["why"]) == (0, "Connection refused")


pairs = listener.pairs
