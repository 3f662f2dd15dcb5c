"""One peer changed on a hub with 1 000 and 10 000 others: how long it takes, and what another peer's pings lose.

    python bench/device.py [PEERS...]        as root; some minutes

A hub made by the product's own apply in a namespace of its own, with a real peer beside it. Then one more peer comes
and goes, by turns in five ways: our delta alone (what the device has to do), read + compare + delta, the whole remote
write of the agent (read everything, judge, nft, conf, saved table), `wg set`, and `wg syncconf` of the whole file. The
loss: pings every 5 ms from the real peer through the tunnel to the hub while the changes go on, beside an equally long
run without any. Aim: under 1 ms at the device; no packet lost in 1 000 changes.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import meshes
from harness import record, row
from meshwright.desired.facts import Facts
from meshwright.desired.resource import Resource
from meshwright.desired.state import known, state
from meshwright.events import silent
from meshwright.hubd.kernel import device, wg
from meshwright.plan import plan
from meshwright.providers.hub import Hub
from meshwright.spec import load
from nets import Namespace, cable, daemon, inside, machine, must

SIZES = [int(word) for word in sys.argv[1:] if word.isdigit()] or [1000, 10000]
IF, INTERVAL = "wg1", 0.005
FULL, PLUS = "/run/full.conf", "/run/plus.conf"
EXTRA = wg.Peer(("10.99.0.1/32",))
EXTRA_KEY = meshes.nobodys_key(-1)
DELTA, COMPARED, SET, SYNC = "our delta alone", "read, compare, delta", "wg set", "wg syncconf, whole file"
AGENT = "the agent's whole write"
CHANGES = {DELTA: 1000, COMPARED: 1000, SET: 1000, SYNC: 300}


# -- inside the hub


def prepare() -> int:
    """Write the two files for syncconf; gives the number of peers."""
    live = _live()
    for path, more in ((FULL, {}), (PLUS, {EXTRA_KEY: EXTRA})):
        blocks = {key: wg.Block("", p.allowed_ips, p.preshared_key) for key, p in {**live.peers, **more}.items()}
        conf = wg.Conf(live.private_key, live.listen, peers=blocks)
        with open(path, "w") as file:
            file.write(wg.render_conf(conf))
    return len(live.peers)


def _live() -> wg.Device:
    live = device.read(IF)
    assert live is not None
    return live.device


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, timeout=60)


def compared(wanted: dict[str, wg.Peer]) -> None:
    """What the agent does with the device: read it, and write what differs."""
    live = _live()
    rest = {key: peer for key, peer in live.peers.items() if key != EXTRA_KEY}
    device.change(IF, live, live._replace(peers={**rest, **wanted}))


def ways() -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """Name -> (adds the extra peer, takes it away)."""
    none, one = wg.Device(), wg.Device(peers={EXTRA_KEY: EXTRA})
    return {
        DELTA: (lambda: device.change(IF, none, one), lambda: device.change(IF, one, none)),
        COMPARED: (lambda: compared({EXTRA_KEY: EXTRA}), lambda: compared({})),
        SET: (
            lambda: _run("wg", "set", IF, "peer", EXTRA_KEY, "allowed-ips", EXTRA.allowed_ips[0]),
            lambda: _run("wg", "set", IF, "peer", EXTRA_KEY, "remove"),
        ),
        SYNC: (lambda: _run("wg", "syncconf", IF, PLUS), lambda: _run("wg", "syncconf", IF, FULL)),
    }


def times(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU of this side) seconds per change of each way, in turn; the first round checks that it works."""
    out: dict[str, list[tuple[float, float]]] = {}
    count = len(_live().peers)
    for number in range(rounds):
        for name, (add, remove) in ways().items():
            for step, expected in ((add, count + 1), (remove, count)):
                wall, cpu = time.perf_counter(), _cpu()
                step()
                out.setdefault(name, []).append((time.perf_counter() - wall, _cpu() - cpu))
                assert number or len(_live().peers) == expected, name
    return out


def _cpu() -> float:
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def repeat(way: str, changes: int, seconds: float) -> int:
    """Change back and forth, evenly over the time; gives how many changes fitted in."""
    add, remove = ways()[way]
    begun = time.monotonic()
    for number in range(0, changes, 2):
        if time.monotonic() > begun + seconds:
            return number
        add()
        time.sleep(max(0, begun + (number + 1) * seconds / changes - time.monotonic()))
        remove()
        time.sleep(max(0, begun + (number + 2) * seconds / changes - time.monotonic()))
    return changes


# -- outside


class World:
    """A hub that the product wrote, and the mesh with and without its last peer."""

    def __init__(self, host: Namespace, count: int, public_key: str) -> None:
        keys = {n: meshes.nobodys_key(n) for n in range(count)} | {0: public_key}
        self.hub = Hub(host, IF, "many")
        self.both = [self._wanted(meshes.text(count, keys, last)) for last in (-1, count - 1)]
        self.go(0)

    def _wanted(self, text: str) -> dict[str, Resource]:
        everything = state(load.load_text(text).mesh, Facts(datetime.now(UTC)))
        return {id: resource for id, resource in everything.items() if resource.system == "hub"}

    def changes(self, which: int) -> tuple[plan.Change, ...]:
        actual = self.hub.read(self.both[which])
        return plan.make(known(self.both[which], actual), actual).changes

    def write(self, changes: tuple[plan.Change, ...]) -> tuple[float, float]:
        """(wall, CPU of the whole remote call) seconds."""
        wall, cpu = time.perf_counter(), _cpu()
        results = self.hub.apply(changes, silent)
        wall, cpu = time.perf_counter() - wall, _cpu() - cpu
        bad = [result for result in results if not result.ok]
        if bad or not results:
            sys.exit(f"apply: {bad[:2] or 'nothing to change'}")
        return wall, cpu

    def go(self, which: int) -> tuple[float, float]:
        return self.write(self.changes(which))


