"""The dashboard as JSON: what dashboard-linter asks, each rule with twins that must fail, and what we ask beside."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import linter
import pytest
import yaml

import promql
from meshwright.desired.facts import ClusterFacts, Facts
from meshwright.desired.monitoring import dashboard, rules
from meshwright.desired.resource import Resource
from meshwright.desired.tenants import tenants
from meshwright.spec import load
from meshwright.spec.model import Mesh

ALERTS = Path(__file__).parent / "alerts"
FACTS = Facts(datetime(2026, 11, 23, tzinfo=UTC), cluster=ClusterFacts("1.36"))
KINDS = ("ours", "other")


def mesh_of(kind: str) -> Mesh:
    return load.load(ALERTS / kind / "mesh.yaml", FACTS.now).mesh


def made(mesh: Mesh) -> Resource:
    assert mesh.observability
    [found] = dashboard.build(mesh, mesh.observability, FACTS)
    return found


def board(mesh: Mesh) -> dict[str, Any]:
    [text] = made(mesh).attrs["data"].values()
    found: dict[str, Any] = json.loads(text)
    return found


def lone(mesh: Mesh) -> Mesh:
    """The mesh without anybody who has a namespace."""
    return mesh.model_copy(
        update={"peers": {name: peer.model_copy(update={"namespace": None}) for name, peer in mesh.peers.items()}}
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [lambda mesh: mesh, lone], ids=["tenants", "lone"])
def test_the_linter_has_nothing_to_say(kind: str, shape: Callable[[Mesh], Mesh]) -> None:
    assert linter.faults(board(shape(mesh_of(kind)))) == []


def panel(found: dict[str, Any], title: str) -> dict[str, Any]:
    return next(each for each in found["panels"] if each["title"] == title)


def variable(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in found["templating"]["list"] if each["name"] == name)


def expr(change: Callable[[str], str], title: str = "From friends") -> Callable[[dict[str, Any]], None]:
    def spoil(found: dict[str, Any]) -> None:
        target = panel(found, title)["targets"][0]
        before = target["expr"]
        target["expr"] = change(before)
        assert target["expr"] != before

    return spoil


SPOILT: dict[str, list[Callable[[dict[str, Any]], None]]] = {
    "template-datasource": [
        lambda found: found["templating"]["list"].pop(0),
        lambda found: variable(found, "datasource").update(name="source"),
        lambda found: variable(found, "datasource").update(query="loki"),
    ],
    "template-job": [
        lambda found: variable(found, "job").update(allValue=".*"),
        lambda found: variable(found, "job").update(multi=False),
        lambda found: variable(found, "job").update(label="job"),
        lambda found: variable(found, "job").update(datasource={"uid": "prometheus"}),
        lambda found: variable(found, "job").update(name="work"),
    ],
    "template-instance": [
        lambda found: variable(found, "instance").update(allValue=None),
        lambda found: variable(found, "instance").update(type="custom"),
    ],
    "template-label-promql": [
        lambda found: variable(found, "job").update(query="label_value(up, job)"),
        lambda found: variable(found, "job").update(query="query_result(1)"),
    ],
    "template-on-time-change-reload": [lambda found: variable(found, "job").update(refresh=1)],
    "panel-datasource": [
        lambda found: panel(found, "Hub").update(datasource={"uid": "prometheus"}),
        lambda found: panel(found, "Hub")["targets"][0].update(datasource={"uid": "P1809F7CD0C75ACF3"}),
    ],
    "panel-title-description": [
        lambda found: panel(found, "Hub").update(title=""),
        lambda found: panel(found, "Hub").pop("description"),
    ],
    "panel-units": [
        lambda found: panel(found, "From friends")["fieldConfig"]["defaults"].update(unit="parsecs"),
        lambda found: panel(found, "From friends")["fieldConfig"]["defaults"].pop("unit"),
    ],
    "panel-no-targets": [lambda found: panel(found, "Hub").pop("targets")],
    "target-promql": [expr(lambda _: "1 + 1")],
    "target-rate-interval": [expr(lambda text: text.replace("$__rate_interval", "5m"))],
    "target-job": [
        expr(lambda text: text.replace('job=~"$job",', "")),
        expr(lambda text: text.replace('job=~"$job"', 'job="$job"')),
    ],
    "target-instance": [expr(lambda text: text.replace(',instance=~"$instance"', "")), expr(lambda _: "up")],
    "target-counter-agg": [
        expr(lambda text: text.replace("rate(", "(").replace("[$__rate_interval]", "")),
        expr(lambda text: text.replace("rate(", "max_over_time(")),
    ],
    "uneditable-dashboard": [lambda found: found.update(editable=True)],
    "no-deprecated-panels": [lambda found: panel(found, "Friends").update(type="table-old")],
}


@pytest.mark.parametrize("rule", linter.RULES)
def test_each_rule_finds_its_fault(rule: str) -> None:
    good = board(mesh_of("ours"))
    for spoil in SPOILT[rule]:
        bad = copy.deepcopy(good)
        spoil(bad)
        assert {fault.partition(":")[0] for fault in linter.faults(bad)} >= {rule}


@pytest.mark.parametrize("kind", KINDS)
def test_every_expression_is_promql(kind: str, tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is missing: script/bootstrap --dev installs it")
        pytest.skip("promtool is missing, so NO EXPRESSION WAS READ: script/bootstrap --dev installs it")
    found = promql.expressions([made(mesh_of(kind))])
    assert len(found) > 20
    recorded = [{"record": f"of:{number}", "expr": expr} for number, (_, expr) in enumerate(found)]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": recorded}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", "all.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_every_selector_names_whose_series_it_means(kind: str) -> None:
    """In rules and dashboard: the hub's by job and namespace, a friend's by his namespace and the label we give."""
    mesh = mesh_of(kind)
    watch = mesh.observability
    assert watch
    names = {"ours": ("town-exporter", "monitoring"), "other": ("wireguard-exporter", "wireguard-exporter")}
    job, namespace = names[kind]
    hub = {("job", "=", job), ("namespace", "=", namespace)}
    friends = {("namespace", "=~", "anna|ben"), ("tenant", "!=", "")}
    objects = [made(mesh), *rules.build(mesh, watch, FACTS)]
    for where, expr in promql.expressions(objects):
        for selector in promql.selectors(expr):
            mine = set(selector.matchers)
            assert mine >= hub or (mine >= friends and not selector.name.startswith("wireguard")), (where, selector)


def test_the_same_mesh_gives_the_same_bytes() -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]; import test_dashboard as it; "
        "print(it.made(it.mesh_of('ours')).attrs['data']['town.json'])"
    )
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    texts = {
        subprocess.run(
            [sys.executable, "-c", program, *folders], env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(texts) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_panels_are_their_own(kind: str) -> None:
    """Links and the reader's own settings hold them. Never change one; a new panel gets a new one."""
    known = {
        "Hub": 1, "Connected": 2, "Always on, but silent": 3, "Not as the file says": 4, "Dropped, 24 h": 5,
        "Traffic, 24 h": 6, "Friends' targets failing": 7, "Friends": 10, "Who was connected": 11, "From friends": 12,
        "To friends": 13, "Age of the last handshake": 14, "Dropped by the firewall": 15, "Strangers": 16,
        "Friends' targets": 17, "Friends' series": 18,
    }  # fmt: skip
    found = board(mesh_of(kind))
    for each in found["panels"]:
        assert known[each["title"]] == each["id"]
    assert len({each["id"] for each in found["panels"]}) == len(found["panels"])
    assert found["uid"] == "town"
    assert found.get("id") is None


