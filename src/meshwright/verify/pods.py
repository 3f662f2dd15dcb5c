"""Tenants' pods judged like the tunnel: by the NetworkPolicies that are in the cluster now, ours and the tenants' own.

A test that denies something to a friend holds for his pods too. What is not judged here: whether anything enforces
NetworkPolicies (the API only shows who might), policies of other kinds than networking.k8s.io, and Services that lead
to addresses outside the cluster's pods; those are judged by their own address. Where `network.routes` has no `pods` and
`services`, only the `kubernetes:` services of the file are known to be inside the cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from meshwright.desired.facts import Facts
from meshwright.desired.names import DEFAULT_DENY, PREFIX
from meshwright.desired.tenants import Tenant, tenants
from meshwright.errors import ClusterError
from meshwright.events import Checked
from meshwright.io.cluster import Cluster, Object
from meshwright.plan.text import printable
from meshwright.spec import boxes, egress, policy
from meshwright.spec.boxes import Services, Span
from meshwright.spec.model import Mesh, Test
from meshwright.verify import netpol
from meshwright.verify.netpol import Ground, Opening

_POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
_AGENTS = frozenset(
    (
        *("antrea-agent", "azure-npm", "calico-node", "canal", "cilium", "kindnet", "kube-network-policies"),
        *("kube-router", "ovnkube-node", "rke2-canal", "rke2-cilium", "weave-net"),
    )
)
"""DaemonSets whose pods are known to enforce NetworkPolicies, by their usual names."""
_K3S = "k3s.io/node-args"
_APPLY = "look at `meshwright plan`, then `meshwright apply`"


def checks(mesh: Mesh, facts: Facts, cluster: Cluster) -> Iterator[Checked]:
    """The walls of every tenant's namespace, every policy test that denies a tenant something, and who enforces it."""
    everyone = tenants(mesh, facts)
    if not everyone:
        return
    live: dict[str, list[Object]] = {who.namespace: [] for who in everyone}
    for found in cluster.list(_POLICIES):
        live.get(found["metadata"]["namespace"], []).append(found)
    for who in everyone:
        yield _wall(who, live[who.namespace])
    ground = _ground(mesh, facts, cluster.list("/api/v1/namespaces", metadata=True))
    yield from denied(mesh, facts, live, ground)
    yield _enforced(cluster, frozenset(facts.cluster.tenants if facts.cluster else ()) | live.keys())


def _wall(who: Tenant, policies: Sequence[Object]) -> Checked:
    """Whether the policy that closes his namespace is there; where the file does not want it, what that gives away."""
    name = f"the pods of {who.peer} are closed in"
    if not who.walls.network_policy:
        gives = "not closed (network_policy: false): they reach whatever his own policies do not close, and are reached"
        return Checked(name, True, "no wall of ours", f"{gives} by all of the cluster")
    fault = _fault(next((p for p in policies if p["metadata"]["name"] == DEFAULT_DENY), None))
    open_ways = [way for way in ("Ingress", "Egress") if not any(_closes(p["spec"], way) for p in policies)]
    if open_ways:
        fault += f"; a pod may have labels by which nothing closes it ({', '.join(open_ways)})"
    return Checked(name, not fault, f"by {DEFAULT_DENY}, both ways", fault or "both ways", _APPLY if fault else "")


def _closes(spec: Object, way: str) -> bool:
    return netpol.covers(spec, way) and netpol.selects_all(spec.get("podSelector"))


def _fault(wall: Object | None) -> str:
    """What is wrong with the policy that closes both ways and opens nothing."""
    if wall is None:
        return f"{DEFAULT_DENY} is not there"
    spec = wall["spec"]
    faults = [f"does not cover {way}" for way in ("Ingress", "Egress") if not netpol.covers(spec, way)]
    faults += [] if netpol.selects_all(spec.get("podSelector")) else ["does not select every pod"]
    faults += ["opens something"] if spec.get("ingress") or spec.get("egress") else []
    return f"{DEFAULT_DENY} {', '.join(faults)}" if faults else ""


def _ground(mesh: Mesh, facts: Facts, namespaces: Sequence[Object]) -> Ground:
    routes = mesh.network.routes
    pods, services = (boxes.merge(map(boxes.span, routes.get(name, ()))) for name in ("pods", "services"))
    homes: dict[str, tuple[Span, ...]] = {}
    for name, service in mesh.services.items():
        if service.kubernetes:
            home = service.kubernetes.partition("/")[0]
            spans = [boxes.host(address) for address in (service.address or facts.services.get(name, ()))]
            homes[home] = boxes.merge([*homes.get(home, ()), *spans])
    labels = {space["metadata"]["name"]: space["metadata"].get("labels") or {} for space in namespaces}
    return Ground(labels, pods, boxes.merge([*services, *(s for spans in homes.values() for s in spans)]), homes)


