"""One peer at a time: its devices, keys, dates and routes."""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.spec.model import expiry
from meshwright.spec.nodes import Fault, Path, shown
from meshwright.spec.problems import did_you_mean
from meshwright.spec.rules.scene import Scene, dotted

_PER_DEVICE = ("public_key", "next_public_key", "lan")


def addresses_or_devices(scene: Scene) -> Iterator[Fault]:
    """A peer has one unnamed device or several named ones."""
    for path, peer in scene.peers():
        if peer.address and peer.devices is not None:
            yield Fault(path, "has both address and devices", "move the address to one of the devices", on_key=True)
        elif not peer.address and not peer.devices:
            yield Fault(path, "has neither address nor devices", "add address: ADDRESS", on_key=True)


def belongs_to_device(scene: Scene) -> Iterator[Fault]:
    """What only one device can have."""
    for path, peer in scene.peers():
        if peer.devices:
            for key in _PER_DEVICE:
                if getattr(peer, key):
                    hint = f"move {key} to the device it belongs to"
                    yield Fault((*path, key), "a peer with devices cannot have this", hint, on_key=True)


def expired(scene: Scene) -> Iterator[Fault]:
    """Peers and devices whose time is over."""
    for path, peer in scene.peers():
        if peer.expires:
            yield from _expired(path, peer.expires, scene)
        for name, device in (peer.devices or {}).items():
            if device.expires:
                yield from _expired((*path, "devices", name), device.expires, scene)


def _expired(path: Path, text: str, scene: Scene) -> Iterator[Fault]:
    if expiry(text) <= scene.now:
        hint = "give a later date, or remove the peer"
        yield Fault((*path, "expires"), "expired: treated as disabled", hint, "warning")


def own_keys(scene: Scene) -> Iterator[Fault]:
    """WireGuard knows a peer by its key alone."""
    seen: dict[str, Path] = {}
    for path, key in _keys(scene):
        first = seen.setdefault(key, path)
        if first != path:
            yield Fault(path, f"the same key as {dotted(first)}", "every device has a key of its own")


def _keys(scene: Scene) -> Iterator[tuple[Path, str]]:
    hub = scene.mesh.hub
    if hub.public_key:
        yield ("hub", "public_key"), hub.public_key
    if hub.next and hub.next.public_key:
        yield ("hub", "next", "public_key"), hub.next.public_key
    for path, device in scene.devices():
        for name in ("public_key", "next_public_key"):
            key = getattr(device, name)
            if key:
                yield (*path, name), key


def known_routes(scene: Scene) -> Iterator[Fault]:
    """`routes` of a peer or device names routes of the network."""
    known = scene.mesh.network.routes
    for path, peer in scene.peers():
        sections = [(path, peer.routes)]
        sections += [((*path, "devices", name), device.routes) for name, device in (peer.devices or {}).items()]
        for place, routes in sections:
            for index, name in enumerate(routes or ()):
                if name not in known and name not in scene.lost:
                    hint = did_you_mean(name, known) or f"routes: {', '.join(known) or 'none'}"
                    yield Fault((*place, "routes", index), f"no route is called {shown(name)}", hint)


def tenants(scene: Scene) -> Iterator[Fault]:
    """Walls need a namespace to stand around."""
    for path, peer in scene.peers():
        if peer.tenant and not peer.namespace:
            yield Fault((*path, "tenant"), "this peer has no namespace", "add namespace: NAME", on_key=True)
