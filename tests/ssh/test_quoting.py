"""What we ask sshd to run reaches the program word by word, whatever the login shell is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright.io.host import BOOT
from meshwright.io.ssh import quoted, remote_command

SHELLS = [shell for shell in ("sh", "bash", "zsh", "fish", "tcsh", "ksh", "busybox") if shutil.which(shell)]
ECHO = "import sys;sys.stdout.buffer.write(repr(sys.argv[1:]).encode())"

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "$HOME",
        "`id`",
        "a'b",
        'a"b',
        "!!",
        "a\nb",
        "\\",
        "~",
        "*",
        "=ls",
        "%s",
        "#",
        "-n",
        "",
        "(",
        "é",
        "a\tb",
        "{a,b}",
        ";",
    ]
)


def through(shell: str, command: str, stdin: bytes = b"") -> bytes:
    """What sshd does with a command: the login shell's -c."""
    argv = [shell, *(["sh"] if shell == "busybox" else []), "-c", command]
    done = subprocess.run(argv, input=stdin, capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
@given(argv=st.lists(words, max_size=4))
@settings(max_examples=25)
def test_every_word_arrives_as_it_was(shell: str, argv: list[str]) -> None:
    command = quoted([sys.executable, "-I", "-c", ECHO, *argv])
    assert through(shell, command).decode() == repr(argv)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("become", [False, True])
def test_stdin_goes_to_the_program_untouched(shell: str, become: bool) -> None:
    """Root needs no sudo, and neither is anything else of the payload read on the way."""
    payload = bytes(range(256)) * 40
    echo = "import sys;sys.stdout.buffer.write(sys.stdin.buffer.read())"
    if become and subprocess.run(["id", "-u"], capture_output=True).stdout != b"0\n":
        pytest.skip("only root goes past sudo")
    assert through(shell, remote_command([sys.executable, "-c", echo], become=become), payload) == payload


def test_what_is_sent_each_time_needs_no_more_than_single_quotes() -> None:
    """So it can be read in the process list and in sudo's log; the rest travels by stdin."""
    for mark in ("", "0" * 32):
        command = remote_command(["python3", "-I", "-c", BOOT], become=True, mark=mark)
        assert "base64" not in command
        assert not re.search(r"[\\!\n]", command)
        assert len(command) < 1500


def test_a_word_that_no_shell_would_take_is_wrapped() -> None:
    assert "base64" in quoted(["echo", "it's"])
    assert "it's" not in quoted(["echo", "it's"])
