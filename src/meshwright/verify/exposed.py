"""What of a friend's namespace reaches out of it: endless tokens, ports of the nodes, host names of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from meshwright.desired.facts import Facts
from meshwright.events import Checked
from meshwright.io.cluster import Cluster, Object
from meshwright.providers.kubernetes.kinds import TABLE, Kind
from meshwright.spec.model import Kubernetes, Mesh
from meshwright.verify.spaces import Found, Space, check, spaces

TOKENS = "type=kubernetes.io/service-account-token"
_ACCOUNT = "kubernetes.io/service-account.name"
_SERVICE = Kind("Service", "v1", "services")
_INGRESS = Kind("Ingress", "networking.k8s.io/v1", "ingresses")


def checks(mesh: Mesh, facts: Facts, cluster: Cluster) -> Iterator[Checked]:
    """Three LISTs. Of a Secret only the metadata is asked for: the server itself looks at the type."""
    if mesh.kubernetes is None:
        return
    places = spaces(mesh, facts)
    secrets = cluster.list(TABLE["secret"].collection(), field=TOKENS, metadata=True)
    yield tokens(mesh.kubernetes, places, secrets)
    yield services(places, cluster.list(_SERVICE.collection()))
    yield hosts(places, cluster.list(_INGRESS.collection()))


def tokens(cluster: Kubernetes, places: Mapping[str, Space], secrets: Sequence[Object]) -> Checked:
    """No Secret may hold a token of somebody of the mesh: it would never end, and outlive him. Pure."""

    def ours(meta: Mapping[str, Any]) -> bool:
        deployer = (meta.get("annotations") or {}).get(_ACCOUNT) == cluster.deployer.name
        where = meta["namespace"]
        return (
            where in places or where == cluster.access.namespace or (deployer and where == cluster.deployer.namespace)
        )

    found = [
        Found(meta["namespace"], f"Secret {meta['namespace']}/{meta['name']} of ServiceAccount {_account(meta)}")
        for meta in (secret["metadata"] for secret in secrets)
        if ours(meta)
    ]
    hint = "delete that Secret, which ends its token; `kubectl create token` gives one that ends by itself"
    return check("no Secret holds a token that never ends", found, places, hint)


def _account(meta: Mapping[str, Any]) -> str:
    return str((meta.get("annotations") or {}).get(_ACCOUNT, "?"))


def services(places: Mapping[str, Space], live: Sequence[Object]) -> Checked:
    """No Service of a friend may take a port of a node, an address of the house, or a name outside. Pure."""
    found = [
        Found(meta["namespace"], f"Service {meta['namespace']}/{meta['name']}: {how}")
        for meta, spec in ((service["metadata"], service["spec"]) for service in live)
        if meta["namespace"] in places and (how := _exposed(spec))
    ]
    hint = "make it a ClusterIP, or delete it; a web page goes by an Ingress"
    return check("no Service of a friend is open to the outside", found, places, hint)


def _exposed(spec: Mapping[str, object]) -> str:
    kind = str(spec.get("type", "ClusterIP"))
    addresses = spec.get("externalIPs")
    how = [kind] if kind != "ClusterIP" else []
    how += [f"externalIPs {', '.join(map(str, addresses))}"] if isinstance(addresses, list) and addresses else []
    return " with ".join(how)


def hosts(places: Mapping[str, Space], live: Sequence[Object]) -> Checked:
    """No host may be claimed by a friend and by another namespace. Pure.

    A rule without a host claims all: of a friend that is a claim to everybody's, of the owner it is his catch-all.
    """
    claims: dict[str, set[str]] = {}
    for ingress in live:
        for host in _claimed(ingress["spec"]):
            claims.setdefault(host, set()).add(ingress["metadata"]["namespace"])
    found = []
    for host, owners in claims.items():
        rivals = owners | claims.get(_wild(host), set())
        if not host:
            found += [Found(ns, f"an Ingress of {ns} claims every host") for ns in owners & places.keys()]
        elif len(rivals) > 1 and rivals & places.keys():
            # not where a wall is down, either: it is somebody else's host
            found.append(Found("", f"{host} by {' and '.join(sorted(rivals))}"))
    hint = "the one who came later may get the other's visitors: take the host out of the Ingress that it is not for"
    return check("no host name is claimed by two namespaces", found, places, hint)


def _claimed(spec: Mapping[str, Sequence[Mapping[str, str]]]) -> set[str]:
    said = {(rule.get("host") or "").lower() for rule in spec.get("rules") or ()}
    return said | {""} if spec.get("defaultBackend") else said


def _wild(host: str) -> str:
    """The wildcard that has this host in it."""
    return f"*.{host.partition('.')[2]}"
