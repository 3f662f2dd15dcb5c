"""The cluster side of a command against kubectl, on a real API server: first apply, nothing to do, one tenant changed.

    python bench/cluster.py [SIZES...] [--rounds N]     Aims at 100 tenants: a plan with nothing to do at least 30 times
                                                        faster than kubectl diff, a first apply at least 2.5 times
                                                        faster than kubectl apply; cost growing linearly.

Both sides are whole processes on the same two cores as the API server, and write the same objects: kubectl those that
`meshwright render` wrote. Each side has a fresh control plane of its own per size; the two run in turn, never at once.
kubectl's part of a change of one tenant is applying the whole tree again, as one who does not know what changed.
The floor of a first apply is what the server takes for the same objects, sent ready-made and with no look at the
answers: namespaces, then the rest, over as many connections as meshwright uses.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

import meshes
from harness import ENV, record  # puts tests/ on the path

import controlplane  # isort: skip
from meshwright.desired.manifest import id_of  # isort: skip
from meshwright.lab.cluster import programs  # isort: skip
from meshwright.providers.kubernetes.kinds import place  # isort: skip
from meshwright.providers.kubernetes.waves import AT_ONCE  # isort: skip

SECTION = """kubernetes:
  version: "1.36"
observability: {}
"""
Cost = tuple[float, float]
"""Seconds of one run: on the wall, and of the client's own CPU."""
LARGE = 500
"""Tenants from which there is one round, and no second apply of the whole tree by kubectl."""
FIRST, SAME, ONE = "first apply", "plan, nothing to do / kubectl diff", "one tenant changed"


def timed(argv: Sequence[str], environment: dict[str, str], good: Sequence[int]) -> Cost:
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(argv, capture_output=True, timeout=1800, env=environment, check=False)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in good:
        sys.exit(f"{' '.join(argv)}: {done.returncode}: {(done.stdout + done.stderr).decode()[-2000:]}")
    print(f"{time.strftime('%H:%M:%S')} {wall:8.2f} s  {' '.join(argv)}", file=sys.stderr, flush=True)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Side:
    """One mesh file in a folder of its own, one control plane, and the commands that are timed on it."""

    def __init__(self, plane: controlplane.ControlPlane, folder: Path, size: int) -> None:
        folder.mkdir()
        self.plane = plane
        self.mesh = folder / "mesh.yaml"
        self.text = meshes.text(size) + SECTION
        self.mesh.write_text(self.text)
        self.tree = folder / "tree"
        self.env = {**ENV, "KUBECONFIG": str(plane.kubeconfig), "NO_COLOR": "1"}
        self.program = os.environ.get("KUBECTL", plane.kubectls[-1])
        self.cache = folder / "cache"
        done = plane.kubectl("apply", "--server-side", "-f", str(programs.crds()))
        assert done.returncode == 0, done.stderr.decode()

    def ours(self, *words: str, good: Sequence[int] = (0,)) -> Cost:
        argv = [sys.executable, "-m", "meshwright", "--file", str(self.mesh), *words]
        return timed(argv, self.env, good)

    def kubectl(self, command: str) -> Cost:
        words = [f"--cache-dir={self.cache}", command, "--server-side", "-R", "-f", str(self.tree)]
        return timed([self.program, *words], self.env, (0,))

    def render(self) -> Cost:
        return self.ours("render", str(self.tree))

    def change_one(self, round_: int) -> None:
        """Another quota for the first tenant."""
        first = "peer0: {address: 10.100.2.1, namespace: peer0, groups: [g0]"
        assert first in self.text
        self.mesh.write_text(self.text.replace(first, f"{first}, tenant: {{quota: {{pods: {40 + round_}}}}}"))

    def objects(self) -> list[Mapping[str, Any]]:
        """What render writes."""
        self.render()
        texts = [path.read_text() for path in sorted(self.tree.rglob("*.yaml"))]
        return [each for text in texts for each in yaml.load_all(text, yaml.CSafeLoader) if each]

    def versions(self) -> str:
        said = json.loads(self.plane.kubectl("version", "-o", "json", program=self.program).stdout)
        return f"kubectl {said['clientVersion']['gitVersion']}, API server {said['serverVersion']['gitVersion']}"


class Raw:
    """Server-side apply of ready bodies, a connection per thread."""

    def __init__(self, plane: controlplane.ControlPlane) -> None:
        self._host = plane.server.removeprefix("https://")
        self._tls = ssl.create_default_context(cafile=str(plane.ca))
        keys = plane.plane.folder / "pki"
        self._tls.load_cert_chain(keys / "admin.crt", keys / "admin.key")
        self._mine = threading.local()

    def __call__(self, asked: tuple[str, bytes]) -> None:
        if not hasattr(self._mine, "connection"):
            self._mine.connection = http.client.HTTPSConnection(self._host, context=self._tls, timeout=60)
        path, body = asked
        headers = {"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"}
        self._mine.connection.request("PATCH", f"{path}?fieldManager=floor", body, headers)
        answer = self._mine.connection.getresponse()
        said = answer.read()
        if answer.status not in (200, 201):
            sys.exit(f"{path}: {answer.status}: {said.decode()[-1000:]}")


