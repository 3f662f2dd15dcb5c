"""A machine we act on: run a program there, put a file there, call hubd there.

Everything that is more than one command goes through `remote`: hubd's source and the payload travel by stdin, so
nothing has to be installed on the far side but Python, and no secret ever stands in an argument list.
"""

from __future__ import annotations

import base64
import json
import marshal
import os
import re
import secrets
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.abc import InspectLoader
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from typing import Any, Literal, Protocol

from meshwright.errors import HostError
from meshwright.io import process
from meshwright.io.process import Done, Overdue

Action = Literal["start", "stop", "restart", "reload", "enable", "disable", "status", "daemon-reload"]


class Lost(HostError):
    """The connection, or what ran there, broke while it may have been at work: what it did is not known."""


class NoPython(HostError):
    """The machine was reached, and has no Python that can run hubd."""


class Host(Protocol):
    """A machine, whatever way leads to it.

    name: for messages. python: path of a Python >= 3.9 there.
    """

    @property
    def name(self) -> str: ...
    @property
    def python(self) -> str: ...
    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        """Run a program to its end; a code other than 0 is the caller's to judge. HostError when it could not run."""
        ...

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a whole file atomically; nobody ever sees half of it, or sees it with a wider mode."""
        ...

    def fresh(self) -> Host | None:
        """The same machine over a new connection, which shares nothing with those that are open; None where no network
        lies between."""
        ...


@dataclass(frozen=True, slots=True)
class Local:
    """This machine. root: it is managed, so whoever is not root is told."""

    name: str = "this machine"
    python: str = sys.executable
    root: bool = False

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        if self.root and os.geteuid():
            raise HostError(
                f"{self.name} is the host to manage (connection kind local), and you are not root",
                "run the same with sudo -E, or give the connection kind ssh to log in as root",
            )
        return process.run(argv, stdin=stdin, timeout=timeout)

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        put(self, path, data, mode)

    def fresh(self) -> Host | None:
        return None


@dataclass(frozen=True, slots=True)
class Namespace:
    """The namespaces of the process `pid` (network, mount, UTS, pid; with `userns` its user namespace too).

    nsenter changes to /, so every path must be absolute.
    """

    pid: int
    userns: bool = False
    name: str = "namespace"
    python: str = sys.executable

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The argument list that runs `argv` inside."""
        user = ["-U", "--preserve-credentials"] if self.userns else []
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-u", "-p", *user, "--", *argv]

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        return process.run(self.enter(argv), stdin=stdin, timeout=timeout)

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        put(self, path, data, mode)

    def fresh(self) -> Host | None:
        return None


def put(host: Host, path: str, data: bytes, mode: int) -> None:
    """`Host.put` for any host that can run Python: hubd writes the file where it shall be."""
    remote(host, "put", {"path": path, "data": base64.b64encode(data).decode(), "mode": mode})


def service(host: Host, name: str, action: Action) -> dict[str, Any]:
    """Act on a unit: by systemd where it runs, else by the unit's own Exec lines. Gives {"active": bool}."""
    return remote(host, "service", {"name": name, "action": action})


# Reads one JSON document from stdin and hands it to hubd's loader; all it has to know is where the loader is. Without
# a ' \\ ! so that any login shell passes it on (io/ssh.py).
BOOT = (
    "import sys,json,zlib;"
    'sys.version_info>=(3,8) or sys.exit("meshwright: too old a Python: %d.%d"%sys.version_info[:2]);'
    'b=sys.stdin.buffer.read();d=json.loads((b if b[:1]==b"{" else zlib.decompress(b)).decode());'
    'exec(compile(d["boot"],"boot.py","exec"),{"document":d})'
)
READS = frozenset({"read", "status.look", "asking.scrape"})


