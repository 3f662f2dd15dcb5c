"""The names that exporter, rules and dashboard share: of series, of their labels, of the job. Pure.

The three per-peer names and `interface`, `public_key`, `allowed_ips` are those of prometheus_wireguard_exporter 3.6.6
(its README); `peer` and `device` come from the mesh file. Times are epoch seconds, sizes bytes.
"""

from __future__ import annotations

from meshwright.spec.model import Address, Mesh, MindflavorExporter, Observability

SENT = "wireguard_sent_bytes_total"
RECEIVED = "wireguard_received_bytes_total"
HANDSHAKE = "wireguard_latest_handshake_seconds"
PEERS = "wireguard_peers_total"
"""How many peers the interface has, strangers too."""
EXPECTED = "wireguard_peer_expected"
"""1 for each device that the mesh file admits; labels peer, device, public_key, always_on ("true" or "false")."""
STAGED = "wireguard_peer_next_key"
"""1 for each device that waits to change its key; its label public_key is the next one."""
UP = "wireguard_interface_up"
SUCCESS = "wireguard_scrape_success"
"""1 when everything could be read, 0 when not; the rest of the page is then missing, never old."""
TIME = "wireguard_scrape_time_seconds"
"""What time it was by the hub's clock, which the handshakes are told in."""
ATTEMPTED = "wireguard_peer_attempted_packets_total"
"""Packets from the peer that the hub's firewall had to judge."""
DENIED = "wireguard_peer_denied_packets_total"
"""Those of them that it dropped."""

PEER, DEVICE, KEY, INTERFACE = "peer", "device", "public_key", "interface"
UNKNOWN = "unknown"
"""The `peer` of a key that the mesh file does not have. No peer of a mesh file may be called so."""


def namespace(watch: Observability) -> str:
    """Where the exporter is found: the label `namespace` of its series."""
    return watch.exporter.namespace if isinstance(watch.exporter, MindflavorExporter) else watch.namespace


def job(mesh: Mesh, watch: Observability) -> str:
    """The name of the exporter's Service: the label `job` of its series. A letter first, and 63 at most."""
    if isinstance(watch.exporter, MindflavorExporter):
        return "wireguard-exporter"
    name = mesh.name if mesh.name[0].isalpha() else f"m{mesh.name}"
    return f"{name[:54].rstrip('-')}-exporter"


def address(mesh: Mesh, watch: Observability) -> Address:
    """Where the exporter listens."""
    return watch.exporter.address or mesh.hub.address
