"""A machine as meshwright wants it, over the connection that Ansible has to it: meshwright's `Host`.

Each call is one low-level command of Ansible's. What it is given goes by stdin, never by the argument list, which
`-vvv` prints; where become or the connection has no stdin, by a file that the command itself removes first.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError

NOT_ROOT = 77
OVERDUE = 124
SHELL = (
    'PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"; echo {mark}$(id -u):$(id -un); [ "$(id -u)" = 0 ] || exit {code};'
    " {first} exec timeout -k 5 {seconds} {command}"
)
NEW = "-o ControlMaster=no -o ControlPath=none"
OVER_A_NETWORK = ("ssh", "paramiko", "paramiko_ssh")


class AnsibleHost:
    """`action` is the action plugin at work: the connection and become are those of its task. new: over a connection
    of its own. api: meshwright.api.
    """

    def __init__(self, api: Any, action: Any, name: str, python: str, new: bool = False) -> None:
        self.api = api
        self.action = action
        self.name = name
        self.python = python
        self.new = new

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Any:
        """Run a program there as root and wait for its end."""
        mark = secrets.token_hex(8) + ":"
        try:
            with _unseen(self.action), _apart(self.action, self.new):
                done = self._call(mark, argv, stdin, timeout)
        except AnsibleError as error:
            raise self._failed(error) from error
        out, err = done["stdout"], done["stderr"]
        found = re.search(rf"{mark}(\d+):(\S*)\r?\n", out)
        if not found:
            raise self._refused(err or out)
        if done["rc"] == NOT_ROOT and found[1] != "0":
            raise self.api.HostError(
                f"{self.name}: Ansible acts there as {found[2]}, and only root can manage the hub",
                "let it become root: ansible_become: true for this host, and ansible_become_user left out or root",
            )
        if done["rc"] == OVERDUE:
            raise self.api.Overdue(
                f"{self.name}: {argv[0]} did not finish within {timeout:g} s",
                "look at the machine's load and try again",
            )
        return self.api.Done(done["rc"], out[found.end() :].encode("utf-8", "surrogateescape"), err)

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a whole file atomically."""
        self.api.put(self, path, data, mode)

    def fresh(self) -> AnsibleHost | None:
        """The same machine over a new connection; None where no network lies between."""
        if self.action._connection.transport.rpartition(".")[2] not in OVER_A_NETWORK:
            return None
        return AnsibleHost(self.api, self.action, self.name, self.python, new=True)

    def _call(self, mark: str, argv: Sequence[str], stdin: bytes, timeout: float) -> dict[str, Any]:
        connection = self.action._connection
        words = {"mark": mark, "code": NOT_ROOT, "seconds": f"{timeout:g}", "command": shlex.join(argv)}
        if not stdin:
            # something to send keeps Ansible from asking for a terminal, which would mix stdout and stderr
            command = SHELL.format(**words, first="exec < /dev/null;")
            return self._execute(command, b"\n" if _takes_stdin(connection) else None)
        if _takes_stdin(connection):
            return self._execute(SHELL.format(**words, first=""), stdin)
        return self._by_file(words, stdin)

    def _by_file(self, words: dict[str, Any], data: bytes) -> dict[str, Any]:
        """As with stdin, by a file in a folder that only the user of the connection may enter."""
        shell = self.action._connection._shell
        folder = self.action._make_tmp_path()
        try:
            path = shell.join_path(folder, "payload")
            self.action._transfer_data(path, data)
            first = f"exec < {shlex.quote(path)} && rm -rf {shlex.quote(folder)} || exit 1;"
            return self._execute(SHELL.format(**words, first=first), None)
        finally:
            # gone already, unless the command was not reached
            self.action._low_level_execute_command(f"rm -rf {shlex.quote(folder)}", sudoable=False)

    def _execute(self, command: str, data: bytes | None) -> dict[str, Any]:
        done: dict[str, Any] = self.action._low_level_execute_command(
            command, in_data=data, encoding_errors="surrogateescape"
        )
        return done

    def _failed(self, error: AnsibleError) -> Exception:
        """What Ansible says when there is no connection, or the become password is wrong."""
        words = " ".join(str(error).split())
        lost = isinstance(error, AnsibleConnectionFailure)
        hint = f"see that `ansible {self.name} -m ping` works with the same inventory, then run the playbook again"
        if not lost and "password" in words:
            hint = "correct the become password of this host (ansible_become_password, or ask for it with -K)"
        failed: Exception = (self.api.Lost if lost else self.api.HostError)(f"{self.name}: {words}", hint)
        return failed

    def _refused(self, said: str) -> Exception:
        """The command was not reached: become said no."""
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        failed: Exception = self.api.HostError(
            f"{self.name}: no command could be run as root: {lines[-1][:300] if lines else 'nothing was said'}",
            f"see that this user may become root there: `ansible {self.name} -b -m command -a id` must say uid=0",
        )
        return failed


def _takes_stdin(connection: Any) -> bool:
    become = connection.become
    # ansible-core 2.19 asks the become plugin; before, su alone was known to need a terminal
    return connection.has_pipelining and (become is None or getattr(become, "pipelining", become.name != "su"))


@contextmanager
def _unseen(action: Any) -> Iterator[None]:
    """With -vvv the connection prints what a command said, unless told not to: a hub's answer holds preshared keys."""
    context = action._connection._play_context
    before, context.no_log = context.no_log, True
    try:
        yield
    finally:
        context.no_log = before


@contextmanager
def _apart(action: Any, new: bool) -> Iterator[None]:
    """Where `new`, a connection that shares nothing with one that is open, as by ssh's ControlPersist."""
    connection = action._connection
    if not new:
        yield
    elif connection.transport.rpartition(".")[2] != "ssh":
        connection.reset()
        yield
    else:
        before = connection.get_option("ssh_args")
        connection.set_option("ssh_args", f"{NEW} {before or ''}")  # of an option given twice, ssh takes the first
        try:
            yield
        finally:
            connection.set_option("ssh_args", before)