def remote(host: Host, operation: str, payload: dict[str, Any], *, timeout: float = 120) -> dict[str, Any]:
    """Run one operation of hubd on the host and give its answer.

    HostError when the far side cannot be reached, fails, or answers with anything but a frame of ours. What is shown of
    its words never holds the payload: keys are taken out.
    """
    mark = secrets.token_hex(16)
    near = isinstance(host, Local | Namespace)
    # the same interpreter takes hubd compiled, which spares it most of the time of a call
    hubd = {"code": _code()} if near and host.python == sys.executable else {"modules": modules()}
    document = {"boot": _boot(), **hubd, "mark": mark, "operation": operation, "payload": payload, "packed": not near}
    data = json.dumps(document).encode()
    try:
        # a few milliseconds for a third of the bytes: worth it on any network, and nothing but work without one
        done = host.run(
            [host.python, "-I", "-c", BOOT], stdin=data if near else zlib.compress(data, 1), timeout=timeout
        )
    except (Lost, Overdue) as error:
        if operation not in READS:
            error.message += f" in the middle of `{operation}`; what was done there is not known"
            error.hint = "run `meshwright plan`: it shows what is left to do"
        raise
    answer = _unframe(done.out, mark.encode())
    if answer is None:
        if _lacks_python(done):
            raise NoPython(
                f"{host.name}: {operation}: {_last_line(done)}", "install python3 (3.9 or newer) on that machine"
            )
        if old := re.search(r"meshwright: too old a Python: (\S+)", done.err):
            why = f"{host.name}: its Python is {old[1]}, and meshwright needs 3.8 there"
            raise HostError(why, "make a newer one its python3; with 3.9 the service on the hub runs too")
        raise Lost(f"{host.name}: {operation}: {_last_line(done)}", _hint())
    if "error" in answer:
        raise HostError(f"{host.name}: {public(answer['error'])}", public(answer.get("hint", "")))
    result: dict[str, Any] = answer["result"]
    return result


@cache
def modules() -> dict[str, str]:
    """Path below hubd -> source, of all of hubd but the loader for what arrives by stdin."""
    found = dict(_sources(resources.files("meshwright.hubd"), ""))
    return {path: found[path] for path in sorted(found) if path != "boot.py"}


def _sources(folder: Traversable, under: str) -> Iterator[tuple[str, str]]:
    for item in folder.iterdir():
        if item.is_dir():
            yield from _sources(item, f"{under}{item.name}/")
        elif item.name.endswith(".py"):
            yield under + item.name, item.read_text(encoding="utf-8")


@cache
def _code() -> dict[str, str]:
    """hubd's modules compiled by this very Python, in base64; from its own cache of compiled files where it has one."""
    out = {}
    for path in modules():
        inside = path.removesuffix(".py").removesuffix("__init__").split("/")
        spec = find_spec(".".join(["meshwright", "hubd", *filter(None, inside)]))
        if spec and isinstance(spec.loader, InspectLoader):
            out[path] = base64.b64encode(marshal.dumps(spec.loader.get_code(spec.name))).decode()
    return out


@cache
def _boot() -> str:
    return (resources.files("meshwright.hubd") / "boot.py").read_text(encoding="utf-8")


def _unframe(out: bytes, mark: bytes) -> dict[str, Any] | None:
    """The JSON between our marks, whatever a login script printed around it."""
    parts = out.split(mark)
    if len(parts) != 3:
        return None
    try:
        text = parts[1]
        answer = json.loads(text if text[:1] == b"{" else zlib.decompress(base64.b64decode(text)))
    except (ValueError, zlib.error):
        return None
    return answer if isinstance(answer, dict) and ("result" in answer or "error" in answer) else None


def _last_line(done: Done) -> str:
    lines = [line.strip() for line in done.err.splitlines() if line.strip()]
    return public(lines[-1])[:300] if lines else f"ended with code {done.code} and said nothing"


def _hint() -> str:
    return "this is likely a bug of meshwright; run the command again and report the line above"


def _lacks_python(done: Done) -> bool:
    said = done.err
    missing = "not found" in said or "No such file" in said
    return done.code in {1, 126, 127} and missing and "python" in said


_KEY = re.compile(r"[A-Za-z0-9+/]{42,43}=|[0-9a-f]{64}")


def public(text: str) -> str:
    """The text without anything that could be a key."""
    return _KEY.sub("(key)", text)
