"""A terminal that is drawn again and again, and left as it was found. Imports rich; never used on a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text


@contextmanager
def drawn() -> Iterator[Callable[[Callable[[int, int], str]], None]]:
    """A block that has the whole terminal. What it is given is called with width and height, and drawn."""
    console = Console(highlight=False)
    with console.screen(hide_cursor=True) as screen:

        def draw(text: Callable[[int, int], str]) -> None:
            width, height = console.size
            screen.update(Text.from_ansi(text(width, height), no_wrap=True, overflow="crop"))

        yield draw