def floor(size: int) -> tuple[float, int]:
    """Seconds in which the server takes a first apply, and the number of objects."""
    with tempfile.TemporaryDirectory() as folder, controlplane.running() as plane:
        objects = Side(plane, Path(folder) / "floor", size).objects()
        waves: list[list[tuple[str, bytes]]] = [[], [], []]
        for each in objects:
            # a quota that no controller has seen yet refuses what it counts
            wave = {"Namespace": 0, "ResourceQuota": 2}.get(each["kind"], 1)
            waves[wave].append((place(id_of(each)).path, json.dumps(each).encode()))
        send = Raw(plane)
        begun = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for wave in waves:
                list(pool.map(send, wave))
        return time.perf_counter() - begun, len(objects)


def shown(costs: Sequence[Cost]) -> str:
    return " / ".join(f"{f([wall for wall, _ in costs]):.2f}" for f in (min, statistics.median, max))


def middle(costs: Sequence[Cost], which: int) -> float:
    return statistics.median(cost[which] for cost in costs)


def row(what: str, ours: Sequence[Cost], theirs: Sequence[Cost], tenants: int) -> str:
    if not theirs:
        return f"| {tenants} | {what} | {shown(ours)} | - | - | {middle(ours, 1):.2f} / - |"
    ratio = middle(theirs, 0) / middle(ours, 0)
    cpu = f"{middle(ours, 1):.2f} / {middle(theirs, 1):.2f}"
    return f"| {tenants} | {what} | {shown(ours)} | {shown(theirs)} | {ratio:.1f} | {cpu} |"


def measure(size: int, rounds: int) -> tuple[list[str], dict[str, float], str]:
    """Lines of the table, our medians for the growth, and the versions."""
    load = Path("/proc/loadavg").read_text().split()[0]
    with tempfile.TemporaryDirectory() as folder, controlplane.running() as first, controlplane.running() as second:
        ours, theirs = Side(first, Path(folder) / "ours", size), Side(second, Path(folder) / "theirs", size)
        rendering = theirs.render()
        costs: dict[str, tuple[list[Cost], list[Cost]]] = {what: ([], []) for what in (FIRST, SAME, ONE)}
        costs[FIRST][0].append(ours.ours("apply", "--only", "kubernetes", "--yes"))
        costs[FIRST][1].append(theirs.kubectl("apply"))
        for _ in range(rounds):
            costs[SAME][0].append(ours.ours("plan", "--only", "kubernetes"))
            costs[SAME][1].append(theirs.kubectl("diff"))
        for number in range(rounds):
            ours.change_one(number)
            theirs.change_one(number)
            theirs.render()
            costs[ONE][0].append(ours.ours("apply", "--only", "kubernetes", "--yes"))
            if size < LARGE:
                costs[ONE][1].append(theirs.kubectl("apply"))
        versions = ours.versions()
    least, objects = floor(size)
    lines = [row(what, *both, size) for what, both in costs.items()]
    lines.append(f"| {size} | (floor of a first apply: {objects} objects) | {least:.2f} | - | - | - |")
    lines.append(f"| {size} | (render; load when this size began: {load}) | {rendering[0]:.2f} | - | - | - |")
    return lines, {what: middle(both[0], 0) for what, both in costs.items()} | {"floor": least}, versions


def growth(found: Mapping[int, Mapping[str, float]]) -> list[str]:
    """What each further tenant costs us, between two sizes: the same everywhere where cost is linear."""
    sizes = sorted(found)
    lines = ["", "| ms per further tenant | " + " | ".join([FIRST, "plan", ONE, "floor"]) + " |", "|---" * 5 + "|"]
    for low, high in pairwise(sizes):
        each = [(found[high][what] - found[low][what]) / (high - low) * 1e3 for what in (FIRST, SAME, ONE, "floor")]
        lines.append(f"| {low} to {high} | " + " | ".join(f"{value:.1f}" for value in each) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", nargs="*", type=int, default=[4, 100, 500])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    lines = [
        "| tenants | what | meshwright s min / median / max | kubectl s | kubectl / meshwright | clients' CPU s |",
        "|---" * 6 + "|",
    ]
    found: dict[int, dict[str, float]] = {}
    for size in options.sizes:
        more, found[size], versions = measure(size, options.rounds if size < LARGE else 1)
        lines += more
        record("The cluster, beside kubectl", [versions, "", *lines, *growth(found)])


if __name__ == "__main__":
    main()
