"""One peer is added, changed, given other rights and removed, again and again: another peer's packets never notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from scene import BASE, Document, Stage, document, rule, staged

pytestmark = pytest.mark.lab

NAME, NODE = "live-others", "192.168.20.21"
TIMES = 6
RATE = 100  # packets per second
OTHERS = {name: BASE["peers"][name] for name in ("bert", "carl")}
# anna shares the first rule, and with it the role, with those who must not notice her
RULES = (rule("peers", "nodes", "7000-7009/udp", "7000-7009/tcp", "icmp"), rule("peers", "peers", "7000-7009/udp"))


def step(anna: dict[str, Any] | None, *more: dict[str, Any]) -> Document:
    peers = {**({"anna": anna} if anna else {}), **OTHERS}
    return document(NAME, *RULES, *more, peers=peers)


WITHOUT = step(None)
CYCLE = (
    step(BASE["peers"]["anna"]),
    step({"address": ["10.90.1.9", "fd90::1:9"], "lan": ["198.51.100.0/24"]}),
    step(
        {"address": ["10.90.1.9", "fd90::1:9"], "lan": ["198.51.100.0/24"]},
        rule("anna", "pods", "443/tcp", "icmp"),
        rule("anna.lan", "nodes", "22/tcp"),
    ),
    WITHOUT,
)


class Loss(NamedTuple):
    """What one run lost: datagrams to a node, to another peer; TCP segments; and how the stream fared."""

    node: int
    peer: int
    segments: int
    broken: str

    def within(self, control: Loss) -> bool:
        counts = zip(self[:3], control[:3], strict=True)
        return not self.broken and all(mine <= theirs for mine, theirs in counts)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("others"), WITHOUT) as it:
        yield it


def run(stage: Stage, meanwhile: Callable[[], None]) -> Loss:
    """bert's packets while something happens."""
    for host in ("node2", "carl"):
        stage.start(host, "echo", port=7003).ready()
    stage.start("node2", "drain", port=7004).ready()
    node = stage.start("bert", "count", to=[NODE, 7003], rate=RATE).ready()
    peer = stage.start("bert", "count", to=["10.90.1.3", 7003], rate=RATE).ready()
    stream = stage.start("bert", "stream", to=[NODE, 7004], rate=RATE).ready()
    try:
        meanwhile()
        told = [each.end() for each in (node, peer, stream)]
    finally:
        stage.quiet()
    print(told)
    assert told[0]["sent"] > 0
    end = told[2]
    whole = end["heard"] == [end["sent"], 0]
    broken = end["dead"] or ("" if whole else f"sent {end['sent']}, the other side has {end['heard']}")
    return Loss(told[0]["lost"], told[1]["lost"], end["lost"], broken)


def test_nobody_else_notices(stage: Stage) -> None:
    def changes() -> None:
        for number in range(TIMES):
            for wanted in CYCLE:
                stage.apply(wanted)
            assert number or stage.left() == []

    def only_reads() -> None:  # as long, and the machine as busy
        while time.monotonic() < end:
            stage.look(stage.mesh)

    begun = time.monotonic()
    seen = run(stage, changes)
    end = 2 * time.monotonic() - begun
    control = run(stage, only_reads)
    assert not control.broken, control
    assert seen.within(control), (seen, control)


def test_the_measure_sees_an_interruption(stage: Stage) -> None:
    """The twin that must fail: bert himself loses his rights for a moment."""
    none = document(NAME, rule("carl", "nodes", "icmp"), peers=OTHERS)

    def interrupted() -> None:
        stage.apply(none)
        stage.apply(WITHOUT)

    seen = run(stage, interrupted)
    assert seen.node > 0
    assert seen.peer > 0
    assert seen.segments > 0 or seen.broken
