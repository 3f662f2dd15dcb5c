"""status: who is connected, in the terminal; the same truth as the exporter's."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from meshwright.cli.lazy import Command
from meshwright.cli.output import Output, clean, colourful

if TYPE_CHECKING:
    from meshwright.verify.status import Status

EVERY = 2.0  # seconds


@click.command(cls=Command)
@click.option("--denied", is_flag=True, help="Show of whom the firewall dropped packets, and how many.")
@click.option("--watch", is_flag=True, help="Look again every 2 seconds, until Ctrl-C. Needs a terminal.")
@click.pass_obj
def status(out: Output, denied: bool, watch: bool) -> int:
    """Show who is connected: every device with its last handshake, its traffic, and what the firewall counted.

    One look at the hub, which needs no exporter there. A device is online when its last handshake is at most 180
    seconds old; never is not now. Exit code 4 when something is wrong: a device is missing on the hub or has a key that
    the file does not know, one that is always on is silent, the firewall's table is gone, the exporter does not answer.
    """
    from meshwright.cli import connected, world

    if watch and (out.json or not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb"):
        return out.error(
            "--watch draws on a terminal, and this is none", "leave --watch out and run the command again and again", 1
        )
    look = world.looker(world.world(out))
    seen = look()
    if watch:
        seen = _live(look, seen, denied)
    text = connected.text(seen, denied, _width(), colour=colourful(sys.stdout))
    if watch or not seen.wrong:
        return out.result(connected.data(seen, denied), text)
    from meshwright.errors import VerifyFailed

    count = len(seen.wrong)  # what they are, the text says already
    said = (
        f"{count} things are not as they should be, the worst first" if count > 1 else "a thing is not as it should be"
    )
    error = VerifyFailed(said, seen.wrong[0].next)
    return out.result(connected.data(seen, denied), text, error)


def _width() -> int:
    """Of the terminal; 0 where the output is read by a program, which gets everything."""
    from shutil import get_terminal_size

    return get_terminal_size().columns if sys.stdout.isatty() else 0


def _live(look: Callable[[], Status], seen: Status, denied: bool) -> Status:
    """Draw until Ctrl-C -> the last that was seen. A hub that does not answer is told, and asked again."""
    from meshwright.cli import connected, screen
    from meshwright.errors import HostError

    lost, at = "", time.time()

    def page(width: int, height: int) -> str:
        told = f"! the hub does not answer, so this is of {_clock(at)}: {lost}" if lost else f"at {_clock(at)}"
        more = ["", f"{told}; Ctrl-C ends"]
        return connected.text(seen, denied, width, colourful(sys.stdout), height, more)

    with screen.drawn() as draw:
        try:
            while True:
                draw(page)
                time.sleep(EVERY)
                try:
                    seen, lost, at = look(), "", time.time()
                except HostError as error:
                    lost = clean(error.message)
        except KeyboardInterrupt:
            return seen


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
