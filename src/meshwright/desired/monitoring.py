"""What watches the mesh: monitors of the tenants' own services and pods. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired.facts import Facts
from meshwright.desired.resource import Resource
from meshwright.spec.model import Mesh


def build(mesh: Mesh, facts: Facts) -> Iterator[Resource]:
    """The monitors of every tenant, or nothing where the file has no `observability` or no `kubernetes` section."""
    if mesh.kubernetes is None or mesh.observability is None:
        return
    yield from ()
