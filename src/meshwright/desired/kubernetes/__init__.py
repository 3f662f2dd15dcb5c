"""What the cluster should hold: tenants with their walls, access, the deployer. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired.facts import Facts
from meshwright.desired.resource import Resource
from meshwright.spec.model import Mesh


def build(mesh: Mesh, facts: Facts) -> Iterator[Resource]:
    """Every object of the mesh in the cluster, or nothing where the file has no `kubernetes` section."""
    if mesh.kubernetes is None:
        return
    yield from ()