class Leak(NamedTuple):
    """An address and the services there that a tenant's pods may dial, and what opens that."""

    who: Tenant
    opening: Opening
    span: Span
    services: Services

    def __str__(self) -> str:
        at = boxes.address(self.span.version, self.span.low)
        first = self.services[0].first
        service = policy.service_name(first + (first in boxes.OFFSET.values()))  # there is no port 0
        if self.services == netpol.EVERYTHING:
            place = f"{at} (every protocol and port)"
        elif service[0].isdigit():
            place = f"[{at}]:{service}" if at.version == 6 else f"{at}:{service}"
        else:
            place = f"{at} ({service})"
        why = f"NetworkPolicy {self.opening.policy} allows it" if self.opening.policy else "no NetworkPolicy closes it"
        return f"a pod of {self.who.peer} may dial {place}: {why}"

    @property
    def hint(self) -> str:
        namespace, _, name = self.opening.policy.partition("/")
        if not name:
            return _APPLY
        if name.startswith(PREFIX):
            return f"`meshwright apply` puts {name} right; if it stays, narrow tenant.egress or change the test"
        return f"ask {self.who.peer} about it, or: kubectl delete networkpolicy -n {namespace} {name}"


@dataclass(frozen=True)
class _Open:
    """What the pods of tenants may dial. Most tenants share most of it, so what is alike is compared once per test."""

    who: Tenant
    openings: Sequence[Opening]

    def leak(self, there: Sequence[Span], asked: Services, known: dict[Any, tuple[Span, ...]]) -> Leak | None:
        for opening in self.openings:
            services = boxes.shared(opening.services, asked)
            if not services:
                continue
            key = id(opening.spans)
            if key not in known:
                known[key] = boxes.overlap(there, opening.spans)[:1]
            if known[key]:
                return Leak(self.who, opening, known[key][0], services)
        return None


def denied(mesh: Mesh, facts: Facts, live: Mapping[str, Sequence[Object]], ground: Ground) -> Iterator[Checked]:
    """Every test that denies something to a tenant, put to his NetworkPolicies. live: namespace -> its policies."""
    names = policy.Names(mesh, facts.services, facts.now)
    off = egress.kept_off(names, policy.granted(names))
    unknown = set(policy.unresolved(mesh, facts.services))
    everyone = [_Open(t, netpol.openings(t.namespace, live[t.namespace], ground)) for t in tenants(mesh, facts)]
    for test in mesh.policy.tests:
        meant = [each for each in everyone if _speaks_of(test, each.who, names)]
        # what a name without address stands for is told where the tunnel is judged
        if meant and not unknown & {test.from_, test.to}:
            there = boxes.without(names.spans(test.to), off)
            asked = (policy.ports(test.port).interval,) if test.port else netpol.EVERYTHING
            known: dict[Any, tuple[Span, ...]] = {}
            leaks = [leak for each in meant if (leak := each.leak(there, asked, known))]
            yield _told(test, leaks)


def _speaks_of(test: Test, who: Tenant, names: policy.Names) -> bool:
    if test.expect != "deny":
        return False
    own = boxes.merge(boxes.host(address) for device in who.active for address in device.addresses)
    return bool(boxes.overlap(own, names.spans(test.from_)))


def _told(test: Test, leaks: Sequence[Leak]) -> Checked:
    name = f"pods of {test.from_} -> {test.to} {test.port or 'any port'}"
    if not leaks:
        return Checked(name, True, "deny", "deny")
    more = f"; so may those of {len(leaks) - 1} more" if len(leaks) > 1 else ""
    return Checked(name, False, "deny", printable(f"{leaks[0]}{more}"), printable(leaks[0].hint))


def _enforced(cluster: Cluster, theirs: frozenset[str]) -> Checked:
    """What the API shows of who enforces NetworkPolicies. It is never a proof: only packets are."""
    name, expected = "NetworkPolicies are enforced", "by a network plugin"
    try:
        sets = cluster.list("/apis/apps/v1/daemonsets", metadata=True)
        nodes = cluster.list("/api/v1/nodes", metadata=True)
    except ClusterError as error:
        if error.status != 403:
            raise
        return Checked(name, True, expected, "not known: this user may not list DaemonSets and nodes")
    places = [(live["metadata"]["namespace"], live["metadata"]["name"]) for live in sets]
    agents = sorted(f"{space}/{name}" for space, name in places if name in _AGENTS and space not in theirs)
    k3s = [_k3s_enforces(node) for node in nodes]
    if False in k3s and not agents:
        hint = "start k3s without it, or install a network plugin; until then these walls are only words"
        return Checked(name, False, expected, "k3s runs with --disable-network-policy, and nothing else is seen", hint)
    if agents or True in k3s:
        seen = [f"DaemonSet {agent}" for agent in agents] + ["the controller inside k3s"] * (True in k3s)
        return Checked(name, True, expected, f"there is {' and '.join(seen)}; that it does its work only packets prove")
    return Checked(name, True, expected, "not visible from the API; only packets prove it")


def _k3s_enforces(node: Object) -> bool | None:
    """Whether a k3s server has its own controller; None for any other node."""
    try:
        words = json.loads((node["metadata"].get("annotations") or {}).get(_K3S, "[]"))
    except ValueError:
        return None
    if not isinstance(words, list) or words[:1] != ["server"]:
        return None
    flag = "--disable-network-policy"
    given = [n for n, word in enumerate(words) if word in (flag, f"{flag}=true")]
    return not any(words[n + 1 : n + 2] != ["false"] for n in given)
