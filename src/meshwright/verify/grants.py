"""Rights that stand in the cluster beside those of the mesh: what tenants get by other roles and other bindings.

The questions of `rights` are asked for some namespaces; here every role and every binding is looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshwright.desired import names
from meshwright.desired.facts import Facts
from meshwright.desired.kubernetes.admission.identities import OPERATORS
from meshwright.desired.kubernetes.namespaces import user_name
from meshwright.events import Checked
from meshwright.io.cluster import Cluster, Object
from meshwright.providers.kubernetes.kinds import TABLE
from meshwright.spec.model import Kubernetes, Mesh
from meshwright.verify.spaces import Found, Space, check, some, spaces

Rule = Mapping[str, Any]
Subject = Mapping[str, str]

AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
BUILT_IN = ("admin", "edit", "view")
_PARTS = frozenset(f"system:aggregate-to-{role}" for role in BUILT_IN)
_BOOTSTRAP = "kubernetes.io/bootstrapping"
_READING = frozenset({"get", "list", "watch"})
_CLIMBING = ("bind", "escalate", "impersonate")
_GATES = ("endpoints", "endpointslices", "limitranges", "namespaces", "resourcequotas")
_DANGEROUS = ("secrets", "nodes/proxy", "serviceaccounts/token")
_USUAL = frozenset({"secrets", "serviceaccounts/token", "impersonate serviceaccounts"})
"""Of what is dangerous, what the cluster's own role admin has."""
_ALWAYS = ("helm.cattle.io", "k3s.cattle.io", "monitoring.coreos.com")
"""Groups whose objects nobody of the mesh may be able to write, even where an admission policy refuses it besides."""

_WALLED = frozenset(f"writing {group}" for group in OPERATORS if group not in _ALWAYS)
"""Of the dangers, those that the mesh's admission refuses where the wall is up."""

_EVERYBODY = frozenset({"system:authenticated", "system:unauthenticated", "system:serviceaccounts"})
_FOR_EVERYBODY = frozenset(
    {"system:basic-user", "system:discovery", "system:public-info-viewer", "system:service-account-issuer-discovery"}
)
"""ClusterRoleBindings by which the API server gives everybody what is harmless; each binds the role of its own name."""


@dataclass(frozen=True, slots=True)
class Grants:
    """All ClusterRoles and bindings of a cluster, and the rules of every role by (namespace, name)."""

    cluster_roles: Sequence[Object]
    rules: Mapping[tuple[str, str], Sequence[Rule]]
    bindings: Sequence[Object]

    def given(self, binding: Object) -> Sequence[Rule]:
        """What a binding gives; nothing where its role is not there."""
        ref = binding["roleRef"]
        place = binding["metadata"]["namespace"] if ref["kind"] == "Role" else ""
        return self.rules.get((place, ref["name"]), ())


def grants(cluster_roles: Sequence[Object], roles: Sequence[Object], bindings: Sequence[Object]) -> Grants:
    """What was listed, put together."""
    every = [(role["metadata"], role.get("rules") or ()) for role in (*cluster_roles, *roles)]
    return Grants(cluster_roles, {(m.get("namespace", ""), m["name"]): rules for m, rules in every}, bindings)


def checks(mesh: Mesh, facts: Facts, cluster: Cluster) -> Iterator[Checked]:
    """Every role and binding of the cluster, in four LISTs."""
    kinds = [TABLE[key].collection() for key in ("clusterrole", "role", "rolebinding", "clusterrolebinding")]
    cluster_roles, roles, inside, everywhere = (cluster.list(path) for path in kinds)
    yield from judged(mesh, facts, grants(cluster_roles, roles, inside + everywhere))


