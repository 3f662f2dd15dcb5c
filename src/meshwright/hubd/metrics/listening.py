"""How the service comes to its listener: from systemd, or by itself where there is none. sd_listen_fds(3).

Under systemd a socket unit holds it: the service's own sandbox lets it make no internet socket at all, neither to
listen nor to go out.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket

from ..host import system

FIRST = 3  # of the file descriptors that systemd hands over
WAITING = 64  # connections that nobody has taken yet


def handed() -> socket.socket | None:
    """The listener that systemd opened for this process, None when there is none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    os.environ.pop("LISTEN_PID")
    os.set_inheritable(FIRST, False)
    link = socket.socket(fileno=FIRST)
    link.setblocking(False)
    return link


def at(link: socket.socket, address: str, port: int) -> bool:
    """Whether it listens just there."""
    found = link.getsockname()
    return ipaddress.ip_address(found[0]) == ipaddress.ip_address(address) and found[1] == port


def opened(address: str, port: int) -> socket.socket:
    """A listener on one address. HubError where that cannot be had now."""
    version = ipaddress.ip_address(address).version
    link = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        link.bind((address, port))
        link.listen(WAITING)
        link.setblocking(False)
    except OSError as error:
        link.close()
        raise system.HubError(f"cannot listen on {address} port {port}: {error.strerror}") from None
    return link


def quick(link: socket.socket) -> None:
    """What is written goes out at once."""
    with contextlib.suppress(OSError):
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
