"""The program on the hub: `python3 -I hubd.pyz COMMAND ARGUMENT...`, one command per line of COMMANDS."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from .host import system


def _serve(arguments: Sequence[str]) -> int:
    from .service import serve

    interface, table = arguments
    return serve.run(interface, table)


# command -> (what it wants behind it, what does it); each imports what it needs, for the service lives long
COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "serve": ("INTERFACE TABLE", _serve),
}


def main(arguments: Sequence[str]) -> int:
    """The exit code: 2 for what is no command, 1 for what went wrong on the hub."""
    wants, command = COMMANDS.get(arguments[0] if arguments else "", ("", None))
    if command is None or len(arguments) - 1 != len(wants.split()):
        lines = [f"hubd.pyz {name} {words}" for name, (words, _) in COMMANDS.items()]
        print("one of:", *lines, sep="\n  ", file=sys.stderr)
        return 2
    try:
        return command(arguments[1:])
    except system.HubError as error:
        print(f"{error}; {error.hint}" if error.hint else str(error), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
