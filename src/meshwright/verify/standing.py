"""What is left in the cluster of friends who are out: namespaces, accounts, and what lost the mesh's label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from meshwright.desired.facts import ClusterFacts, Facts, TenantNamespace
from meshwright.desired.kubernetes.namespaces import user_name
from meshwright.desired.names import MESH, PEER, PEER_ACCOUNT, QUARANTINE, account
from meshwright.desired.tenants import tenants
from meshwright.events import Checked
from meshwright.io.cluster import Cluster, Object
from meshwright.plan.text import printable
from meshwright.providers.kubernetes import claims, inside
from meshwright.providers.kubernetes.kinds import TABLE
from meshwright.providers.kubernetes.remains import Remains, remains
from meshwright.spec.model import Kubernetes, Mesh

SHOWN = 5


def checks(mesh: Mesh, facts: Facts, cluster: Cluster) -> Iterator[Checked]:
    """One check for each namespace in quarantine and each friend who is out; and the namespaces that were disowned."""
    if mesh.kubernetes is None or facts.cluster is None:
        return
    active = {who.namespace for who in tenants(mesh, facts)}
    there = {space["metadata"]["name"]: space for space in cluster.list(TABLE["namespace"].collection(), metadata=True)}
    for each in remains(cluster, facts.cluster.tenants.keys() & there.keys() - active):
        yield _remaining(each, facts.cluster)
    yield from _identities(mesh, mesh.kubernetes, facts, cluster)
    known = active | {mesh.kubernetes.access.namespace}
    for name, space in there.items():
        if name not in known and (lost := _lost(space, mesh.name, facts.cluster.tenants.get(name))):
            yield lost


def _remaining(of: Remains, known: ClusterFacts) -> Checked:
    space = known.tenants[of.namespace]
    kept = [f"{number} {kind}" for kind, number in of.data.items()]
    kept += [f"{len(of.resting)} workloads at rest"] if of.resting else []
    kept += [f"his RoleBindings {_some(of.kept)} to be given back"] if of.kept else []
    alive = [f"pods {_some(of.pods)}"] if of.pods else []
    alive += [f"rights by {_some(of.grants)}"] if of.grants else []
    alive += [] if space.labels.get(QUARANTINE) == "true" else ["no quarantine"]
    said = [f"still there: {', '.join(alive)}"] if alive else []
    lost = [f"gone for good, too many or too large to keep: RoleBindings {_some(of.lost)}"] if of.lost else []
    observed = "; ".join([*said, f"kept: {', '.join(kept) or 'nothing'}", *lost])
    name = f"the namespace {of.namespace} of {space.labels.get(PEER, 'nobody')}, who is out"
    return Checked(name, not alive, "nothing runs, nobody has rights", printable(observed), printable(_next(of, alive)))


def _next(of: Remains, alive: Sequence[str]) -> str:
    if of.grants:
        text = f"take the accounts of {of.namespace} out of these bindings, or delete them"
        return f"{text}: tokens that he may have go on working with them"
    if of.pods:
        pod = of.pods[0].partition(" ")[0]
        look = f"kubectl describe pod -n {of.namespace} {pod}"
        return f"`meshwright apply`; a pod that only ends waits for its node or for a finalizer: {look}"
    return "`meshwright apply`" if alive else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


@dataclass(frozen=True)
class _Out:
    """Who may be nobody any more. wanted: accounts that may be there. users: name at the API server -> peer."""

    access: str
    wanted: frozenset[str]
    users: Mapping[str, str]

    def who(self, subject: Mapping[str, str]) -> str:
        """The peer who is out that a binding's subject speaks of; "" for anybody else."""
        name, place = subject["name"], subject.get("namespace", "")
        if subject["kind"] == "User":
            if name in self.users:
                return self.users[name]
            _, _, rest = name.partition("system:serviceaccount:")
            place, _, name = rest.partition(":")
        elif subject["kind"] != "ServiceAccount":
            return ""
        mine = place == self.access and name.startswith(PEER_ACCOUNT) and name not in self.wanted
        return name.removeprefix(PEER_ACCOUNT) if mine else ""


def _identities(mesh: Mesh, kubernetes: Kubernetes, facts: Facts, cluster: Cluster) -> Iterator[Checked]:
    """Of a friend who is out there is no account, and no binding that would make a new one of his name mighty."""
    active = {who.peer for who in tenants(mesh, facts)}
    spaces = facts.cluster.tenants.values() if facts.cluster else ()
    gone = {name for name, peer in mesh.peers.items() if peer.namespace} | {space.labels[PEER] for space in spaces}
    gone -= active
    wanted = frozenset(map(account, active)) if kubernetes.access.issuer == "token" else frozenset()
    users = {user: peer for peer in gone if (user := user_name(kubernetes, peer))}
    out = _Out(kubernetes.access.namespace, wanted, users)
    found: dict[str, list[str]] = {peer: [] for peer in sorted(gone)}
    for live in cluster.list(TABLE["serviceaccount"].collection(out.access), metadata=True):
        name = live["metadata"]["name"]
        if name.startswith(PEER_ACCOUNT) and name not in wanted:
            text = f"serviceaccount/{out.access}/{name} is there"
            found.setdefault(name.removeprefix(PEER_ACCOUNT), []).append(text)
    for live in [*cluster.list(inside.BINDING.collection()), *cluster.list(TABLE["clusterrolebinding"].collection())]:
        for peer in dict.fromkeys(out.who(subject) for subject in live.get("subjects") or ()):
            if peer:
                found.setdefault(peer, []).append(f"{_short(live)} names it")
    for peer, left in found.items():
        yield _identity(peer, left)
    if not found:
        yield Checked("accounts of friends who are out", True, "none", "none")


def _identity(peer: str, left: Sequence[str]) -> Checked:
    hint = "`meshwright apply` takes away what is the mesh's; delete the rest with kubectl" if left else ""
    observed = printable(_some(left)) or "none"
    return Checked(f"the account of {printable(peer)}, who is out", not left, "none, nor a binding", observed, hint)


def _short(live: Object) -> str:
    meta = live["metadata"]
    place = f"{meta['namespace']}/" if meta.get("namespace") else ""
    return f"{live['kind'].lower()}/{place}{meta['name']}"


def _lost(space: Object, mesh: str, found: TenantNamespace | None = None) -> Checked | None:
    """A namespace whose labels were taken off. found: what is known of it where it can still be said whose it is.

    The owner alone may write to namespaces; who else did this has more rights than a friend should.
    """
    missing = claims.lost(space, mesh)
    if not missing:
        return None
    name = space["metadata"]["name"]
    hint = "`meshwright apply`; then find out who did it"
    if not found:
        hint = f"if it was of this mesh: kubectl label namespace {name} {MESH}={mesh} {PEER}=NAME, then apply"
    text = f"HOSTILE: {' and '.join(missing)} taken off{'' if found else ', so nobody looks after it'}"
    return Checked(f"the namespace {name} bears its labels", False, f"{MESH}, {PEER}", text, hint)
