"""The registry: which provider serves which system. The only place of this layer that sees the mesh file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshwright.errors import HostError
from meshwright.io import cluster
from meshwright.io.cluster import Cluster
from meshwright.io.host import Host, Local
from meshwright.io.process import Done
from meshwright.providers.base import Provider
from meshwright.providers.files import Files
from meshwright.providers.hub import Hub
from meshwright.providers.kubernetes import Kubernetes
from meshwright.providers.nftables import NftablesGateway
from meshwright.spec.model import Address, Connection, Mesh
from meshwright.spec.model import NftablesGateway as NftablesSection


@dataclass(frozen=True)
class Places:
    """Where a mesh is real: the house itself, or a lab of it. The same providers serve both.

    hub: the hub. gateway: the router with nftables and the name of its outer interface, None where there is none.
    secrets, clients: directories on the operator's machine. services: addresses of `kubernetes:` services that are
    known without a cluster. cluster: the API server, None where there is none; it is not asked before it is needed.
    young: the cluster is a lab's own, and has only the Services that somebody made since.
    """

    hub: Host
    gateway: tuple[Host, str] | None
    secrets: Path
    clients: Path
    services: Mapping[str, tuple[Address, ...]]
    cluster: Cluster | None = None
    young: bool = False


def real(mesh: Mesh, folder: Path) -> Places:
    """The house itself, as the mesh file in `folder` describes it."""
    gateway = mesh.gateway
    return Places(
        hub=_host(mesh.hub.connection),
        gateway=(_host(gateway.connection), gateway.wan) if isinstance(gateway, NftablesSection) else None,
        secrets=folder / mesh.secrets.directory,
        clients=folder / mesh.files.clients,
        services={},
        cluster=cluster.connect(mesh.kubernetes.context) if mesh.kubernetes else None,
    )


def providers(mesh: Mesh, places: Places) -> dict[str, Provider]:
    """System -> provider, in the order in which they are read and written. A system without one is not managed."""
    out: dict[str, Provider] = {
        "files": Files(places.secrets, places.clients, mesh.name),
        "hub": Hub(places.hub, mesh.hub.interface, mesh.table),
    }
    if places.gateway:
        host, wan = places.gateway
        out["gateway"] = NftablesGateway(host, wan, mesh.table, mesh.name)
    if mesh.kubernetes and places.cluster:
        out["kubernetes"] = Kubernetes(places.cluster, mesh.name, mesh.kubernetes.access.namespace)
    return out


def _host(connection: Connection | None) -> Host:
    return Local() if connection and connection.kind == "local" else _OverSsh()


@dataclass(frozen=True, slots=True)
class _OverSsh:
    """A host that cannot be reached yet. It says so when it is asked, not before: the cluster can do without it."""

    name: str = "the hub"
    python: str = ""

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        raise HostError(
            "the hub is reached over ssh, which this version cannot do yet",
            "run meshwright on the hub itself with `connection: {kind: local}` under hub, try the mesh with --lab, or"
            " leave the hub out with --only kubernetes",
        )

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self.run([])

    def fresh(self) -> Host | None:
        return None
