"""Every key gets exactly its name, whatever the key; nobody else gets one."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from relabeling import Labels, relabeled, scraped

from meshwright.desired.facts import ClusterFacts, Facts
from meshwright.desired.monitoring import build, relabel
from meshwright.desired.resource import Resource, Unknown, fill, pattern
from meshwright.desired.state import known
from meshwright.plan import plan, text
from meshwright.plan.plan import unknowns
from meshwright.spec.model import Mesh

NOW = datetime(2026, 11, 23, tzinfo=UTC)
FACTS = Facts(NOW, cluster=ClusterFacts("1.36"))
ID = "kubernetes/servicemonitor/wireguard-exporter/wireguard-exporter"


def mesh(peers: dict[str, Any], **watch: Any) -> Mesh:
    return Mesh.model_validate(
        {
            "version": 1,
            "name": "friends",
            "hub": {
                "node": "home",
                "address": "192.168.20.20",
                "interface": "wg0",
                "endpoint": "vpn.example.net:51820",
            },
            "network": {"cidr": ["10.100.0.0/16"], "hub": ["10.100.0.1"]},
            "peers": {name: {"address": f"10.100.1.{n}", **peer} for n, (name, peer) in enumerate(peers.items(), 1)},
            "kubernetes": {},
            "observability": {"exporter": {"kind": "mindflavor"}, **watch},
        }
    )


def devices(**named: str) -> dict[str, Any]:
    return {
        "address": None,
        "devices": {
            name: {"address": f"10.100.2.{n}", "public_key": key} for n, (name, key) in enumerate(named.items())
        },
    }


def sample(key: str, **more: str) -> Labels:
    return {"__name__": "wireguard_sent_bytes_total", "interface": "wg0", "public_key": key, "job": "x", **more}


def whose(what: Mesh, key: str, **more: str) -> tuple[str, str]:
    """The peer and the device that a series of this key is given."""
    got = relabeled(sample(key, **more), relabel.keys(what, FACTS))
    assert got is not None
    assert got.keys() - {"peer", "device"} == sample(key).keys()
    return got.get("peer", ""), got.get("device", "")


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


# most bytes become no + and no /: these do, and so do the few bits that lie between them
ODD = st.sampled_from([b"\xfb\xef\xbe" * 10 + b"\xfb\xef", b"\xff" * 32, b"\xfb" * 32, b"\xfe\xff\xbf" * 10 + b"\0\0"])
KEYS = (st.binary(min_size=32, max_size=32) | ODD).map(encoded)


@settings(max_examples=200)
@given(st.lists(KEYS, min_size=1, max_size=6, unique=True), KEYS)
def test_each_key_gets_its_name_and_a_strangers_none(keys: list[str], stranger: str) -> None:
    assume(stranger not in keys)
    what = mesh({f"peer{n}": {"public_key": key} for n, key in enumerate(keys)})
    assert [whose(what, key) for key in keys] == [(f"peer{n}", "") for n in range(len(keys))]
    assert whose(what, stranger) == ("unknown", "")


@given(KEYS, KEYS)
def test_a_pattern_matches_its_key_alone(key: str, other: str) -> None:
    assert relabeled({"a": key}, [{"action": "drop", "sourceLabels": ["a"], "regex": pattern(key)}]) is None
    assert (relabeled({"a": other}, [{"action": "drop", "sourceLabels": ["a"], "regex": pattern(key)}]) is None) == (
        key == other
    )


@given(st.text(max_size=20))
def test_a_pattern_matches_any_text_alone(said: str) -> None:
    assume("\0" not in said and not set(said) & set("\ud800"))
    rule = {"action": "drop", "sourceLabels": ["a"], "regex": pattern(said)}
    assert relabeled({"a": said}, [rule]) is None
    assert relabeled({"a": f"{said}x"}, [rule]) == {"a": f"{said}x"}


A, B, C, D = (encoded(bytes([n]) * 32) for n in (251, 254, 3, 4))


def test_a_device_of_several_is_named_with_its_peer() -> None:
    what = mesh({"bjorn": devices(router=A, phone=B), "astrid": {"public_key": C}})
    assert whose(what, A) == ("bjorn", "router")
    assert whose(what, B) == ("bjorn", "phone")
    assert whose(what, C) == ("astrid", "")


def test_the_next_key_is_the_same_friends() -> None:
    what = mesh({"bjorn": {"public_key": A, "next_public_key": B}})
    assert whose(what, A) == whose(what, B) == ("bjorn", "")


def test_who_is_out_is_unknown() -> None:
    """On the hub his key has no business."""
    what = mesh({"bjorn": {"public_key": A, "disabled": True}, "carl": {"public_key": B, "expires": "2026-11-22"}})
    assert {whose(what, A), whose(what, B)} == {("unknown", "")}


def test_what_the_target_itself_calls_peer_or_device_does_not_count() -> None:
    what = mesh({"bjorn": {"public_key": A}})
    assert whose(what, A, device="of eve", __tmp_whose="eve/phone") == ("bjorn", "")
    assert whose(what, C, peer="bjorn", device="phone") == ("unknown", "")
    rules = relabel.keys(what, FACTS)
    assert relabeled({"__name__": "up", "peer": "bjorn"}, rules) == {"__name__": "up"}, "no key, no name"


def test_the_order_of_the_file_changes_nothing() -> None:
    peers = {"bjorn": devices(router=A, phone=B), "astrid": {"public_key": C}, "carl": {"public_key": D}}
    turned = dict(reversed(peers.items()))
    assert relabel.keys(mesh(peers), FACTS) == relabel.keys(mesh(turned), FACTS)


# keys that nobody has made yet


def monitor(what: Mesh) -> Resource:
    return next(resource for resource in build(what, FACTS) if resource.id == ID)


def test_a_key_that_is_made_later_is_matched_as_if_it_had_been_there() -> None:
    later, now = monitor(mesh({"bjorn": {}})), monitor(mesh({"bjorn": {"public_key": A}}))
    key = Unknown("files/key/bjorn", "public_key", pattern=True)
    assert unknowns(later.attrs) == [key]
    assert "+" in A
    answer = Resource("files/key/bjorn", {"public_key": A})
    assert known({ID: later}, {answer.id: answer})[ID].attrs == now.attrs
    assert fill(later.attrs, {answer.id: answer.attrs}) == now.attrs
    assert fill(later.attrs, {"files/key/carl": answer.attrs}) is later.attrs, "unchanged is the same"


def test_a_plan_says_that_it_is_known_after_apply_and_waits_for_it() -> None:
    key = Resource("files/key/bjorn", {"public_key": Unknown("files/key/bjorn", "public_key")})
    todo = plan.make({ID: (one := monitor(mesh({"bjorn": {}}))), key.id: key}, {})
    assert next(change for change in todo.changes if change.id == ID).after == (key.id,)
    assert "replacement: bjorn, sourceLabels: public_key, regex: (known after apply)" in text.text(todo)
    shown = json.dumps(text.as_json(todo))
    assert '{"unknown": ["files/key/bjorn", "public_key"]}' in shown
    known_too = monitor(mesh({"bjorn": {"public_key": A}}))
    assert plan.make({ID: one}, {}).digest != plan.make({ID: known_too}, {}).digest


# what a friend's own page can say


def theirs(kind: str) -> dict[str, Any]:
    what = mesh({"bjorn": {"public_key": A, "namespace": "bjorn"}})
    name = {"servicemonitor": "bjorn-autodiscover", "podmonitor": "bjorn-pods"}[kind]
    spec = next(r for r in build(what, FACTS) if r.id == f"kubernetes/{kind}/bjorn/{name}").attrs["spec"]
    (endpoint,) = spec.get("endpoints") or spec["podMetricsEndpoints"]
    assert isinstance(endpoint, dict)
    return endpoint


# what the operator makes of a Service, and of a Pod
TARGETS = {
    "servicemonitor": {"namespace": "bjorn", "job": "wireguard-exporter", "service": "wireguard-exporter"},
    "podmonitor": {"namespace": "bjorn", "job": "bjorn/bjorn-pods", "pod": "wireguard-exporter"},
}


@pytest.mark.parametrize("kind", TARGETS)
def test_a_friends_series_say_where_they_come_from(kind: str) -> None:
    """Whatever his Service is called, and whatever labels he gives his series."""
    endpoint = theirs(kind)
    target = relabeled(TARGETS[kind], endpoint["relabelings"])
    assert target is not None
    assert target["job"].startswith("bjorn/")
    assert (target["tenant"], target["namespace"]) == ("bjorn", "bjorn")
    forged = {"tenant": "owner", "namespace": "monitoring", "job": "wireguard-exporter", "exported_job": "x"}
    got = relabeled(scraped(target, {"__name__": "requests_total", **forged}), endpoint["metricRelabelings"])
    assert got is not None
    assert {name: got[name] for name in target} == target
    assert endpoint["honorLabels"] is False


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("requests_total", True),
        ("wireguard", True),
        ("upload_bytes_total", True),
        ("set_up", True),
        ("my_scrape_total", True),
        ("my_wireguard_peers_total", True),
        ("wireguard_sent_bytes_total", False),
        ("wireguard_peers_total", False),
        ("meshwright_anything", False),
        ("up", False),
        ("scrape_samples_scraped", False),
        ("instance:node_cpu:ratio", False),
        ("ALERTS", False),
        ("ALERTS_FOR_STATE", False),
    ],
)
def test_a_friends_series_of_the_hubs_names_are_dropped(kind: str, name: str, kept: bool) -> None:
    assert (relabeled({"__name__": name}, theirs(kind)["metricRelabelings"]) is not None) == kept
