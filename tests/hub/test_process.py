"""The one door to other programs, when somebody presses ^C."""

import os
import signal

import pytest

from meshwright.errors import HostError
from meshwright.hubd.host import system
from meshwright.io import process


def test_an_interrupt_while_a_program_is_about_to_end_is_an_interrupt():
    with pytest.raises(KeyboardInterrupt):
        process.run(["sh", "-c", f"sleep 0.3; kill -INT {os.getpid()}; sleep 0.05"])


def test_an_interrupt_ends_a_program_that_goes_on(tmp_path):
    mine = tmp_path / "pid"
    with pytest.raises(KeyboardInterrupt):
        process.run(["sh", "-c", f"echo $$ > {mine}; sleep 0.3; kill -INT {os.getpid()}; exec sleep 300"])
    with pytest.raises(ProcessLookupError):
        os.kill(int(mine.read_text()), signal.SIG_DFL)


def test_a_program_that_overstays_is_ended():
    with pytest.raises(HostError, match=r"did not finish within 0.1 s"):
        process.run(["sleep", "300"], timeout=0.1)


@pytest.mark.parametrize("run", [lambda argv: process.run(argv, stdin=b"x").out, lambda argv: system.run(argv, b"x")])
def test_what_goes_in_and_out_touches_no_disk(run):
    """The hub's private key on its way into a backup, sudo's password, preshared keys."""
    said = run(["readlink", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"]).decode()
    assert [line.startswith("/memfd:") for line in said.splitlines()] == [True] * 3, said
