"""What the service does for the tunnel: remember endpoints, give them back, bring the interface back."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..host import system, units
from ..host.place import Place
from ..kernel import device, wg
from . import memory
from .memory import Memory

POLL = 5.0  # seconds between two looks when nothing happens
SHARE = 200  # a look that costs more than POLL / SHARE makes the next one wait longer
BUSY = 0.2  # until the next look when an apply is writing
FIRST, LAST = 1.0, 60.0  # seconds between two attempts to bring the interface back


class Tunnel:
    """One interface as the service knows it between two looks."""

    def __init__(self, interface: str, table: str, say: Callable[[str], None]) -> None:
        self.where = Place(interface, table)
        self.say = say
        self.forgets = False  # whether the memory cannot be kept on disk: it was told
        self.memory: Memory = self._load()
        self.saved: Memory = self.memory
        self.there = False
        self.retry = 0.0
        self.delay = FIRST
        self.ours = False  # whether the unit failed after it was us who started it
        self.silent = True  # whether it need not be told that nothing is done: it was, or there never was a tunnel

    def look(self) -> float:
        """One look at the interface, and what follows from it -> seconds until the next."""
        begun = time.monotonic()
        link = device.index(self.where.interface)
        if link is None:
            return self._gone()
        if not link[1]:
            return POLL  # its conf is not yet loaded; the kernel says when it is up
        found = device.wireguard(self.where.interface)
        if found is None:
            return POLL
        self._here()
        if self._strange(found) and not self._settle():
            return BUSY
        if not self._strange(found):
            self.memory = memory.learn(self.memory, found.peers, (), time.time())
        self.save()
        return max(POLL, SHARE * (time.monotonic() - begun))

    # -- endpoints

    def _strange(self, found: wg.Device) -> bool:
        """Whether a peer we remember is not there, or has no endpoint."""
        return any(key not in found.peers or not found.peers[key].endpoint for key in self.memory)

    def _settle(self) -> bool:
        """Forget who was removed, and give endpoints back; False while an apply is writing."""
        with system.grab(self.where.lock) as held:
            if not held:
                return False
            found = device.wireguard(self.where.interface)
            text = system.read_file(self.where.conf)
            kept = wg.parse_conf(text.decode(errors="replace")).peers if text else {}
            if found is None:
                return True
            self.memory = memory.learn(self.memory, found.peers, kept, time.time())
            back = memory.restorable(self.memory, found.peers, kept, time.time())
            if back:
                peers = {key: (entry.endpoint, found.peers[key].keepalive) for key, entry in back.items()}
                device.speak(self.where.interface, peers)
                self.say(f"{self.where.interface}: gave {len(back)} peers their endpoint back and spoke first")
        return True

    def _load(self) -> Memory:
        try:
            return memory.parse(system.read_file(self.where.memory))
        except (system.HubError, OSError) as error:
            self._without(error)
            return {}

    def save(self, *, at_once: bool = False) -> None:
        """Write the memory down if it has changed. A look comes every few seconds at most, so this does too."""
        if memory.differs(self.saved, self.memory, 1 if at_once else memory.COARSE):
            try:
                system.write_file(self.where.memory, memory.render(self.memory), 0o600)
            except system.HubError as error:
                self._without(error)
                return
            self.saved, self.forgets = self.memory, False

    def _without(self, error: Exception) -> None:
        if not self.forgets:
            self.forgets = True
            self.say(f"goes on without a memory on disk: {error}")

    # -- the interface

    def _here(self) -> None:
        if not self.there and self.retry:
            self.say(f"{self.where.interface} is back")
        self.there, self.ours, self.silent = True, False, False
        if time.monotonic() > self.retry + LAST:
            self.retry, self.delay = 0.0, FIRST

    def _gone(self) -> float:
        """The interface is not there: bring it back, unless somebody wants it so."""
        self.there = False
        now = time.monotonic()
        if now < self.retry:
            return self.retry - now
        state = units.state(self.where.service)
        if not units.enabled(self.where.service) or not (state == "active" or (state == "failed" and self.ours)):
            self._leave(state)
            return POLL
        with system.grab(self.where.lock) as held:
            if not held:
                return BUSY
            self.say(f"{self.where.interface} is gone, but its unit is {state}: starting {self.where.service} again")
            self.retry, self.delay = now + self.delay, min(self.delay * 2, LAST)
            self.ours = True
            units.again(self.where.service, state)
        return self.delay

    def _leave(self, state: str) -> None:
        if not self.silent and state not in ("activating", "deactivating"):
            self.silent, self.ours = True, False
            self.say(f"{self.where.interface} is not there, and its unit is {state}: left so")
