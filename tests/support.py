"""A hub to test against: a fresh machine made of namespaces, gone when its holder is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshwright.io.host import Namespace

# A machine of its own: private /run, /etc (a layer over the real one, without its keys and units), /var/lib/meshwright,
# /proc and /sys.
SETUP = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/wireguard /run/lock /run/etc/upper /run/etc/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
mkdir -p /etc/wireguard /etc/systemd/system /etc/meshwright /etc/sysctl.d
for d in /etc/wireguard /etc/systemd/system /etc/meshwright /etc/sysctl.d; do mount -t tmpfs -o mode=755 tmpfs $d; done
chmod 700 /etc/wireguard
mkdir -p /run/lib/upper/meshwright /run/lib/work
mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/run/lib/upper,workdir=/run/lib/work /var/lib
mount -t tmpfs -o mode=755 tmpfs /var/lib/meshwright
mount -t sysfs sysfs /sys 2>/dev/null || true
ip link set lo up
echo ready
exec sleep infinity >/dev/null
"""


@contextmanager
def machine(name: str = "hub", rootless: bool = os.geteuid() != 0) -> Iterator[Namespace]:
    """A Host in new network, mount, UTS and pid namespaces. When it ends the kernel ends every process in it."""
    flags = ["-n", "-m", "-u", "-p", "--fork", "--kill-child", "--mount-proc", *(["-U", "-r"] if rootless else [])]
    ready, write = os.pipe()
    with tempfile.TemporaryFile() as log:
        holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", *flags, "sh", "-c", SETUP],
            stdin=subprocess.DEVNULL, stdout=write, stderr=log,
        )  # fmt: skip
        os.close(write)
        try:
            if not os.read(ready, 10):
                holder.wait(10)
                log.seek(0)
                raise RuntimeError(f"no namespaces: {log.read().decode()[-400:]}")
            yield Namespace(_child(holder.pid), userns=rootless, name=name)
        finally:
            os.close(ready)
            holder.send_signal(signal.SIGKILL)
            holder.wait(10)


def _child(pid: int) -> int:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.01)
    raise RuntimeError("the holder has no child")
