"""The one question that is asked before there is a client: GET a path of a server that shows its certificate."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

# Gives (status, body); (0, b"") while nobody answers.
Ask = Callable[[str], tuple[int, bytes]]


class _Connection(http.client.HTTPSConnection):
    """HTTPS by way of a Unix socket where one is given; the name in the certificate stays that of the URL."""

    relay: Path | None = None
    trust: ssl.SSLContext

    def connect(self) -> None:
        if self.relay is None:
            super().connect()
            return
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(self.timeout)
        plain.connect(str(self.relay))
        self.sock = self.trust.wrap_socket(plain, server_hostname=self.host)


def asker(server: str, ca: Path, who: Path | None, relay: Path | None = None) -> Ask:
    """Ask the server as the owner of WHO.crt and WHO.key, all read at each question; relay: a Unix socket to it."""
    url = urlsplit(server)

    def ask(path: str) -> tuple[int, bytes]:
        trust = ssl.create_default_context(cafile=str(ca))
        if who:
            trust.load_cert_chain(f"{who}.crt", f"{who}.key")
        connection = _Connection(url.hostname or "", url.port, timeout=10, context=trust)
        connection.relay, connection.trust = relay, trust
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    return ask
