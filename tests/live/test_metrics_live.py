"""The metrics of a hub in a lab: who reads them on the LAN and in a pod; from the tunnel only by the policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scene import Document, Stage, document, rule, staged, wait

from meshwright import events, flow
from meshwright.events import Checked
from meshwright.providers import table

pytestmark = pytest.mark.lab

PAGE = "curl -s -m 5 -w '\\n%{http_code}' http://192.168.20.20:9586/metrics || true"


def watched(*rules: dict[str, Any], **more: Any) -> Document:
    """Secrets of the file stay out of a lab, so the one named here need not exist."""
    wanted = document("live-metrics", rule("peers", "hub", "icmp"), rule("peers", "nodes", "icmp"), *rules)
    section = {"exporter": {"kind": "builtin", "token": {"file": "not/there"}}} | more
    return wanted | {"observability": section}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    first = watched(rule("anna", "nodes", "9586/tcp"))
    with staged(tmp_path_factory.mktemp("metrics"), first) as it:
        yield it


def verified(stage: Stage) -> dict[str, Checked]:
    view = stage.look(stage.mesh)
    found = flow.verify(view, stage.places, table.providers(view.mesh, stage.places), events.silent)
    return {check.name: check for check in found}


def test_pods_and_nodes_read_it_and_a_friend_only_by_the_policy(stage: Stage) -> None:
    assert stage.left() == []
    assert wait(lambda: stage.sh("node2", PAGE).endswith("200"))
    for host in ("node2", "pod1", "anna"):
        page = stage.sh(host, PAGE)
        assert page.endswith("200"), (host, page)
        assert 'wireguard_scrape_success{interface="wg4"} 1' in page, page
        assert 'peer="bert"' in page
    assert stage.sh("bert", PAGE).strip() == "000"
    assert stage.sh("bert", "ping -c1 -W5 192.168.20.20")  # so the tunnel is not what keeps him out


def test_verify_proves_it_and_says_who_is_let_in(stage: Stage) -> None:
    found = verified(stage)
    assert found["metrics of the hub"].ok, found["metrics of the hub"]
    assert "series at 192.168.20.20 port 9586" in found["metrics of the hub"].observed
    assert found["metrics from the tunnel"].observed == "the policy lets anna reach it"
    assert "metrics without the token" not in found  # a lab has none


def test_verify_sees_that_nobody_listens_and_apply_mends_it(stage: Stage) -> None:
    pid = stage.sh("hub", "cat /run/meshwright-units/meshwright-hubd-live_metrics.service").split()[0]
    stage.sh("hub", f"kill -9 {pid}")
    check = verified(stage)["metrics of the hub"]
    assert not check.ok
    assert "refused" in check.observed
    assert "journalctl" in check.hint
    assert {id.rpartition(".")[2] for id in stage.left()} == {"service", "socket"}
    stage.apply(stage.mesh)
    assert wait(lambda: verified(stage)["metrics of the hub"].ok)


def test_another_port_without_a_right_to_it(stage: Stage) -> None:
    stage.apply(watched(exporter={"kind": "builtin", "port": 9587}))
    other = PAGE.replace("9586", "9587")
    assert wait(lambda: stage.sh("pod1", other).endswith("200"))
    assert stage.sh("pod1", PAGE).strip() == "000"
    for host in ("anna", "bert"):
        assert stage.sh(host, other).strip() == "000"
    assert verified(stage)["metrics from the tunnel"].observed == "no friend reaches it"
    assert stage.left() == []


def test_out_of_the_file_nobody_reads_it(stage: Stage, tmp_path: Path) -> None:
    wanted = watched()
    del wanted["observability"]
    stage.apply(wanted)
    assert stage.sh("pod1", PAGE.replace("9586", "9587")).strip() == "000"
    assert stage.left() == []
    assert not [name for name in verified(stage) if name.startswith("metrics")]
