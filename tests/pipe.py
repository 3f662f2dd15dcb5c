"""stdin and stdout as a TCP connection: `pipe.py HOST PORT`, for ssh's ProxyCommand."""

from __future__ import annotations

import os
import socket
import sys
import threading


def up(connection: socket.socket) -> None:
    while data := os.read(0, 1 << 16):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def main() -> None:
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
    connection.settimeout(None)
    threading.Thread(target=up, args=(connection,), daemon=True).start()
    while data := connection.recv(1 << 16):
        while data:
            data = data[os.write(1, data) :]


main()
