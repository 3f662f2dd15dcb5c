"""What destroy does to the cluster: the friends' rights go; namespaces, what is in them, and the walls stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane import ControlPlane
from meshwright import flow
from meshwright.events import silent
from meshwright.io.host import Local
from meshwright.providers.table import Places
from tenancy import House, about, placed

pytestmark = pytest.mark.cluster

BINDINGS = "rolebindings,clusterrolebindings"
WALLS = "networkpolicies,resourcequotas,limitranges"


@pytest.fixture
def house(cluster: ControlPlane) -> Iterator[House]:
    made = House(cluster, "leaving", friends=("ann",))
    yield made
    made.gone()


def ours(house: House, kinds: str) -> list[str]:
    done = house.run("get", kinds, "-A", "-l", f"meshwright.io/mesh={house.name}", "-o", "json")
    assert done.returncode == 0, done.stderr
    return sorted(f"{o['kind']} {o['metadata']['name']}" for o in json.loads(done.stdout)["items"])


def may(house: House, verb: str, what: str) -> bool:
    who = f"system:serviceaccount:{house.name}-access:peer-ann"
    return house.run("auth", "can-i", verb, what, "-n", house.space("ann"), f"--as={who}").returncode == 0


def test_the_rights_go_and_all_else_stays(house: House, tmp_path: Path) -> None:
    assert house.apply() == []
    house.make(*placed(house.space("ann"), about("ConfigMap", "precious", data={"a": "b"})))
    walls, spaces = ours(house, WALLS), ours(house, "namespaces")
    assert walls
    assert ours(house, BINDINGS)
    assert may(house, "get", "pods")
    with house.connected() as cluster:
        places = Places(Local(), None, tmp_path, tmp_path, {}, cluster)
        providers = {"kubernetes": house.provider(cluster)}
        view = flow.leave(house.mesh, providers, places, silent, cluster=True)
        assert {change.verb for change in view.todo.changes} == {"delete"}
        assert {change.id.split("/")[1] for change in view.todo.changes} == {"rolebinding", "clusterrolebinding"}
        assert [r.why for r in flow.apply(view.todo, providers, silent) if not r.ok] == []
        assert not flow.leave(house.mesh, providers, places, silent, cluster=True).todo.changes
        assert not flow.leave(house.mesh, providers, places, silent, cluster=False).actual
    assert ours(house, BINDINGS) == []
    assert not may(house, "get", "pods")
    assert (ours(house, WALLS), ours(house, "namespaces")) == (walls, spaces)
    assert "precious" in house.names("ann", "configmaps")
    assert house.apply() == []
    assert may(house, "get", "pods")
