"""The kubernetes section: that its names and amounts make objects, and what an opened wall gives away."""

from __future__ import annotations

import re
from collections.abc import Iterator

from meshwright.spec import boxes
from meshwright.spec.egress import not_internet
from meshwright.spec.model import LABEL, Kubernetes, MindflavorExporter, Peer, Tenant
from meshwright.spec.nodes import Fault, Path, shown
from meshwright.spec.quantity import MOST, nano
from meshwright.spec.rules.scene import Scene
from meshwright.spec.walls import walls

_domain = re.compile(rf"{LABEL}(?:\.{LABEL})*").fullmatch
_release = re.compile(r"v?1\.[0-9]{1,3}(?:\.[0-9]{1,3})?").fullmatch
_registry = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}(?::[0-9]{1,5})?(?:/[a-z0-9][a-z0-9._-]{0,127}){0,8}").fullmatch
_BUILT_IN = ("admin", "cluster-admin", "edit", "view")
_BILLION = 10**9


def names(scene: Scene) -> Iterator[Fault]:
    """Names that the cluster takes, and that are not its own."""
    cluster = scene.mesh.kubernetes
    if cluster is None:
        return
    if cluster.version is not None and not _release(cluster.version):
        yield Fault(("kubernetes", "version"), f"{shown(cluster.version)} is not a release", 'write it as "1.36"')
    if cluster.reader in _BUILT_IN:
        text = f"{cluster.reader} is a role of the cluster itself"
        yield Fault(("kubernetes", "reader"), text, "give the role a name of its own")
    yield from _access(scene, cluster)
    yield from _deployer(scene, cluster)
    yield from _hosts(scene, cluster)


def _access(scene: Scene, cluster: Kubernetes) -> Iterator[Fault]:
    """The access namespace becomes ours, and its accounts are the friends'."""
    place, path = cluster.access.namespace, ("kubernetes", "access", "namespace")
    watch = scene.mesh.observability
    taken = {cluster.ingress.namespace: "is where the ingress runs", "default": "belongs to the cluster"}
    if watch:
        taken[watch.namespace] = "is where monitoring runs"
        if isinstance(watch.exporter, MindflavorExporter):
            taken[watch.exporter.namespace] = "is where the exporter runs"
    if place in taken or place.startswith("kube-"):
        text = f"{place} {taken.get(place, 'belongs to the cluster')}"
        yield Fault(path, text, "friends' accounts need a namespace of their own")
    prefix = cluster.access.oidc.username_prefix if cluster.access.oidc else ""
    if prefix.startswith("system:") or not prefix.isprintable():
        text = f"{shown(prefix)} is not for people"
        yield Fault(("kubernetes", "access", "oidc", "username_prefix"), text, "for example oidc:")


def _deployer(scene: Scene, cluster: Kubernetes) -> Iterator[Fault]:
    who, path = cluster.deployer, ("kubernetes", "deployer")
    if who.namespace == cluster.access.namespace:
        text = f"{who.namespace} is where the friends' accounts live"
        yield Fault((*path, "namespace"), text, "the deployer lives elsewhere, for example in default")
    elif who.namespace.startswith("kube-"):
        text = f"{who.namespace} belongs to the cluster"
        yield Fault((*path, "namespace"), text, "the deployer lives elsewhere, for example in default")
    if who.name == "default":
        yield Fault((*path, "name"), "every pod of the namespace runs as default", "give the deployer its own name")


def _hosts(scene: Scene, cluster: Kubernetes) -> Iterator[Fault]:
    """Every tenant has a part of the ingress to himself."""
    domain, path = cluster.ingress.domain, ("kubernetes", "ingress", "domain")
    if domain is None:
        if "ingress" in cluster.model_fields_set:
            text = "there is no domain: no tenant may claim a host"
            hint = 'add domain: "{namespace}.apps.example.net"'
            yield Fault(("kubernetes", "ingress"), text, hint, "warning", on_key=True)
        return
    if "{namespace}" not in domain:
        hint = f"write {{namespace}}.{domain[:80]}" if _domain(domain) else 'write "{namespace}.apps.example.net"'
        yield Fault(path, "all tenants would share these hosts", hint)
        return
    for name in ("x", *(peer.namespace for _, peer in scene.peers() if peer.namespace)):
        host = domain.replace("{namespace}", name)
        if not _domain(host) or len(host) > 253:
            yield Fault(path, f"{shown(host)} is not a DNS name", 'write "{namespace}.apps.example.net"')
            return


