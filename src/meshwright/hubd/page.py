"""A sample as a page for Prometheus: its text format, version 0.0.4.

Names and labels of what a peer moved are those of prometheus_wireguard_exporter 3.6.6, so that either can be watched in
the same way; `peer` and `device` come from the settings. A device without a name has no label `device`. A handshake
that never happened has no line. wireguard_scrape_success is 1 when interface and table were there and could be read;
else 0, and what could not be read has no line: the rest is of this very moment. wireguard_interface_up is 0 also for
an interface that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import sample as samples
from .sample import Sample

TYPE = "text/plain; version=0.0.4; charset=utf-8"
FAMILIES = {
    "wireguard_sent_bytes_total": ("counter", "Bytes sent to the peer"),
    "wireguard_received_bytes_total": ("counter", "Bytes received from the peer"),
    "wireguard_latest_handshake_seconds": ("gauge", "Epoch seconds of the last handshake"),
    "wireguard_peers_total": ("untyped", "Peers of the interface, strangers too"),
    "wireguard_peer_expected": ("gauge", "1 for each device that the mesh file admits"),
    "wireguard_peer_next_key": ("gauge", "1 for each device that waits to change to this key"),
    "wireguard_interface_up": ("gauge", "Whether the interface is there and up"),
    "wireguard_scrape_success": ("gauge", "Whether interface and firewall could both be read"),
    "wireguard_scrape_duration_seconds": ("gauge", "Seconds that the reading took"),
    "wireguard_peer_attempted_packets_total": ("counter", "Packets of the peer that the firewall had to judge"),
    "wireguard_peer_denied_packets_total": ("counter", "Packets of the peer that the firewall dropped"),
}


def render(sample: Sample) -> bytes:
    """The whole page."""
    return "".join(_families(sample)).encode()


def _families(sample: Sample) -> Iterator[str]:
    values = _values(sample)
    for name, (kind, about) in FAMILIES.items():
        lines = values.get(name, [])
        if lines:
            yield f"# HELP {name} {about}\n# TYPE {name} {kind}\n"
            yield from (f"{name}{labels} {value}\n" for labels, value in lines)


def _values(sample: Sample) -> dict[str, list[tuple[str, str]]]:
    face = {"interface": sample.interface}
    out: dict[str, list[tuple[str, str]]] = {name: [] for name in FAMILIES}
    count = 0
    for row in samples.rows(sample):
        count += 1
        named = {"public_key": row.public_key, "allowed_ips": row.allowed_ips, "peer": row.peer, "device": row.device}
        labels = _labels({**face, **named})
        out["wireguard_sent_bytes_total"].append((labels, str(row.sent)))
        out["wireguard_received_bytes_total"].append((labels, str(row.received)))
        if row.handshake is not None:
            out["wireguard_latest_handshake_seconds"].append((labels, str(row.handshake)))
    for owner in samples.owners(sample.settings):
        who = {**face, "peer": owner.peer, "device": owner.device}
        always = "true" if owner.always_on else "false"
        out["wireguard_peer_expected"].append(
            (_labels({**who, "public_key": owner.public_key, "always_on": always}), "1")
        )
        if owner.next_key:
            out["wireguard_peer_next_key"].append((_labels({**who, "public_key": owner.next_key}), "1"))
    for (peer, name), counts in samples.counted(sample).items():
        labels = _labels({**face, "peer": peer, "device": name})
        out["wireguard_peer_attempted_packets_total"].append((labels, str(counts.attempted)))
        out["wireguard_peer_denied_packets_total"].append((labels, str(counts.denied)))
    only = _labels(face)
    if sample.live is not None:
        out["wireguard_peers_total"].append((only, str(count)))
    out["wireguard_interface_up"].append((only, str(int(sample.up))))
    out["wireguard_scrape_success"].append((only, str(int(not sample.faults))))
    out["wireguard_scrape_duration_seconds"].append((only, f"{sample.seconds:.6f}"))
    return out


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items() if value) + "}"


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
