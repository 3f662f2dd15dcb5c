"""The hub boots, is switched off in the middle of a write, and its own firewall is started, stopped and flushed."""

from __future__ import annotations

import json
import time

import pytest

from stage import CONF, INTERFACE, TABLE, Stage

pytestmark = pytest.mark.booted
OURS, TUNNEL, HUBD = f"meshwright-{TABLE}.service", f"wg-quick@{INTERFACE}.service", f"meshwright-hubd-{TABLE}.service"
MOMENTS = {
    "rights are taken": ("nft", '"delete"', True),
    "rights are given": ("nft", "10.100.2.[34].*comment", True),
}


def said(here: Stage, *words: str) -> str:
    return here.hub.run(*words, check=False).stdout.decode().strip()


def table(here: Stage) -> bool:
    return here.hub.run("nft", "list", "table", "inet", TABLE, check=False).returncode == 0


def back(here: Stage, what: str) -> None:
    """Wait for the table: systemctl does not wait for units that only follow the one that it was asked about."""
    begun = time.monotonic()
    while not table(here):
        assert time.monotonic() < begun + 10, f"{what}: the table does not come back"
        time.sleep(0.01)
    print(f"{what}: the table is back after {time.monotonic() - begun:.2f} s")


def began(here: Stage) -> str:
    """When the tunnel's unit was started last."""
    return said(here, "systemctl", "show", TUNNEL, "--property=ActiveEnterTimestampMonotonic")


def test_everything_is_there_after_a_boot(here: Stage) -> None:
    before, conf = here.access(), (here.hub.root / CONF.lstrip("/")).read_bytes()
    begun = time.monotonic()
    here.hub.reboot()
    booted = time.monotonic() - begun
    here.alive(60)
    print(f"booted in {booted:.1f} s, all peers back {time.monotonic() - begun:.1f} s after the reboot was asked for")
    assert here.access() == before
    assert (here.hub.root / CONF.lstrip("/")).read_bytes() == conf
    here.check_closed()
    assert said(here, "sysctl", "-n", "net.ipv4.ip_forward", "net.ipv4.conf.all.src_valid_mark") == "1\n1"
    assert said(here, "systemctl", "is-active", OURS, TUNNEL, HUBD) == "active\nactive\nactive"
    here.settled()


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_hub_is_switched_off_in_the_middle(here: Stage, moment: str) -> None:
    program, words, after = MOMENTS[moment]
    with here.fault():
        with here.held(program, words, after=after) as reached:
            here.write()
            run = here.start("apply", "--yes")
            reached()
            here.hub.crash()
        here.hub.start()
        here.end(run).refused(3, "the answer was lost", "run `meshwright plan`: it shows what is left to do")
        here.alive(60)


def test_the_firewall_of_the_host(here: Stage) -> None:
    """Debian's own nftables.service flushes everything: our table is back at once, and the tunnel never restarts."""
    hub, begun = here.hub, began(here)
    assert hub.run("systemd-analyze", "verify", "--man=no", OURS, TUNNEL, HUBD).stderr == b""
    hub.run("systemctl", "enable", "--now", "nftables.service")
    # nobody tells a running unit that another one has started: the mesh is closed, and apply mends it
    assert not table(here)
    here.check_closed()
    assert not here.gets_in("anna", "10.100.2.2")
    here.converge()
    here.alive()
    for action in ("restart", "reload"):
        hub.run("systemctl", action, "nftables.service")
        back(here, action)
        here.alive()
    hub.run("systemctl", "stop", "nftables.service")
    assert not table(here)
    here.check_closed()
    assert not here.gets_in("anna", "10.100.2.2")
    hub.run("systemctl", "start", "nftables.service")
    back(here, "start")
    here.alive()
    assert began(here) == begun
    hub.reboot()
    here.alive(60)
    assert table(here)
    here.settled()


def test_the_tunnel_stays_down_without_the_table(here: Stage) -> None:
    hub = here.hub
    saved = hub.root / f"etc/meshwright/{TABLE}.json"
    text = saved.read_text()
    saved.write_text("no table")
    hub.reboot()
    assert said(here, "systemctl", "is-system-running", "--wait") == "degraded"
    assert said(here, "systemctl", "is-active", TUNNEL, OURS, HUBD) == "failed\nfailed\nactive"
    assert f"the nft table {TABLE} is missing, so the tunnel stays down" in said(here, "journalctl", "-b", "-u", TUNNEL)
    assert not table(here)
    here.check_closed()
    here.converge()
    here.alive(60)
    assert json.loads(saved.read_text()) == json.loads(text)