def _sections(scene: Scene) -> Iterator[tuple[Path, Tenant, Peer | None]]:
    """Every `tenant` that the file says, with the peer whose own it is."""
    if scene.mesh.kubernetes is None:
        return
    yield ("kubernetes", "tenant"), scene.mesh.kubernetes.tenant, None
    for path, peer in scene.peers():
        if peer.tenant:
            yield (*path, "tenant"), peer.tenant, peer


def amounts(scene: Scene) -> Iterator[Fault]:
    """Amounts that mean something, and that let a container start."""
    cluster = scene.mesh.kubernetes
    for path, tenant, peer in _sections(scene):
        found = [*_amounts(path, tenant)]
        yield from found
        if cluster is None or found or not (tenant.limits or tenant.quota):
            continue
        whole = walls(cluster, peer or Peer())
        for kind, most, one in (
            ("cpu", whole.cpu, whole.limit_cpu),
            ("memory", whole.memory, whole.limit_memory),
        ):
            if nano(one) > nano(most):
                said = "limits" if tenant.limits and getattr(tenant.limits, kind) else "quota"
                text = f"a container that does not say gets {one} of {kind}, and all together have {most}: none starts"
                yield Fault((*path, said), text, "raise the quota or lower the limits", "warning", on_key=True)


def _amounts(path: Path, tenant: Tenant) -> Iterator[Fault]:
    said = [
        ((*path, part, kind), kind, getattr(section, kind))
        for part, section in (("quota", tenant.quota), ("limits", tenant.limits))
        for kind in ("cpu", "memory", "storage")
        if getattr(section, kind, None) is not None
    ]
    for place, kind, amount in said:
        billionths = nano(amount)
        if billionths > MOST * _BILLION:
            yield Fault(place, f"{amount} is more than the cluster can count", "for example 8Gi")
        elif kind != "cpu" and billionths % _BILLION:
            yield Fault(place, f"{amount} is not a whole number of bytes", "for example 8Gi")
        elif kind == "cpu" and billionths % (_BILLION // 1000):
            yield Fault(place, f"{amount} is finer than a thousandth of a processor", "for example 500m")


def lists(scene: Scene) -> Iterator[Fault]:
    """Names of storage classes and registries."""
    for path, tenant, _ in _sections(scene):
        for index, name in enumerate(tenant.storage_classes or ()):
            if not _domain(name) or len(name) > 253:
                text = f"{shown(name)} is not the name of a storage class"
                yield Fault((*path, "storage_classes", index), text, "as `kubectl get storageclass` shows it")
        for index, name in enumerate(tenant.registries or ()):
            if not _registry(name):
                text = f"{shown(name)} is not a registry"
                yield Fault(
                    (*path, "registries", index), text, "write it as ghcr.io or ghcr.io/owner, without https://"
                )


def pod_security(scene: Scene) -> Iterator[Fault]:
    """Less than R15 asks for."""
    cluster = scene.mesh.kubernetes
    gives = {
        "baseline": "tenants' pods may run as root, with more rights than most need",
        "privileged": "a tenant's pod may take over the node it runs on, and with it the cluster",
    }
    if cluster and cluster.pod_security in gives:
        yield Fault(("kubernetes", "pod_security"), gives[cluster.pod_security], "restricted is the default", "warning")


def opened(scene: Scene) -> Iterator[Fault]:
    """What a wall that is switched off or loosened gives away."""
    closed = boxes.merge(boxes.span(network) for network in not_internet(scene.mesh)) if scene.sound else ()
    for path, tenant, peer in _sections(scene):
        whose = "these pods" if peer else "every tenant's pods"
        if tenant.network_policy is False:
            text = f"{whose} reach the house and other tenants, and are reached by all of the cluster"
            yield Fault((*path, "network_policy"), text, "narrow: use egress instead", "warning")
        if tenant.admission is False:
            who = "this peer" if peer else "every tenant"
            text = f"{who} may open ports on nodes, claim others' hosts and place pods on any node"
            yield Fault((*path, "admission"), text, "true is the default", "warning")
        if isinstance(tenant.egress, tuple):
            for index, network in enumerate(tenant.egress):
                if boxes.overlap((boxes.span(network),), closed):
                    text = f"{whose} reach {network}, which is not of the internet or belongs to this mesh"
                    yield Fault((*path, "egress", index), text, "internet leaves such networks out", "warning")
