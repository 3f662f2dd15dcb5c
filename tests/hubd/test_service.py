"""The service on a hub with real systemd: what it mends, what it leaves alone, and the seconds without traffic."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest
from town import INTERFACE, MEMORY, PROGRAM, SERVICE, TUNNEL, Town, changed, left, sh, town, until, wanted

import booted

pytestmark = pytest.mark.booted

KILL = "kill -9 $(pidof wireguard-go)"
SPOKE = re.compile(r"gave \d peers their endpoint back and spoke first")
DELETE = f"ip link delete {INTERFACE}"


@pytest.fixture(scope="module")
def here(booted_hub: booted.Hub) -> Iterator[Town]:
    with town(booted_hub, 3) as it:
        yield it


def pid(here: Town, unit: str = SERVICE) -> int:
    return int(here.sh(f"systemctl show -P MainPID {unit}"))


def number(here: Town) -> str:
    """The kernel's number of the interface: another one, another interface."""
    return here.sh(f"cat /sys/class/net/{INTERFACE}/ifindex").strip()


def test_it_runs_and_may_do_little(here: Town) -> None:
    assert left(here.hub, wanted(here.friends)) == []
    found = re.search(r"exposure level for \S+: ([\d.]+)", here.sh(f"systemd-analyze security --no-pager {SERVICE}"))
    assert found
    print(f"\nsystemd-analyze security: {found[1]}")
    assert float(found[1]) < 2
    assert here.sh(f"stat -c %a {MEMORY} $(dirname {MEMORY})").split() == ["600", "700"]
    assert set(json.loads(here.remembered())["peers"]) == {who.public for who in here.friends.values()}


def test_nobody_notices_when_it_is_killed_and_it_comes_back(here: Town) -> None:
    before, link = pid(here), number(here)
    seconds = here.kill(f"kill -9 {before}; sleep 2")
    print(f"\nhubd killed: {seconds:.2f} s without traffic")
    assert seconds < 0.5
    until(lambda: pid(here) not in (0, before), 10, "it does not come back")
    assert number(here) == link
    assert here.sh(f"systemctl stop {SERVICE}; systemctl is-active {TUNNEL}; systemctl start {SERVICE}") == "active\n"
    assert number(here) == link


@pytest.mark.parametrize("fault", [KILL, DELETE])
def test_the_interface_is_brought_back_and_speaks_first(here: Town, fault: str) -> None:
    here.met()
    link = number(here)
    seconds = here.kill(fault)
    print(f"\n{fault}: {seconds:.2f} s without traffic")
    assert number(here) != link
    assert seconds < 5
    assert "gave 3 peers their endpoint back and spoke first" in here.log()


def test_a_restart_by_the_admin_is_his_and_endpoints_come_back(here: Town) -> None:
    here.met()
    seconds = here.kill(f"systemctl restart {TUNNEL}")
    print(f"\nsystemctl restart {TUNNEL}: {seconds:.2f} s without traffic")
    assert seconds < 5


@pytest.mark.parametrize(
    ("fault", "mend"),
    [(f"systemctl stop {TUNNEL}", f"systemctl start {TUNNEL}"),
     (f"systemctl disable -q {TUNNEL}; {DELETE}", f"systemctl enable -q {TUNNEL}; systemctl restart {TUNNEL}")],
)  # fmt: skip
def test_what_the_admin_stopped_or_disabled_stays_down(here: Town, fault: str, mend: str) -> None:
    here.met()
    told = here.log().count("left so")
    here.sh(fault)
    until(lambda: here.log().count("left so") > told, 15, here.log())
    time.sleep(1)
    assert here.hub.run(["ip", "link", "show", INTERFACE]).code != 0
    here.sh(mend)
    here.met()


def test_a_friend_who_is_out_gets_nothing_back(here: Town) -> None:
    here.met()
    out = here.friends["cid"].public
    here.friends["cid"] = changed(here.friends["cid"], disabled=True)
    here.settle()
    until(lambda: out not in here.remembered(), 15, "he is still remembered")
    here.kill(KILL)
    assert out not in here.sh(f"wg show {INTERFACE} endpoints")
    assert "gave 2 peers their endpoint back" in here.log()


def test_no_key_is_in_the_log(here: Town) -> None:
    assert "endpoint back" in here.log()
    log = sh(here.hub, "journalctl -q --no-pager")
    for who in here.friends.values():
        assert who.public not in log
        assert who.private not in log


def test_a_changed_program_restarts_it_and_not_the_tunnel(here: Town) -> None:
    before, link = pid(here), number(here)
    here.sh(f"echo >> {PROGRAM}; chmod 600 {PROGRAM}")
    assert left(here.hub, wanted(here.friends)) == ["hub/program/town"]
    here.settle()
    assert pid(here) not in (0, before)
    assert number(here) == link


def test_a_stopped_service_is_drift(here: Town) -> None:
    here.sh(f"systemctl stop {SERVICE}")
    assert left(here.hub, wanted(here.friends)) == [f"hub/unit/etc/systemd/system/{SERVICE}"]
    here.settle()


def test_it_ends_when_told_to_and_writes_down_what_it_knows(here: Town) -> None:
    here.met()
    here.sh(f"systemctl stop {SERVICE}; rm {MEMORY}; systemctl start {SERVICE}")
    until(lambda: here.friends["ann"].public in here.remembered(), 15)
    here.sh(f"kill -STOP $(pidof wireguard-go); systemctl stop {SERVICE}; kill -CONT $(pidof wireguard-go)")
    assert here.sh(f"systemctl show -P Result {SERVICE}") == "success\n"
    here.sh(f"systemctl start {SERVICE}")


@pytest.mark.parametrize("crash", [False, True])
def test_after_a_reboot_everybody_is_reached_again(here: Town, crash: bool) -> None:
    here.met()
    told = len(SPOKE.findall(here.log()))
    found = here.off_and_on(crash=crash)
    print(f"\n{'crash' if crash else 'reboot'}: {found}")
    # bob sends nothing that would wake the hub: reached, and told of, he was spoken to first
    assert len(SPOKE.findall(here.log())) == told + 1
    assert left(here.hub, wanted(here.friends)) == []


def test_after_a_reboot_without_it_they_are_not(here: Town) -> None:
    here.met()
    here.serve(False)
    found = here.off_and_on(crash=False, idle=False)  # an idle friend may be out of reach for minutes
    print(f"\nreboot without the service: {found}")
    assert found["ann"] > 5