@pytest.mark.parametrize("kind", KINDS)
def test_panels_lie_beside_each_other_within_the_grid(kind: str) -> None:
    taken: set[tuple[int, int]] = set()
    for each in board(mesh_of(kind))["panels"]:
        place = each["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, each["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_never_is_a_word_and_what_only_ours_knows_is_asked_of_ours_only() -> None:
    for kind in KINDS:
        table = panel(board(mesh_of(kind)), "Friends")
        said = {each["matcher"]["options"]: each["properties"] for each in table["fieldConfig"]["overrides"]}
        [words] = [each["value"] for each in said["Last handshake"] if each["id"] == "mappings"]
        assert words[0]["options"]["-1"]["text"] == "never"
    other = " ".join(expr for _, expr in promql.expressions([made(mesh_of("other"))]))
    for only_ours in ("denied", "interface_up", "scrape_success"):
        assert only_ours not in other


def test_it_is_found_by_grafana_and_its_file_is_nobody_elses() -> None:
    mesh = mesh_of("ours")
    found = made(mesh).attrs
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["labels"]["app.kubernetes.io/part-of"] == "town"
    assert found["metadata"]["annotations"] == {"grafana_folder": "town"}
    assert list(found["data"]) == ["town.json"]
    long = made(mesh.model_copy(update={"name": "a" * 63})).attrs["data"]
    other = made(mesh.model_copy(update={"name": "a" * 62 + "b"})).attrs["data"]
    uids = [json.loads(next(iter(data.values())))["uid"] for data in (long, other)]
    assert len(set(uids)) == 2
    assert max(len(uid) for uid in uids) == 40


def test_thousands_of_friends_fit() -> None:
    """A ConfigMap holds 1 MiB, a PrometheusRule that the operator takes half of that."""
    for kind in KINDS:
        mesh = mesh_of(kind)
        watch = mesh.observability
        assert watch
        one = mesh.peers["anna"]
        peers = {f"friend-{number}": one.model_copy(update={"namespace": f"space-{number}"}) for number in range(5000)}
        large = mesh.model_copy(update={"peers": peers})
        large.__dict__.pop("devices")  # worked out already, for the small one
        assert len(tenants(large, FACTS)) == 5000
        [text] = made(large).attrs["data"].values()
        assert len(text) < 1 << 20
        objects = [*rules.build(large, watch, FACTS)]
        assert len({each.id for each in objects}) == len(objects)
        for each in objects:
            assert len(yaml.dump(each.attrs["spec"], Dumper=yaml.CSafeDumper)) < 512 << 10


def test_the_sdk_is_loaded_only_where_there_is_a_dashboard(tmp_path: Path) -> None:
    whole = (ALERTS / "ours/mesh.yaml").read_text()
    (tmp_path / "dark.yaml").write_text(whole[: whole.index("observability:")])
    (tmp_path / "watched.yaml").write_text(whole)
    program = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC; from meshwright.spec import load\n"
        "from meshwright.desired import state; from meshwright.desired.facts import ClusterFacts, Facts\n"
        "now = datetime(2026, 11, 23, tzinfo=UTC); mesh = load.load(Path(sys.argv[1]), now).mesh\n"
        "state.state(mesh, Facts(now, cluster=ClusterFacts('1.36'))); print('grafana_foundation_sdk' in sys.modules)"
    )
    loaded = [
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / name)],
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout.strip()
        for name in ("dark.yaml", "watched.yaml")
    ]  # fmt: skip
    assert loaded == ["False", "True"]


def test_a_friend_who_is_out_has_no_targets() -> None:
    assert "carl" not in json.dumps(board(mesh_of("ours")))
