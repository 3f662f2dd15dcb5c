"""Stands between a control socket of wireguard-go and who asks: python between_wg.py SOCKET MODE, until it is killed.

future: every handshake is an hour from now. past: each was ten minutes earlier than it was. blind: the device refuses
to answer. Mounted over the socket, whose file the device watches and must not lose.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time


def main(path: str, mode: str) -> None:
    real, mine = f"/proc/self/fd/{os.open(path, os.O_PATH)}", "/run/between.sock"
    if os.path.exists(mine):
        os.unlink(mine)
    server = socket.socket(socket.AF_UNIX)
    server.bind(mine)
    os.chmod(mine, 0o600)
    server.listen(16)
    subprocess.run(["mount", "--bind", mine, path], check=True, timeout=30)
    signal.signal(signal.SIGTERM, lambda *_: leave(path))
    print("there", flush=True)
    while True:
        link, _ = server.accept()
        threading.Thread(target=serve, args=(link, real, mode), daemon=True).start()


def leave(path: str) -> None:
    subprocess.run(["umount", path], timeout=30)
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
            link.sendall(re.sub(rb"(?<=last_handshake_time_sec=)[1-9]\d*", MOVED.get(mode, as_it_was), answer))


def as_it_was(said: re.Match[bytes]) -> bytes:
    return said[0]


MOVED = {
    "future": lambda _: b"%d" % (time.time() + 3600),
    "past": lambda said: b"%d" % (int(said[0]) - 600),
}


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
