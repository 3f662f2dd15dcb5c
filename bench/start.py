"""Start-up: --help, version, completion and check against bare Python. Aim: 4 times.

python bench/start.py [ROUNDS]
"""

from __future__ import annotations

import os
import sys

from harness import ENV, ROOT, cpu, interleaved, record, row

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
PROGRAM = [sys.executable, "-m", "meshwright"]
MESH = str(ROOT / "examples/homelab/mesh.yaml")


def completion() -> float:
    ENV.update({"_MESHWRIGHT_COMPLETE": "bash_complete", "COMP_WORDS": "meshwright p", "COMP_CWORD": "1"})
    try:
        return cpu(PROGRAM)[0]
    finally:
        for name in ("_MESHWRIGHT_COMPLETE", "COMP_WORDS", "COMP_CWORD"):
            ENV.pop(name)


def main() -> None:
    os.chdir(ROOT)
    figures = interleaved(
        {
            "bare python": lambda: cpu([sys.executable, "-c", "pass"])[0],
            "meshwright --help": lambda: cpu([*PROGRAM, "--help"])[0],
            "completion": completion,
            "meshwright version": lambda: cpu([*PROGRAM, "version"])[0],
            "meshwright check (4 peers)": lambda: cpu([*PROGRAM, "--file", MESH, "check"])[0],
        },
        ROUNDS,
    )
    floor = figures["bare python"]
    lines = ["| what | CPU ms min / median / max | times bare python |", "|---|---|---|"]
    record("Start-up", [*lines, *(row(name, values, floor) for name, values in figures.items())])


main()
