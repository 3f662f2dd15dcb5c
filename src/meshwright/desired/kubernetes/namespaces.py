"""Namespaces with their Pod Security labels and what admission has to know of each. Pure."""

from __future__ import annotations

from meshwright.desired import names
from meshwright.desired.facts import Facts
from meshwright.desired.manifest import Manifest, annotated, make
from meshwright.desired.podsecurity import security
from meshwright.desired.tenants import Tenant
from meshwright.spec.model import Kubernetes, Mesh


def access(mesh: Mesh, cluster: Kubernetes, facts: Facts) -> Manifest:
    """Where the peers' ServiceAccounts live; no friend has rights in it."""
    manifest = make(mesh.name, "v1/Namespace", cluster.access.namespace)
    return annotated(manifest, security("restricted", cluster, facts), {})


def tenant(mesh: Mesh, cluster: Kubernetes, facts: Facts, who: Tenant) -> Manifest:
    """A tenant's namespace."""
    more = {names.PEER: who.peer, **security(cluster.pod_security, cluster, facts)}
    if who.walls.admission:
        more[names.ADMISSION] = "enforced"
    return annotated(make(mesh.name, "v1/Namespace", who.namespace), more, _notes(cluster, who))


def _notes(cluster: Kubernetes, who: Tenant) -> dict[str, str]:
    domain = (cluster.ingress.domain or "").replace("{namespace}", who.namespace)
    notes = {
        names.INGRESS_DOMAIN: domain,
        names.STORAGE_CLASSES: ",".join(who.walls.storage_classes),
        names.REGISTRIES: ",".join(who.walls.registries),
        names.USER: user_name(cluster, who.peer) or "",
    }
    return {key: value for key, value in notes.items() if value}


def user_name(cluster: Kubernetes, peer: str) -> str | None:
    """What the API server calls the peer where OIDC is the issuer."""
    if cluster.access.issuer != "oidc":
        return None
    return f"{cluster.access.oidc.username_prefix if cluster.access.oidc else ''}{peer}"
