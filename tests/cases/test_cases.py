"""Golden cases: a directory is a mesh file and everything that comes out of it. To add a case, add a directory.

mesh.yaml      the input
desired.json   every resource outside the cluster, as `show --output json` gives it
plan.txt       their first plan, on an empty world
rendered/      every object of the cluster, as `render` writes them, for a cluster of release 1.36
clients/       the .conf files, with keys made from the label
table.json     the commands that make the hub's table
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest

from meshwright import keys
from meshwright.desired.documents import documents
from meshwright.desired.facts import ClusterFacts, Facts, Program
from meshwright.desired.resource import Resource
from meshwright.desired.state import known, state
from meshwright.events import silent
from meshwright.hubd.firewall import nft
from meshwright.hubd.resources.state import place, table
from meshwright.io import files
from meshwright.keys import Secret
from meshwright.plan import text
from meshwright.plan.plan import make
from meshwright.providers.files import Files
from meshwright.spec import emit, load
from meshwright.spec.model import Mesh

HERE = Path(__file__).parent
NOW = datetime(2026, 11, 23, tzinfo=UTC)
PROGRAM = Program(1, hashlib.sha256(b"the program on the hub").hexdigest())
CASES = sorted(path.parent.name for path in HERE.glob("*/mesh.yaml"))


def wanted(case: str) -> tuple[Mesh, dict[str, Resource]]:
    mesh = load.load(HERE / case / "mesh.yaml", NOW).mesh
    services = {name: (ip_address("10.96.7.8"),) for name, service in mesh.services.items() if service.kubernetes}
    return mesh, state(mesh, Facts(NOW, services, cluster=ClusterFacts("1.36"), program=PROGRAM))


def private(label: str) -> Secret:
    return Secret(base64.b64encode(hashlib.sha256(label.encode()).digest()).decode())


def answered(resources: dict[str, Resource]) -> dict[str, Resource]:
    """The resources as they are once every key exists."""
    world = {}
    for id in resources:
        _, kind, label = id.split("/", 2)
        if kind in ("key", "interface"):
            world[id] = Resource(id, {"public_key": keys.public(private(label))})
        if kind == "preshared":
            world[id] = Resource(id, {"preshared_key": private(label).reveal()})
    return known(resources, world)


def rendered(case: str, folder: Path) -> Iterator[tuple[str, str]]:
    """(file, text) of everything that comes out of a case."""
    mesh, everything = wanted(case)
    for path, objects in documents(mesh, answered(everything).values()).items():
        yield f"rendered/{path}", emit.text(objects)
    resources = {id: resource for id, resource in everything.items() if resource.system != "kubernetes"}
    shown = {id: text.masked(r.attrs, r.secret) for id, r in sorted(resources.items())}
    yield "desired.json", json.dumps(shown, indent=1, sort_keys=True) + "\n"
    yield "plan.txt", text.text(make(resources, {})) + "\n"
    provider = Files(folder / "secrets", folder / "clients", mesh.name)
    files.private_directory(provider.secrets)
    (provider.secrets / "keys").mkdir()
    complete = answered(resources)
    for id in complete:
        if id.startswith("files/key/"):
            label = id.removeprefix("files/key/")
            files.write(provider.secrets / f"keys/{label}.key", private(label).reveal().encode())
    clients = {id: r for id, r in complete.items() if id.startswith("files/client/")}
    for result in provider.apply(make(clients, {}).changes, silent):
        assert result.ok, result.why
        path = provider.clients / f"{result.id.removeprefix('files/client/')}.conf"
        yield f"clients/{path.name}", path.read_text()
    yield "table.json", json.dumps(nft.create(hub_table(complete)), indent=1, sort_keys=True) + "\n"


def hub_table(resources: dict[str, Resource]) -> dict[str, object]:
    """The table that the hub is asked for, put together from the resources as the hub does it."""
    found = {id: dict(r.attrs) for id, r in resources.items() if id.startswith("hub/")}
    name = next(id.removeprefix("hub/table/") for id in found if id.startswith("hub/table/"))
    interface = next(id.removeprefix("hub/interface/") for id in found if id.startswith("hub/interface/"))
    whole = table(found, place({"interface": interface, "table": name, "mark": 0, "sysctl": [], "units": []}), "live")
    assert whole
    return dict(whole)


@pytest.mark.parametrize("case", CASES)
def test_a_case_gives_what_it_gave(case: str, tmp_path: Path, update: bool) -> None:
    got = dict(rendered(case, tmp_path))
    if update:
        for old in [*(HERE / case).glob("clients/*.conf"), *(HERE / case).rglob("rendered/**/*.yaml")]:
            old.unlink()
        for name, content in got.items():
            (HERE / case / name).parent.mkdir(parents=True, exist_ok=True)
            (HERE / case / name).write_text(content)
    here = [path for path in (HERE / case).rglob("*") if path.is_file() and path != HERE / case / "mesh.yaml"]
    expected = {str(path.relative_to(HERE / case)): path.read_text() for path in here}
    assert got == expected


def test_the_reference_routes_exactly_what_it_should(tmp_path: Path) -> None:
    """R8: nodes, pods, services, the mesh, and nothing else."""
    confs = {name: body for name, body in rendered("reference", tmp_path) if name.startswith("clients/")}
    assert set(confs) == {f"clients/{who}.conf" for who in ("hamilton", "bryce", "jake", "steve")}
    for body in confs.values():
        assert "\nAllowedIPs = 192.168.20.0/24, 10.42.0.0/16, 10.43.0.0/16, 10.100.0.0/16\n" in body
        assert "\nEndpoint = origin.k3s.strommen.systems:51821\n" in body
        assert "\nPersistentKeepalive = 25\n" in body
        assert "DNS" not in body
