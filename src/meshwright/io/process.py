"""The only door to other programs: an argument list, a timeout, bytes in, bytes out.

Secrets go in by stdin, never by argv, and touch no disk. Output goes through files, in memory, so that a daemon which
a program leaves behind cannot keep us waiting on a pipe.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshwright.errors import HostError
from meshwright.hubd.host.system import memory, wait


@dataclass(frozen=True, slots=True)
class Done:
    """A finished program: its exit code, stdout as bytes, stderr as text."""

    code: int
    out: bytes
    err: str


class Overdue(HostError):
    """It was still running when its time was over, and was killed."""


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout: float = 60,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Done:
    """Run a program to its end. HostError when it is missing or overstays `timeout` (seconds); then it is killed."""
    with memory() as source, memory() as out, memory() as err:
        source.write(stdin)
        source.seek(0)
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=source,
                stdout=out,
                stderr=err,
                env=_environment(env),
                cwd=folder,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise HostError(f"{argv[0]} is not installed", f"install the program {argv[0]}") from None
        except PermissionError:
            raise HostError(f"{argv[0]} may not be run", f"check the permissions of {argv[0]}") from None
        try:
            code = wait(process, timeout)
        except BaseException as error:
            # after ^C wait() gives the program a moment: it may have come to its end by itself
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Overdue(
                    f"{argv[0]} did not finish within {timeout:g} s", "look at the machine's load and try again"
                ) from None
            raise
        out.seek(0)
        err.seek(0)
        return Done(code, out.read(), err.read().decode(errors="replace"))


def foreground(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
    """Run a program that talks to the user on his terminal, for as long as he likes; what it prints is lost."""
    try:
        with subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=_environment(env)
        ) as p:
            return p.wait()
    except FileNotFoundError:
        raise HostError(f"{argv[0]} is not installed", f"install the program {argv[0]}") from None


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    # an ordinary user's PATH on Debian lacks the folders of nft, ip and wg-quick
    merged = {**os.environ, **(extra or {})}
    path = merged.get("PATH", "")
    missing = [d for d in ("/usr/local/sbin", "/usr/sbin", "/sbin") if d not in path.split(":")]
    return {**merged, "PATH": ":".join([path, *missing]) if path else ":".join([*missing, "/usr/bin", "/bin"])}
