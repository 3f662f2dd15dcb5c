"""What the hub needs is not there: room on its disks, a program, the interface, a file, a key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from booted import Hub
from stage import CONF, Stage

CONF_FOLDER = "/etc/wireguard"
pytestmark = pytest.mark.booted


@contextmanager
def small(hub: Hub, folder: str) -> Iterator[None]:
    """The folder on a disk of its own, which holds little more than what is in it."""
    copy = "cp -a {0}/. {1}; {2}; cp -a {1}/. {0}; rm -rf {1}"
    mount = f"mount -t tmpfs -o size=1m,mode=700 tmpfs {folder}"
    hub.run("sh", "-ec", f"mkdir -p {folder} /run/aside; " + copy.format(folder, "/run/aside", mount))
    try:
        yield
    finally:
        hub.run("sh", "-ec", "mkdir -p /run/aside; " + copy.format(folder, "/run/aside", f"umount -l {folder}"))


def fill(hub: Hub, folder: str) -> None:
    hub.run("sh", "-c", f"cat /dev/zero >{folder}/.full; df {folder}", check=False)


ROOM = "make room on that disk of the hub"


def test_no_room_was_left(here: Stage) -> None:
    """Full before the write: the old rights that are to go are gone, the rest is as it was."""
    with small(here.hub, CONF_FOLDER), here.fault():
        fill(here.hub, CONF_FOLDER)
        here.apply().refused(3, f"{CONF}: No space left on device", ROOM)
        here.hub.run("rm", f"{CONF_FOLDER}/.full")


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("/etc/meshwright", "/etc/meshwright/stage.json: No space left on device"),
        ("/var/lib/meshwright", "/var/lib/meshwright/rollback-stage/snapshot.json: No space left on device"),
    ],
)
def test_no_room_is_left_in_the_middle(here: Stage, folder: str, said: str) -> None:
    with small(here.hub, folder), here.fault():
        with here.held("nft", '"delete"') as reached:
            here.write()
            run = here.start("apply", "--yes")
            reached()
            fill(here.hub, folder)
        here.end(run).refused(3, said, ROOM)
        here.hub.run("rm", f"{folder}/.full")


def test_a_full_tmp_is_no_fault(here: Stage) -> None:
    """What goes through the hub's programs is in memory only."""
    with small(here.hub, "/tmp"), here.fault():
        fill(here.hub, "/tmp")
        done = here.apply()
        assert done.code == 0, done
        here.hub.run("rm", "/tmp/.full")


def test_a_program_is_missing(here: Stage) -> None:
    """Its package is installed, so the package manager has nothing to do."""
    with away(here.hub, "/usr/bin/wg"):
        plan = here.run("plan")
        assert "the hub cannot be read without wg" in plan.out, plan
        assert "in the way" not in plan.err, plan
    with here.fault(), away(here.hub, "/usr/sbin/nft"):
        said = "nftables is installed, but not all of its programs are there"
        here.apply().refused(3, said, "apt-get install --reinstall nftables")


@contextmanager
def away(hub: Hub, program: str) -> Iterator[None]:
    hub.run("mv", program, f"{program}.away")
    yield
    hub.run("mv", f"{program}.away", program)
