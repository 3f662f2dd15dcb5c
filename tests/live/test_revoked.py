"""What runs on a right ends with the right, in both directions, and nothing else does. Real packets through flow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from scene import BASE, Document, End, Flows, Stage, counted, document, heard, rule, silent, staged, wait

pytestmark = pytest.mark.lab

NAME = "live-revoked"
NODE, POD, POD6, STORE = "192.168.20.21", "10.42.0.10", "fd42::a", "10.43.0.80"
ANNA, ANNA6, BERT, CARL, CARL6 = "10.90.1.1", "fd90::1:1", "10.90.1.2", "10.90.1.3", "fd90::1:3"
USED, KEPT = ("7000-7049/udp", "7000-7049/tcp"), ("7060-7069/udp", "7060-7069/tcp")


def rights(*without: str, peers: dict[str, Any] | None = None) -> Document:
    """Everything that the flows below need, but for the rules that `without` names."""
    names = set(peers if peers is not None else BASE["peers"])
    rules = {
        "nodes": rule("anna", "nodes", *USED),
        "pods": rule("anna", "pods", *USED),
        "store": rule("anna", "store", *USED),
        "peers": rule("anna", "carl", *USED),
        "inbound": rule("pods", "anna", *USED),
        "kept": rule("anna", "nodes", *KEPT),
        "other": rule("bert", "nodes", *KEPT),
    }
    found = [r for name, r in rules.items() if name not in without and {r["from"], r["to"]} & PEOPLE <= names]
    return document(NAME, *found, peers=peers)


PEOPLE = set(BASE["peers"])


class Path(NamedTuple):
    """Where a flow goes: from host to address, where the other host answers."""

    host: str
    to: str
    other: str


PATHS = {
    "nodes": [Path("anna", NODE, "node2")],
    "pods": [Path("anna", POD, "pod1"), Path("anna", POD6, "pod1")],
    "store": [Path("anna", STORE, "pod1")],
    "peers": [Path("anna", CARL, "carl"), Path("anna", CARL6, "carl")],
    "inbound": [Path("pod1", ANNA, "anna"), Path("pod1", ANNA6, "anna")],
}
# how each of the two sides speaks: the far side alone keeps the flow alive, the near side alone, or both, quickly
WAYS = [("udp", "once", "always", 20), ("udp", "always", "always", 50), ("tcp", "never", "always", 20),
        ("tcp", "always", "never", 20)]  # fmt: skip


class Running:
    """The flows of every kind, and some that nobody takes a right from."""

    def __init__(self, stage: Stage) -> None:
        self.flows = Flows(stage)
        self.ends: dict[str, list[End]] = {}
        self.spoken: dict[str, list[End]] = {}
        ports = iter(range(7001, 7049))
        for kind, paths in PATHS.items():
            for path in paths:
                for way in WAYS:
                    self._add(kind, path, way, next(ports))
        self._add("kept", Path("anna", NODE, "node2"), WAYS[1], 7061)
        self._add("kept", Path("anna", NODE, "node2"), ("tcp", "always", "always", 20), 7062)
        self._add("other", Path("bert", NODE, "node2"), WAYS[1], 7063)
        self._add("other", Path("bert", NODE, "node2"), ("tcp", "always", "always", 20), 7064)
        self.flows.begin()

    def _add(self, kind: str, path: Path, way: tuple[str, str, str, int], port: int) -> None:
        protocol, near, far, rate = way
        there = self.flows.end(path.other, protocol=protocol, port=port, speak=far, rate=rate)
        here = self.flows.end(path.host, protocol=protocol, to=[path.to, port], speak=near, rate=rate)
        self.ends.setdefault(kind, []).extend((there, here))
        hearing = [end for end, speaks in ((there, near), (here, far)) if speaks == "always"]
        self.spoken.setdefault(kind, []).extend(hearing)

    def all(self, kinds: set[str]) -> list[End]:
        """The ends of these kinds that hear something while the flow lives."""
        return [end for kind in kinds for end in self.spoken[kind]]

    def every(self, kinds: set[str]) -> list[End]:
        """All ends of these kinds."""
        return [end for kind in kinds for end in self.ends[kind]]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("revoked"), rights()) as it:
        yield it


@pytest.fixture
def running(stage: Stage) -> Iterator[Running]:
    stage.apply(rights())
    stage.lab.peers_up(stage.places.clients)  # who was removed and comes back has new keys
    it = Running(stage)
    alive = it.all(set(it.ends))
    assert silent(*alive) == []
    yield it
    stage.quiet()


def without(*names: str) -> dict[str, Any]:
    return {name: peer for name, peer in BASE["peers"].items() if name not in names}


@pytest.mark.parametrize(
    ("after", "ended"),
    [
        pytest.param(rights(), set(), id="nothing"),
        pytest.param(rights("pods"), {"pods"}, id="pods"),
        pytest.param(rights("inbound"), {"inbound"}, id="inbound"),
        pytest.param(
            rights("nodes", "pods", "store", "peers", "inbound"),
            {"nodes", "pods", "store", "peers", "inbound"},
            id="all but one",
        ),
        pytest.param(rights(peers=without("carl")), {"peers"}, id="the far peer"),
        pytest.param(
            rights(peers=without("anna")), {"nodes", "pods", "store", "peers", "inbound", "kept"}, id="the peer itself"
        ),
    ],
)
def test_what_lost_its_right_ends_and_the_rest_goes_on(
    stage: Stage, running: Running, after: Document, ended: set[str]
) -> None:
    live = set(running.ends) - ended
    stage.apply(after)
    going = running.all(live)
    assert silent(*going) == []
    assert heard(running.every(ended), going) == [], "something is heard without a right"
    assert not any(each.now["ended"] for each in going), "a connection that kept its right was cut"
    assert stage.left() == []


def test_a_flow_renewed_during_the_removal_ends_too(stage: Stage) -> None:
    """Both sides send 500 a second right through the apply, so that an entry deleted too early would come back."""
    for number in range(3):
        stage.apply(rights())
        stage.lab.peers_up(stage.places.clients)
        flows = Flows(stage)
        far = flows.end("pod1", protocol="udp", port=7048, rate=500)
        near = flows.end("anna", protocol="udp", to=[POD, 7048], rate=500)
        kept = flows.end("anna", protocol="tcp", to=[NODE, 7061], speak="never")
        flows.end("node2", protocol="tcp", port=7061, rate=50)
        flows.begin()
        assert silent(far, near) == []
        stage.apply(rights("pods"))
        assert heard([far, near], [kept]) == [], number
        assert entries(stage, POD, 7048) == []
        stage.quiet()


def entries(stage: Stage, address: str, port: int) -> list[str]:
    """The hub's conntrack entries towards an address and port."""
    found = stage.sh("hub", f"conntrack -L -p udp --orig-dst {address} --orig-port-dst {port} 2>/dev/null")
    return found.splitlines()


