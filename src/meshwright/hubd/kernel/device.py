"""The live interface: read it, and write only what differs. Endpoints and handshakes of other peers stay untouched.

A userspace device is reached by its control socket, the kernel's by wg(8). Keys go in by stdin or socket, never argv.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..host import system
from . import netlink, wg

SOCKETS = "/var/run/wireguard"


class Live(NamedTuple):
    """An interface that exists. `routes`: prefixes routed to it beyond its own networks; link-local ones left out."""

    device: wg.Device
    addresses: tuple[str, ...]
    mtu: int
    up: bool
    routes: tuple[str, ...]


def read(interface: str) -> Live | None:
    """The interface as it is now, None when there is none, or when it is no WireGuard interface."""
    link = _link(interface)
    device = _device(interface) if link else None
    if not link or device is None:
        return None
    addresses = _addresses(link)
    return Live(device, addresses, int(link.get("mtu", 0)), "UP" in link["flags"], _routes(interface, addresses))


def wireguard(interface: str) -> wg.Device | None:
    """What WireGuard alone says of it, None when there is no such interface, or it is none of WireGuard's."""
    return _device(interface)


def index(interface: str) -> tuple[int, bool] | None:
    """(the kernel's number of the link, whether it is up), asked without a program; None when there is no such link."""
    request = struct.pack("16s24x", interface.encode())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        try:
            flags = struct.unpack_from("=H", fcntl.ioctl(link, netlink.SIOCGIFFLAGS, request), 16)[0]
            return socket.if_nametoindex(interface), bool(flags & netlink.UP)
        except OSError:
            return None


def speak(interface: str, peers: Mapping[str, tuple[str, int]]) -> None:
    """Give peers an endpoint, and send each a packet there at once: public key -> (endpoint, its keepalive).

    The caller holds the hub's lock, for the kernel's device would make a peer that somebody has just removed.
    """
    for request in wg.render_endpoints(peers):
        if ask(interface, request) is None:
            break
    else:
        return
    keys = list(peers)
    for start in range(0, len(keys), 100):  # an argument list has an end
        for words in wg.endpoint_words({key: peers[key] for key in keys[start : start + 100]}):
            system.run(["wg", "set", interface, *words])


def public_key(private: str) -> str:
    """The public half, computed by wg itself."""
    return system.run(["wg", "pubkey"], stdin=private.encode()).decode().strip() if private else ""


def new_key() -> str:
    """A new private key, born here."""
    return system.run(["wg", "genkey"]).decode().strip()


def exists(interface: str) -> bool:
    """Whether a link of this name exists, of whatever kind."""
    return _link(interface) is not None


def _link(interface: str) -> dict[str, Any] | None:
    done = system.attempt(["ip", "-j", "address", "show", "dev", interface])
    if done.code:
        return None
    found: list[dict[str, Any]] = json.loads(done.out or b"[]")
    return next((link for link in found if link), None)


def _addresses(link: dict[str, Any]) -> tuple[str, ...]:
    # scope link is what IPv6 makes by itself
    return tuple(sorted(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a.get("scope") != "link"))


def _routes(interface: str, addresses: Sequence[str]) -> tuple[str, ...]:
    own = {ipaddress.ip_interface(address).network for address in addresses}
    found = []
    for family in ("-4", "-6"):
        done = system.attempt(["ip", "-j", family, "route", "show", "dev", interface])
        for route in json.loads(done.out or b"[]") if not done.code else []:
            default = "0.0.0.0/0" if family == "-4" else "::/0"
            network = ipaddress.ip_network(default if route["dst"] == "default" else route["dst"])
            if network not in own and not (network.is_link_local or network.is_multicast):
                found.append(str(network))
    return tuple(sorted(set(found)))


def _device(interface: str) -> wg.Device | None:
    answer = ask(interface, b"get=1\n\n")
    if answer is not None:
        return wg.parse_uapi(answer)
    done = system.attempt(["wg", "show", interface, "dump"])
    return wg.parse_dump(done.out.decode()) if not done.code else None


def ask(interface: str, request: bytes) -> bytes | None:
    """One exchange with the control socket; None when there is none (then it is the kernel's) or nobody listens."""
    parts = answer(interface, request)
    return None if parts is None else b"".join(parts)


