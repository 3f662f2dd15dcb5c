"""audit: whether the tenancy is what the file says, and nothing else, asked of the API server as it is now.

Rights by question (`rights`), rights by every role and binding (`grants`), what reaches out (`exposed`), where pods may
send packets (`pods`), what is left of friends who are out (`standing`), what is around (`surroundings`).
"""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired.facts import Facts
from meshwright.events import Checked, Started, Tell
from meshwright.io.cluster import Cluster
from meshwright.spec.model import Mesh
from meshwright.verify import exposed, grants, pods, rights, standing, surroundings


def run(mesh: Mesh, facts: Facts, cluster: Cluster, tell: Tell) -> list[Checked]:
    """Every check of the tenancy; each is told when it is there. ClusterError where the cluster cannot say it."""
    out = []
    for found in _parts(mesh, facts, cluster, tell):
        tell(found)
        out.append(found)
    return out


def _parts(mesh: Mesh, facts: Facts, cluster: Cluster, tell: Tell) -> Iterator[Checked]:
    yield from rights.checks(mesh, facts, cluster, tell)
    tell(Started("looking at roles, bindings, what is open, where pods may go and what is left"))
    yield from grants.checks(mesh, facts, cluster)
    yield from exposed.checks(mesh, facts, cluster)
    yield from pods.checks(mesh, facts, cluster)
    yield from standing.checks(mesh, facts, cluster)
    yield from surroundings.checks(mesh, cluster)
