"""What a roll-back wants back: the pure part. Reachability as before; nobody gets what he has not now."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright.hubd.host.place import Place
from meshwright.hubd.rollback.back import FIELDS, Kept, back, keep, kind

IF, TABLE = "hub/interface/wg1", "hub/table/t"
CLOSED, INBOUND = "hub/closed/wg1", "hub/inbound/t"
UNIT, SETTINGS = "hub/unit/etc/systemd/system/meshwright-t.service", "hub/unit/etc/sysctl.d/90-meshwright-t.conf"
HERE = Place("wg1", "t")
FORWARDING = "net.ipv6.conf.all.forwarding"
Found = dict[str, Any]

addresses = st.sampled_from(["10.100.0.1/16", "10.100.0.9/16", "fd00::1/64"])
prefixes = st.sampled_from([f"10.100.2.{n}/32" for n in range(1, 7)] + ["192.0.2.0/24", "198.51.100.0/24"])
labels = st.sampled_from(["ham", "bryce", "jake", "steve"])
texts = st.sampled_from(
    [f"{to} {what}" for to in ("10.100.0.1/32", "10.100.0.9/32", "10.42.0.0/16") for what in ("tcp 22", "icmp -")]
)
allows = st.lists(texts, unique=True, max_size=4).map(sorted)


@st.composite
def halves(draw: st.DrawFn, one: st.SearchStrategy[Any], *, live: bool = True) -> Found:
    """Both halves, mostly equal, as they are when nothing drifted."""
    saved, other = draw(one), draw(one)
    return draw(
        st.sampled_from([{"saved": saved, "live": copy.deepcopy(saved)}, {"saved": saved, "live": other}])
        if live
        else st.just({"saved": saved})
    )


interfaces = st.fixed_dictionaries(
    {
        "public_key": st.sampled_from(["A", "B"]),
        "listen": st.sampled_from([51821, 51822]),
        "addresses": st.lists(addresses, min_size=1, max_size=2, unique=True),
        "mtu": st.sampled_from([1420, 1280]),
    }
)
tables = st.fixed_dictionaries(
    {
        "interface": st.just("wg1"),
        "mark": st.sampled_from([1, 2]),
        "format": st.sampled_from([1, 2]),
        "hub": st.sampled_from([["10.100.0.1/32"], ["10.100.0.9/32"], ["10.100.0.1/32", "fd00::1/128"]]),
        "masquerade": st.sampled_from([[], ["192.168.20.0/24"]]),
        "strange": st.just([]),
    }
)
units = st.fixed_dictionaries(
    {"text": st.sampled_from([f"echo 1 >/proc/sys/{FORWARDING}", "x"]), "mode": st.just("0644")}
)


@st.composite
def hubs(draw: st.DrawFn) -> Found:
    """A hub as resources, with all of its parts or only some."""
    out: Found = {}
    if draw(st.integers(0, 5)):
        out[IF] = draw(halves(interfaces))
        out[IF]["saved"]["enabled"] = draw(st.booleans())
        for name in draw(st.sets(labels)):
            allowed = draw(st.lists(prefixes, unique=True, max_size=3))
            half = {
                "public_key": f"key of {name}",
                "allowed_ips": allowed,
                "preshared_key": draw(st.sampled_from(["", "p"])),
            }
            routes = [prefix for prefix in allowed if not prefix.startswith("10.100.")]
            out[f"hub/peer/{name}"] = {"saved": half, "live": {**half, "routes": routes}}
    if draw(st.integers(0, 5)):
        out[TABLE] = draw(halves(tables))
        out[CLOSED] = {"live": {"rules": ["inet", "inet6"], "sysctl": {FORWARDING: draw(st.sampled_from("01"))}}}
        out[INBOUND] = draw(
            halves(st.fixed_dictionaries({"allow": st.just(["10.100.0.1/32 -> 10.100.0.0/16 icmp -"])}))
        )
        for prefix in draw(st.sets(prefixes)):
            rights = st.fixed_dictionaries({"peer": labels, "allow": allows})
            out[f"hub/rights/{prefix}"] = draw(halves(rights))
    for id in draw(st.sets(st.sampled_from([UNIT, SETTINGS]))):
        out[id] = draw(units)
    return out


def kept(before: Found, wanted: Found) -> Kept:
    """The snapshot of a write that turns the one into the other."""
    changed = [id for id in before.keys() | wanted.keys() if before.get(id) != wanted.get(id)]
    routes = [p for id, a in before.items() if kind(id) == "peer" and a["live"] for p in a["live"]["routes"]]
    return keep(HERE, before, wanted, changed, sysctl={FORWARDING: "0"}, routes=tuple(routes))


def after(before: Found, wanted: Found, now: Found) -> Found:
    """The hub after the roll-back."""
    found = {**now, **back(kept(before, wanted), now)}
    return {id: attrs for id, attrs in found.items() if attrs is not None}


def held(hub: Found, half: str) -> dict[str, set[tuple[str, ...]]]:
    """All that a hub gives anybody in one half, flat: sources, rights, peers with their prefixes and secrets."""
    out: dict[str, set[tuple[str, ...]]] = {"peers": set(), "prefixes": set(), "shared": set(), "rights": set()}
    for id, attrs in hub.items():
        side = attrs.get(half)
        if side and kind(id) == "peer":
            out["peers"].add((side["public_key"],))
            out["shared"].add((side["public_key"], side["preshared_key"]))
            out["prefixes"] |= {(side["public_key"], prefix) for prefix in side["allowed_ips"]}
        if side and kind(id) == "rights":
            out["rights"] |= {(id, side["peer"], text) for text in side["allow"]}
    return out


@settings(max_examples=40)
@given(hubs(), hubs(), hubs())
def test_nobody_gets_what_he_has_not_now(before: Found, wanted: Found, now: Found) -> None:
    then = after(before, wanted, now)
    for half in ("saved", "live"):
        has, had, was = held(then, half), held(now, half), held(before, half)
        for what in ("peers", "prefixes", "shared"):
            assert has[what] <= had[what], what
        # more than now only what was there before, and is wanted still, if only at the hub's new address
        for id, peer, text in has["rights"] - had["rights"]:
            assert (id, peer, text) in was["rights"]
            elsewhere = text.replace("10.100.0.1/32", "10.100.0.9/32"), text.replace("10.100.0.9/32", "10.100.0.1/32")
            assert {(id, peer, text), *((id, peer, other) for other in elsewhere)} & held(wanted, half)["rights"]


@settings(max_examples=40)
@given(hubs(), hubs())
def test_the_interface_is_as_before(before: Found, wanted: Found) -> None:
    then = after(before, wanted, wanted)
    if IF not in before or IF not in wanted:
        return
    for half in ("saved", "live"):
        for field in FIELDS:
            assert then[IF][half][field] == before[IF][half][field]
        assert then[IF][half]["public_key"] == wanted[IF][half]["public_key"]
    assert then[IF]["saved"]["enabled"] == before[IF]["saved"]["enabled"]


@settings(max_examples=40)
@given(hubs(), hubs())
def test_twice_is_once(before: Found, wanted: Found) -> None:
    once = after(before, wanted, wanted)
    assert after(before, wanted, once) == once


@settings(max_examples=40)
@given(hubs())
def test_what_nobody_changed_stays(hub: Found) -> None:
    assert back(kept(hub, hub), hub) == {}


@settings(max_examples=40)
@given(hubs(), hubs())
def test_the_mesh_stays_closed(before: Found, wanted: Found) -> None:
    then = after(before, wanted, wanted)
    if TABLE in wanted:
        assert TABLE in then
        assert then[CLOSED]["live"]["rules"] == wanted[CLOSED]["live"]["rules"]


HALF = {"public_key": "A", "listen": 51821, "addresses": ["10.100.0.1/16"], "mtu": 1420}
OLD: Found = {IF: {"saved": {**HALF, "enabled": True}, "live": dict(HALF)}}


def both(half: Found) -> Found:
    return {"saved": half, "live": copy.deepcopy(half)}


def ham(**more: Any) -> Found:
    half = {"public_key": "ham", "allowed_ips": ["10.100.2.1/32"], "preshared_key": "", **more}
    return {"saved": half, "live": {**half, "routes": [p for p in half["allowed_ips"] if not p.startswith("10.100.")]}}


def table(hub: str = "10.100.0.1/32") -> Found:
    own = {"interface": "wg1", "mark": 1, "format": 2, "hub": [hub], "masquerade": [], "strange": []}
    return both(own)


def rights(text: str) -> Found:
    return both({"peer": "ham", "allow": [text]})


def test_an_interface_that_was_not_there_goes_down_and_keeps_its_conf() -> None:
    then = after({}, OLD, OLD)
    assert then[IF] == {"saved": {**HALF, "enabled": False}, "live": None}


def test_a_right_to_the_hub_moves_with_its_address() -> None:
    old = {TABLE: table(), "hub/rights/10.100.2.1/32": rights("10.100.0.1/32 tcp 22")}
    new = {TABLE: table("10.100.0.9/32"), "hub/rights/10.100.2.1/32": rights("10.100.0.9/32 tcp 22")}
    assert after(old, new, new) == old


def test_a_right_to_the_hub_that_is_new_does_not_move() -> None:
    old = {TABLE: table(), "hub/rights/10.100.2.1/32": rights("10.100.0.1/32 tcp 22")}
    new = {TABLE: table("10.100.0.9/32"), "hub/rights/10.100.2.1/32": rights("10.100.0.9/32 any -")}
    assert after(old, new, new)["hub/rights/10.100.2.1/32"] == rights("10.100.0.9/32 any -")


def test_a_network_that_the_write_routed_into_the_tunnel_goes() -> None:
    old = {**OLD, "hub/peer/ham": ham()}
    new = {**OLD, "hub/peer/ham": ham(allowed_ips=["10.100.2.1/32", "192.0.2.0/24"])}
    assert after(old, new, new) == old


def test_a_firewall_that_was_not_finished_goes_with_what_closes_the_mesh() -> None:
    rule = {"live": {"rules": ["inet"], "sysctl": {FORWARDING: "1"}}}
    unit = {"text": f"echo 1 >/proc/sys/{FORWARDING.replace('.', '/')}", "mode": "0644"}
    wanted = {**OLD, TABLE: table(), CLOSED: rule, UNIT: unit, SETTINGS: unit}
    begun = {**wanted, TABLE: {"saved": None, "live": table()["live"]}}
    assert after(OLD, wanted, begun) == OLD
    done = after(OLD, wanted, wanted)
    assert done[TABLE] == table()
    assert done[UNIT]["text"] == unit["text"].replace("echo 1", "echo 0")
    assert SETTINGS not in done


def test_no_secret_is_kept() -> None:
    hub = {**OLD, "hub/peer/ham": ham(preshared_key="secret")}
    assert "secret" not in repr(keep(HERE, hub, {}, hub, sysctl={}, routes=()))


def test_a_right_that_the_write_keeps_is_there_again() -> None:
    """Killed between its steps, a write may have taken a right that it was to move."""
    old = {TABLE: table(), "hub/rights/10.100.2.1/32": rights("10.100.0.1/32 tcp 22")}
    new = {TABLE: table("10.100.0.9/32"), "hub/rights/10.100.2.1/32": rights("10.100.0.9/32 tcp 22")}
    now = {**new, "hub/rights/10.100.2.1/32": both({"peer": "ham", "allow": []})}
    assert after(old, new, now) == old
    assert after(old, {TABLE: new[TABLE]}, now)["hub/rights/10.100.2.1/32"] == now["hub/rights/10.100.2.1/32"]
