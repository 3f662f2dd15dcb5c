"""What the hub's own reader says inside a machine of namespaces, beside what wg(8) and nft(8) say of the same."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from meshwright.hubd.firewall import nft
from meshwright.io.host import Namespace

ROOT = Path(__file__).resolve().parent.parent
IF, TABLE = "wg1", "town"
PROGRAM = """
import json, sys
from meshwright.hubd.host.place import Place
from meshwright.hubd.metrics import page, sample
interface, table, settings = json.load(sys.stdin)
taken = sample.take(Place(interface, table), settings)
told = {"rows": [row._asdict() for row in sample.rows(taken)], "up": taken.up, "faults": taken.faults,
        "counts": {"/".join(who): list(counts) for who, counts in sample.counted(taken).items()},
        "page": page.render(taken).decode()}
json.dump(told, sys.stdout)
"""


class Moment(NamedTuple):
    """One sample as plain data: rows as sample.Row, counts by "peer/device"."""

    rows: list[dict[str, Any]]
    counts: dict[str, list[int]]
    up: bool
    faults: list[str]
    page: str


def must(host: Namespace, line: str, timeout: float = 60, stdin: bytes = b"") -> str:
    done = host.run(["sh", "-ec", line], timeout=timeout, stdin=stdin)
    assert done.code == 0, f"{line}: {done.err}"
    return done.out.decode()


def taken(host: Namespace, settings: Mapping[str, Any], interface: str = IF, table: str = TABLE) -> Moment:
    """The hub's own reader, in the machine."""
    argv = ["env", f"PYTHONPATH={ROOT / 'src'}", sys.executable, "-c", PROGRAM]
    done = host.run(argv, stdin=json.dumps([interface, table, settings]).encode(), timeout=300)
    assert done.code == 0, done.err
    return Moment(**json.loads(done.out))


def dumped(host: Namespace, interface: str = IF) -> list[tuple[str, str, int, int, int]]:
    """`wg show IF dump`: (public key, allowed IPs, handshake, received, sent) of each peer."""
    lines = [line.split("\t") for line in must(host, f"wg show {interface} dump").splitlines()[1:]]
    return [(line[0], line[3], int(line[4]), int(line[5]), int(line[6])) for line in lines]


def said(moment: Moment) -> list[tuple[str, str, int, int, int]]:
    """The same of a moment."""
    return [
        (row["public_key"], row["allowed_ips"], row["handshake"] or 0, row["received"], row["sent"])
        for row in moment.rows
    ]


def listed(host: Namespace, name: str, kind: str = "set") -> dict[str, int]:
    """`nft -j list` of a set with counters: first address -> packets."""
    found = json.loads(must(host, f"nft -j list {kind} inet {TABLE} {name}"))["nftables"]
    elements = next(item[kind] for item in found if kind in item).get("elem", [])
    plain = [item[0]["elem"] if kind == "map" else item["elem"] for item in elements]
    return {_first(item["val"]): item["counter"]["packets"] for item in plain}


def _first(value: Any) -> str:
    return str(value["prefix"]["addr"]) if isinstance(value, dict) else str(value)


def table(host: Namespace, sources: Mapping[str, tuple[str, list[str]]], name: str = TABLE) -> None:
    """The product's table. sources: prefix -> (label, rights)."""
    held = {prefix: {"peer": peer, "allow": allow} for prefix, (peer, allow) in sources.items()}
    made = {"name": name, "interface": IF, "mark": 0x100000, "format": 2, "hub": [], "masquerade": [], "inbound": []}
    commands = {"nftables": nft.create({**made, "sources": held})}
    must(host, "nft -j -f -", stdin=json.dumps(commands).encode())


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
