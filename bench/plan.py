"""From file to plan at 4, 100, 1 000 and 10 000 peers: CPU of each step, and of the whole program's `check`.

    python bench/plan.py [SIZES...]        Aim: load + check + plan under 1 s of CPU at 10 000 peers.

The state to compare with is the wanted one with one peer's rights changed, as after one edit of the file: reading a
hub is measured in bench/device.py. The floor is json.loads of the same data.
"""

from __future__ import annotations

import gc
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import meshes
from harness import ENV, record

SIZES = [int(word) for word in sys.argv[1:] if word.isdigit()] or [4, 100, 1000, 10000]
REPEAT = 3


def steps(path: Path) -> dict[str, float]:
    """Run in a child: CPU seconds of each step."""
    from meshwright import discover
    from meshwright.desired.resource import Resource
    from meshwright.desired.state import known, state
    from meshwright.plan import plan
    from meshwright.spec import load

    gc.disable()  # as the program's entry point does
    marks = {"start": time.process_time()}
    loaded = load.load(path)
    marks["load + check"] = time.process_time()
    wanted = state(loaded.mesh, discover.read(loaded.mesh, {}))
    marks["wanted"] = time.process_time()
    actual = {
        id: Resource(id, json.loads(json.dumps(r.attrs, default=lambda u: f"key-{u.id}"))) for id, r in wanted.items()
    }
    victim = next(id for id in actual if id.startswith("hub/rights/"))
    actual[victim] = Resource(victim, {"saved": None, "live": None})
    marks["(world)"] = time.process_time()
    todo = plan.make(known(wanted, actual), actual)
    marks["plan"] = time.process_time()
    assert len(todo.changes) == 1, [c.id for c in todo.changes][:5]
    names = list(marks)
    return {b: marks[b] - marks[a] for a, b in itertools.pairwise(names) if b != "(world)"}


def main() -> None:
    lines = [
        "| peers | "
        + " | ".join(["load + check", "wanted", "plan", "sum", "json.loads of the same", "sum / json"])
        + " |"
    ]
    lines.append("|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            path = Path(folder) / f"{size}.yaml"
            path.write_text(meshes.text(size))
            runs = [
                json.loads(
                    subprocess.run(
                        [sys.executable, __file__, "--steps", str(path)],
                        env=ENV,
                        capture_output=True,
                        check=True,
                        timeout=600,
                    ).stdout
                )
                for _ in range(REPEAT)
            ]
            lines.append(line(size, runs))
    record("From file to plan (CPU ms, least of 3 runs)", lines)


def line(size: int, runs: list[dict[str, float]]) -> str:
    best = {name: min(run[name] for run in runs) * 1e3 for name in runs[0]}
    floor = best.pop("floor")
    total = sum(best.values())
    cells = [*(f"{value:.1f}" for value in best.values()), f"{total:.1f}", f"{floor:.2f}", f"{total / floor:.0f}"]
    return f"| {size} | " + " | ".join(cells) + " |"


def floor(path: Path) -> float:
    import yaml

    text = json.dumps(yaml.load(path.read_text(), Loader=yaml.CBaseLoader))
    start = time.process_time()
    json.loads(text)
    return time.process_time() - start


if sys.argv[1:2] == ["--steps"]:
    place = Path(sys.argv[2])
    print(json.dumps({**steps(place), "floor": floor(place)}))
else:
    main()
