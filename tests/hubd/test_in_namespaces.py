"""The service without systemd: in the background on a bare machine of namespaces, as in the lab."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from town import (
    INTERFACE,
    MEMORY,
    PROGRAM,
    PUBLIC,
    SERVICE,
    TABLE,
    TUNNEL,
    friend,
    join,
    left,
    look,
    pinging,
    settle,
    sh,
    until,
    wanted,
    write,
)

import booted
from meshwright.errors import HostError
from meshwright.events import silent
from meshwright.io.host import Namespace, remote, service
from meshwright.providers.hub import Hub
from support import machine

pytestmark = pytest.mark.lab

UNIT = f"hub/unit/etc/systemd/system/{SERVICE}"
LOG = f"cat /run/meshwright-units/.{SERVICE}.log"


def pid(host: Namespace) -> str:
    return sh(host, f"cat /run/meshwright-units/{SERVICE}").split()[0]


@contextmanager
def pair() -> Iterator[tuple[Namespace, Namespace, str]]:
    """A hub with the service, a friend who is connected and remembered, and his public key."""
    with booted.site() as site:
        hub, home, ann = site.host("hub", booted.HUB), site.host("ann", "192.0.2.101"), friend(1)
        settle(hub, wanted({"ann": ann}))
        join(home, ann, sh(hub, PUBLIC).strip())
        until(lambda: home.run(["ping", "-c1", "-W1", "10.100.0.1"]).code == 0, 30)
        until(lambda: ann.public.encode() in hub.run(["cat", MEMORY]).out, 15, "ann is not remembered")
        yield hub, home, ann.public


def test_it_brings_the_tunnel_back_unless_somebody_stopped_it() -> None:
    with pair() as (hub, home, ann):
        with pinging(home) as pings:
            sh(hub, "kill -9 $(pidof wireguard-go)")
            since = pings.answers[-1] + 0.3
            until(lambda: pings.answered(since), 40, "nothing gets through")
        print(f"\nwireguard-go killed, without systemd: {pings.gap():.2f} s without traffic")
        assert pings.gap() < 5
        service(hub, TUNNEL, "stop")
        until(lambda: "left so" in sh(hub, LOG), 15)
        assert hub.run(["ip", "link", "show", INTERFACE]).code != 0
        service(hub, TUNNEL, "start")
        until(lambda: "192.0.2.101:" in sh(hub, f"wg show {INTERFACE} endpoints"), 10)
        assert ann not in sh(hub, LOG)


def test_endpoints_that_a_whole_new_configuration_wiped_come_back() -> None:
    with pair() as (hub, _, ann):
        sh(hub, f"wg-quick strip {INTERFACE} > /run/x; wg setconf {INTERFACE} /run/x")
        until(lambda: f"{ann}\t192.0.2.101:" in sh(hub, f"wg show {INTERFACE} endpoints"), 15)
        assert "gave 1 peers" in sh(hub, LOG)


def test_a_key_that_was_exchanged_gets_nothing_of_the_old_one() -> None:
    with pair() as (hub, _, ann):
        other = friend(1)
        settle(hub, wanted({"ann": other}))
        until(lambda: ann not in sh(hub, f"cat {MEMORY}"), 15, "the old key is still remembered")
        sh(hub, "kill -9 $(pidof wireguard-go)")
        until(lambda: other.public in hub.run(["wg", "show", INTERFACE, "endpoints"]).out.decode(), 15)
        assert sh(hub, f"wg show {INTERFACE} endpoints").split() == [other.public, "(none)"]


@pytest.mark.parametrize("rootless", [False, True])
def test_its_life_without_systemd(rootless: bool) -> None:
    wants = wanted({"ann": friend(1)})
    with machine(rootless=rootless) as hub:
        settle(hub, wants)
        assert service(hub, SERVICE, "status") == {"active": True, "enabled": True}
        until(lambda: "watching wg1" in sh(hub, LOG), 10)
        first = pid(hub)
        sh(hub, f"kill -9 {first}")
        assert left(hub, wants) == [UNIT]
        settle(hub, wants)
        assert pid(hub) != first
        sh(hub, f"echo >> {PROGRAM}")
        assert left(hub, wants) == [f"hub/program/{TABLE}"]
        second = pid(hub)
        settle(hub, wants)
        assert pid(hub) != second
        service(hub, SERVICE, "stop")
        assert "hubd.pyz" not in sh(hub, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        assert sh(hub, f"wg show {INTERFACE} listen-port") == "51821\n"


def test_it_goes_without_a_trace(hub_host: Namespace) -> None:
    wants = wanted({"ann": friend(1)})
    settle(hub_host, wants)
    sh(hub_host, f"mkdir -p $(dirname {MEMORY}); echo '{{}}' > {MEMORY}")
    # the wanted side names the unit; a plan that no longer wants it would not look for it
    changes = [{"id": id, "before": dict(wants[id].attrs), "after": None} for id in (UNIT, f"hub/program/{TABLE}")]
    place = {"interface": INTERFACE, "table": TABLE, "units": [UNIT.removeprefix("hub/unit")]}
    answer = remote(hub_host, "write", {**place, "changes": changes})
    assert all(result["ok"] for result in answer["results"]), answer
    assert sh(hub_host, "ls -A /var/lib/meshwright /etc/systemd/system").count("hubd") == 0
    assert "hubd.pyz" not in sh(hub_host, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


NEWER_TABLE = f"nft add element inet {TABLE} format '{{ 99 }}'; nft delete element inet {TABLE} format '{{ 2 }}'"
NEWER_HUBD = f"sed -i '2s/format [0-9]*/format 99/' {PROGRAM}"


@pytest.mark.parametrize(("script", "what"), [(NEWER_TABLE, "table"), (NEWER_HUBD, "hubd")])
def test_what_a_newer_version_wrote_is_refused(hub_host: Namespace, script: str, what: str) -> None:
    people = {"ann": friend(1)}
    settle(hub_host, wanted(people))
    planned = look(hub_host, wanted({**people, "bob": friend(2)}))
    sh(hub_host, script)
    files = "cat /etc/wireguard/* /etc/meshwright/* | sha256sum; nft list ruleset | grep -v counter | sha256sum"
    before = sh(hub_host, files)
    for attempt in (lambda: left(hub_host, wanted(people)), lambda: write(hub_host, wanted(people))):
        with pytest.raises(HostError, match=f"a newer meshwright wrote this hub: its {what} has format 99") as caught:
            attempt()
        assert "upgrade meshwright" in caught.value.hint
    assert not [r for r in Hub(hub_host, INTERFACE, TABLE).apply(planned.changes, silent) if r.ok]
    assert sh(hub_host, files) == before


def test_the_memory_survives_a_broken_file(hub_host: Namespace) -> None:
    wants = wanted({"ann": friend(1)})
    settle(hub_host, wants)
    for content in ("garbage", json.dumps({"format": 1, "peers": {"x": 5}})):
        service(hub_host, SERVICE, "stop")
        sh(hub_host, f"mkdir -p $(dirname {MEMORY}); echo '{content}' > {MEMORY}")
        service(hub_host, SERVICE, "start")
        until(lambda: sh(hub_host, LOG).rstrip().endswith("watching wg1, 0 endpoints in memory"), 10)
