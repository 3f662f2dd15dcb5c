"""Tenants whose peer is out: the namespace and its data are kept, nothing runs in it and nobody may do anything. Pure.

A namespace is in quarantine from the moment that it bears the mark: the label QUARANTINE and, where its tenant had
RoleBindings of his own, the annotations that keep them. The mark is a thing of its own, kubernetes/quarantine/NAME:
it is set before anything else is written and goes after everything is back, so that whoever is stopped in between is
known, and so that an admission policy refuses whatever the tenant writes meanwhile. All of this is written by the
provider's quarantine, and bears no label of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from meshwright.desired.facts import Facts, TenantNamespace
from meshwright.desired.kubernetes import bindings, limits, namespaces, network, workloads
from meshwright.desired.kubernetes.marks import NOTES, mark, mark_id
from meshwright.desired.manifest import id_of, resource
from meshwright.desired.names import BINDINGS, PEER, QUARANTINE, QUOTA
from meshwright.desired.resource import Resource
from meshwright.desired.tenants import Tenant, tenants
from meshwright.spec.model import Kubernetes, Mesh, Peer
from meshwright.spec.walls import walls


def build(mesh: Mesh, facts: Facts) -> Iterator[Resource]:
    """What quarantine adds to what the mesh wants: for namespaces that are to be in it, and for those that come out."""
    active = {tenant.namespace for tenant in tenants(mesh, facts)}
    spaces = facts.cluster.tenants if facts.cluster else {}
    for name in sorted(spaces):
        if name not in active and mesh.kubernetes:
            yield from _walls(mesh, mesh.kubernetes, facts, spaces[name])
            yield from _closed(spaces[name])
        elif marked(spaces[name]):
            yield from _reopened(spaces[name])


def marked(space: TenantNamespace) -> bool:
    """Whether the namespace bears the mark, or a piece of it."""
    return QUARANTINE in space.labels or any(key in space.annotations for key in NOTES)


def _walls(mesh: Mesh, cluster: Kubernetes, facts: Facts, space: TenantNamespace) -> Iterator[Resource]:
    """The only objects of ours that stay: no pods by the quota, no packets by the NetworkPolicy.

    How many RoleBindings there may be stays as it was: there have to be few enough to keep them.
    """
    peer = space.labels[PEER]
    shut = replace(walls(cluster, mesh.peers.get(peer, Peer())), pods=0)
    who = Tenant(peer, space.name, shut, (), ())
    yield resource(namespaces.tenant(mesh, cluster, facts, who))
    yield resource(limits.quota(mesh.name, who))
    yield resource(limits.bindings_quota(mesh.name, who))
    yield resource(limits.default_account(mesh.name, who))
    yield resource(network.default_deny(mesh.name, space.name))


def _closed(space: TenantNamespace) -> Iterator[Resource]:
    """The mark, and every workload at rest. His RoleBindings and pods are not wanted: so they go."""
    notes = bindings.merged(space.annotations, space.bindings, space.name)
    yield Resource(mark_id(space.name), mark(space.name, notes), after=(_namespace(space),))
    for workload in space.workloads:
        wanted = workloads.at_rest(workload, ours=QUARANTINE in space.labels)
        if wanted:
            yield Resource(id_of(wanted), wanted, after=(_namespace(space), mark_id(space.name)))


def _reopened(space: TenantNamespace) -> Iterator[Resource]:
    """His RoleBindings and workloads as they were; what he has made anew meanwhile stays. The mark is not wanted."""
    quota = f"kubernetes/resourcequota/{space.name}/{QUOTA}"
    there = {live["metadata"]["name"]: bindings.kept(live) for live in space.bindings}
    for name, binding in bindings.saved(space.annotations.get(BINDINGS), space.name).items():
        manifest = there.get(name, binding)
        yield Resource(id_of(manifest), manifest, after=(_namespace(space),))
    for workload in space.workloads:
        wanted = workloads.awake(workload)
        if wanted:
            yield Resource(id_of(wanted), wanted, after=(_namespace(space), quota))


def _namespace(space: TenantNamespace) -> str:
    return f"kubernetes/namespace/{space.name}"
