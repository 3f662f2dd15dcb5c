"""python -m meshwright.lab.cluster: have everything that the cluster tests want, ahead of them, with progress."""

from __future__ import annotations

import sys

from meshwright.errors import MeshwrightError
from meshwright.events import Event, Started
from meshwright.lab.cluster import build


def main() -> int:
    try:
        build.everything(_tell)
    except MeshwrightError as error:
        print(f"error: {error.message}\nnext: {error.hint}", file=sys.stderr)
        return error.exit_code
    print("The programs of the cluster are in place.")
    return 0


def _tell(event: Event) -> None:
    if isinstance(event, Started):
        print(event.what, flush=True)


if __name__ == "__main__":
    sys.exit(main())