def connect(hub: Namespace, spoke: Namespace) -> str:
    """A cable and the peer's key; gives its public half."""
    cable(hub, "h0", "192.168.50.1/24", spoke, "s0", "192.168.50.2/24")
    return must(spoke, "umask 077; wg genkey > /run/key; wg pubkey < /run/key").strip()


def join(hub: Namespace, spoke: Namespace) -> None:
    """The peer's tunnel, up and answered."""
    key = must(hub, f"wg show {IF} public-key").strip()
    must(
        spoke,
        f"for i in $(seq 100); do ip link show {IF} >/dev/null 2>&1 && break; sleep 0.05; done;"
        f"wg set {IF} private-key /run/key peer {key} endpoint 192.168.50.1:51821 allowed-ips 10.100.0.0/16;"
        f"ip addr add {meshes.address(0)}/16 dev {IF}; ip link set {IF} up; ping -q -c 3 -W 5 10.100.0.1",
    )


def lost(spoke: Namespace, seconds: float, act: Callable[[], int]) -> tuple[int, int, int]:
    """(changes made, pings sent, pings lost) while `act` runs."""
    argv = ["ping", "-q", "-i", str(INTERVAL), "-c", str(int(seconds / INTERVAL)), "-W", "3", "10.100.0.1"]
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(spoke.enter(argv), stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            made = act()
            process.wait(seconds * 4 + 30)
        finally:
            process.kill()
            process.wait(10)
        out.seek(0)
        said = out.read().decode()
    counts = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    if not counts:
        sys.exit(f"ping: {said[-500:]}")
    sent, received = map(int, counts.groups())
    return made, sent, sent - received


def losses(world: World, hub: Namespace, spoke: Namespace, count: int) -> list[str]:
    seconds = 15.0
    acts: dict[str, Callable[[], int]] = {"nothing (control)": lambda: time.sleep(seconds) or 0}
    for way, changes in CHANGES.items():
        acts[way] = lambda way=way, changes=changes: inside(hub, __file__, "repeat", way, changes, seconds)
    acts[AGENT] = lambda: whole_writes(world, seconds)
    acts["nothing again"] = acts["nothing (control)"]
    lines = []
    for name, act in acts.items():
        made, sent, gone = lost(spoke, seconds, act)
        lines.append(f"| {count} | {name} | {made} | {sent} | {gone} | {gone / sent:.2%} |")
    return lines


def whole_writes(world: World, seconds: float) -> int:
    """The agent's write, back and forth, as often as it fits."""
    there, back = world.changes(1), ()
    made, begun = 0, time.monotonic()
    while time.monotonic() < begun + seconds - 1:
        world.write(back if made % 2 else there)
        made += 1
        if made == 1:
            back = world.changes(0)
    if made % 2:
        world.write(back)
    return made


def speeds(world: World, hub: Namespace, count: int) -> list[str]:
    figures: dict[str, list[tuple[float, float]]] = {}
    for _ in range(3):  # the agent's write takes turns with the others
        for name, values in inside(hub, __file__, "times", 10 if count < 5000 else 4).items():
            figures.setdefault(name, []).extend(values)
        for which in (1, 0) * (4 if count < 5000 else 2):
            figures.setdefault(AGENT, []).append(world.go(which))
    floor = [wall for wall, _ in figures[SYNC]]
    lines = []
    for name, values in figures.items():
        walls, cpus = [wall for wall, _ in values], sorted(cpu for _, cpu in values)
        shared = min(len(walls), len(floor))
        base = row(f"{count} | {name}", walls[:shared], floor[:shared])
        lines.append(f"{base} {cpus[len(cpus) // 2] * 1e3:.2f} |")
    return lines


def main() -> None:
    speed = [
        "| peers | way | ms min / median / max | of syncconf | CPU ms beside the device |",
        "|---|---|---|---|---|",
    ]
    loss = ["| peers | way | changes | pings | lost | share |", "|---|---|---|---|---|---|"]
    for count in SIZES:
        with machine("hub") as hub, machine("spoke") as spoke:
            key = connect(hub, spoke)
            world = World(hub, count, key)
            go = {"LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1"}
            with daemon(spoke, ["wireguard-go", "-f", IF], **go):
                join(hub, spoke)
                assert inside(hub, __file__, "prepare") == count
                speed += speeds(world, hub, count)
                loss += losses(world, hub, spoke, count)
    record("One peer changed: time", speed)
    record("One peer changed: what another peer's pings lose", loss)


if sys.argv[1:] == ["--inside"]:
    name, *arguments = json.load(sys.stdin)
    functions: dict[str, Callable[..., Any]] = {"prepare": prepare, "times": times, "repeat": repeat}
    print(json.dumps(functions[name](*arguments)))
else:
    main()
