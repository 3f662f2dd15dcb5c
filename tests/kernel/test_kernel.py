"""The same hub on the kernel's own WireGuard: set up over SSH, changed under traffic, damaged, rebooted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from booted import Hub
from stage import GATE, INTERFACE, Stage

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module", autouse=True)
def kernel() -> None:
    if not Path("/sys/module/wireguard").exists():
        assert "MESHWRIGHT_IN_VM" not in os.environ, "the virtual machine has no WireGuard"
        pytest.skip("this kernel has no WireGuard of its own; script/vm has a machine with one")


@pytest.fixture
def here(booted_hub: Hub, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(booted_hub, tmp_path, booted_hub.connection(), ["anna", "bert"])
    yield made
    for stream in made.streams.values():
        stream.stop()


class Clock:
    """Prints how long each step took."""

    def __init__(self) -> None:
        self.since = time.monotonic()

    def __call__(self, what: str) -> None:
        now = time.monotonic()
        print(f"{now - self.since:6.1f} s  {what}", flush=True)
        self.since = now


def test_a_mesh_on_the_kernels_wireguard(here: Stage) -> None:
    hub, clock = here.hub, Clock()
    done = here.apply()
    assert done.code == 0, done
    assert b"wireguard" in hub.run("ip", "-details", "link", "show", INTERFACE).stdout
    assert hub.run("pgrep", "wireguard-go", check=False).returncode == 1
    clock("first apply")
    for name in here.peers:
        here.join(name)
    here.alive()
    clock("two peers connect")
    plan = here.run("plan")
    assert plan.code == 0, plan
    clock("plan: nothing to do")

    # a peer more, and a right less
    begun = here.streams["anna"].last
    here.peers.append("dora")
    here.rights["bert"] = ["22/tcp"]
    done = here.apply()
    assert done.code == 0, done
    lost, ended = here.streams["anna"].lost(begun), here.streams["bert"].last
    assert lost == 0
    here.streams["anna"].alive()
    assert here.streams["bert"].last == ended
    here.streams.pop("bert").stop()
    clock("a peer added, a right taken: the flow ended, another lost nothing")

    before = here.access()
    endpoints = hub.run("wg", "show", INTERFACE, "endpoints").stdout
    hub.run("ip", "link", "delete", INTERFACE)
    print(f"without an answer after the interface was deleted: {here.alive(60):.1f} s")
    # whoever speaks himself may be back before the service has told the device of the others
    end = time.monotonic() + 60
    while (found := hub.run("wg", "show", INTERFACE, "endpoints").stdout) != endpoints and time.monotonic() < end:
        time.sleep(0.5)
    assert found == endpoints
    assert here.access() == before
    clock("the interface deleted and brought back")

    hub.reboot()
    print(f"without an answer after the boot: {here.alive(60):.1f} s")
    assert here.access() == before
    assert not here.gets_in("bert", GATE)
    clock("a reboot")
    plan = here.run("plan")
    assert plan.code == 0, plan
    clock("plan: nothing to do")
