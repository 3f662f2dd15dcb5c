"""The hub: where peers find it, and how we do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

from meshwright.spec.model import Address, Connection, Mesh, NftablesGateway
from meshwright.spec.nodes import Fault, Path
from meshwright.spec.rules.scene import Scene, dotted

_PART = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_PART}(?:\.{_PART})*\.?")
_PATH: Path = ("hub", "endpoint")
_FORM = "write it as vpn.example.net:51820 or [2001:db8::1]:51820"


def listen_port(mesh: Mesh) -> int | None:
    """The hub's UDP port, None while the endpoint is at fault and it is not said otherwise."""
    return mesh.hub.listen or endpoint_port(mesh)


def endpoint_port(mesh: Mesh) -> int | None:
    text = mesh.hub.endpoint.rpartition(":")[2]
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535 else None


def _literal(mesh: Mesh) -> Address | None:
    try:
        return ip_address(mesh.hub.endpoint_host)
    except ValueError:
        return None


def endpoint(scene: Scene) -> Iterator[Fault]:
    """HOST:PORT, as a client's Endpoint line (wg(8))."""
    host, colon, port = scene.mesh.hub.endpoint.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or port.endswith("]") or (":" in host and not bracketed):
        yield Fault(_PATH, "the port is missing" if "]" in port or not colon else "IPv6 needs brackets", _FORM)
    elif endpoint_port(scene.mesh) is None:
        yield Fault(_PATH, "the port must be a number from 1 to 65535", _FORM)
    elif bracketed:
        if not isinstance(_literal(scene.mesh), IPv6Address):
            yield Fault(_PATH, "not an IPv6 address between the brackets", _FORM)
    elif _numeric(host) if host.replace(".", "").isdigit() else not _HOST.fullmatch(host):
        yield Fault(_PATH, "neither a host name nor an address", _FORM)


def _numeric(host: str) -> bool:
    """Whether digits and dots are no address."""
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def endpoint_inside(scene: Scene) -> Iterator[Fault]:
    """A client that sends the endpoint's own address into the tunnel never gets a handshake."""
    address = _literal(scene.mesh)
    if address is None:
        return
    cidr = ((("network", "cidr"), network) for network in scene.mesh.network.cidr)
    for path, network in (*cidr, *scene.routes(), *scene.lans()):
        if address in network:
            text = f"this address lies in {dotted(path)} ({network}): clients would look for it inside the tunnel"
            yield Fault(_PATH, text, "give an address outside, or a name that leads to one", "warning")
            return


def next_hub(scene: Scene) -> Iterator[Fault]:
    """While the hub's key is rotated, both interfaces are up."""
    hub, path = scene.mesh.hub, ("hub", "next")
    if hub.next is None:
        return
    if hub.next.interface == hub.interface:
        yield Fault((*path, "interface"), "this is the interface in use", "the next one runs beside it: another name")
    if hub.next.listen == listen_port(scene.mesh):
        yield Fault((*path, "listen"), "this port is in use by the hub", "the next one runs beside it: another port")


def connections(scene: Scene) -> Iterator[Fault]:
    """How the hub and the gateway are reached."""
    mesh = scene.mesh
    if mesh.hub.connection:
        yield from _connection(mesh.hub.connection, ("hub", "connection"))
    if isinstance(mesh.gateway, NftablesGateway):
        yield from _connection(mesh.gateway.connection, ("gateway", "connection"))
        if mesh.gateway.connection.kind == "ssh" and not mesh.gateway.connection.host:
            yield Fault(("gateway", "connection"), "ssh needs a host", "add host: ADDRESS", on_key=True)


def _connection(connection: Connection, path: Path) -> Iterator[Fault]:
    if connection.kind == "local":
        for key in ("host", "user", "port", "become_password"):
            if getattr(connection, key) is not None:
                yield Fault((*path, key), "a local connection has none", f"take out {key}", on_key=True)