def judged(mesh: Mesh, facts: Facts, found: Grants) -> Iterator[Checked]:
    """The checks. Pure."""
    if mesh.kubernetes is None:
        return
    places = spaces(mesh, facts)
    who = _Who(mesh, mesh.kubernetes, places)
    yield from _aggregated(found.cluster_roles, places)
    yield _built_in(found.cluster_roles)
    theirs = [binding for binding in found.bindings if not _expected(binding, who)]
    here = [b for b in theirs if b["metadata"].get("namespace") in {*places, who.access}]
    elsewhere = [b for b in theirs if b["metadata"].get("namespace") not in {*places, who.access}]
    yield check(
        "bindings in the friends' namespaces name only who belongs there",
        (_found(b, s) for b in here for s in _subjects(b) if not who.at_home(s, b["metadata"]["namespace"])),
        places,
        "delete that RoleBinding, or move what it is for out of this namespace",
    )
    yield check(
        "nobody makes himself more in his own namespace",
        (
            Found(
                b["metadata"]["namespace"], f"{_of(b)} gives {', '.join(more)} to {', '.join(map(named, _subjects(b)))}"
            )
            for b in here
            if (more := _climbs(b, found)) and any(who.at_home(s, b["metadata"]["namespace"]) for s in _subjects(b))
        ),
        places,
        "delete that RoleBinding, and take the rule out of the role that it binds",
    )
    yield check(
        "no other binding names somebody of the mesh",
        (_found(b, s) for b in elsewhere for s in _subjects(b) if who.concerns(s, b["metadata"].get("namespace", ""))),
        {},
        "delete that binding: what friends and the deployer may do is for the file to say",
    )


def _aggregated(roles: Sequence[Object], places: Mapping[str, Space]) -> Iterator[Checked]:
    """Every ClusterRole that makes admin, edit or view more than Kubernetes makes them."""
    walled = not any(space.open for space in places.values())
    added = [
        (role, into) for role in roles if (into := _into(role)) and role["metadata"]["name"] not in {*_PARTS, *BUILT_IN}
    ]
    if not added:
        yield Checked("nothing is added to the roles admin, edit and view", True, "nothing", "nothing")
    for role, into in sorted(added, key=lambda pair: str(pair[0]["metadata"]["name"])):
        rules = role.get("rules") or ()
        bad = [each for each in dangers(rules) if not (walled and each in _WALLED)]
        shown = some([f"dangerous: {', '.join(bad)}"] if bad else [_gist(rules)])
        yield Checked(
            f"ClusterRole {some([role['metadata']['name']])}, added to {', '.join(into)}",
            not bad,
            "nothing that friends may not have",
            shown,
            f"every friend gets this: take the label {AGGREGATE}{into[0]} off, or the rule out" if bad else "",
        )


def _into(role: Object) -> list[str]:
    labels = role["metadata"].get("labels") or {}
    return [name for name in BUILT_IN if labels.get(f"{AGGREGATE}{name}") == "true"]


def _gist(rules: Sequence[Rule]) -> str:
    """What a harmless role is about, in a few words."""
    groups = sorted({group or "core" for rule in rules for group in rule.get("apiGroups") or ()})
    writes = any(set(rule.get("verbs") or ()) - _READING for rule in rules)
    return f"{'reads and writes' if writes else 'reads'} {', '.join(groups)}" if groups else "nothing yet"


def _built_in(roles: Sequence[Object]) -> Checked:
    """The cluster's own parts of admin, edit and view, and how they are put together."""
    found = []
    for role in roles:
        name = role["metadata"]["name"]
        if name in _PARTS and (more := [each for each in dangers(role.get("rules") or ()) if each not in _USUAL]):
            found.append(Found("", f"{name} has {', '.join(more)}"))
        if name in BUILT_IN and role.get("aggregationRule") != _usual_rule(name):
            found.append(Found("", f"{name} is not put together as Kubernetes does it"))
    hint = "delete that ClusterRole and start the API server again: it makes its own anew"
    return check("the roles admin, edit and view are Kubernetes' own", found, {}, hint)


def _usual_rule(name: str) -> dict[str, Any]:
    return {"clusterRoleSelectors": [{"matchLabels": {f"{AGGREGATE}{name}": "true"}}]}


