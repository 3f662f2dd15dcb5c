"""The house of these tests, up for a while with people in it, to look at: python stay.py [SECONDS]

Prints the Unix socket at which Prometheus answers (curl --unix-socket SOCKET http://x/api/v1/query?query=up). Some
never came, one key is a stranger's, and whoever is connected does something now and then.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import square
from lookout import Lookout, obstacle


def main(seconds: float) -> int:
    if reason := obstacle():
        print(f"error: {reason}", file=sys.stderr)
        return 75
    with tempfile.TemporaryDirectory(prefix="meshwright-lookout-") as folder:
        house = Lookout(Path(folder), square.MESH)
        try:
            house.up()
            square.settle(house, 2)
            print(f"Prometheus: {house.way}\nlab: {house.state}", flush=True)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                _live(house)
        finally:
            house.down()
    return 0


def _live(house: Lookout) -> None:
    """A few seconds of somebody's evening."""
    label = random.choice(["anna", "bert-phone", "bert-laptop", "carl", "emil"])
    size = random.choice([100, 400, 1200])
    house.lab.peer(label).run(["ping", "-q", "-i", "0.02", "-c", "100", "-s", str(size), "10.100.0.1"], timeout=30)
    if random.random() < 0.2:
        square.send(house, label, "10.100.0.1", 20)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 180))
