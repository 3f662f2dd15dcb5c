"""The walls at admission: what neither RBAC nor Pod Security can refuse, refused by the API server itself. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired.facts import Facts
from meshwright.desired.kubernetes.admission import identities, walls, workloads
from meshwright.desired.kubernetes.admission.policy import resources
from meshwright.desired.resource import Resource
from meshwright.spec.model import Mesh


def build(mesh: Mesh, facts: Facts) -> Iterator[Resource]:
    """A policy and its binding for each topic, for all tenants alike; nothing where no cluster is managed."""
    if mesh.kubernetes is None:
        return
    for policy in (*walls.policies(mesh), *workloads.policies(), *identities.policies(mesh, mesh.kubernetes)):
        yield from resources(mesh.name, policy)
