"""The way to the hub breaks: in the middle of a write, at its end for good, or it was never the right one."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from booted import HUB, PASSWORD
from stage import Done, Stage

pytestmark = pytest.mark.booted

# (program, what it is called with, whether it has done its work): moments of a write
MOMENTS = {
    "a roll-back is armed": ("systemd-run", "", True),
    "before the first rule": ("nft", '"delete"', False),
    "rights are given": ("nft", "10.100.2.[34].*comment", True),
}


def cut(here: Stage, moment: str) -> Done:
    """An apply whose sessions on the hub are killed at that moment."""
    program, words, after = MOMENTS[moment]
    with here.held(program, words, after=after) as reached:
        here.write()
        run = here.start("apply", "--yes")
        reached()
        here.kill_sessions()
    return here.end(run)


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_session_is_killed_in_the_middle(here: Stage, moment: str) -> None:
    """The hub goes on by itself; the program comes back over a new connection and finds out what became of it."""
    with here.fault():
        done = cut(here, moment)
        assert done.code == 0, done
        assert "Applied 6 changes" in done.out
        here.settled()


def test_the_network_is_gone_for_a_while(here: Stage) -> None:
    """First it drops, which nobody notices; then it resets, and refuses new connections for a moment."""
    with here.fault():
        with here.held("nft", '"delete"') as reached:
            here.write()
            run = here.start("apply", "--yes")
            reached()
            with here.wall("drop"):
                time.sleep(2)
            with here.wall("reject with tcp reset"):
                time.sleep(2)
        done = here.end(run)
        assert done.code == 0, done
        here.settled()


def test_the_operator_is_gone(here: Stage) -> None:
    """Killed in the middle, with all its connections: nobody confirms what the hub goes on to write, so a minute later
    it takes back what could have cut him off."""
    with here.fault():
        with here.held("nft", '"delete"', after=True) as reached:
            here.write()
            run = here.start("apply", "--yes")
            reached()
            run.send_signal(signal.SIGKILL)
            run.communicate(timeout=10)
            here.kill_sessions()
        assert here.expire()


def test_the_login_is_refused(here: Stage) -> None:
    """A wrong password for sudo. Then another host key, in an ssh config of its own: an open connection hides it."""
    usual = here.connection
    password = here.folder / "password"
    password.touch(0o600)
    password.write_text("guess\n")
    with here.fault():
        here.connection = here.hub.connection("admin", become_password="{file: password}")
        here.apply().refused(1, f"{HUB}: sudo did not take the password of admin", "connection.become_password")
        here.connection = usual
        here.environment = {"MESHWRIGHT_SSH_CONFIG": str(stranger(here))}
        here.apply().refused(1, f"{HUB}: the host key is not the one in line 1 of", "another machine answers")
        here.environment = {}
    password.write_text(PASSWORD + "\n")
    here.connection = here.hub.connection("admin", become_password="{file: password}")
    here.settled()
    here.connection = usual


def stranger(here: Stage) -> Path:
    """The ssh config, with a file of known hosts that has another key for the hub."""
    key = here.hub.key.with_suffix(".pub").read_text().split()[:2]
    known = here.folder / "known_hosts"
    known.write_text(f"{HUB} {' '.join(key)}\n")
    config = here.folder / "ssh_config"
    config.write_text(f"UserKnownHostsFile {known}\n{here.hub.config.read_text()}")
    return config
