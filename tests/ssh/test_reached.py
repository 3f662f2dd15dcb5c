"""Whether what is sent over ssh was begun at all: login shells that take no commands, or never come to them.

In the place of ssh stands a program that hands the command to a login shell, as sshd does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshwright.errors import HostError
from meshwright.io import ssh
from meshwright.io.host import remote
from meshwright.io.process import Overdue
from meshwright.io.ssh import Ssh

Far = Callable[..., Ssh]
PROGRAM = """#!{python}
import os, sys
if "-V" in sys.argv:
    sys.stderr.write("OpenSSH_{version}p1, OpenSSL 3\\n")
    sys.exit()
with open("{log}", "a") as log:
    print(*sys.argv[1:-2], file=log)
os.execvp({shell!r}, [{shell!r}, "-c", sys.argv[-1]])
"""


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    """A machine whose login shell is a program, or a sh that first does `start`, as a start file of its may."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def make(shell: str = "", start: str = ":", version: str = "9.2", **more: bool) -> Ssh:
        login = tmp_path / "login"
        login.write_text(f'#!/bin/sh\n{start}\nexec sh -c "$2"\n')
        words = {"python": sys.executable, "version": version, "log": tmp_path / "log", "shell": shell or str(login)}
        (tmp_path / "ssh").write_text(PROGRAM.format(**words))
        login.chmod(0o755)
        (tmp_path / "ssh").chmod(0o755)
        ssh._options.cache_clear()
        return Ssh("hub-1", "anna", **more)

    yield make
    ssh._options.cache_clear()


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("exit 0", "ended with code 0"),
        ("exit 1", "ended with code 1"),
        ("echo This account is currently not available.; exit 1", 'code 1 and said "This account is currently not av'),
        ("echo Welcome; echo 'no way in' >&2; exit 3", 'code 3 and said "'),
    ],
)
@pytest.mark.parametrize("become", [False, True])
def test_a_login_shell_that_takes_no_commands_is_named(far: Far, start: str, said: str, become: bool) -> None:
    for call in (lambda host: remote(host, "read", {}), lambda host: host.run(["true"])):
        with pytest.raises(HostError) as caught:
            call(far(start=start, become=become))
        assert caught.value.message.startswith("hub-1: no command can be run there: the login shell ended with")
        assert said in caught.value.message
        assert "ssh hub-1 true" in caught.value.hint
        assert "bug" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("become", [False, True])
def test_a_python_as_login_shell_is_not_a_missing_sudo(far: Far, become: bool) -> None:
    with pytest.raises(HostError, match=r"no command can be run there: .*SyntaxError") as caught:
        far(sys.executable, become=become).run(["true"])
    assert "chsh" in caught.value.hint


def test_what_programs_and_start_files_say_comes_through_and_nothing_of_ours(far: Far) -> None:
    talk = ["sh", "-c", "echo out; echo err >&2; exit 7"]
    done = far().run(talk)
    assert (done.code, done.out, done.err) == (7, b"out\n", "err\n")
    done = far(start="printf oh >&2").run(talk)
    assert (done.code, done.out, done.err.split()) == (7, b"out\n", ["oh", "err"])


def test_a_start_file_that_waits_is_overdue_on_that_machine(far: Far) -> None:
    with pytest.raises(Overdue, match=r"^hub-1: .* did not end within 0\.2 s") as caught:
        far(start="sleep 20").run(["true"], timeout=0.2)
    assert "ssh hub-1 true" in caught.value.hint


@pytest.mark.parametrize(("version", "known"), [("8.6", False), ("8.7", True), ("9.2", True), ("10.0", True)])
def test_an_ssh_is_given_the_options_that_it_knows(far: Far, tmp_path: Path, version: str, known: bool) -> None:
    far(version=version).run(["true"])
    used = (tmp_path / "log").read_text()
    assert "RemoteCommand=none" in used
    for option in ("StdinNull=no", "ForkAfterAuthentication=no", "SessionType=default"):
        assert (option in used) == known


def test_without_ssh_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ssh._options.cache_clear()
    with pytest.raises(HostError, match="ssh is not installed"):
        Ssh("hub-1").run(["true"])
    ssh._options.cache_clear()