def dangers(rules: Sequence[Rule]) -> list[str]:
    """What in these rules nobody may get by the way: more rights, others' credentials, what others carry out."""
    out = set()
    for rule in rules:
        verbs, groups = set(rule.get("verbs") or ()), set(rule.get("apiGroups") or ())
        resources = set(rule.get("resources") or ())
        out |= {f"* in {key}" for key in ("verbs", "apiGroups", "resources") if "*" in (rule.get(key) or ())}
        out |= {f"{verb} {r}" for verb in _CLIMBING if verb in verbs for r in resources}
        out |= {name for name in _DANGEROUS if name in resources}
        if verbs - _READING:
            out |= {f"writing {name}" for name in _GATES if name in resources}
            out |= {f"writing {group}" for group in OPERATORS if group in groups}
    return sorted(out)


def _climbs(binding: Object, found: Grants) -> list[str]:
    """How whoever is bound gets beyond what he is given."""
    ref = binding["roleRef"]
    if ref["kind"] == "ClusterRole" and ref["name"] in BUILT_IN:
        return []
    return [each for each in dangers(found.given(binding)) if each.startswith(("* in", *_CLIMBING))]


def _expected(binding: Object, who: _Who) -> bool:
    """Whether a binding is one that the mesh makes, which the plan compares, or that the API server makes."""
    meta = binding["metadata"]
    name, place = meta["name"], meta.get("namespace", "")
    if (meta.get("labels") or {}).get(names.MESH) == who.mesh:
        active = place in who.places and who.places[place].active
        return active and name in (names.ADMIN, names.DEPLOYER) if place else bool(name == who.reader)
    return not place and name in _FOR_EVERYBODY and binding["roleRef"]["name"] == name


class _Who:
    """Who the people of the mesh are, as bindings name them."""

    def __init__(self, mesh: Mesh, cluster: Kubernetes, places: Mapping[str, Space]) -> None:
        self.mesh, self.reader, self.places = mesh.name, cluster.reader, places
        self.access = cluster.access.namespace
        self.deployer = (cluster.deployer.namespace, cluster.deployer.name)
        peers = {space.peer for space in places.values()} | mesh.peers.keys()
        users = {peer: user_name(cluster, peer) for peer in peers}
        self.users = {peer: user for peer, user in users.items() if user}

    def at_home(self, subject: Subject, place: str) -> bool:
        """Whether somebody belongs in a tenant's namespace: its own accounts, and its peer while he is active."""
        space = self.places.get(place)
        if space is None:
            return False
        kind, name = subject["kind"], subject["name"]
        if kind == "Group":
            return name == f"system:serviceaccounts:{place}"
        if kind == "User" and space.active and self.users.get(space.peer) == name:
            return True
        account = _account(subject)
        return account[0] == place or (
            space.active and not self.users and account == (self.access, names.account(space.peer))
        )

    def concerns(self, subject: Subject, place: str) -> bool:
        """Whether somebody of the mesh is meant, or everybody."""
        kind, name = subject["kind"], subject["name"]
        mine = {*self.places, self.access}
        if kind == "Group":
            return name in _EVERYBODY | {f"system:serviceaccounts:{space}" for space in {*mine, self.deployer[0]}}
        if kind == "User" and (name in self.users.values() or (name == "system:anonymous" and place != "kube-public")):
            return True
        account = _account(subject)
        return account[0] in mine or account == self.deployer


def _account(subject: Subject) -> tuple[str, str]:
    """The ServiceAccount that a subject is; ("", "") where it is none."""
    if subject["kind"] == "ServiceAccount":
        return subject.get("namespace", ""), subject["name"]
    parts = subject["name"].split(":")
    return (parts[2], parts[3]) if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"] else ("", "")


def _subjects(binding: Object) -> Collection[Subject]:
    return binding.get("subjects") or ()


def named(subject: Subject) -> str:
    """A subject for people."""
    place = f"{subject['namespace']}/" if subject.get("namespace") else ""
    return f"{subject['kind']} {place}{subject['name']}"


def _of(binding: Object) -> str:
    meta = binding["metadata"]
    place = f"{meta['namespace']}/" if meta.get("namespace") else ""
    return f"{binding['kind']} {place}{meta['name']}"


def _found(binding: Object, subject: Subject) -> Found:
    text = f"{_of(binding)} gives {binding['roleRef']['name']} to {named(subject)}"
    return Found(binding["metadata"].get("namespace", ""), text)
