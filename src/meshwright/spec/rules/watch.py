"""The observability section: where our exporter listens, and who could read it."""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.spec.model import BuiltinExporter, Mesh
from meshwright.spec.nodes import Fault, Path
from meshwright.spec.rules.scene import Scene

_UNKNOWN = "unknown"  # what the metrics call the peer of a key that the file does not have
_TAKEN = {
    22: "sshd",
    53: "DNS servers",
    80: "the ingress",
    443: "the ingress",
    2379: "etcd",
    2380: "etcd",
    6443: "the API server",
    9100: "the node exporter",
    10250: "the kubelet",
}
_PATH: Path = ("observability", "exporter")


def strangers(scene: Scene) -> Iterator[Fault]:
    """In the metrics a name of the file must not mean somebody who is not in it."""
    if scene.mesh.observability:
        for path, _ in scene.peers():
            if path[1] == _UNKNOWN:
                text = "this is what the metrics call a stranger's key"
                yield Fault(path, text, "give this peer another name", on_key=True)


def exporter(scene: Scene) -> Iterator[Fault]:
    """One address of the hub, a port that is likely free, and a token."""
    watch = scene.mesh.observability
    section = watch.exporter if watch else None
    if watch is None or not isinstance(section, BuiltinExporter):
        return
    yield from _address(scene.mesh, section)
    if section.port in _TAKEN:
        text = f"{section.port} is the port of {_TAKEN[section.port]}, where that runs on the hub"
        yield Fault((*_PATH, "port"), text, "9586 is the default", "warning")
    if section.token is None:
        text = "there is no token: whoever reaches the port on the hub's network can read who is connected, and when"
        hint = "add exporter: {kind: builtin, token: {file: exporter.token}}; openssl rand -hex 32 makes one"
        path = _PATH if "exporter" in watch.model_fields_set else _PATH[:1]
        yield Fault(path, text, hint, "warning", on_key=True)


def _address(mesh: Mesh, section: BuiltinExporter) -> Iterator[Fault]:
    address, path = section.address, (*_PATH, "address")
    if address is None:
        return
    default = "leave it out: hub.address is the default"
    if address.is_unspecified:
        text = "this is every address of the hub, the tunnel's and the internet's among them"
        yield Fault(path, text, default)
    elif address.is_multicast or (address.version == 6 and address.is_link_local):
        yield Fault(path, f"nobody can be reached at {address} from another network", default)
    elif address.is_loopback:
        text = f"at {address} only what runs on the hub itself reads the metrics, no pod and no other node"
        yield Fault(path, text, default, "warning")
    elif address in mesh.network.hub:
        text = "this is the hub's address in the tunnel: friends whom the policy lets reach the port read the metrics"
        yield Fault(path, text, default, "warning")
    elif any(address.version == network.version and address in network for network in mesh.network.cidr):
        yield Fault(path, f"{address} is in the tunnel and not the hub's", default)
