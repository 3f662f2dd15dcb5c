"""A QR code of text, two rows of it in one row of letters."""

from __future__ import annotations

import segno

QUIET = 2
HALVES = {(False, False): " ", (True, False): "\u2580", (False, True): "\u2584", (True, True): "\u2588"}
BLACK_ON_WHITE, PLAIN = "\x1b[38;5;16;48;5;231m", "\x1b[0m"


def drawing(text: str, *, colour: bool, invert: bool = False) -> str:
    """The code as lines of half blocks.

    With colour it is black on white whatever the terminal's own colours are. Without, a letter is light and the
    background dark, as most terminals are; invert turns that round.
    """
    rows = [[bool(cell) for cell in row] for row in segno.make(text, error="l", micro=False).matrix_iter(border=QUIET)]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    ink = colour or invert
    lines = [
        "".join(HALVES[(above is ink, below is ink)] for above, below in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]
    return "\n".join(f"{BLACK_ON_WHITE}{line}{PLAIN}" if colour else line for line in lines)
