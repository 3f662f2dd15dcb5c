"""What every benchmark shares: CPU of a child, interleaved pairs, the machine's state, one results file.

    from harness import cpu, ratio_table, record

Figures are ratios inside one run: two machines, or one machine at two hours, compare by ratio only.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
ROOT = Path(__file__).resolve().parent.parent
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]


def cpu(argv: Sequence[str], stdin: bytes = b"") -> tuple[float, float]:
    """CPU seconds (user + system) and wall seconds of one run of a program and its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(argv, input=stdin, capture_output=True, timeout=900, env=ENV, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 2):
        sys.exit(f"{' '.join(argv)}: {done.returncode}: {done.stderr.decode()[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def interleaved(pairs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every measurement once per round, in turn, so that drift of the machine meets all alike."""
    out: dict[str, list[float]] = {name: [] for name in pairs}
    for _ in range(rounds):
        for name, measure in pairs.items():
            out[name].append(measure())
    return out


def row(name: str, values: Sequence[float], floor: Sequence[float], scale: float = 1e3) -> str:
    """A line of a table: min/median/max (in ms by default) and the median ratio to the floor."""
    low, middle, high = (f(values) * scale for f in (min, statistics.median, max))
    ratio = statistics.median(a / b for a, b in zip(values, floor, strict=True))
    return f"| {name} | {low:.3g} / {middle:.3g} / {high:.3g} | {ratio:.3g} |"


def record(title: str, lines: Sequence[str]) -> None:
    """Print a section and put it into RESULTS.md in place of its last version."""
    load = Path("/proc/loadavg").read_text().split()[:2]
    head = f"## {title}"
    about = (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, kernel {platform.release()}, "
        f"Python {platform.python_version()}, load {load[0]} (1 min) {load[1]} (5 min)"
    )
    section = "\n".join([head, "", about, "", *lines, ""])
    print(section)
    text = RESULTS.read_text() if RESULTS.exists() else "# Benchmark results\n"
    parts = text.split("\n## ")
    kept = [parts[0].rstrip()] + [f"## {p.rstrip()}" for p in parts[1:] if not p.startswith(f"{title}\n")]
    RESULTS.write_text("\n\n".join([*kept, section]).rstrip() + "\n")