def answer(interface: str, request: bytes) -> Iterator[bytes] | None:
    """The same in parts, as they come; HubError at their end where the device refused."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(60)
    try:
        link.connect(f"{SOCKETS}/{interface}.sock")
        link.sendall(request)
    except (FileNotFoundError, ConnectionRefusedError):
        link.close()
        return None
    except OSError:
        link.close()
        raise
    return _parts(interface, link)


def _parts(interface: str, link: socket.socket) -> Iterator[bytes]:
    end = b""
    with link:
        while not end.endswith(b"\n\n"):
            part = link.recv(1 << 20)
            if not part:
                break
            yield part
            end = (end + part[-20:])[-20:]
    if b"errno=0\n" not in end:
        code = end.rpartition(b"errno=")[2].strip().decode() or "none"
        why = os.strerror(abs(int(code))) if code.lstrip("-").isdigit() else "no answer"
        raise system.HubError(f"{interface}: the WireGuard device refused: {why}", "look at its log on the hub")


def change(interface: str, before: wg.Device, after: wg.Device) -> None:
    """Turn the device into `after` in one write, mentioning nothing that stays as it is."""
    todo = wg.update(before, after)
    if todo == wg.Update():
        return
    if ask(interface, wg.render_uapi(todo)) is None:
        _kernel(interface, todo, after)


def _kernel(interface: str, todo: wg.Update, after: wg.Device) -> None:
    if todo.listen is not None:
        system.run(["wg", "set", interface, "listen-port", str(todo.listen)])
    if todo.private_key is not None:
        system.run(["wg", "set", interface, "private-key", "/dev/stdin"], stdin=todo.private_key.encode())
    for start in range(0, len(todo.remove), 500):  # an argument list has an end
        words = [word for key in todo.remove[start : start + 500] for word in ("peer", key, "remove")]
        system.run(["wg", "set", interface, *words])
    if todo.peers:
        system.run(["wg", "addconf", interface, "/dev/stdin"], stdin=wg.render_addconf(todo, after))


def address(interface: str, before: Sequence[str], after: Sequence[str]) -> None:
    """Change the addresses. New ones come first; what went away with a removed primary one is put back."""
    if set(before) == set(after):
        return
    lines = [f"address replace {a} dev {interface}" for a in after if a not in before]
    lines += [f"address delete {a} dev {interface}" for a in before if a not in after]
    lines += [f"address replace {a} dev {interface}" for a in after]
    batch(lines)


def mtu(interface: str, size: int) -> None:
    batch([f"link set {interface} mtu {size}"])


def up(interface: str) -> None:
    batch([f"link set {interface} up"])


def wait_for_old(interface: str, patience: float = 5) -> None:
    """Wait until the daemon of an interface that is gone has gone too: while its socket answers, no new one starts."""
    end = time.monotonic() + patience
    while time.monotonic() < end and _listening(interface):
        time.sleep(0.02)


def _listening(interface: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(1)
        try:
            link.connect(f"{SOCKETS}/{interface}.sock")
        except OSError:
            return False
        return True


def delete(interface: str) -> None:
    """Take the link away; a userspace device ends with it."""
    batch([f"link delete {interface}"])


def routes(interface: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
    """Route prefixes to the interface, or no longer. Doing it twice does no harm."""
    batch([f"{_family(p)} route replace {p} dev {interface}" for p in add])
    for prefix in remove:
        system.attempt(["ip", _family(prefix), "route", "delete", prefix, "dev", interface])


def _family(prefix: str) -> str:
    return "-6" if ":" in prefix else "-4"


def batch(lines: Sequence[str]) -> None:
    """Several ip(8) commands in one process; nothing runs when there are none."""
    if not lines:
        return
    plain = [line for line in lines if not line.startswith("-")]
    for family in ("-4", "-6"):
        mine = [line[3:] for line in lines if line.startswith(family)]
        if mine:
            system.run(["ip", family, "-batch", "-"], stdin="\n".join(mine).encode() + b"\n")
    if plain:
        system.run(["ip", "-batch", "-"], stdin="\n".join(plain).encode() + b"\n")
