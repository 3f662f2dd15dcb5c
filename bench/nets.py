"""Small networks of throw-away machines: namespaces, cables between them, programs inside. Needs root."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from harness import ENV
from meshwright.io.host import Namespace
from support import machine

__all__ = ["Namespace", "cable", "daemon", "inside", "machine", "must"]


def must(host: Namespace, line: str, timeout: float = 120) -> str:
    """What a shell line printed on the host; ends the benchmark when it fails."""
    done = host.run(["sh", "-ec", line], timeout=timeout)
    if done.code:
        sys.exit(f"{host.name}: {line[:200]}: {done.err[-2000:]}")
    return done.out.decode()


def cable(a: Namespace, name_a: str, address_a: str, b: Namespace, name_b: str, address_b: str) -> None:
    """Join two machines by a veth pair, each end with its address and up."""
    ends = ["ip", "link", "add", name_a, "netns", str(a.pid), "type", "veth"]
    subprocess.run([*ends, "peer", "name", name_b, "netns", str(b.pid)], check=True, timeout=30)
    for host, name, address in ((a, name_a, address_a), (b, name_b, address_b)):
        must(host, f"ip addr add {address} dev {name}; ip link set {name} up")


@contextlib.contextmanager
def daemon(host: Namespace, argv: Sequence[str], **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs on the host until the block ends."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            host.enter(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**ENV, **variables}
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)


def inside(host: Namespace, program: str, *arguments: Any, timeout: float = 600) -> Any:
    """Run PROGRAM --inside ARGUMENTS (as one JSON document) on the host; gives the JSON that it prints."""
    with tempfile.TemporaryFile() as words:
        words.write(json.dumps(arguments).encode())
        words.seek(0)
        argv = host.enter([sys.executable, program, "--inside"])
        done = subprocess.run(argv, stdin=words, capture_output=True, env=ENV, timeout=timeout, check=False)
    if done.returncode:
        sys.exit(f"{host.name}: {program}: {done.stderr.decode()[-3000:]}")
    return json.loads(done.stdout)
