"""One host of the lab: a process that holds the host's namespaces and answers on its ports.

It answers a connection or a datagram with `HOST saw ADDRESS`, then echoes what it gets. Which ports, it reads from
/run/responder.json (private to the host) at SIGHUP; a port that a real program holds is left to that program.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
from pathlib import Path

from . import kernel

SPEC = "/run/responder.json"
# The machine's own secrets and units must not be seen in the lab, and the lab's must not get out.
PRIVATE = {
    "/etc": (("wireguard", 0o700), ("meshwright", 0o700), ("systemd/system", 0o755), ("sysctl.d", 0o755)),
    "/var/lib": (("meshwright", 0o755),),
}
LIMIT = 512


def isolate(name: str, files: dict[str, str]) -> int:
    """Give the calling process the namespaces and mounts of a host. Gives its pid as the world outside sees it."""
    outer = int(os.readlink("/proc/self"))  # noqa: PTH115 before the fresh /proc
    kernel.unshare(kernel.NEWNET | kernel.NEWNS | kernel.NEWUTS)
    socket.sethostname(name[:63])
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    base = Path("/run/lab") / name
    shutil.rmtree(base, ignore_errors=True)  # a host of that name that is gone left its own behind
    for number, place in enumerate(PRIVATE):
        _own(place, base / str(number), files if place == "/etc" else {})
    safe = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", "/proc", "proc", safe)
    kernel.mount("sysfs", "/sys", "sysfs", safe)
    _quick_neighbours()
    kernel.mount("run", "/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    for folder in ("wireguard", "lock"):
        Path("/run", folder).mkdir(mode=0o755)
    link = Path("/etc/resolv.conf")
    if link.is_symlink() and not link.exists():
        link.resolve().parent.mkdir(parents=True, exist_ok=True)
        link.write_text(files["resolv.conf"])
    # what runs as root wants a home it can write to, but the Python that hosts share may stand in the real one
    if not os.access("/root", os.W_OK) and not sys.executable.startswith("/root/"):
        kernel.mount("root", "/root", "tmpfs", 0, "mode=700")
    return outer


def _quick_neighbours() -> None:
    """No duplicate address detection: every address here is given by us, and its second of silence would be seen."""
    for scope in ("all", "default"):
        for key in ("accept_dad", "dad_transmits"):
            with contextlib.suppress(OSError):  # a kernel without IPv6
                Path(f"/proc/sys/net/ipv6/conf/{scope}/{key}").write_text("0")


def _own(place: str, base: Path, files: dict[str, str]) -> None:
    """A writable copy of a folder: an overlay in memory, or a folder of links where overlays are refused."""
    for folder in ("upper", "work", "farm"):
        (base / folder).mkdir(parents=True)
    upper = base / "upper"
    _fill(upper, place, files)
    for extra in ("", ",userxattr"):
        try:
            kernel.mount(
                "overlay", place, "overlay", 0, f"lowerdir={place},upperdir={upper},workdir={base / 'work'}{extra}"
            )
        except OSError:
            continue
        break
    else:
        _farm(base / "farm", place, files)
    for name, mode in PRIVATE[place]:
        kernel.mount("private", f"{place}/{name}", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode={mode:o}")


def _fill(folder: Path, place: str, files: dict[str, str]) -> None:
    for name, mode in PRIVATE[place]:
        (folder / name).mkdir(mode=mode, parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def _farm(farm: Path, place: str, files: dict[str, str]) -> None:
    _fill(farm, place, files)
    real = farm / ".real"
    real.mkdir()
    kernel.mount(place, str(real), "", kernel.MS_BIND | kernel.MS_REC)
    with contextlib.suppress(
        OSError
    ):  # locked flags of a user namespace: then an ordinary user cannot write there anyway
        kernel.mount("none", str(real), "", kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY)
    for entry in real.iterdir():
        if not (farm / entry.name).exists():
            (farm / entry.name).symlink_to(f"{place}/.real/{entry.name}")
    kernel.mount(str(farm), place, "", kernel.MS_BIND | kernel.MS_REC)


def run(name: str) -> None:
    """Hold and answer, for ever."""
    selector = selectors.DefaultSelector()
    held: dict[tuple[str, int], socket.socket] = {}
    wake, poke = socket.socketpair()
    wake.setblocking(False)
    poke.setblocking(False)
    signal.set_wakeup_fd(poke.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGHUP, lambda *_: None)
    selector.register(wake, selectors.EVENT_READ, None)
    banner = name.encode()
    if Path(SPEC).exists():
        _adjust(selector, held)
    while True:
        for key, _ in selector.select():
            with contextlib.suppress(OSError):
                if key.data is None:
                    wake.recv(64)
                    _adjust(selector, held)
                else:
                    key.data(selector, key.fileobj, banner)


def _adjust(selector: selectors.BaseSelector, held: dict[tuple[str, int], socket.socket]) -> None:
    wanted = {(kind, port) for kind, port in json.loads(Path(SPEC).read_text())}
    for key in set(held) - wanted:
        selector.unregister(held[key])
        held.pop(key).close()
    for kind, port in sorted(wanted - set(held)):
        try:
            sock = _tcp(port) if kind == "tcp" else _udp(port)
        except OSError:
            continue  # a real program holds it
        held[kind, port] = sock
        selector.register(sock, selectors.EVENT_READ, _accept if kind == "tcp" else _datagram)


def _family() -> socket.AddressFamily:
    return socket.AF_INET6 if Path("/proc/net/if_inet6").exists() else socket.AF_INET


def _open(kind: socket.SocketKind, port: int) -> socket.socket:
    sock = socket.socket(_family(), kind)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        sock.bind(("", port))
    except OSError:
        sock.close()
        raise
    return sock


def _tcp(port: int) -> socket.socket:
    sock = _open(socket.SOCK_STREAM, port)
    sock.listen(128)
    return sock


def _udp(port: int) -> socket.socket:
    sock = _open(socket.SOCK_DGRAM, port)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    return sock


def _line(banner: bytes, address: str) -> bytes:
    return banner + b" saw " + address.removeprefix("::ffff:").encode() + b"\n"


def _accept(selector: selectors.BaseSelector, sock: socket.socket, banner: bytes) -> None:
    connection, peer = sock.accept()
    if len(selector.get_map()) > LIMIT + 200:
        connection.close()
        return
    connection.setblocking(False)
    selector.register(connection, selectors.EVENT_READ, _echo)
    connection.send(_line(banner, peer[0]))


def _echo(selector: selectors.BaseSelector, connection: socket.socket, _: bytes) -> None:
    try:
        data = connection.recv(16384)
    except BlockingIOError:
        return
    except OSError:
        data = b""
    if data:
        with contextlib.suppress(BlockingIOError):
            connection.send(data)
            return
    selector.unregister(connection)
    connection.close()


def _datagram(_: selectors.BaseSelector, sock: socket.socket, banner: bytes) -> None:
    # the answer must leave from the address that was asked, whatever the routing table prefers
    data, ancillary, _flags, peer = sock.recvmsg(65535, 256)
    info = [item for item in ancillary if item[:2] == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)]
    asked = [(level, kind, value[:16] + bytes(4)) for level, kind, value in info]
    if peer[0].startswith("fe80:"):
        asked = info
    sock.sendmsg([_line(banner, peer[0]) + data], asked, 0, peer)
