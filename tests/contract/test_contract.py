"""What every provider promises, asked of each against the real thing: one suite, no case per provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshwright import keys
from meshwright.desired.facts import Facts
from meshwright.desired.resource import Resource
from meshwright.desired.state import known, state
from meshwright.events import silent
from meshwright.io.host import Namespace
from meshwright.plan.plan import Change, make
from meshwright.providers.base import Provider
from meshwright.providers.files import Files
from meshwright.providers.hub import Hub
from meshwright.providers.kubernetes import Kubernetes
from meshwright.providers.nftables import NftablesGateway
from meshwright.spec import load

MESH = """
version: 1
name: contract
hub: {node: hub, address: 192.0.2.10, interface: wg9, endpoint: 'vpn.example.net:51820'}
network: {cidr: [10.66.0.0/24, 'fd66::/64'], hub: [10.66.0.1, 'fd66::1'], routes: {lan: 192.0.2.0/24}}
peers:
  ada: {address: [10.66.0.2, 'fd66::2'], preshared_key: true, namespace: contract-ada}
  ben: {address: 10.66.0.3, lan: [198.51.100.0/24]}
policy:
  allow:
    - {from: ada, to: [lan, ben.lan], ports: [443/tcp, icmp]}
    - {from: hub, to: peers, ports: [icmp]}
gateway: {kind: nftables, connection: {kind: local}, wan: wan0}
kubernetes: {access: {namespace: contract-access}, reader: contract-reader}
"""
Make = Callable[[Path, Namespace], Provider]
PROVIDERS: dict[str, Make] = {
    "files": lambda folder, host: Files(folder / "secrets", folder / "clients", "contract"),
    "hub": lambda folder, host: Hub(host, "wg9", "contract"),
    "gateway": lambda folder, host: NftablesGateway(host, "wan0", "contract", "contract"),
}


PARAMS = [
    *(pytest.param(name, marks=pytest.mark.lab) for name in PROVIDERS),
    pytest.param("kubernetes", marks=pytest.mark.cluster),
]


@pytest.fixture(params=PARAMS)
def provider(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Provider]:
    if request.param in PROVIDERS:
        yield PROVIDERS[request.param](tmp_path, request.getfixturevalue("hub_host"))
        return
    made = Kubernetes(request.getfixturevalue("cluster").connect(), "contract", "contract-access")
    yield made
    made.apply(make({}, made.read(needed(made))).changes, silent)


@pytest.fixture
def wanted(provider: Provider) -> dict[str, Resource]:
    return needed(provider)


def needed(provider: Provider) -> dict[str, Resource]:
    """What the mesh wants of this system; values of other systems stand in for what they would have answered."""
    everything = state(load.load_text(MESH).mesh, Facts(datetime(2026, 11, 23, tzinfo=UTC)))
    others = {
        id: Resource(id, {"public_key": keys.public(keys.generate()), "preshared_key": keys.preshared().reveal()})
        for id in everything
        if not id.startswith(f"{provider.system}/")
    }
    found = {id: r for id, r in known(everything, others).items() if r.system == provider.system}
    # what a hub must have installed is there before us, stays after us, and cannot be missing here
    return {id: r for id, r in found.items() if not id.startswith("hub/packages/")}


def settle(provider: Provider, wanted: dict[str, Resource]) -> tuple[Change, ...]:
    """Plan and apply until nothing is left (a value that is born here is known only after the first time)."""
    first: tuple[Change, ...] = ()
    for _ in range(2):
        actual = provider.read(wanted)
        todo = make(known(wanted, actual), actual)
        first = first or todo.changes
        results = provider.apply(todo.changes, silent)
        assert [(r.id, r.why) for r in results if not r.ok and "still unknown" not in r.why] == []
    actual = provider.read(wanted)
    assert [change.id for change in make(known(wanted, actual), actual).changes] == []
    return first


def present(provider: Provider, wanted: dict[str, Resource]) -> list[str]:
    """What reads as more than empty halves."""
    return [id for id, r in provider.read(wanted).items() if any(v not in (None, [], {}) for v in r.attrs.values())]


def test_an_empty_world_reads_as_nothing_wanted(provider: Provider, wanted: dict[str, Resource]) -> None:
    assert present(provider, wanted) == []


def test_applied_once_there_is_nothing_left(provider: Provider, wanted: dict[str, Resource]) -> None:
    changes = settle(provider, wanted)
    assert {change.id for change in changes} == set(wanted)


def test_one_result_for_each_change(provider: Provider, wanted: dict[str, Resource]) -> None:
    changes = make(wanted, provider.read(wanted)).changes
    assert [result.id for result in provider.apply(changes, silent)] == [change.id for change in changes]


def test_everything_taken_away_leaves_nothing(provider: Provider, wanted: dict[str, Resource]) -> None:
    settle(provider, wanted)
    todo = make({}, provider.read(wanted))
    assert {change.verb for change in todo.changes} == {"delete"}
    results = provider.apply(todo.changes, silent)
    assert [(r.id, r.why) for r in results if not r.ok] == []
    assert [
        id for id, r in provider.read(wanted).items() if any(v not in (None, [], {}) for v in r.attrs.values())
    ] == []


def test_no_secret_is_shown_by_what_comes_back(provider: Provider, wanted: dict[str, Resource]) -> None:
    settle(provider, wanted)
    for resource in provider.read(wanted).values():
        for path, value in leaves(resource.attrs):
            if "preshared" in path[-1] and value:
                assert path in resource.secret, resource.id
            assert "private" not in path[-1]


def leaves(tree: object, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in leaves(value, (*path, key))]
    return [(path, tree)]
