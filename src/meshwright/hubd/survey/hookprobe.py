"""Do packets that a tunnel brings in, or that leave by one, really meet nft's hooks here? Tried out, with real packets.

A tunnel of our own stands in for the mesh interface: a TUN device is what wireguard-go has, and the kernel's WireGuard
hands its packets to the same door. One table with the hooks and priorities of the mesh's own drops and counts them. A
packet that is not counted went another way. Device and addresses end with this process; the table names only the
device, and is taken away.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import glob
import ipaddress
import json
import os
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ..host import system

Json = Any
DEVICE, TABLE = "mwprobe", "meshwright_probe"
# of the range kept for measurements, RFC 2544: nobody's network
OWN, FAR = "198.18.251.1", "198.18.251.2"
PORT = 9  # discard
INWARD, OUTWARD = ("prerouting", -110), ("postrouting", 90)
NAMESPACES = "/run/netns/*"
MOST = 3  # pods that are asked to send
_TUNSETIFF, _TUN, _NO_PI, _NEWNET = 0x400454CA, 0x0001, 0x1000, 0x40000000


def run(addresses: Iterable[str]) -> dict[str, Json]:
    """{"sent": {what: "dropped", "not seen" or "arrived"}} for IPv4 destinations and senders; {"why": ...} if it could
    not be tried."""
    if not os.path.exists("/dev/net/tun"):
        return {"sent": {}, "why": "/dev/net/tun is missing"}
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _TUN | _NO_PI))
        for words in (f"address add {OWN}/30 dev {DEVICE}", f"link set {DEVICE} up"):
            system.run(["ip", *words.split()])
        _load([{"add": _table()}, {"delete": _table()}, {"add": _table()}, *_chains()])
        try:
            return {"sent": {**_inward(device, addresses), **_outward(device)}}
        finally:
            _load([{"delete": _table()}])
    except (OSError, ValueError, system.HubError) as error:
        return {"sent": {}, "why": str(error)[:200]}
    finally:
        os.close(device)


def _table() -> Json:
    return {"table": {"family": "inet", "name": TABLE}}


def _chains() -> list[Json]:
    place = {"family": "inet", "table": TABLE}
    out: list[Json] = []
    for (hook, priority), key, field in ((INWARD, "iifname", "saddr"), (OUTWARD, "oifname", "daddr")):
        base = {"type": "filter", "hook": hook, "prio": priority, "policy": "accept"}
        mine = {"match": {"op": "==", "left": {"meta": {"key": key}}, "right": DEVICE}}
        far = {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": field}}, "right": FAR}}
        expression = [mine, far, {"counter": {"packets": 0, "bytes": 0}}, {"drop": None}]
        out.append({"add": {"chain": {**place, "name": hook, **base}}})
        out.append({"add": {"rule": {**place, "chain": hook, "expr": expression}}})
    return out


def _load(commands: list[Json]) -> None:
    system.run(["nft", "-j", "-f", "-"], stdin=json.dumps({"nftables": commands}).encode())


def _counted() -> dict[str, int]:
    """Hook -> packets that our rule there dropped."""
    asked = json.dumps({"nftables": [{"list": _table()}]}).encode()
    listed = json.loads(system.run(["nft", "-j", "-f", "-"], stdin=asked))["nftables"]
    rules = [item["rule"] for item in listed if "rule" in item]
    return {rule["chain"]: part["counter"]["packets"] for rule in rules for part in rule["expr"] if "counter" in part}


def _inward(device: int, addresses: Iterable[str]) -> dict[str, str]:
    """What became of a packet from the tunnel to each address."""
    out = {}
    for address in addresses:
        before = _counted()["prerouting"]
        os.write(device, _datagram(FAR, address))
        seen = _settled("prerouting", before)
        out[f"from the tunnel to {address}"] = "dropped" if seen else "not seen"
    return out


def _outward(device: int) -> dict[str, str]:
    """What became of a packet into the tunnel: from the hub itself, and from some pods, by their own network."""
    senders: dict[str, str] = {"the hub": ""}
    senders.update({f"the network {os.path.basename(path)}": path for path in sorted(glob.glob(NAMESPACES))[:MOST]})
    out = {}
    for who, place in senders.items():
        _drain(device)
        before = _counted()["postrouting"]
        if not _send(place):
            continue
        seen = _settled("postrouting", before)
        out[f"from {who} into the tunnel"] = "arrived" if _drain(device) else "dropped" if seen else "not seen"
    # a pod that may not send so far at all tells nothing
    return {what: became for what, became in out.items() if became != "not seen" or "the hub" in what}


def _settled(hook: str, before: int) -> bool:
    """Whether a packet more was counted; a busy machine gets half a second."""
    end = time.monotonic() + 0.5
    while _counted()[hook] == before:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _send(place: str) -> bool:
    """Send one datagram to the far end, from this network or from the one at `place`, in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = _from(place)
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def _from(place: str) -> int:
    if place and ctypes.CDLL(None).setns(os.open(place, os.O_RDONLY), _NEWNET):
        return 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out, contextlib.suppress(PermissionError):
        out.sendto(b"meshwright", (FAR, PORT))  # refused at once is dropped on the way out
    return 0


def _drain(device: int) -> bool:
    """Whether a packet to the far end's port came out of the tunnel."""
    found = False
    while True:
        try:
            packet = os.read(device, 65536)
        except BlockingIOError:
            return found
        found = found or (packet[:1] == b"\x45" and packet[16:20] == socket.inet_aton(FAR) and packet[9] == 17)


def _datagram(source: str, destination: str) -> bytes:
    """A UDP datagram in an IPv4 packet; its UDP checksum is left out, as IPv4 allows."""
    body = struct.pack("!HHHH", 40000, PORT, 8 + 10, 0) + b"meshwright"
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, socket.IPPROTO_UDP, 0)
    return head[:10] + struct.pack("!H", _checksum(head + ends)) + ends + body


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def addresses(payload: Mapping[str, Any]) -> list[str]:
    """IPv4 addresses worth a packet: the first of each network that was named, a few."""
    out = []
    for text in payload.get("targets", ()):
        network = ipaddress.ip_network(text)
        if network.version == 4:
            out.append(str(network[min(1, network.num_addresses - 1)]))
    return out[:6]
