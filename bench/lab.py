"""The lab: up, the probe matrix, down; beside an earlier prototype of it, and with more peers.

    python bench/lab.py [PEERS...] [--prototype FOLDER]        as root or not; some minutes

`up` is the whole command: hosts, the product's own apply, every peer's tunnel. With --prototype the reference mesh
takes turns with the lab.py and matrix.py of that folder (left out without it). Memory is the sum over all processes of
the lab: PSS counts a shared page once, RSS as often as it is mapped. Aim: no slower than the prototype. Where
wireguard-go carries the tunnels, 200 peers need fs.inotify.max_user_instances (sysctl) of 418 or more.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import meshes
from harness import ENV, ROOT, record

NUMBERS = [int(word) for word in sys.argv[1:] if word.isdigit()] or [4, 50, 200]
PROTOTYPE = Path(sys.argv[sys.argv.index("--prototype") + 1]).resolve() if "--prototype" in sys.argv else None
ROUNDS = 3
KEYS = ("up", "matrix", "probes", "down", "processes", "pss", "rss")


def run(argv: list[str], **variables: str) -> tuple[float, str]:
    """(wall seconds, what it printed)"""
    with tempfile.TemporaryFile() as out:  # no pipe: what stays running keeps its ends
        start = time.perf_counter()
        done = subprocess.run(
            argv, env={**ENV, **variables}, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=900, check=False
        )
        wall = time.perf_counter() - start
        out.seek(0)
        said = out.read().decode()
    if done.returncode:
        sys.exit(f"{' '.join(argv)}: {said[-2000:]}")
    return wall, said


def weigh(first: int) -> dict[str, float]:
    """Number and MiB of the processes in the pid namespace whose process 1 is `first`."""
    inside = os.readlink(f"/proc/{first}/ns/pid")
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.readlink(folder / "ns/pid") == inside:
                found.append((folder / "smaps_rollup").read_text())
        except OSError:  # it ended meanwhile, or is not ours
            continue
    sums = {key: sum(map(int, re.findall(rf"^{key}:\s+(\d+)", "".join(found), re.M))) / 1024 for key in ("Pss", "Rss")}
    return {"processes": len(found), "pss": sums["Pss"], "rss": sums["Rss"]}


def ours(file: Path, home: str) -> dict[str, float]:
    program = [sys.executable, "-m", "meshwright", "--file", str(file), "lab"]
    up, said = run([*program, "up", "-o", "json"], XDG_STATE_HOME=home)
    try:
        name = json.loads(said[said.index("{") :])["mesh"]
        first = json.loads((Path(home) / "meshwright/lab" / name / "state.json").read_text())["pid"]
        _, seen = run([sys.executable, __file__, "--matrix", str(file)], XDG_STATE_HOME=home)
        return {"up": up, **json.loads(seen), **weigh(first)}
    finally:
        down, _ = run([*program, "down"], XDG_STATE_HOME=home)
        print(f"{file.name}: up {up:.1f} s, down {down:.1f} s", file=sys.stderr)


def matrix(file: Path) -> dict[str, float]:
    """Only the probes of the running lab, all of which must be as the policy says."""
    from meshwright import lab
    from meshwright.events import silent
    from meshwright.lab import matrix as probing
    from meshwright.lab import play
    from meshwright.spec import load

    mesh = load.load(file).mesh
    running = lab.open(lab.directory(mesh.name))
    start = time.perf_counter()
    found = probing.run(running, play.played(mesh), silent)
    seconds = time.perf_counter() - start
    faults = [fault for row in found.rows for cell in row.cells.values() for fault in cell.faults]
    if faults:
        sys.exit(f"the lab is not what the file says: {faults[:3]}")
    return {"matrix": seconds, "probes": found.probes}


def prototype(folder: Path, home: str) -> dict[str, float]:
    where = {"LB_STATE": f"{home}/prototype", "PYTHONDONTWRITEBYTECODE": "1"}
    up, _ = run([sys.executable, str(folder / "lab.py"), "up"], **where)
    try:
        first = json.loads(Path(f"{home}/prototype/lab.json").read_text())["supervisor"]
        _, said = run([sys.executable, str(folder / "matrix.py")], **where)
        probes = re.search(r"(\d+) probes in ([\d.]+) s", said)
        assert probes, said
        return {"up": up, "matrix": float(probes[2]), "probes": int(probes[1]), **weigh(first)}
    finally:
        run([sys.executable, str(folder / "lab.py"), "down"], **where)


def line(name: str, rows: list[dict[str, float]], floor: list[dict[str, float]] | None) -> str:
    def middle(key: str) -> float:
        return statistics.median(row[key] for row in rows)

    def ratio(key: str) -> str:
        if not floor:
            return ""
        return f" ({statistics.median(a[key] / b[key] for a, b in zip(rows, floor, strict=True)):.2f})"

    per_probe = f"{middle('matrix') / middle('probes') * 1e3:.1f}"
    ups = " / ".join(f"{f(row['up'] for row in rows):.1f}" for f in (min, statistics.median, max))
    cells = [ups + ratio("up"), f"{middle('matrix'):.1f}{ratio('matrix')}", f"{middle('probes'):.0f}", per_probe]
    cells += [f"{middle('processes'):.0f}", f"{middle('pss'):.0f}{ratio('pss')}", f"{middle('rss'):.0f}"]
    return f"| {name} | " + " | ".join(cells) + " |"


HEAD = [
    "| what | up s min / median / max | matrix s | probes | ms per probe | processes | PSS MiB | RSS MiB |",
    "|---|---|---|---|---|---|---|---|",
]


def reference(home: str) -> None:
    peers, floor = [], []
    for _ in range(ROUNDS):
        peers.append(ours(ROOT / "examples/homelab/mesh.yaml", home))
        if PROTOTYPE:
            floor.append(prototype(PROTOTYPE, home))
    lines = [line("4 peers" + (" (times the prototype)" if floor else ""), peers, floor or None)]
    record("The lab", [*HEAD, *lines, *([line("an earlier prototype", floor, None)] if floor else [])])


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        if 4 in NUMBERS:
            reference(home)
        for count in (n for n in NUMBERS if n != 4):
            file = Path(home) / f"{count}.yaml"
            file.write_text(meshes.text(count))
            record(f"The lab with {count} peers", [*HEAD, line(f"{count} peers", [ours(file, home)], None)])


if sys.argv[1:2] == ["--matrix"]:
    print(json.dumps(matrix(Path(sys.argv[2]))))
else:
    main()
