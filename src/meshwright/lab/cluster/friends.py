"""Each friend's kubeconfig in the lab: a token of his own ServiceAccount, the hub's tunnel address, his namespace."""

from __future__ import annotations

from pathlib import Path

from meshwright.desired.facts import Facts
from meshwright.desired.names import account
from meshwright.desired.tenants import tenants
from meshwright.errors import LabError
from meshwright.events import Progress, Started, Tell, silent
from meshwright.io.cluster import Cluster
from meshwright.lab.cluster import kubeconfig, site
from meshwright.spec.duration import milliseconds
from meshwright.spec.model import Mesh


def issue(directory: Path, mesh: Mesh, facts: Facts, cluster: Cluster, tell: Tell = silent) -> tuple[str, ...]:
    """A new kubeconfig for every device of every tenant; those of others go. Gives the devices' labels."""
    if mesh.kubernetes is None or mesh.kubernetes.access.issuer != "token":
        return ()
    access, place = mesh.kubernetes.access, site.friends(directory)
    place.mkdir(mode=0o700, exist_ok=True)
    devices = [(who, device) for who in tenants(mesh, facts) for device in who.active]
    tell(Started("issuing kubeconfigs", len(devices)))
    address = mesh.network.hub[0]
    server = f"https://{f'[{address}]' if address.version == 6 else address}:{site.PORT}"
    seconds = max(600, milliseconds(access.ttl) // 1000)  # the API server refuses less than ten minutes
    for number, (who, device) in enumerate(devices):
        path = f"/api/v1/namespaces/{access.namespace}/serviceaccounts/{account(who.peer)}/token"
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        token = str(cluster.create(path, asked).get("status", {}).get("token", ""))
        if not token:
            raise LabError(f"the API server gave no token to {who.peer}", "run `meshwright lab up --kubernetes` again")
        ca = site.folder(directory) / "pki" / "ca.crt"
        kubeconfig.write(place / device.label, server, ca, {"token": token}, who.namespace)
        tell(Progress(device.label, number + 1))
    labels = tuple(device.label for _, device in devices)
    for old in place.iterdir():
        if old.name not in labels:
            old.unlink()
    return labels
