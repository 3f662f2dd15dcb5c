"""Killed before any of its effects, a write leaves no more access than before or after; the next one finishes it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import pytest
from small import INTERFACE, PING, SSH, TABLE, WEB, Friend, apply, friends, key, look, mesh, settle

from meshwright.desired.resource import Resource
from meshwright.errors import HostError
from meshwright.events import silent
from meshwright.io.host import Host, remote
from meshwright.io.process import Done
from meshwright.providers.hub import Hub

pytestmark = pytest.mark.lab

# Appended to hubd's own modules on their way: counts effects once the steps begin, and ends the process before one.
COUNTING = """
_left = [None]
def _counted(function):
    def wrapped(*args, **more):
        if _left[0] is not None:
            if _left[0] == 0:
                os._exit(9)
            _left[0] -= 1
        return function(*args, **more)
    return wrapped
attempt, write_file, remove_file = _counted(attempt), _counted(write_file), _counted(remove_file)
"""
PATCHES = {
    "host/system.py": COUNTING,
    "kernel/device.py": "\nask = system._counted(ask)\n",
    "kernel/conntrack.py": "\ndelete = system._counted(delete)\n",
    "firewall/closed.py": "\n_set = system._counted(_set)\n",
    "resources/writing.py": "\n_steps = steps\ndef steps(*a):\n    system._left[0] = {number}\n    return _steps(*a)\n",
}


@dataclass(frozen=True)
class Dying:
    """The host, where a write is killed before its effect `number`."""

    host: Host
    number: int

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def python(self) -> str:
        return self.host.python

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        document = json.loads(zlib.decompress(stdin))
        for path, patch in PATCHES.items():
            document["modules"][path] += patch.replace("{number}", str(self.number))
        return self.host.run(argv, stdin=json.dumps(document).encode(), timeout=timeout)

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        raise NotImplementedError

    def fresh(self) -> None:
        return None


def access(resources: Mapping[str, Resource], half: str) -> set[tuple[str, str, str]]:
    """(public key, address, right): who may do what, by the peers and the table of one half."""
    owner = {
        prefix: side["public_key"]
        for id, resource in resources.items()
        if id.startswith("hub/peer/") and (side := resource.attrs[half])
        for prefix in side["allowed_ips"]
    }
    return {
        (owner[prefix], prefix, right)
        for id, resource in resources.items()
        if id.startswith("hub/rights/") and (side := resource.attrs[half])
        for right in side["allow"]
        if (prefix := id.removeprefix("hub/rights/")) in owner
    }


BEFORE = mesh(
    friends(
        ham=Friend(("10.100.2.1/32", "198.51.100.0/24"), (WEB,)),
        bryce=Friend(("10.100.2.2/32",), (SSH,)),
        jake=Friend(("10.100.2.3/32",), (PING,)),
    )
)
AFTER = mesh(
    friends(
        ham=Friend(("10.100.2.2/32",), (WEB, PING)),
        bryce=Friend(("10.100.2.1/32",), (SSH,), shared=key("shared")),
        steve=Friend(("10.100.2.4/32", "198.51.100.0/24"), (WEB,)),
    ),
    listen=51999,
)
EMPTY: dict[str, Resource] = {}


@pytest.mark.parametrize(
    ("old", "new"), [(EMPTY, BEFORE), (BEFORE, AFTER), (AFTER, EMPTY)], ids=["first", "change", "destroy"]
)
def test_killed_at_any_effect(hub_host: Host, old: Mapping[str, Resource], new: Mapping[str, Resource]) -> None:
    hub = Hub(hub_host, INTERFACE, TABLE)
    allowed = access(old, "live") | access(new, "live")
    for number in count():
        assert all(result.ok for result in apply(hub_host, old))
        todo = look(hub_host, new)
        results = Hub(Dying(hub_host, number), INTERFACE, TABLE).apply(todo.changes, silent)
        there = hub.read(new or old)
        for half in ("saved", "live"):
            assert access(there, half) <= allowed, (number, half)
        if there.get(f"hub/interface/{INTERFACE}", Resource("", {"live": None})).attrs["live"]:
            assert f"hub/closed/{INTERFACE}" in there, (number, "an interface without the closing rule")
        settle(hub_host, new)
        if all(result.ok for result in results):
            break
    assert number >= 6, "the kill never happened"


def test_a_killed_write_is_told(hub_host: Host) -> None:
    results = Hub(Dying(hub_host, 3), INTERFACE, TABLE).apply(look(hub_host, BEFORE).changes, silent)
    assert all(not result.ok and "ended with code 9" in result.why for result in results)
    with pytest.raises(HostError, match="unknown operation"):
        remote(hub_host, "nothing", {})
