"""Names: their form, the name space they share, and what is made out of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from meshwright.spec.model import LABEL
from meshwright.spec.nodes import Fault, Path, shown
from meshwright.spec.policy import RESERVED
from meshwright.spec.rules.scene import Scene, device_path, dotted

_label = re.compile(LABEL).fullmatch
_FORM = "small letters, digits and - between them, at most 63"


def _owners(scene: Scene) -> Iterator[tuple[Path, str]]:
    """Everything that has a name of its own."""
    mesh = scene.mesh
    yield from ((("peers", name), name) for name in mesh.peers)
    yield from ((("network", "routes", name), name) for name in mesh.network.routes)
    yield from ((("services", name), name) for name in mesh.services)


def _groups(scene: Scene) -> Iterator[tuple[Path, str]]:
    """Every group, each time a peer names it."""
    for path, peer in scene.peers():
        yield from (((*path, "groups", index), group) for index, group in enumerate(peer.groups))


def labels(scene: Scene) -> Iterator[Fault]:
    """Names are DNS labels: they end up in host names, namespaces and file names."""
    devices = (
        (("peers", name, "devices", device), device)
        for name, peer in scene.mesh.peers.items()
        for device in peer.devices or ()
    )
    for path, name in (*_owners(scene), *devices):
        if not _label(name):
            yield Fault(path, f"{shown(name)} is not a DNS label", _FORM, on_key=True)
    for path, name in _groups(scene):
        if not _label(name):
            yield Fault(path, f"{shown(name)} is not a DNS label", _FORM)


def one_space(scene: Scene) -> Iterator[Fault]:
    """Peers, groups, routes and services share one name space, so that a rule can say any of them."""
    seen: dict[str, Path] = {}
    for path, name in _owners(scene):
        if name in RESERVED:
            yield Fault(path, f"{shown(name)} is a word of the policy", "take another name", on_key=True)
        elif name in seen:
            yield Fault(path, f"{dotted(seen[name])} has this name too", "rename one of them", on_key=True)
        seen.setdefault(name, path)
    for path, name in _groups(scene):
        if name in RESERVED:
            yield Fault(path, f"{shown(name)} is a word of the policy", "take another name")
        elif name in seen:
            yield Fault(path, f"{dotted(seen[name])} has this name too", "rename one of them")


def same_file(scene: Scene) -> Iterator[Fault]:
    """bjorn/phone and a peer bjorn-phone would share a .conf, a Secret and a hub entry."""
    seen: dict[str, str] = {}
    for device in scene.mesh.devices:
        other = seen.setdefault(device.label, device.reference)
        if other != device.reference:
            text = f"{device.reference} and {other} would both be {device.label}.conf"
            yield Fault(device_path(device), text, "rename one of them", on_key=True)
