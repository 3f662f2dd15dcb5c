"""A machine over SSH, by the OpenSSH client: the user's own config, agent, jump hosts and known hosts hold.

All calls share one connection (ControlMaster), which stays open for a minute. One call is one ssh process. Whoever is
not root there goes on by sudo; its password travels by stdin, before the payload, and a wrong one is found out before
the payload is sent on.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import secrets
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol

from meshwright.errors import HostError
from meshwright.io import host, process, sshwords
from meshwright.io.host import Lost, public
from meshwright.io.process import Done, Overdue

KEEP = 60
"""Seconds for which the connection stays open after the last call."""
LONGEST = 104 - 18
"""Bytes of a socket's path on every system, without what ssh adds while it makes the socket."""
TRIES = 3
Sharing = Literal["share", "ask", "none"]

_OPTIONS = (
    # the connection is ours, for one kind of call: none of these weakens what the user's config asks of the far side
    "ClearAllForwardings=yes",
    "ConnectTimeout=20",
    "LogLevel=INFO",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "ServerAliveCountMax=4",
    "ServerAliveInterval=5",
)
_NEWER = ("ForkAfterAuthentication=no", "SessionType=default", "StdinNull=no")
"""The same; an ssh before 8.7 knows them neither here nor in the user's config."""


class Terminal(Protocol):
    """Somebody who can be asked. None stands for nobody."""

    def secret(self, question: str) -> str:
        """What he types, unseen."""
        ...

    def lend(self) -> contextlib.AbstractContextManager[object]:
        """The terminal is the block's own: nothing of ours draws on it."""
        ...


@dataclass(frozen=True, slots=True)
class Ssh:
    """A machine that `ssh address` leads to.

    user, port: None leaves them to the ssh config. become: go on by sudo when that user is not root. password: gives
    sudo's password; without it sudo must need none, or `terminal` is asked. config: instead of the user's ssh config.
    """

    address: str
    user: str | None = None
    port: int | None = None
    become: bool = False
    password: Callable[[], str] | None = field(default=None, repr=False)
    terminal: Terminal | None = field(default=None, repr=False)
    config: Path | None = None
    alone: str = ""
    typed: list[str] = field(default_factory=list, repr=False, compare=False)
    python: str = "python3"

    @property
    def name(self) -> str:
        return self.address

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        """As Host.run. Lost when the connection broke while the program may have been running."""
        done = self._call(argv, stdin, timeout, self._password())
        for _ in range(TRIES):
            if not self._can_ask(done):
                break
            assert self.terminal
            with self.terminal.lend():
                self.typed[:] = [self.terminal.secret(f"Password of {self._who} for sudo on {self.name}: ")]
            done = self._call(argv, stdin, timeout, self.typed[0])
        if done.code and self.become and (failure := sshwords.sudo(self._who, done.err)):
            self.typed.clear()
            raise HostError(f"{self.name}: {failure.why}", failure.hint)
        return done

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        host.put(self, path, data, mode)

    def fresh(self) -> Ssh:
        return replace(self, alone=secrets.token_hex(4))

    @property
    def _who(self) -> str:
        return self.user or "the login user"

    def _password(self) -> str | None:
        if not self.become:
            return None
        return self.password() if self.password else next(iter(self.typed), None)

    def _can_ask(self, done: Done) -> bool:
        wants = sshwords.asks_password(done.err) or (self.typed and sshwords.wrong_password(done.err))
        return bool(done.code and self.become and self.terminal and not self.password and wants)

    def _call(self, argv: Sequence[str], stdin: bytes, timeout: float, password: str | None) -> Done:
        command = remote_command(argv, become=self.become)
        if password is not None:
            mark = secrets.token_hex(16)
            command = remote_command(argv, become=True, mark=mark)
            stdin = f"{password}\n{mark}\n".encode() + stdin
        done = self._ssh(command, stdin, timeout)
        if done.code == sshwords.SSH_FAILED and sshwords.stale(done.err):
            done = self._ssh(command, stdin, timeout)
        if done.code == sshwords.SSH_FAILED and sshwords.hidden(done.err):
            done = self._ssh(command, stdin, timeout, "none")
        if done.code == sshwords.SSH_FAILED and self.terminal and sshwords.answerable(done.err):
            with self.terminal.lend():
                opened = process.foreground([*self._words("ask"), self.address, "true"], env=_ENVIRONMENT)
            done = self._ssh(command, stdin, timeout) if opened == 0 else done
        if done.code == sshwords.SSH_FAILED:
            failure = sshwords.ssh(self.name, done.err)
            kind = Lost if failure.kind in {"lost", "unknown"} else HostError
            raise kind(f"{self.name}: {public(failure.why)}", failure.hint)
        return done

    def _ssh(self, command: str, stdin: bytes, timeout: float, sharing: Sharing = "share") -> Done:
        # with a terminal it is us who ask, on it; no window shall open for what ssh cannot ask without one
        quiet = {"SSH_ASKPASS_REQUIRE": "never"} if self.terminal else {}
        words = [*self._words(sharing), self.address, command]
        try:
            done = process.run(words, stdin=stdin, timeout=timeout, env={**_ENVIRONMENT, **quiet})
        except Overdue:
            late = sshwords.overdue(self.name, timeout)
            raise Overdue(f"{self.name}: {late.why}", late.hint) from None
        before, reached, err = done.err.partition(_REACHED)
        err = f"{before}\n{err}" if before.strip() else err
        if not reached and done.code >= 0 and done.code != sshwords.SSH_FAILED:
            failure = sshwords.no_shell(self.name, done.code, before + done.out.decode(errors="replace"))
            raise HostError(f"{self.name}: {public(failure.why)}", failure.hint)
        return Done(done.code, done.out, err)

    @property
    def socket(self) -> str:
        """How the name of the shared connection's socket begins; ssh adds who and where."""
        return sha256(f"{self.config}\n{self.alone}".encode()).hexdigest()[:8]

    def _words(self, sharing: Sharing) -> list[str]:
        """ssh with its options, up to the host. ask: for a connection that somebody at the terminal opens."""
        place = control_folder()
        if place is None or sharing == "none":
            shared = ["ControlMaster=no", "ControlPath=none"]
        else:
            master = "no" if self.alone and sharing == "share" else "auto"
            shared = [f"ControlMaster={master}", f"ControlPath={place}/{self.socket}%C", f"ControlPersist={KEEP}"]
        return [
            "ssh",
            "-T",
            *(["-F", str(self.config)] if self.config else []),
            *(["-l", self.user] if self.user else []),
            *(["-p", str(self.port)] if self.port else []),
            *(word for option in (*_options(), *shared) for word in ("-o", option)),
            "--",
        ]


