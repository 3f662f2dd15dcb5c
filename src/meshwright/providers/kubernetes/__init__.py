"""The cluster: objects by server-side apply, ours by their label, compared field by field through managedFields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshwright.desired.resource import Resource, Resources
from meshwright.events import Tell
from meshwright.io.cluster import Cluster
from meshwright.plan.plan import Change
from meshwright.providers.base import Result


@dataclass(frozen=True)
class Kubernetes:
    """cluster: the API server. mesh: the mesh's name, the value of our label. lease: namespace of the lock's Lease."""

    cluster: Cluster
    mesh: str
    lease: str

    system = "kubernetes"

    def read(self, wanted: Resources) -> dict[str, Resource]:
        raise NotImplementedError

    def apply(self, changes: Sequence[Change], tell: Tell) -> list[Result]:
        raise NotImplementedError
