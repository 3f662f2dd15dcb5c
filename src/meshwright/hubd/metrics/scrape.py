"""The exporter's listener: one thread, one loop, no connection that can hold up another, or the tunnel's care.

Whoever reaches the port may be hostile. So everything has an end: how long a head is, how many are connected, how long
one may take to ask and to read the answer, how often the kernel is read, and the share of a processor that all of it
takes. A page is made once for all who wait for it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
import typing
from collections.abc import Callable

from . import head, listening

CONNECTIONS = 32
AT_ONCE = 8  # of them taken before those who are there are looked at: who has asked already is answered
ASKING = 10.0  # seconds for a whole request, from the connection or from its first byte; the handshake is part of it
READING = 60.0  # seconds for a whole answer
STALLED = 10.0  # seconds without one byte of it taken
IDLE = 180.0  # between two requests
LEAVING = 2.0  # until the other side has read why it was refused
YOUNG = 1.0  # seconds in which a page is shown again; a page that took longer to make, SHARE times as long
SHARE = 4.0
PAGES = 2  # made at different times and still being sent
PIECE = 1 << 18
LOOK = 5.0  # seconds between two looks at the settings when nobody asks
HELLO = b"meshwright: the metrics of this hub are at /metrics\n"
TEXT = "text/plain; charset=utf-8"

Wrap = typing.Callable[[socket.socket], socket.socket]


class Page(typing.NamedTuple):
    """made: by the monotonic clock, when it was begun. cost: seconds that it took."""

    body: bytes
    kind: str
    made: float
    cost: float


class Guest:
    """One connection. `stage`: what happens next on it: shake hands, ask, wait for the page, read it, leave."""

    def __init__(self, link: socket.socket, host: str, stage: str, now: float) -> None:
        self.link, self.host, self.stage = link, host, stage
        self.secure = stage == "shake"
        self.wants = select.POLLIN
        self.since = self.moved = now
        self.asked = False  # whether a request has begun
        self.known = False  # whether it was ever given the page
        self.data = b""
        self.out: list[memoryview] = []
        self.lasts = True
        self.bare = False  # only the head of the answer is wanted
        self.page: Page | None = None

    def late(self, now: float) -> bool:
        if self.stage == "read":
            return now - self.since > READING or now - self.moved > STALLED
        limits = {"shake": ASKING, "ask": ASKING if self.asked or not self.known else IDLE, "leave": LEAVING}
        return now - self.since > limits.get(self.stage, READING)

    def turn(self, stage: str, wants: int) -> None:
        self.stage, self.wants = stage, wants
        self.since = self.moved = time.monotonic()


class Server:
    """The listener and who is connected. make: the page, and its type; what it raises is told in the journal, and not
    to who asks."""

    def __init__(self, make: Callable[[], tuple[bytes, str]], say: Callable[[str], None]) -> None:
        self.make, self.say = make, say
        self.look: Callable[[], None] = lambda: None
        self.token = ""  # the digest of the one that has to be shown; "" for none
        self.wrap: Wrap | None = None
        self.serves = False
        self.listener: socket.socket | None = None
        self.guests: dict[int, Guest] = {}
        self.page: Page | None = None

    def run(self, look: Callable[[], None]) -> None:
        """For ever. look: called every few seconds and when somebody asks; it sets listener, token, wrap and serves."""
        self.look = look
        look()
        while True:
            busy = self.step(self._patience())
            if any(guest.stage == "wait" for guest in self.guests.values()):
                self.show()
            elif self.page and not self._young():
                self.page = None  # of many peers it is large
            # half of the time it rests, so that a host that floods it takes at most half of one processor
            time.sleep(min(busy, 0.05))

    def _patience(self) -> float:
        return 0.5 if self.guests else LOOK

    def step(self, patience: float) -> float:
        """Wait for whatever comes first and deal with it -> seconds that this took."""
        poll = select.poll()
        if self.listener:
            poll.register(self.listener, select.POLLIN)
        for number, guest in self.guests.items():
            if guest.stage != "wait":
                poll.register(number, guest.wants)
        ready = poll.poll(patience * 1000)
        begun = time.monotonic()
        self.look()  # a token that was taken away opens nothing from now on
        for number, _ in ready:
            if number in self.guests:
                self._attend(self.guests[number])
            elif self.listener:
                self._welcome()
        for guest in [guest for guest in self.guests.values() if guest.late(begun)]:
            self.bye(guest)
        return time.monotonic() - begun

    # -- who comes and goes

    def _welcome(self) -> None:
        for _ in range(AT_ONCE):
            try:
                link, place = self.listener.accept()  # type: ignore[union-attr]
            except BlockingIOError:
                return
            except OSError as error:  # no file descriptors, or a connection that is gone again
                self.say(f"metrics: {error.strerror}")
                time.sleep(0.1)
                return
            listening.quick(link)
            if not self.serves:
                link.close()
                continue
            self._seat(link, _host(place[0]))

    def _seat(self, link: socket.socket, host: str) -> None:
        if len(self.guests) >= CONNECTIONS:
            self.bye(self._least())
        try:
            guest = Guest(self.wrap(link) if self.wrap else link, host, "shake" if self.wrap else "ask", _now())
        except (OSError, ValueError):
            link.close()
            return
        self.guests[guest.link.fileno()] = guest

    def _least(self) -> Guest:
        """Who goes when one more comes: of those who never showed to be welcome, of the host with the most
        connections, who is there longest."""
        count: dict[str, int] = {}
        for guest in self.guests.values():
            count[guest.host] = count.get(guest.host, 0) + 1
        return min(self.guests.values(), key=lambda guest: (guest.known, -count[guest.host], guest.since))

    def bye(self, guest: Guest) -> None:
        self.guests.pop(guest.link.fileno(), None)
        guest.link.close()

    def close(self) -> None:
        """Nobody is served any more."""
        for guest in list(self.guests.values()):
            self.bye(guest)

    # -- one connection

    def _attend(self, guest: Guest) -> None:
        usual = select.POLLOUT if guest.stage == "read" else select.POLLIN
        try:
            {"shake": self._shake, "ask": self._listen, "read": self._send, "leave": self._drain}[guest.stage](guest)
        except (OSError, ValueError) as error:
            guest.wants = _wanted(error, usual)
            if not guest.wants:
                self.bye(guest)

    def _shake(self, guest: Guest) -> None:
        guest.link.do_handshake()  # type: ignore[attr-defined]
        guest.stage, guest.wants = "ask", select.POLLIN  # the time to ask runs since the connection
        self._listen(guest)

    def _listen(self, guest: Guest) -> None:
        for _ in range(4):  # more than a head; what else waits in a TLS record is taken the next time
            piece = guest.link.recv(4096)
            if not piece:
                self.bye(guest)
                return
            if not guest.asked:
                guest.asked, guest.since = True, guest.since if not guest.known else _now()
            guest.data += piece
            self._hear(guest)
            if guest.stage != "ask":
                return

    def _hear(self, guest: Guest) -> None:
        """Whether what was sent so far is a request."""
        found = head.parse(guest.data)
        if found is None:
            return
        request, guest.data = found
        if isinstance(request, head.Wrong):
            self._refuse(guest, request.status)
            return
        guest.lasts, guest.bare = request.lasts, request.method == "HEAD"
        if not self._may(request.token):
            self._refuse(guest, 401)
        elif request.method not in ("GET", "HEAD"):
            self._refuse(guest, 405)
        elif request.path == "/":
            self._answer(guest, 200, TEXT, HELLO)
        elif request.path != "/metrics":
            self._refuse(guest, 404)
        else:
            guest.turn("wait", 0)

    def _may(self, token: bytes | None) -> bool:
        if not self.token:
            return True
        from hashlib import sha256  # seldom needed, and it brings a large library
        from hmac import compare_digest

        return compare_digest(sha256(token or b"").hexdigest(), self.token) and token is not None

    def _refuse(self, guest: Guest, status: int) -> None:
        guest.lasts = False
        self._answer(guest, status, TEXT, f"{head.REASONS[status]}\n".encode())

    def _answer(self, guest: Guest, status: int, kind: str, body: bytes) -> None:
        first = head.answer(status, kind, len(body), lasts=guest.lasts)
        guest.out = [memoryview(first)] + ([] if guest.bare or not body else [memoryview(body)])
        guest.turn("read", select.POLLOUT)

    def _send(self, guest: Guest) -> None:
        for _ in range(4):
            if not guest.out:
                break
            sent = guest.link.send(guest.out[0][:PIECE])
            guest.moved = _now()
            guest.out[0] = guest.out[0][sent:]
            if not guest.out[0]:
                guest.out.pop(0)
        if not guest.out:
            self._sent(guest)
        guest.wants = select.POLLOUT if guest.stage == "read" else guest.wants

    def _sent(self, guest: Guest) -> None:
        guest.page = None
        if not guest.lasts:
            guest.turn("leave", select.POLLIN)
            with contextlib.suppress(OSError, ValueError):
                if guest.secure:
                    guest.link.unwrap()  # type: ignore[attr-defined]
            guest.link.shutdown(socket.SHUT_WR)
            return
        guest.turn("ask", select.POLLIN)
        guest.asked = bool(guest.data)
        self._hear(guest)
        if guest.stage == "ask" and guest.secure:
            self._listen(guest)  # what TLS has taken off the socket already wakes nobody

    def _drain(self, guest: Guest) -> None:
        """Closed while something is still unread, the other side would never see the answer."""
        if not socket.socket.recv(guest.link, 1 << 16):
            self.bye(guest)

    # -- the page

    def show(self) -> None:
        """Give the page to all who wait for it: one that was made just now, or a new one."""
        page = self._fresh()
        for guest in [guest for guest in self.guests.values() if guest.stage == "wait"]:
            if page is None:
                self._refuse(guest, 503)
            else:
                guest.known, guest.page = True, page
                self._answer(guest, 200, page.kind, page.body)

    def _fresh(self) -> Page | None:
        if self._young():
            return self.page
        self.page = None
        self._forget()
        now = _now()
        try:
            body, kind = self.make()
        except Exception as error:  # noqa: BLE001  whatever it is, the listener outlives it
            self.say(f"metrics: the page could not be made: {error}")
            return None
        self.page = Page(body, kind, now, _now() - now)
        return self.page

    def _young(self) -> bool:
        return self.page is not None and _now() - self.page.made < max(YOUNG, SHARE * self.page.cost)

    def _forget(self) -> None:
        """Readers who are so slow that their page is not the last one keep it in memory: only so many pages."""
        held = {id(guest.page): guest.page for guest in self.guests.values() if guest.page}
        old = sorted(held.values(), key=lambda page: page.made)[: max(0, len(held) - PAGES + 1)]
        for guest in [guest for guest in self.guests.values() if any(guest.page is page for page in old)]:
            self.bye(guest)


def _now() -> float:
    return time.monotonic()


def _host(address: str) -> str:
    """What counts as one host: an IPv6 network of 64 bits is one, for it has as many addresses as it likes."""
    if ":" not in address:
        return address
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8].hex()


def _wanted(error: Exception, usual: int) -> int:
    """What has to be waited for after this, 0 when the connection is over."""
    if isinstance(error, BlockingIOError):
        return usual
    return {"SSLWantReadError": select.POLLIN, "SSLWantWriteError": select.POLLOUT}.get(type(error).__name__, 0)


def context(certificate: str, key: str) -> Wrap:
    """TLS by a certificate and its key, both PEM. ValueError or OSError where they are none."""
    import ssl  # only where TLS is wanted

    from ..host import system

    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    found.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    with system.memory() as file:
        file.write(f"{key}\n{certificate}\n".encode())
        file.flush()
        found.load_cert_chain(f"/proc/self/fd/{file.fileno()}")

    def wrap(link: socket.socket) -> socket.socket:
        return found.wrap_socket(link, server_side=True, do_handshake_on_connect=False)

    return wrap
