"""What the cluster should hold: tenants with their walls, access, the deployer. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meshwright.desired import names
from meshwright.desired.facts import Facts
from meshwright.desired.kubernetes import access, admission, limits, namespaces, quarantine
from meshwright.desired.kubernetes.network import Policies
from meshwright.desired.manifest import id_of, resource
from meshwright.desired.resource import Resource
from meshwright.desired.tenants import Tenant, tenants
from meshwright.spec.model import Kubernetes, Mesh


def build(mesh: Mesh, facts: Facts) -> Iterator[Resource]:
    """Every object of the mesh in the cluster, or nothing where the file has no `kubernetes` section.

    Nobody gets a right before what limits it stands: bindings come after the walls of their namespace and after every
    admission policy.
    """
    cluster = mesh.kubernetes
    if cluster is None:
        return
    policies = list(admission.build(mesh, facts))
    enforced = tuple(r.id for r in policies if r.id.startswith("kubernetes/validatingadmissionpolicybinding/"))
    everyone = tenants(mesh, facts)
    network = Policies(mesh, cluster, facts)
    yield from policies
    yield from _platform(mesh, cluster, facts, everyone, enforced)
    for who in everyone:
        yield resource(namespaces.tenant(mesh, cluster, facts, who))
        walls = list(_walls(mesh, who, network))
        yield from walls
        yield from _rights(mesh, cluster, who, (*(wall.id for wall in walls), *enforced))
    yield from quarantine.build(mesh, facts)


def _platform(
    mesh: Mesh, cluster: Kubernetes, facts: Facts, everyone: Sequence[Tenant], enforced: tuple[str, ...]
) -> Iterator[Resource]:
    """What is there once."""
    yield resource(namespaces.access(mesh, cluster, facts))
    yield resource(access.deployer_account(mesh.name, cluster))
    role = resource(access.reader(mesh.name, cluster))
    yield role
    if not everyone:
        return
    accounts = []
    if cluster.access.issuer == "token":
        accounts = [resource(access.peer_account(mesh.name, cluster, who)) for who in everyone]
        yield from accounts
    binding = access.reader_binding(mesh.name, cluster, everyone)
    yield resource(binding, role.id, *(account.id for account in accounts), *enforced)


def _walls(mesh: Mesh, who: Tenant, network: Policies) -> Iterator[Resource]:
    """What stands in a namespace before anybody may use it.

    The quota comes last: until a controller has seen it, it refuses whatever it counts.
    """
    inside = [
        limits.default_account(mesh.name, who),
        limits.limits(mesh.name, who),
        *network.of(who),
        *(access.tunnel_secret(mesh.name, who, device.label) for device in who.devices),
    ]
    yield from map(resource, inside)
    yield resource(limits.quota(mesh.name, who), *map(id_of, inside))


def _rights(mesh: Mesh, cluster: Kubernetes, who: Tenant, after: tuple[str, ...]) -> Iterator[Resource]:
    own = f"kubernetes/serviceaccount/{cluster.access.namespace}/{names.account(who.peer)}"
    deployer = f"kubernetes/serviceaccount/{cluster.deployer.namespace}/{cluster.deployer.name}"
    secrets = resource(access.deployer_role(mesh.name, who))
    most = [resource(access.restricted(mesh.name, who))] if who.walls.role == "restricted" else []
    bindings = [
        resource(access.admin(mesh.name, cluster, who), own, *after, *(role.id for role in most)),
        resource(access.deployer_binding(mesh.name, cluster, who), deployer, *after, secrets.id),
    ]
    yield from (*most, secrets, *bindings)
    yield resource(limits.bindings_quota(mesh.name, who), *(binding.id for binding in bindings))
