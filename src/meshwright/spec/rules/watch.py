"""The observability section: what the operator takes, where our exporter listens, and who could read it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from meshwright.spec.duration import milliseconds
from meshwright.spec.model import LABEL, Address, BuiltinExporter, Mesh, MindflavorExporter
from meshwright.spec.nodes import Fault, Path, shown
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
_MANY = 1000
_SECOND = 1000
_OFTEN, _SELDOM, _NEVER = 5 * _SECOND, 150 * _SECOND, 300 * _SECOND
"""Time between scrapes. Prometheus looks back five minutes for a value: at _NEVER it finds none before the next scrape,
above _SELDOM not when one scrape is lost."""
_NAMED = 200
"""Bytes of a dashboard's name. A file's has 255 at most (NAME_MAX of Linux), with what `files.dashboard` adds."""
_LOST, _REKEYED = 180, 120
"""Seconds, of WireGuard's paper: a session is dead; who sends something makes a new one."""
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_label_value = re.compile(_WORD).fullmatch
_label_key = re.compile(rf"(?:(?=[^/]{{1,253}}/){LABEL}(?:\.{LABEL})*/)?{_WORD}").fullmatch
_PATH: Path = ("observability", "exporter")


def monitors(scene: Scene) -> Iterator[Fault]:
    """What the Prometheus operator and Grafana's sidecar take, and a time between scrapes that Prometheus can use."""
    watch = scene.mesh.observability
    if watch is None:
        return
    if not _label_value(watch.release):
        hint = "letters, digits, - _ . between them, at most 63"
        yield Fault(("observability", "release"), f"{shown(watch.release)} cannot be a label", hint)
    if not _label_key(watch.dashboard_label):
        text = f"{shown(watch.dashboard_label)} cannot be the name of a label"
        yield Fault(("observability", "dashboard_label"), text, "as in grafana_dashboard or example.net/dashboard")
    elif watch.dashboard_label.startswith("meshwright.io/"):
        text = f"{shown(watch.dashboard_label)} is a label of meshwright itself"
        yield Fault(("observability", "dashboard_label"), text, "grafana_dashboard is the default")
    yield from _title(watch.dashboard or "")
    yield from _interval(watch.interval)


def _title(text: str) -> Iterator[Fault]:
    """It is a part of a file's name too, by `files.dashboard`, and possibly all of it."""
    path, hint = ("observability", "dashboard"), "any words without a slash, as in Northern Lights"
    if "/" in text or text in (".", "..") or not text.isprintable() or text != text.strip():
        yield Fault(path, f"{shown(text)} cannot be in the name of a file, which {{dashboard}} stands for", hint)
    elif len(text.encode()) > _NAMED:
        yield Fault(path, f"longer than the name of a file can be: {len(text.encode())} bytes", f"at most {_NAMED}")


def _interval(text: str) -> Iterator[Fault]:
    path, every = ("observability", "interval"), milliseconds(text)
    if every < _SECOND:
        yield Fault(path, "less than a second", "for example 30s")
    elif every >= _NEVER:
        why = "Prometheus forgets a value after 5 minutes, so alerts would come and go between scrapes"
        yield Fault(path, why, "30s is the default, 2m is rare enough for any hub")
    elif every > _SELDOM:
        why = "one scrape that is lost is a gap: Prometheus forgets a value after 5 minutes"
        yield Fault(path, why, "at most 2m30s; 30s is the default", "warning")
    elif every < _OFTEN:
        why = "the hub and every friend's pod are asked that often, and no alert comes sooner by it"
        yield Fault(path, why, "30s is the default", "warning")


def heard(scene: Scene) -> Iterator[Fault]:
    """Whose silence is an alert has to speak: WireGuard shakes hands only with who sends something."""
    for path, peer in scene.peers():
        if peer.always_on and not peer.disabled:
            devices = {(*path, "devices", name): device for name, device in (peer.devices or {}).items()}
            said = {place: d for place, d in devices.items() if "keepalive" in d.model_fields_set and not d.disabled}
            here = {path: peer} if not devices or said.keys() != devices.keys() else {}
            for place, section in {**here, **said}.items():
                yield from _silent((*place, "keepalive"), section.keepalive)


