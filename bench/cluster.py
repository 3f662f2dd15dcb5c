"""The cluster side of a command against kubectl, on a real API server: first apply, nothing to do, one tenant changed.

    python bench/cluster.py [SIZES...] [--rounds N]     Aims at 100 tenants: a plan with nothing to do at least 30 times
                                                        faster than kubectl diff, a first apply at least 2.5 times
                                                        faster than kubectl apply; cost growing linearly.

Both sides are whole processes on the same two cores as the API server, and write the same objects: kubectl those that
`meshwright render` wrote. Each side has a fresh control plane of its own per size; the two run in turn, never at once.
kubectl's part of a change of one tenant is applying the whole tree again, as one who does not know what changed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import meshes
from harness import ENV, record  # puts tests/ on the path

import controlplane  # isort: skip
from meshwright.lab.cluster import programs  # isort: skip

SECTION = """kubernetes:
  version: "1.36"
observability: {}
"""


def timed(argv: Sequence[str], environment: dict[str, str], good: Sequence[int]) -> float:
    """Wall seconds of one run."""
    begun = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, timeout=1800, env=environment, check=False)
    wall = time.perf_counter() - begun
    if done.returncode not in good:
        sys.exit(f"{' '.join(argv)}: {done.returncode}: {(done.stdout + done.stderr).decode()[-2000:]}")
    return wall


class Side:
    """One mesh file in a folder of its own, one control plane, and the commands that are timed on it."""

    def __init__(self, plane: controlplane.ControlPlane, folder: Path, size: int) -> None:
        self.mesh = folder / "mesh.yaml"
        self.text = meshes.text(size) + SECTION
        self.mesh.write_text(self.text)
        self.tree = folder / "tree"
        self.env = {**ENV, "KUBECONFIG": str(plane.kubeconfig), "NO_COLOR": "1"}
        done = plane.kubectl("apply", "--server-side", "-f", str(programs.crds()))
        assert done.returncode == 0, done.stderr.decode()

    def ours(self, *words: str, good: Sequence[int] = (0,)) -> float:
        argv = [sys.executable, "-m", "meshwright", "--file", str(self.mesh), *words]
        return timed(argv, self.env, good)

    def kubectl(self, *words: str, good: Sequence[int] = (0,)) -> float:
        return timed([os.environ.get("KUBECTL", "kubectl"), *words], self.env, good)

    def render(self) -> float:
        return self.ours("render", str(self.tree))

    def change_one(self, round_: int) -> None:
        """Another quota for the first tenant."""
        first = "peer0: {address: 10.100.2.1, namespace: peer0, groups: [g0]"
        assert first in self.text
        self.mesh.write_text(self.text.replace(first, f"{first}, tenant: {{quota: {{pods: {40 + round_}}}}}"))


def row(what: str, ours: Sequence[float], theirs: Sequence[float], tenants: int) -> str:
    def shown(values: Sequence[float]) -> str:
        return " / ".join(f"{f(values):.2f}" for f in (min, statistics.median, max))

    ratio = statistics.median(theirs) / statistics.median(ours)
    return f"| {tenants} | {what} | {shown(ours)} | {shown(theirs)} | {ratio:.1f} |"


def measure(size: int, rounds: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder, controlplane.running() as first, controlplane.running() as second:
        for name in ("ours", "theirs"):
            (Path(folder) / name).mkdir()
        ours, theirs = Side(first, Path(folder) / "ours", size), Side(second, Path(folder) / "theirs", size)
        rendering = theirs.render()
        tree = ["--server-side", "-R", "-f", str(theirs.tree)]
        wrote = [ours.ours("apply", "--only", "kubernetes", "--yes")], [theirs.kubectl("apply", *tree)]
        same: tuple[list[float], list[float]] = ([], [])
        changed: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            same[0].append(ours.ours("plan", "--only", "kubernetes"))
            same[1].append(theirs.kubectl("diff", *tree))
        for number in range(rounds):
            ours.change_one(number)
            theirs.change_one(number)
            theirs.render()
            changed[0].append(ours.ours("apply", "--only", "kubernetes", "--yes"))
            changed[1].append(theirs.kubectl("apply", *tree))
    return [
        row("first apply", *wrote, size),
        row("plan, nothing to do / kubectl diff", *same, size),
        row("one tenant changed", *changed, size),
        f"| {size} | (render) | {rendering:.2f} | - | - |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", nargs="*", type=int, default=[4, 100, 500])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    lines = [
        "| tenants | what | meshwright s min / median / max | kubectl s | kubectl / meshwright |",
        "|---" * 5 + "|",
    ]
    for size in options.sizes:
        lines += measure(size, options.rounds if size < 500 else 1)
    record("The cluster, beside kubectl", lines)


if __name__ == "__main__":
    main()
