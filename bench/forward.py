"""Forwarding rate of a hub with our table, against no table at all and one rule per peer.

    python bench/forward.py [PEERS...]        as root; about a minute per number of peers

client -> router -> server over veth, no WireGuard: only the packet filter is measured. The router's interface towards
the client has the table's interface name; the client is the last of the peers. UDP: 64-byte datagrams of one flow that
was answered once, sent by sendmmsg as fast as the kernel takes them, counted where they arrive. The kernel forwards in
the sender's own time, so packets per second of the sender's CPU time is the figure that other load disturbs least.
"conntrack alone" looks at every packet's state, "conntrack and NAT" has one rule that masquerades besides, and decides
nothing: what any hub that masquerades pays already. Aim: 0.97 of no rules at 10 000 peers.
"""

from __future__ import annotations

import ctypes
import json
import socket
import statistics
import sys
import threading
import time
from ipaddress import ip_address
from typing import Any

from harness import record
from meshwright.hubd.firewall import nft, rights
from nets import Namespace, cable, daemon, inside, machine, must

SIZES = [int(word) for word in sys.argv[1:] if word.isdigit()] or [100, 1000, 10000]
ROUNDS, SECONDS, PORT, BATCH = 9, 0.4, 5999, 128
CLIENT, SERVER = "10.9.1.2", "10.9.2.2"
LOAD = ["nft", "-j", "-f", "-"]


def peers(count: int) -> list[str]:
    first = int(ip_address("10.64.0.2"))
    return [str(ip_address(first + n)) for n in range(count - 1)] + [CLIENT]


def ours(count: int) -> str:
    """Our table as the product makes it: two roles, a few networks and ports each."""
    networks = ("10.9.2.0/24", "10.42.0.0/16", "10.43.0.0/16", "192.168.20.0/24")
    texts = [f"{n} {w}" for n in networks for w in ("tcp 80", "tcp 443", "tcp 5900-6000", "udp 53", "udp 5900-6000")]
    full = rights.texts(rights.parse(text) for text in [*texts, "peers tcp 25565", "10.9.2.0/24 icmp -"])
    less = [text for text in full if "10.43" in text]
    sources = {
        f"{address}/32": {"peer": f"peer{n}", "allow": less if n % 2 != count % 2 else full}
        for n, address in enumerate(peers(count), 1)
    }
    table = {"name": "bench", "interface": "wg1", "mark": 1 << 20, "format": nft.FORMAT, "hub": ["10.9.1.1/32"]}
    table |= {"masquerade": ["192.168.20.0/24"], "sources": sources, "inbound": []}
    return json.dumps({"nftables": nft.create(table)})


def plain(*lines: str) -> str:
    """A table with one chain in prerouting."""
    place = {"family": "inet", "table": "bench"}
    base = {**place, "name": "all", "type": "filter", "hook": "prerouting", "prio": -110, "policy": "accept"}
    whole = [{"add": {"table": {"family": "inet", "name": "bench"}}}, {"add": {"chain": base}}]
    rules = [{"add": {"rule": {**place, "chain": "all", "expr": json.loads(line)}}} for line in lines]
    return json.dumps({"nftables": [*whole, *rules]})


def masqueraded(commands: str) -> str:
    """The same, and what comes from the peers hides behind the router towards a network that is not the server's."""
    place = {"family": "inet", "table": "bench", "chain": "out"}
    base = {"family": "inet", "table": "bench", "name": "out", "type": "nat", "hook": "postrouting", "prio": 100}
    to = match({"payload": {"protocol": "ip", "field": "daddr"}}, {"prefix": {"addr": "192.168.20.0", "len": 24}})
    rule = [match({"meta": {"key": "iifname"}}, "wg1"), to, {"masquerade": None}]
    more = [{"add": {"chain": {**base, "policy": "accept"}}}, {"add": {"rule": {**place, "expr": rule}}}]
    return json.dumps({"nftables": json.loads(commands)["nftables"] + more})


def match(left: dict[str, Any], right: Any) -> dict[str, Any]:
    return {"match": {"op": "==", "left": left, "right": right}}


def kinds(count: int) -> dict[str, str]:
    """Name -> commands for nft; "" loads nothing."""
    inside_wg = match({"meta": {"key": "iifname"}}, "wg1")
    source, to = ({"payload": {"protocol": "ip", "field": field}} for field in ("saddr", "daddr"))
    there = match(to, {"prefix": {"addr": "10.9.2.0", "len": 24}})
    one_each = [json.dumps([inside_wg, match(source, a), there, {"accept": None}]) for a in peers(count)]
    invalid = json.dumps(
        [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "invalid"}}, {"drop": None}]
    )
    return {
        "no rules": "",
        "conntrack alone": plain(invalid),
        "conntrack and NAT": masqueraded(plain(invalid)),
        "our table": ours(count),
        "a rule per peer": plain(*one_each, json.dumps([inside_wg, {"drop": None}])),
    }


# -- what runs inside the client and the server


class Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class Message(ctypes.Structure):
    """struct mmsghdr, sendmmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p), ("name_length", ctypes.c_uint), ("vector", ctypes.POINTER(Vector)),
        ("vectors", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int), ("end", ctypes.c_int), ("sent", ctypes.c_uint),
    )  # fmt: skip


def blast(seconds: float) -> dict[str, float]:
    """Datagrams as fast as they go, after one that was answered."""
    sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
    vector = Vector(b"x" * 64, 64)
    messages = (Message * BATCH)(*[Message(vector=ctypes.pointer(vector), vectors=1) for _ in range(BATCH)])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect((SERVER, PORT))
        link.settimeout(5)
        link.send(str(seconds).encode())
        link.recv(100)
        link.setblocking(True)
        wall, cpu, sent = time.perf_counter(), time.thread_time(), 0
        while time.perf_counter() < wall + seconds:
            sent += max(0, sendmmsg(link.fileno(), messages, BATCH, 0))
        return {"sent": sent, "wall": time.perf_counter() - wall, "cpu": time.thread_time() - cpu}


def stream(seconds: float) -> dict[str, float]:
    """One TCP connection as fast as it goes; the server says how much arrived."""
    data = bytes(1 << 20)
    with socket.create_connection((SERVER, PORT), 5) as link:
        wall = time.perf_counter()
        while time.perf_counter() < wall + seconds:
            link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        arrived = int(link.recv(100))
        return {"bytes": arrived, "wall": time.perf_counter() - wall}


def sink() -> None:
    """The server: answers the first datagram of a flow and lets the rest overflow; swallows TCP."""
    threading.Thread(target=_swallow, daemon=True).start()
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    link.bind((SERVER, PORT))
    while True:
        word, sender = link.recvfrom(100)
        if not word.startswith(b"x"):
            link.sendto(b"go", sender)
            time.sleep(float(word))


def _swallow() -> None:
    place, buffer = socket.create_server((SERVER, PORT)), bytearray(1 << 20)
    while True:
        connection, _ = place.accept()
        with connection:
            arrived = 0
            while got := connection.recv_into(buffer):
                arrived += got
            connection.sendall(str(arrived).encode())


# -- the measurement


def arrived(server: Namespace) -> int:
    return int(must(server, "cat /sys/class/net/s0/statistics/rx_packets"))


def once(client: Namespace, router: Namespace, server: Namespace, commands: str) -> dict[str, float]:
    start = time.perf_counter()
    must(router, "nft flush ruleset")
    if commands and (done := router.run(LOAD, stdin=commands.encode(), timeout=120)).code:
        sys.exit(done.err[-1000:])
    load, before = time.perf_counter() - start, arrived(server)
    udp = inside(client, __file__, "blast", SECONDS)
    count = arrived(server) - before
    tcp = inside(client, __file__, "stream", SECONDS)
    return {
        "per cpu": count / udp["cpu"] / 1e3,
        "kpps": count / udp["wall"] / 1e3,
        "lost": 1 - count / udp["sent"],
        "gbit": tcp["bytes"] * 8 / tcp["wall"] / 1e9,
        "load": load * 1e3,
    }


def measure(client: Namespace, router: Namespace, server: Namespace, count: int) -> list[str]:
    tables = kinds(count)
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in tables}
    for number in range(ROUNDS):
        names = list(tables)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            figures[name].append(once(client, router, server, tables[name]))
    return [line(count, name, rows, figures) for name, rows in figures.items()]


def line(count: int, name: str, rows: list[dict[str, float]], all_rows: dict[str, list[dict[str, float]]]) -> str:
    def middle(key: str) -> float:
        return statistics.median(row[key] for row in rows)

    def ratio(key: str, floor: str) -> float:
        return statistics.median(a[key] / b[key] for a, b in zip(rows, all_rows[floor], strict=True))

    low, high = (f(row["per cpu"] for row in rows) for f in (min, max))
    cells = [
        f"{low:.0f} / {middle('per cpu'):.0f} / {high:.0f}",
        f"{ratio('per cpu', 'no rules'):.3f}",
        f"{ratio('per cpu', 'conntrack alone'):.3f}",
        f"{middle('kpps'):.0f} ({ratio('kpps', 'no rules'):.2f})",
        f"{middle('gbit'):.1f} ({ratio('gbit', 'no rules'):.2f})",
        f"{middle('load'):.0f}",
    ]
    return f"| {count} | {name} | " + " | ".join(cells) + " |"


def main() -> None:
    lines = [
        "| peers | rules | UDP kpackets per CPU second min / median / max | of none | of conntrack alone "
        "| kpackets/s (of none) | TCP Gbit/s (of none) | load ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with machine("client") as client, machine("router") as router, machine("server") as server:
        cable(router, "wg1", "10.9.1.1/24", client, "c0", f"{CLIENT}/24")
        cable(router, "r1", "10.9.2.1/24", server, "s0", f"{SERVER}/24")
        must(router, "echo 1 > /proc/sys/net/ipv4/ip_forward")
        must(client, "ip route add default via 10.9.1.1")
        must(server, "ip route add default via 10.9.2.1")
        with daemon(server, [sys.executable, __file__, "--sink"]):
            time.sleep(0.5)
            for count in SIZES:
                lines += measure(client, router, server, count)
    record("Forwarding (medians of 9 interleaved rounds)", lines)


if sys.argv[1:] == ["--sink"]:
    sink()
elif sys.argv[1:] == ["--inside"]:
    name, seconds = json.load(sys.stdin)
    print(json.dumps({"blast": blast, "stream": stream}[name](seconds)))
else:
    main()