def _silent(path: Path, keepalive: int) -> Iterator[Fault]:
    # after _REKEYED the next packet shakes hands, and that comes within one keepalive
    if not 0 < keepalive <= _LOST - _REKEYED:
        often = f"only every {keepalive} s" if keepalive else "nothing"
        text = f"always on, but when idle it sends {often}: after {_LOST} s without a handshake it counts as silent"
        yield Fault(path, text, "25 is the default; or leave always_on out", "warning")


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
    if watch is None:
        return
    section = watch.exporter
    yield from _address(scene.mesh, section.address)
    if not isinstance(section, BuiltinExporter):
        return
    if section.port in _TAKEN:
        text = f"{section.port} is the port of {_TAKEN[section.port]}, where that runs on the hub"
        yield Fault((*_PATH, "port"), text, "9586 is the default", "warning")
    if section.token is None:
        text = "there is no token: whoever reaches the port on the hub's network can read who is connected, and when"
        # what is in that directory is in a backup, and in no git
        file = f"{scene.mesh.secrets.directory}/exporter.token"
        hint = f"openssl rand -hex 32 >{file}; then exporter: {{kind: builtin, token: {{file: {file}}}}}"
        path = _PATH if "exporter" in watch.model_fields_set else _PATH[:1]
        yield Fault(path, text, hint, "warning", on_key=True)


def namespace(scene: Scene) -> Iterator[Fault]:
    """The namespace of the pod that may do more than any other is nobody else's."""
    watch, cluster = scene.mesh.observability, scene.mesh.kubernetes
    if watch is None or not isinstance(watch.exporter, MindflavorExporter):
        return
    place = watch.exporter.namespace
    taken = {watch.namespace: "is where monitoring runs", "default": "belongs to the cluster"}
    if cluster:
        taken |= {cluster.ingress.namespace: "is where the ingress runs"}
        taken |= {cluster.deployer.namespace: "is where the deployer lives"}
    if place in taken or place.startswith("kube-"):
        text = f"{place} {taken.get(place, 'belongs to the cluster')}"
        yield Fault((*_PATH, "namespace"), text, "its pod may do what no other may: give it a namespace of its own")


def many(scene: Scene) -> Iterator[Fault]:
    """Exporter 3.6.6 takes four times as long for twice as many."""
    watch, count = scene.mesh.observability, len(scene.mesh.devices)
    if watch and isinstance(watch.exporter, MindflavorExporter) and count > _MANY:
        text = f"a scrape of {count} devices by this exporter costs the hub a second or more"
        yield Fault(_PATH, text, "exporter: {kind: builtin} is made for many", "warning", on_key=True)


def _address(mesh: Mesh, address: Address | None) -> Iterator[Fault]:
    path = (*_PATH, "address")
    if address is None:
        return
    default = "leave it out: hub.address is the default"
    if address.is_unspecified:
        text = "this is every address of the hub, the tunnel's and the internet's among them"
        yield Fault(path, text, default)
    elif address.is_multicast or address.is_link_local:
        yield Fault(path, f"nobody can be reached at {address} from another network", default)
    elif address.is_loopback:
        text = f"at {address} only what runs on the hub itself reads the metrics, no pod and no other node"
        # the cluster takes no such address for a Service
        yield Fault(path, text, default, "error" if mesh.kubernetes else "warning")
    elif address in mesh.network.hub:
        text = "this is the hub's address in the tunnel: friends whom the policy lets reach the port read the metrics"
        yield Fault(path, text, default, "warning")
    elif any(address.version == network.version and address in network for network in mesh.network.cidr):
        yield Fault(path, f"{address} is in the tunnel and not the hub's", default)
