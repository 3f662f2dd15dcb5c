"""The product inside the lab: the same file, the same flow and the same providers, on hosts that are namespaces.

The mesh file is never edited. In the lab every key is the lab's own, in a directory of its own, and the gateway of the
file, whatever its kind, is played by a router with nftables.
"""

from __future__ import annotations

from meshwright.desired.exporter import wanted
from meshwright.io import cluster
from meshwright.io.cluster import Cluster
from meshwright.lab.cluster import site
from meshwright.lab.world import Lab
from meshwright.providers.table import Places
from meshwright.spec.model import Connection, Mesh, NftablesGateway, NoGateway, Observability


def played(mesh: Mesh) -> Mesh:
    """The mesh as the lab plays it: no key or secret of the file, an nftables gateway, everything else as it stands."""
    strip = {"public_key": None, "next_public_key": None}
    peers = {
        name: peer.model_copy(
            update={
                **strip,
                "devices": {k: d.model_copy(update=strip) for k, d in peer.devices.items()} if peer.devices else None,
            }
        )
        for name, peer in mesh.peers.items()
    }
    hub = mesh.hub.model_copy(update={"public_key": None, "next": None})
    parts = {"peers": peers, "hub": hub, "gateway": _gateway(mesh), "observability": _watch(mesh)}
    copy = mesh.model_copy(update=parts)
    copy.__dict__.pop("devices", None)  # a copy takes the cached value along
    return copy


def unplayed(mesh: Mesh) -> tuple[str, ...]:
    """What the file has against strangers who read the metrics, and the lab leaves out: "token", "tls"."""
    section = wanted(mesh)
    return tuple(name for name in ("token", "tls") if section and getattr(section, name))


def _watch(mesh: Mesh) -> Observability | None:
    """The metrics of a lab are nobody's secret."""
    watch, out = mesh.observability, unplayed(mesh)
    if watch is None or not out:
        return watch
    return watch.model_copy(update={"exporter": watch.exporter.model_copy(update=dict.fromkeys(out))})


def _gateway(mesh: Mesh) -> NftablesGateway:
    file = mesh.gateway
    forward = {"forward": file.forward} if file and not isinstance(file, NoGateway) else {}
    return NftablesGateway(kind="nftables", connection=Connection(kind="local"), wan="wan0", **forward)


def places(lab: Lab) -> Places:
    """Where the product finds its systems when it acts on a lab that is up."""
    return Places(
        hub=lab.host("hub"),
        gateway=(lab.host("gw"), lab.wan),
        secrets=lab.directory / "secrets",
        clients=lab.directory / "clients",
        services=lab.services,
        cluster=_cluster(lab),
        young=lab.kubernetes,
    )


def _cluster(lab: Lab) -> Cluster | None:
    """The control plane in the lab's hub, if it was given one, by the way that leads there from outside the lab."""
    if not lab.kubernetes:
        return None
    kubeconfig = site.folder(lab.directory) / "kubeconfig"
    return cluster.connect(kubeconfig=kubeconfig, socket=site.relay(lab.directory))
