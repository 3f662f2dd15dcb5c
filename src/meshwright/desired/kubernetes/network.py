"""Who may talk to a tenant's pods, and to whom they may talk. Pure.

NetworkPolicies add up: the first one closes the namespace, each other one opens one thing. A friend's own policies can
open more; what those may say is admission's part, and what passes between the mesh and the house is the hub's firewall.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from meshwright.desired import names
from meshwright.desired.facts import Facts
from meshwright.desired.kubernetes.objects import NETWORKING
from meshwright.desired.manifest import Manifest, make
from meshwright.desired.tenants import Tenant
from meshwright.spec import boxes, policy
from meshwright.spec.boxes import Span
from meshwright.spec.egress import EVERYWHERE, not_internet
from meshwright.spec.model import Kubernetes, Mesh, Network, host_network

_NAME = "kubernetes.io/metadata.name"
_PODS: list[dict[str, Any]] = [{"podSelector": {}}]


class Policies:
    """The NetworkPolicies of every tenant; what is the same for all is worked out once."""

    def __init__(self, mesh: Mesh, cluster: Kubernetes, facts: Facts) -> None:
        self._mesh = mesh
        self._cluster = cluster
        self._sources = _sources(mesh, facts)
        self._internet = _internet(not_internet(mesh))
        self._hub = [host_network(address) for address in (*mesh.network.hub, mesh.hub.address)]

    def of(self, who: Tenant) -> Iterator[Manifest]:
        """Those of one tenant; none where that wall is off."""
        if not who.walls.network_policy:
            return
        yield default_deny(self._mesh.name, who.namespace)
        yield self._policy(who, "same-namespace", ingress=[{"from": _PODS}], egress=[{"to": _PODS}])
        yield self._policy(who, "dns", egress=[_dns()])
        yield self._policy(who, "ingress", ingress=[{"from": [_namespace(self._cluster.ingress.namespace)]}])
        if self._mesh.observability:
            metrics = [{"port": "metrics", "protocol": "TCP"}]
            scraper = [_namespace(self._mesh.observability.namespace)]
            yield self._policy(who, "monitoring", ingress=[{"from": scraper, "ports": metrics}])
        yield self._policy(who, "mesh", ingress=[{"from": self._mesh_blocks(who)}])
        if blocks := self._egress(who):
            yield self._policy(who, "egress", egress=[{"to": blocks}])

    def _policy(self, who: Tenant, name: str, **rules: Any) -> Manifest:
        types = [kind for kind in ("Ingress", "Egress") if kind.lower() in rules]
        return _manifest(self._mesh.name, f"{names.PREFIX}{name}", who.namespace, {"policyTypes": types, **rules})

    def _mesh_blocks(self, who: Tenant) -> list[dict[str, Any]]:
        """His own devices and LANs, the hub (by whose address most pods see the mesh), and whom the policy lets in."""
        own = [host_network(address) for device in who.active for address in device.addresses]
        own += [lan for device in who.active for lan in device.lan]
        spans = boxes.merge([*map(boxes.span, [*own, *self._hub]), *self._sources.get(who.namespace, ())])
        return [_block(network) for network in boxes.networks(spans)]

    def _egress(self, who: Tenant) -> list[dict[str, Any]]:
        if who.walls.egress == "internet":
            return self._internet
        return [] if who.walls.egress == "none" else [_block(network) for network in who.walls.egress]


def default_deny(mesh: str, namespace: str) -> Manifest:
    """Closes the namespace both ways."""
    return _manifest(mesh, names.DEFAULT_DENY, namespace, {"policyTypes": ["Ingress", "Egress"]})


def _manifest(mesh: str, name: str, namespace: str, spec: dict[str, Any]) -> Manifest:
    return make(mesh, f"{NETWORKING}/v1/NetworkPolicy", name, namespace, spec={"podSelector": {}, **spec})


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {_NAME: name}}}


def _dns() -> dict[str, Any]:
    server = _namespace("kube-system") | {"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    return {"to": [server], "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}


def _block(network: Network) -> dict[str, Any]:
    return {"ipBlock": {"cidr": str(network)}}


def _internet(closed: Sequence[Network]) -> list[dict[str, Any]]:
    out = []
    for everywhere in EVERYWHERE:
        holes = [network for network in closed if network.version == everywhere.version]
        if everywhere not in holes:
            out.append({"ipBlock": {"cidr": str(everywhere), "except": [str(network) for network in holes]}})
    return out


def _sources(mesh: Mesh, facts: Facts) -> Mapping[str, list[Span]]:
    """Namespace -> addresses of the mesh that the policy lets reach a named Service in it.

    A pod sees the port behind the Service, which the file does not know, so these may reach every port of the pods as
    far as NetworkPolicy goes; the hub's firewall lets them to the Service's address and ports alone.
    """
    inside = {name: s.kubernetes.partition("/")[0] for name, s in mesh.services.items() if s.kubernetes}
    if not inside:
        return {}
    tunnel = _tunnel(mesh)
    out: dict[str, list[Span]] = {}
    for grant in policy.grants(mesh, facts.services, facts.now):
        reached = {inside[name] for name in _reached(grant, inside, mesh, facts)}
        sources = boxes.overlap(grant.source_spans, tunnel) if reached else ()
        for namespace in reached:
            out.setdefault(namespace, []).extend(sources)
    return out


def _tunnel(mesh: Mesh) -> tuple[Span, ...]:
    """Addresses that come in through the tunnel."""
    lans = [lan for device in mesh.devices for lan in device.lan]
    return boxes.merge(boxes.span(network) for network in (*mesh.network.cidr, *lans))


def _reached(grant: policy.Grant, inside: Mapping[str, str], mesh: Mesh, facts: Facts) -> Iterator[str]:
    """The named Services that a grant opens: the one it names, or those whose addresses and ports it holds."""
    if grant.to in mesh.services:
        yield from [grant.to] if grant.to in inside else []
        return
    for name in inside:
        spans = [boxes.host(address) for address in facts.services.get(name, ())]
        ports = boxes.join(policy.ports(word).interval for word in mesh.services[name].ports)
        if boxes.overlap(grant.destination_spans, boxes.merge(spans)) and boxes.shared(grant.services, ports):
            yield name