@cache
def _options() -> tuple[str, ...]:
    """Those that the ssh of this machine knows: it ends at one that is new to it."""
    try:
        found = re.match(r"OpenSSH_(\d+)\.(\d+)", process.run(["ssh", "-V"], timeout=10).err)
    except HostError:
        return _OPTIONS
    return _OPTIONS + (_NEWER if found and (int(found[1]), int(found[2])) >= (8, 7) else ())


_ENVIRONMENT = {"LC_ALL": "C"}  # its words are what tells its failures apart


def control_folder() -> Path | None:
    """A folder of this user alone for the sockets, made if need be; None when there is no safe one."""
    uid = os.getuid()
    for folder in _places(uid):
        # ssh takes a blank in the option for its end, and % and $ for its own
        fits = len(os.fsencode(folder)) + 1 + 8 + 40 <= LONGEST and _BARE.fullmatch(str(folder))
        if fits and folder.is_absolute() and _own(folder, uid):
            return folder
    return None


def _places(uid: int) -> Iterator[Path]:
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "meshwright"
    yield Path(f"/tmp/meshwright-{uid}")  # noqa: S108 looked at before it is used
    cache = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError, OSError):  # nobody knows a home of this user; none is made in another's
        folder = Path(cache) if cache else Path.home() / ".cache"
        if not folder.exists() and folder.parent.stat().st_uid == uid:
            folder.mkdir(mode=0o700)
        yield folder / "meshwright"


def _own(folder: Path, uid: int) -> bool:
    """Whether the folder is this user's own and nobody else can look or write into it."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid:
            return False
        if stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)
    except OSError:
        return False
    return True


# What runs there, by any login shell: one word in single quotes that holds no quote, backslash or ! of its own.
# Its first words say that it runs: a login shell that takes no commands ends as if they had failed.
_REACHED = "\nmeshwright: reached\n"
_SBIN = (
    "{ echo; echo meshwright: reached; } >&2; "
    "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH; LC_ALL=C; export LC_ALL; "
)
_SUDO = 'command -v sudo >/dev/null || { echo "meshwright: no sudo" >&2; exit 1; }; '
_PLAIN = _SBIN + 'exec "$@"'
_BECOME = _SBIN + 'test "$(id -u)" = 0 && exec "$@"; ' + _SUDO + 'exec sudo -n -- "$@"'
# The password is the first line, then a mark. sudo reads the password or not, as its rules have it: so what runs as
# root skips everything up to the mark. A wrong password ends the first sudo, which has nothing else to read.
_SKIP = 'while IFS= read -r l; do test "$l" = "$0" && exec "$@"; done; exit 1'
_PASSWORD = (
    _SBIN
    + "m=$1; s=$2; shift 2; IFS= read -r p || exit 1; "
    + 'test "$(id -u)" = 0 && exec sh -c "$s" "$m" "$@"; '
    + _SUDO
    + '{ printf %s "$p"; echo; } | sudo -S -p "" -v || exit 1; '
    + '{ printf %s "$p"; echo; exec cat; } | sudo -S -p "" -- sh -c "$s" "$m" "$@"'
)


def remote_command(argv: Sequence[str], *, become: bool, mark: str = "") -> str:
    """One line that any login shell takes for a command and exactly these arguments. mark: a password comes first."""
    if mark:
        return quoted(["sh", "-c", _PASSWORD, "sh", mark, _SKIP, *argv])
    return quoted(["sh", "-c", _BECOME if become else _PLAIN, "sh", *argv])


_BARE = re.compile(r"[A-Za-z0-9_./:,@+-]+")
_HARD = re.compile(r"['\\!\x00-\x1f]")


def quoted(argv: Sequence[str]) -> str:
    """The words for a shell that may be sh, fish or csh: all of them take '...' literally, up to a few characters."""
    if any(_HARD.search(word) for word in argv):
        text = base64.b64encode(f"exec {shlex.join(argv)}".encode("utf-8", "surrogateescape")).decode()
        argv = ["sh", "-c", 'eval "$(echo $0 | base64 -d)"', text]
    return " ".join(word if _BARE.fullmatch(word) else f"'{word}'" for word in argv)
