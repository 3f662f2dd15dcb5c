"""The service on the hub: one loop with timers, woken when a link changes. What it does must never be needed.

Every job of the loop says after how many seconds it wants to be called again; a further job is one more line in `run`.
It writes one line per event, and no key in any of them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence

from ..host import system
from ..kernel import netlink
from .metrics import Metrics
from .tunnel import Tunnel

ALIVE = 60.0  # seconds between two signs of life for systemd's watchdog
AGAIN = 5.0  # after a failure
Job = Callable[[], float]


def run(interface: str, table: str) -> int:
    """Serve until a signal says to end."""
    with _ending() as end, netlink.watch() as links:
        tunnel = Tunnel(interface, table, say)
        metrics = Metrics(interface, table, say)
        notify("READY=1")
        say(f"watching {interface}, {len(tunnel.memory)} endpoints in memory")
        loop([tunnel.look, _alive, metrics.look], interface, links, end)
        tunnel.save(at_once=True)
    return 0


def loop(jobs: Sequence[Job], interface: str, links: socket.socket, end: socket.socket) -> None:
    """Call each job when its time has come, and all when the interface changed, until something comes in at `end`."""
    poll = select.poll()
    for source in (links, end):
        poll.register(source, select.POLLIN)
    due = dict.fromkeys(range(len(jobs)), 0.0)
    said: dict[int, str] = {}
    while True:
        for number in (n for n, at in due.items() if at <= time.monotonic()):
            due[number] = time.monotonic() + _attempt(jobs[number], number, said)
        wait = max(0.0, min(due.values()) - time.monotonic())
        ready = {handle for handle, _ in poll.poll(wait * 1000)}
        if end.fileno() in ready:
            return
        if links.fileno() in ready and concerns(links, interface):
            due = dict.fromkeys(due, 0.0)


def _attempt(job: Job, number: int, said: dict[int, str]) -> float:
    """One call. The loop outlives whatever is wrong with the hub; the same failure is told once."""
    try:
        wait = job()
    except (system.HubError, OSError, ValueError) as error:
        if said.get(number) != str(error):
            said[number] = str(error)
            say(f"failed, will try again: {error}")
        return AGAIN
    said.pop(number, None)
    return wait


def concerns(links: socket.socket, interface: str) -> bool:
    """Take everything off the socket: whether any of it is about the interface, or something was lost."""
    for _ in range(1000):
        try:
            data = links.recv(1 << 16)
        except BlockingIOError:
            return False
        except OSError:
            return True  # it has overflown
        if any(link.name == interface for link in netlink.links(data)):
            return True
    return True


@contextlib.contextmanager
def _ending() -> Iterator[socket.socket]:
    """A socket that becomes readable when the service is told to end."""
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(-1)
        ours.close()
        theirs.close()


def _alive() -> float:
    notify("WATCHDOG=1")
    return ALIVE


def notify(state: str) -> None:
    """Tell systemd, where it listens (sd_notify(3))."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if place:
        address = "\0" + place[1:] if place[0] == "@" else place
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link, contextlib.suppress(OSError):
            link.sendto(state.encode(), address)


def say(text: str) -> None:
    """One line for the journal."""
    print(text, flush=True)
