"""What watches the mesh: the exporter and how it is found, monitors of the tenants, rules, the dashboard. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired.facts import Facts
from meshwright.desired.monitoring import dashboard, exporter, rules, tenants
from meshwright.desired.resource import Resource
from meshwright.spec.model import Mesh


def build(mesh: Mesh, facts: Facts) -> Iterator[Resource]:
    """Everything that is watched by, or nothing where the file has no `observability` or no `kubernetes` section."""
    if mesh.kubernetes is None or mesh.observability is None:
        return
    yield from exporter.build(mesh, mesh.kubernetes, mesh.observability, facts)
    yield from tenants.build(mesh, mesh.observability, facts)
    yield from rules.build(mesh, mesh.observability, facts)
    yield from dashboard.build(mesh, mesh.observability, facts)
