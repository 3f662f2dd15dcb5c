"""Our own exporter on the hub: what it serves by, and the socket unit that listens for it. systemd.socket(5). Pure.

The service's sandbox can make no internet socket, so systemd listens. Whoever joins is one line of the settings, which
the service reads again without a restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from meshwright.desired.facts import Facts
from meshwright.desired.monitoring import series
from meshwright.desired.resource import Resource, Unknown
from meshwright.spec.model import BuiltinExporter, Device, Mesh

FORMAT = 1
SECRET = frozenset({("saved", "key"), ("saved", "token_sha256")})
MODE = "0600"


def wanted(mesh: Mesh) -> BuiltinExporter | None:
    """The section of the file, None where the hub shall serve no metrics."""
    watch = mesh.observability
    return watch.exporter if watch and isinstance(watch.exporter, BuiltinExporter) else None


def unit(mesh: Mesh) -> str:
    """Path of the socket unit."""
    return f"/etc/systemd/system/meshwright-hubd-{mesh.table}.socket"


def build(mesh: Mesh, facts: Facts, service: str) -> Iterator[Resource]:
    """The settings and the socket unit, nothing where no exporter of ours is wanted. service: id of its unit."""
    section, watch = wanted(mesh), mesh.observability
    if section is None or watch is None:
        return
    address = str(series.address(mesh, watch))
    socket = f"hub/unit{unit(mesh)}"
    attrs = {"text": _socket(mesh, address, section.port), "mode": "0644"}
    yield Resource(socket, attrs, after=(service,))
    id = f"hub/exporter/{mesh.table}"
    saved = {
        "format": FORMAT,
        "address": address,
        "port": section.port,
        "mode": MODE,
        **_secrets(id, section, facts),
        "peers": {device.reference: _peer(mesh, device) for device in mesh.devices if device.active(facts.now)},
    }
    yield Resource(id, {"saved": saved}, SECRET, after=(service, socket))


def _secrets(id: str, section: BuiltinExporter, facts: Facts) -> dict[str, str | Unknown]:
    """Only a hash of the token goes to the hub. Where nobody asked for what the file names, the hub knows it best."""
    told = facts.exporter
    if told is None:
        named = {"token_sha256": section.token, "certificate": section.tls, "key": section.tls}
        return {name: Unknown(id, name) if there else "" for name, there in named.items()}
    digest = hashlib.sha256(told.token.encode()).hexdigest() if told.token else ""
    return {"token_sha256": digest, "certificate": told.certificate, "key": told.key}


def _peer(mesh: Mesh, device: Device) -> dict[str, Any]:
    """What goes without saying is left out, so that a friend more is one line of a plan."""
    out: dict[str, Any] = {"public_key": device.public_key or Unknown(f"files/key/{device.label}", "public_key")}
    if device.next_public_key:
        out["next_public_key"] = device.next_public_key
    if mesh.peers[device.peer].always_on:
        out["always_on"] = True
    return out


def _socket(mesh: Mesh, address: str, port: int) -> str:
    service = f"meshwright-hubd-{mesh.table}.service"
    return "\n".join(
        [
            "# Written by meshwright. Who may read the metrics is decided by the service behind it.",
            "[Unit]",
            f"Description=Metrics of the mesh {mesh.name}",
            # stops and starts with the service: one that somebody stopped is not started by who asks for metrics
            f"PartOf={service}",
            "",
            "[Socket]",
            f"ListenStream={f'[{address}]' if ':' in address else address}:{port}",
            # the address may come later than this at boot
            "FreeBind=yes",
            "NoDelay=yes",
            "KeepAlive=yes",
            "Backlog=64",
            "",
            "[Install]",
            f"WantedBy={service}",
            "",
        ]
    )
