"""A wire between us and the API server that can be cut."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from controlplane import ControlPlane


class Relay:
    """Passes bytes on, until it is cut: then every connection breaks and new ones are refused."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target, timeout=10)
                self._open += [near, far]
                threading.Thread(target=_pass_on, args=(near, far), daemon=True).start()

    def cut(self) -> None:
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError, ValueError, KeyError), selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in ready.select(timeout=5):
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)


@contextmanager
def relay(control: ControlPlane) -> Iterator[Relay]:
    host, _, port = control.server.removeprefix("https://").partition(":")
    made = Relay((host, int(port)))
    try:
        yield made
    finally:
        made.cut()
