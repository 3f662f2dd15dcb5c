"""The table of `status` as text: all of it in a pipe, as much as fits on a terminal. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import click

from meshwright.cli.columns import ago, size
from meshwright.verify.status import TROUBLE, Row, Status, short

LONGEST = 32  # characters of a cell on a terminal
COLOURS = {"online": "green", "silent": "yellow", **dict.fromkeys(TROUBLE, "red")}


class Column(NamedTuple):
    """weight: on a narrow terminal the heaviest goes first; 0 stays."""

    title: str
    weight: int
    cell: Callable[[Row], str]


def _name(row: Row) -> str:
    return f"{row.peer} {short(row.public_key)}" if row.state == "unknown key" else row.name


def _state(row: Row) -> str:
    if row.staged:
        return f"{row.state}, the next key"
    return f"{row.state}, next key waits" if row.waits else row.state


def _age(row: Row) -> str:
    if row.age is None:
        return "never" if row.received is not None else "-"
    return f"in {ago(-row.age).removesuffix(' ago')}" if row.age < 0 else ago(row.age)


def _size(count: int | None) -> str:
    return "-" if count is None else size(count)


def _count(count: int | None) -> str:
    return "-" if count is None else str(count)


COLUMNS = (
    Column("PEER", 0, _name),
    Column("ADDRESS", 3, lambda row: _few(row.addresses)),
    Column("STATE", 0, _state),
    Column("HANDSHAKE", 0, _age),
    Column("RECEIVED", 1, lambda row: _size(row.received)),
    Column("SENT", 1, lambda row: _size(row.sent)),
    Column("ENDPOINT", 4, lambda row: row.endpoint or "-"),
    Column("ATTEMPTS", 5, lambda row: _count(row.attempted)),
    Column("DENIED", 2, lambda row: _count(row.denied)),
)
DENIED = (
    COLUMNS[0],
    COLUMNS[1],
    Column("ATTEMPTS", 1, lambda row: _count(row.attempted)),
    Column("DENIED", 0, lambda row: _count(row.denied)),
    Column("SHARE", 0, lambda row: f"{100 * (row.denied or 0) / row.attempted:.0f} %" if row.attempted else "-"),
)
COUNTED = "Packets since the firewall's table was made. It counts per device; nobody writes down where they were to go."


def _few(addresses: Sequence[str]) -> str:
    return f"{addresses[0]}{f' +{len(addresses) - 1}' if len(addresses) > 1 else ''}" if addresses else "-"


def head(status: Status) -> list[str]:
    """What is to be said of the hub itself."""
    up = "up" if status.up else "not up"
    firewall = {"there": "in force", "unknown": "not known"}.get(status.firewall) or (
        "not there; the mesh is closed" if status.closed else "not there, and nothing closes the mesh"
    )
    exporter = f"answers at {status.exporter}" if status.answers else status.exporter
    return [
        f"hub       {status.interface} is {up}, {status.online} of {status.expected} devices online",
        f"exporter  {exporter}",
        f"firewall  {firewall}",
    ]


def table(rows: Sequence[Row], columns: Sequence[Column], width: int = 0, colour: bool = False) -> list[str]:
    """Aligned lines. width: of the terminal, 0 for a pipe, where nothing is left out. A cell has no control characters:
    names, keys and addresses were read as such.
    """
    chosen = list(columns)
    cells = {column.title: [column.title, *(_short(column.cell(row), width) for row in rows)] for column in chosen}
    widths = {title: max(map(len, found)) for title, found in cells.items()}
    while width and sum(widths[c.title] + 2 for c in chosen) - 2 > width and any(c.weight for c in chosen):
        heaviest = max(c.weight for c in chosen)
        chosen = [c for c in chosen if c.weight != heaviest]
    out = []
    for number in range(len(rows) + 1):
        parts = [cells[c.title][number].ljust(widths[c.title]) for c in chosen]
        out.append(_cut("  ".join(parts).rstrip(), width))
    return [out[0], *(_coloured(line, row) for line, row in zip(out[1:], rows, strict=True))] if colour else out


def _short(text: str, width: int) -> str:
    return f"{text[: LONGEST - 1]}…" if width and len(text) > LONGEST else text


def _cut(line: str, width: int) -> str:
    return f"{line[: width - 1]}…" if width and len(line) > width else line


def _coloured(line: str, row: Row) -> str:
    colour = COLOURS.get(row.state)
    return click.style(line, fg=colour) if colour else line


def text(
    status: Status, denied: bool, width: int = 0, colour: bool = False, height: int = 0, below: Sequence[str] = ()
) -> str:
    """Everything, as it is printed. height: lines that there is room for, 0 for any number. below: what comes last."""
    tail = [*([""] if status.wrong else []), *(f"! {each.what}" for each in status.wrong), *below]
    tail = [*(["", COUNTED] if denied else []), *tail]
    rows = dropped(status) if denied else status.rows
    lines = [*(_cut(line, width) for line in head(status)), ""]
    room = max(1, height - len(lines) - len(tail) - 2) if height else len(rows)
    if rows:
        lines += table(rows[:room], DENIED if denied else COLUMNS, width, colour and not denied)
        lines += [f"and {len(rows) - room} more"] if len(rows) > room else []
    else:
        lines += [_none(status) if denied else "nobody is in the mesh"]
    return "\n".join([*lines, *(_cut(line, width if height else 0) for line in tail)])


def dropped(status: Status) -> list[Row]:
    """Devices of which something was dropped, most first. One that has two keys is counted once."""
    once = {row.name: row for row in status.rows if row.denied}
    return sorted(once.values(), key=lambda row: (-(row.denied or 0), row.name))


def _none(status: Status) -> str:
    counted = any(row.denied is not None for row in status.rows)
    return "nothing was dropped" if counted else "nothing was counted"


def data(status: Status, denied: bool) -> dict[str, Any]:
    """The same for a machine, everything unrounded."""
    rows = dropped(status) if denied else status.rows
    hub = {
        "interface": status.interface,
        "up": status.up,
        "online": status.online,
        "expected": status.expected,
        "firewall": status.firewall,
        "closed": status.closed if status.firewall == "missing" else None,
        "exporter": {"answers": status.answers, "said": status.exporter},
    }
    fields = Row.__dataclass_fields__
    peers = [{name: getattr(row, name) for name in fields} for row in rows]
    return {"mesh": status.mesh, "hub": hub, "peers": peers, "wrong": [each.what for each in status.wrong]}
