"""Tries, in namespaces that end with it, everything that a lab needs. Prints {"fault": word}, "" when all is there.

python -I -S -c BOOT trial rootless|root
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import kernel

SAFE = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC


def main(arguments: list[str]) -> int:
    print(json.dumps({"fault": fault(arguments[0])}))
    return 0


def fault(mode: str) -> str:
    uid, gid = os.getuid(), os.getgid()
    try:
        kernel.unshare(kernel.NEWNS | kernel.NEWNET | kernel.NEWPID | (kernel.NEWUSER if mode == "rootless" else 0))
        if mode == "rootless":
            kernel.isolate_user(uid, gid)
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    except OSError:
        return "userns"
    reading, writing = os.pipe()
    pid = os.fork()  # process 1 of a new pid namespace, without which /proc cannot be mounted
    if pid == 0:
        word = "the trial failed"
        try:
            word = _first()
        finally:
            os.write(writing, word.encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    return os.read(reading, 1000).decode()


def _first() -> str:
    folder = tempfile.gettempdir()
    for word, kind in (("tmpfs", "tmpfs"), ("proc", "proc"), ("sys", "sysfs")):
        try:
            kernel.mount("trial", folder, kind, SAFE)
        except OSError:
            return word
    if not _runs("ip", "link", "add", "name", "v0", "type", "veth", "peer", "name", "v1") or not _runs(
        "ip", "link", "add", "name", "b0", "type", "bridge"
    ):
        return "veth"
    rule = "add table inet t;add chain inet t c { type nat hook postrouting priority 9; };add rule inet t c masquerade"
    if not _runs("nft", rule):
        return "nft"
    return "" if _runs("ip", "link", "add", "name", "w0", "type", "wireguard") else _tun()


def _tun() -> str:
    if not Path("/dev/net/tun").exists():
        return "tun-missing"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return "tun-missing" if error.errno in (errno.ENODEV, errno.ENXIO) else "tun-closed"
    return "" if shutil.which("wireguard-go") else "wireguard-go"


def _runs(*argv: str) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False
