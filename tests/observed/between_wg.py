"""Stands between a control socket of wireguard-go and who asks: python between_wg.py SOCKET MODE, until it is killed.

future: every handshake is an hour from now. blind: the device refuses to answer. The device watches that a file of the
name of its socket is there, so one takes the place of the other in one step.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time


def main(path: str, mode: str) -> None:
    real, fresh = f"{path}.real", f"{path}.new"
    for old in (fresh, real):
        if os.path.exists(old):
            os.unlink(old)
    os.link(path, real)
    server = socket.socket(socket.AF_UNIX)
    server.bind(fresh)
    os.chmod(fresh, 0o600)
    server.listen(16)
    os.rename(fresh, path)
    signal.signal(signal.SIGTERM, lambda *_: leave(real, path))
    print("there", flush=True)
    while True:
        link, _ = server.accept()
        threading.Thread(target=serve, args=(link, real, mode), daemon=True).start()


def leave(real: str, path: str) -> None:
    os.rename(real, path)
    os._exit(0)


def serve(link: socket.socket, real: str, mode: str) -> None:
    with link:
        while request := whole(link):
            if mode == "blind" and request.startswith(b"get=1"):
                link.sendall(b"errno=1\n\n")
                continue
            with socket.socket(socket.AF_UNIX) as there:
                there.connect(real)
                there.sendall(request)
                answer = whole(there)
            later = b"last_handshake_time_sec=%d" % (time.time() + 3600)
            link.sendall(re.sub(rb"last_handshake_time_sec=[1-9]\d*", later, answer))


def whole(link: socket.socket) -> bytes:
    """One request or answer, up to its empty line; b"" at the end."""
    data = b""
    while not data.endswith(b"\n\n"):
        more = link.recv(1 << 16)
        if not more:
            return b""
        data += more
    return data


if __name__ == "__main__":
    main(*sys.argv[1:])
