"""The registry: which provider serves which system. The only place of this layer that sees the mesh file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from meshwright.io import cluster, secret
from meshwright.io.cluster import Cluster
from meshwright.io.host import Host, Local
from meshwright.io.ssh import Ssh, Terminal
from meshwright.providers.base import Provider
from meshwright.providers.files import Files
from meshwright.providers.hub import Hub, Survey
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
    young: the cluster is a lab's own, and has only the Services that somebody made since. survey: when plan and apply
    look at what else lives on the hub. folder: the mesh file's, where its secrets are looked for; None: they are not
    needed.
    """

    hub: Host
    gateway: tuple[Host, str] | None
    secrets: Path
    clients: Path
    services: Mapping[str, tuple[Address, ...]]
    cluster: Cluster | None = None
    young: bool = False
    survey: Survey = "never"
    folder: Path | None = None


def real(mesh: Mesh, folder: Path, terminal: Terminal | None = None) -> Places:
    """The house itself, as the mesh file in `folder` describes it. terminal: who is asked for passwords."""
    gateway = mesh.gateway
    default = str(mesh.hub.address)
    return Places(
        hub=_host(mesh.hub.connection, default, folder, terminal, "hub.connection"),
        gateway=(_host(gateway.connection, default, folder, terminal, "gateway.connection"), gateway.wan)
        if isinstance(gateway, NftablesSection)
        else None,
        secrets=folder / mesh.secrets.directory,
        clients=folder / mesh.files.clients,
        services={},
        cluster=cluster.connect(mesh.kubernetes.context) if mesh.kubernetes else None,
        survey="new",
        folder=folder,
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


def _host(connection: Connection | None, default: str, folder: Path, terminal: Terminal | None, key: str) -> Host:
    """key: the connection's place in the mesh file, for messages."""
    if connection is None:
        return Ssh(default, become=True, terminal=terminal, config=_config())
    if connection.kind == "local":
        return Local(root=True)
    source = connection.become_password
    return Ssh(
        connection.host or default,
        connection.user,
        connection.port,
        connection.become,
        cache(partial(secret.read, source, folder, f"{key}.become_password")) if source else None,
        terminal,
        _config(),
    )


def _config() -> Path | None:
    """Another ssh config than the user's own, for tests and automation."""
    named = os.environ.get("MESHWRIGHT_SSH_CONFIG")
    return Path(named) if named else None
