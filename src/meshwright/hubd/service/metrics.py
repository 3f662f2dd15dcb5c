"""The exporter as a part of the service: as its settings say now, in a thread of its own.

The tunnel's care never waits for it. Whatever is wrong with it is told once in the journal, and tried again.
"""

from __future__ import annotations

import os
import threading
import time
import typing
from collections.abc import Callable
from typing import Any

from ..host import system, units
from ..host.place import Place
from ..metrics import exporter, listening

if typing.TYPE_CHECKING:
    from ..metrics.page import Forms
    from ..metrics.scrape import Server

LOOK = 5.0  # seconds between two looks whether there are settings
AGAIN = 300.0  # seconds until systemd is asked for the listener once more, which restarts this service


class Settings:
    """The settings file, parsed again only when it was written again."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.mark: object = ()
        self.found: dict[str, Any] | None = None

    def now(self) -> dict[str, Any] | None:
        """None where there are none, or none that this version can serve by."""
        try:
            stat = os.stat(self.path)
            mark = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if mark != self.mark:
                found = exporter.parse(system.read_file(self.path) or b"")
                self.found = found if found and found["format"] == exporter.FORMAT else None
                self.mark = mark
        except (OSError, system.HubError):
            self.mark, self.found = (), None
        return self.found


class Metrics:
    """What the loop of the service knows of it: `look` is one of its jobs."""

    def __init__(self, interface: str, table: str, say: Callable[[str], None]) -> None:
        self.where = Place(interface, table)
        self.settings = Settings(self.where.exporter)
        self.handed = listening.handed()
        self.thread: threading.Thread | None = None
        self.told: set[str] = set()
        self.journal = say
        self.begun = time.monotonic()
        self.forms: Forms | None = None  # what stays from one page to the next

    def look(self) -> float:
        """Start the thread once there are settings; again if it should ever have ended."""
        if self.thread and not self.thread.is_alive():
            self.say("metrics: the listener has failed, starting it again")
            self.thread = None
        if self.thread is None and (self.handed or self.settings.now()):
            self.thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
            self.thread.start()
        if self._forgotten() and time.monotonic() - self.begun > AGAIN:
            units.again(self.where.hubd, "active")
        return LOOK

    def _forgotten(self) -> bool:
        """Whether systemd should have opened the listener, and could not: it tries again only as we start."""
        return self.handed is None and units.booted() and self.settings.now() is not None

    def say(self, text: str) -> None:
        """Once: who fails every minute, or is made to, does not fill the disk."""
        if text not in self.told and len(self.told) < 50:
            self.told.add(text)
            self.journal(text)

    def _serve(self) -> None:
        from ..metrics import scrape  # only where there is an exporter

        server = scrape.Server(self._page, self.say)
        Serving(self, server).run()

    def _page(self) -> tuple[bytes, str]:
        from ..metrics import page, sample

        self.forms = self.forms or page.Forms()
        return page.render(sample.take(self.where, self.settings.now()), self.forms), page.TYPE


class Serving:
    """In the thread: keeps the server as the settings say."""

    def __init__(self, metrics: Metrics, server: Server) -> None:
        self.metrics, self.server = metrics, server
        self.place: tuple[str, int] | None = None
        self.pair: tuple[str, str] = ("", "")

    def run(self) -> None:
        self.server.run(self.look)

    def look(self) -> None:
        """What has changed since the last look takes effect; connections outlive a new certificate or token."""
        settings, server = self.metrics.settings.now(), self.server
        place = (settings["address"], settings["port"]) if settings else None
        try:
            self._listen(place)
            if settings:
                self._secure(settings["certificate"], settings["key"])
                server.token = settings["token_sha256"]
            server.serves = settings is not None and self.place == place
        except (system.HubError, OSError, ValueError) as error:
            server.serves = False
            self.metrics.say(f"metrics: {error}; trying again")
        if not server.serves:
            server.close()

    def _listen(self, place: tuple[str, int] | None) -> None:
        if place == self.place:
            return
        handed, server = self.metrics.handed, self.server
        if server.listener and server.listener is not handed:
            server.listener.close()
        server.listener, self.place = handed, None
        if place is None:
            return
        if handed is None and not units.booted():
            server.listener = listening.opened(*place)
        elif handed is None or not listening.at(handed, *place):
            raise system.HubError(f"systemd could not listen on {place[0]} port {place[1]} for this service")
        self.place = place
        self.metrics.journal(f"metrics: listening on {place[0]} port {place[1]}")

    def _secure(self, certificate: str, key: str) -> None:
        if (certificate, key) == self.pair:
            return
        from ..metrics.scrape import context

        wrap = context(certificate, key) if certificate else None
        if bool(wrap) != bool(self.server.wrap):
            self.server.close()  # nobody stays without TLS where it is wanted
        self.server.wrap, self.pair = wrap, (certificate, key)
