"""A TLS context that threads may share while they connect."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterable


class Context(ssl.SSLContext):
    """A client's context whose list of protocols (ALPN, RFC 7301) is written once.

    The HTTP client sets the list again for each connection. OpenSSL frees the old list while another thread may be
    copying it: that thread then sends what happens to be in this memory, and the server ends the handshake.
    """

    def __new__(cls) -> Context:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context._once = threading.Lock()
        context._told = None
        return context

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Set the list. ValueError when another one was set before."""
        wanted = tuple(alpn_protocols)
        with self._once:
            if self._told is None:
                super().set_alpn_protocols(wanted)
                self._told = wanted
            elif self._told != wanted:
                raise ValueError(f"this context speaks {self._told}, not {wanted}")

    _once: threading.Lock
    _told: tuple[str, ...] | None
