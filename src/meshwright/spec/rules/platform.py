"""The systems around the mesh: cluster, gateway, secrets, files."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from meshwright.spec.model import Files, MindflavorExporter, UnifiGateway
from meshwright.spec.nodes import Fault, Path, shown
from meshwright.spec.problems import did_you_mean
from meshwright.spec.rules.hub import endpoint_port, listen_port
from meshwright.spec.rules.scene import Scene

_FIELDS = ("name", "deployer", "dashboard")
_placeholder = re.compile(r"\{([^{}]*)\}")


def namespaces(scene: Scene) -> Iterator[Fault]:
    """A peer's namespace is his alone, and none of ours or the cluster's."""
    reserved = _reserved(scene)
    seen: dict[str, str] = {}
    for path, peer in scene.peers():
        name = peer.namespace
        if not name:
            continue
        place = (*path, "namespace")
        if name in reserved or name.startswith("kube-"):
            yield Fault(place, f"{shown(name)} {reserved.get(name, 'belongs to the cluster')}", "take another one")
            continue
        other = seen.setdefault(name, str(path[1]))
        if other != path[1]:
            yield Fault(place, f"{shown(name)} is the namespace of {other} too", "one namespace for each peer")


def _reserved(scene: Scene) -> dict[str, str]:
    cluster, watch = scene.mesh.kubernetes, scene.mesh.observability
    out: dict[str, str] = {}
    if watch:
        out[watch.namespace] = "is where monitoring runs"
        if isinstance(watch.exporter, MindflavorExporter):
            out[watch.exporter.namespace] = "is where the exporter runs"
    if cluster:
        out[cluster.ingress.namespace] = "is where the ingress runs"
        out[cluster.deployer.namespace] = "is where the deployer lives"
        out[cluster.access.namespace] = "is where the access tokens live"
    return out | {"default": "belongs to the cluster"}


def gateway(scene: Scene) -> Iterator[Fault]:
    """The forward must end where the hub listens, and how to log in must be said once."""
    gate, mesh = scene.mesh.gateway, scene.mesh
    if gate is None:
        return
    path, port, dialled = ("gateway", "forward"), listen_port(mesh), endpoint_port(mesh)
    if gate.forward.to and port and gate.forward.to != port:
        yield Fault((*path, "to"), f"the hub listens on {port}", f"write {port} or leave it out")
    if gate.forward.from_ and dialled and gate.forward.from_ != dialled:
        text = f"peers dial {dialled} (hub.endpoint)"
        yield Fault((*path, "from"), text, "right only where another router maps the port", "warning")
    if isinstance(gate, UnifiGateway):
        yield from _unifi(gate)
    if getattr(gate, "ca", None) and getattr(gate, "fingerprint", None):
        yield Fault(("gateway", "ca"), "fingerprint is there too", "keep one of them", on_key=True)


def _unifi(gate: UnifiGateway) -> Iterator[Fault]:
    account = gate.username is not None, gate.password is not None
    if gate.api_key and any(account):
        yield Fault(("gateway",), "has both an api_key and an account", "keep one of them", on_key=True)
    elif not gate.api_key and not all(account):
        yield Fault(("gateway",), "does not say how to log in", "add api_key: {env: NAME}", on_key=True)


def access(scene: Scene) -> Iterator[Fault]:
    """oidc needs to know the issuer."""
    cluster = scene.mesh.kubernetes
    if cluster and cluster.access.issuer == "oidc" and cluster.access.oidc is None:
        hint = "add oidc: {issuer_url, client_id}"
        yield Fault(("kubernetes", "access", "issuer"), "the oidc section is missing", hint)
    if cluster and cluster.access.issuer == "token" and cluster.access.oidc is not None:
        yield Fault(("kubernetes", "access", "oidc"), "not used: issuer is token", "", "warning", on_key=True)


def secrets(scene: Scene) -> Iterator[Fault]:
    """The directory of secrets is one of its own."""
    directory = scene.mesh.secrets.directory
    if posixpath.normpath(directory or ".") in (".", "..", "/") or "\0" in directory:
        yield Fault(("secrets", "directory"), "secrets need a directory of their own", "for example .meshwright")


def files(scene: Scene) -> Iterator[Fault]:
    """Every part has a file of its own below the folder that `render` is given."""
    parts = scene.mesh.files
    seen: dict[str, str] = {}
    for part in Files.model_fields:
        if part != "tenant":
            name = getattr(parts, part)
            yield from _path(("files", part), name)
            other = seen.setdefault(posixpath.normpath(name), part)
            if other != part:
                yield Fault(("files", part), f"files.{other} has this path too", "each part has a file of its own")
    for peer, name in parts.tenant.items():
        path: Path = ("files", "tenant", peer)
        if peer not in scene.mesh.peers and peer not in scene.lost:
            hint = did_you_mean(peer, scene.mesh.peers)
            yield Fault(path, f"no peer is called {shown(peer)}", hint, on_key=True)
        yield from _path(path, name)


def _path(path: Path, name: str) -> Iterator[Fault]:
    parts = name.split("/")
    if not parts[-1] or name.startswith(("/", "~")) or ".." in parts or not name.isprintable():
        yield Fault(path, "not a path below the folder", "write it as kubernetes/apps/x.yaml")
    for word in _placeholder.findall(name):
        if word not in _FIELDS:
            hint = did_you_mean(word, _FIELDS) or "known: {name}, {deployer}, {dashboard}"
            yield Fault(path, f"nothing is filled in for {{{word[:40]}}}", hint)