def test_the_next_owner_of_an_address_gets_none_of_its_flows(stage: Stage) -> None:
    """bert sends as anna's address, with her ports, before, while and after it becomes his."""
    stage.apply(rights())
    stage.lab.peers_up(stage.places.clients)
    came = counted(stage, ["bert"], [7147])
    stage.sh("bert", f"ip address add {ANNA}/32 dev bert")
    flows = Flows(stage)
    same: dict[str, Any] = {"protocol": "udp", "to": [POD, 7047], "from": ANNA, "port": 7147}
    far = flows.end("pod1", protocol="udp", port=7047, rate=200, hears="bert")
    old = flows.end("anna", **same, rate=200)
    new = flows.end("bert", **same, word="bert", rate=500)
    kept = flows.end("carl", protocol="udp", to=[NODE, 7063])
    flows.end("node2", protocol="udp", port=7063)
    carl = rule("carl", "nodes", *KEPT)
    stage.apply(with_rule(rights(), carl))
    flows.begin()
    assert silent(old, kept) == []
    swapped = {**BASE["peers"], "anna": {"address": [BERT, "fd90::1:2"]}, "bert": {"address": [ANNA, ANNA6]}}
    try:
        stage.apply(with_rule(rights(peers=swapped), carl))
        assert heard([old, new], [kept]) == []
        assert far.heard == 0, "the new owner went on where the old one was"
        assert new.heard == 0
        assert came() == {"bert": 0}, "what was meant for the old owner reached the new one"
        # and with a right of his own he is heard: the silence was the table's
        stage.apply(with_rule(rights(peers=swapped), carl, rule("bert", "pods", *USED)))
        assert wait(lambda: far.heard > 0)
    finally:
        stage.quiet()
        stage.sh("bert", f"ip address del {ANNA}/32 dev bert")


def test_a_next_owner_with_the_same_rights_hears_nothing_of_the_old_flows(stage: Stage) -> None:
    """Nothing is refused that was allowed; yet what the far side still sends is not bert's to read."""
    same = rule("bert", "pods", *USED)
    stage.apply(with_rule(rights("inbound"), same))
    stage.lab.peers_up(stage.places.clients)
    came = counted(stage, ["bert"], [7246])
    flows = Flows(stage)
    old = flows.end("anna", protocol="udp", to=[POD, 7046], **{"from": ANNA}, port=7246)
    flows.end("pod1", protocol="udp", port=7046, rate=500)
    kept = flows.end("carl", protocol="udp", to=[CARL, 7065], speak="always")
    flows.end("carl", protocol="udp", port=7065)
    flows.begin()
    assert silent(old, kept) == []
    swapped = {**BASE["peers"], "anna": {"address": [BERT, "fd90::1:2"]}, "bert": {"address": [ANNA, ANNA6]}}
    try:
        stage.apply(with_rule(rights("inbound", peers=swapped), same))
        assert heard([old], [kept]) == []
        assert came() == {"bert": 0}, "what was meant for the old owner reached the new one"
    finally:
        stage.quiet()


def with_rule(wanted: Document, *rules: dict[str, Any]) -> Document:
    wanted["policy"]["allow"] += rules
    return wanted
