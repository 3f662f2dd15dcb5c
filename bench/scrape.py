"""What one scrape costs: our exporter, prometheus_wireguard_exporter 3.6.6 and, as the floor, `wg show IF dump`.

    python bench/scrape.py [PEERS...]        as root; 4, 1000, 10000 and 60000 in less than 10 minutes
    WIREGUARD_GO=PATH EXPORTER=PATH          a device other than wireguard-go of PATH; exporter 3.6.6

One device by wireguard-go, every peer with a preshared key, an endpoint and one address; nobody has been there, which
saves our page a line per peer. Ours is the listener of the service alone, asked over HTTP like the other; it would show
a page of the last second again, so here it may not. CPU: the exporter and the programs it runs, by the kernel's own
account. All take turns in every round. Then the mesh's table of nft is loaded, ours is measured again, and beside it
what the kernel alone needs to list the counted sets, and what nft needs.
Exporter 3.6.6 is asked in turn up to 1 000 peers and once at 10 000 (its cost is quadratic), not at 60 000.
Aims: at most 1.3 times the CPU of the floor up to 10 000 peers, 1.6 times at 60 000; growth like the floor's.
"""

from __future__ import annotations

import binascii
import contextlib
import http.client
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import meshes
from harness import ENV, ROOT, record
from meshwright.hubd.firewall import nft
from meshwright.hubd.kernel import counters, device
from nets import daemon, inside, machine, must

SIZES = [int(word) for word in sys.argv[1:] if word.isdigit()] or [4, 1000, 10000, 60000]
ROUNDS = {4: (9, 40), 1000: (9, 5), 10000: (7, 2), 60000: (5, 1)}  # rounds, and scrapes in each
IF, TABLE = "wg1", "many"
OURS_PORT, THEIRS_PORT = 9587, 9586
OURS = """
import sys, time
from meshwright.hubd.metrics import scrape
from meshwright.hubd.service import metrics
scrape.YOUNG = scrape.SHARE = 0.0
listener = metrics.Metrics(*sys.argv[1:], print)
while True:
    listener.look()
    time.sleep(60)
"""
FLOOR, US, THEM = "`wg show IF dump`", "ours", "exporter 3.6.6"
KERNEL, NFT = "the kernel's part of the table", "`nft list` of the same sets"
SETS = [name + family for name in (*counters.ATTEMPTED, *counters.DENIED) for family in counters.WIDTH]
Figures = dict[str, list[float]]


# -- inside the hub


def load(count: int) -> int:
    """Give the device its peers; a hundred to a request."""
    for start in range(0, count, 100):
        lines = ["set=1"]
        for n in range(start, min(start + 100, count)):
            key = binascii.a2b_base64(meshes.nobodys_key(n)).hex()
            shared = binascii.a2b_base64(meshes.nobodys_key(-n - 1)).hex()
            lines += [f"public_key={key}", f"preshared_key={shared}", f"endpoint=192.0.2.{n % 250 + 1}:{n % 60000 + 1}"]
            lines += [f"allowed_ip={meshes.address(n)}/32"]
        assert device.ask(IF, "\n".join([*lines, "", ""]).encode()) is not None
    live = device.wireguard(IF)
    return len(live.peers if live else ())


def table(count: int) -> None:
    sources = {
        f"{meshes.address(n)}/32": {"peer": f"peer{n}", "allow": [f"192.168.20.0/24 tcp {8000 + n % 10}"]}
        for n in range(count)
    }
    made = {"name": TABLE, "interface": IF, "mark": 1 << 20, "format": nft.FORMAT, "hub": [], "masquerade": []}
    commands = {"nftables": nft.create({**made, "inbound": [], "sources": sources})}
    subprocess.run(["nft", "-j", "-f", "-"], input=json.dumps(commands).encode(), check=True, timeout=300)


def settings(count: int) -> None:
    """The exporter's settings, where the service looks for them."""
    peers = {f"peer{n}": {"public_key": meshes.nobodys_key(n), "always_on": False} for n in range(count)}
    texts = dict.fromkeys(("token_sha256", "certificate", "key"), "")
    path = Path(f"/var/lib/meshwright/{TABLE}/exporter.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": 1, "address": "127.0.0.1", "port": OURS_PORT, **texts, "peers": peers}))
    path.chmod(0o600)


@contextlib.contextmanager
def server(*argv: str) -> Iterator[int]:
    """A program until the block ends -> its process id."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENV)
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait(10)


def get(port: int, patience: float = 120) -> int:
    """Bytes of one page."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    link.request("GET", "/metrics")
    answer = link.getresponse()
    body = answer.read()
    link.close()
    assert answer.status == 200, body[:200]
    return len(body)


def ready(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            get(port)
            return
        time.sleep(0.05)
    sys.exit(f"nothing answers at port {port}")


def used(pid: int) -> float:
    """CPU seconds of a process and of the programs that it ran and that have ended."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = sum(map(int, words[13:15])) / os.sysconf("SC_CLK_TCK")
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return children + sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def memory(pid: int) -> tuple[int, int]:
    """RSS and its peak in KiB."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]), int(lines["VmHWM"].split()[0])


def child(*argv: str) -> tuple[float, int]:
    """A program to its end -> its CPU seconds, the bytes it printed."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out)
        _, code, use = os.wait4(process.pid, 0)
        process.returncode = code
        assert code == 0, argv
        return use.ru_utime + use.ru_stime, out.tell()


def asked(pid: int, port: int) -> Callable[[], tuple[float, float, int]]:
    def measure() -> tuple[float, float, int]:
        before, begun = used(pid), time.perf_counter()
        size = get(port)
        return used(pid) - before, time.perf_counter() - begun, size

    return measure


def floor() -> tuple[float, float, int]:
    begun = time.perf_counter()
    cpu, size = child("wg", "show", IF, "dump")
    return cpu, time.perf_counter() - begun, size


def listing() -> tuple[float, float, int]:
    """The kernel's part: every element of the counted sets comes over, and is thrown away."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    size = sum(len(part) for name in SETS for part in counters.elements(TABLE, name))
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - begun, size


def by_nft() -> tuple[float, float, int]:
    begun = time.perf_counter()
    found = [child("nft", "list", "map" if "denied" not in name else "set", "inet", TABLE, name) for name in SETS]
    return sum(cpu for cpu, _ in found), time.perf_counter() - begun, sum(size for _, size in found)


def turns(ways: dict[str, Callable[[], tuple[float, float, int]]], count: int) -> dict[str, Figures]:
    """Every way in every round; a round's figure is the mean of its scrapes."""
    rounds, repeats = ROUNDS.get(count, (5, 1))
    out: dict[str, Figures] = {name: {"cpu": [], "wall": [], "bytes": []} for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found = [way() for _ in range(repeats)]
            for figure, values in zip(("cpu", "wall", "bytes"), zip(*found, strict=True), strict=True):
                out[name][figure].append(sum(values) / repeats)
    return out


def measure(count: int, exporter: str) -> dict[str, Any]:
    """All figures of one size."""
    settings(count)
    out: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        source = f"import sys; sys.path[:0] = [{str(ROOT / 'src')!r}]\n{OURS}"
        ours = stack.enter_context(server(sys.executable, "-I", "-S", "-c", source, IF, TABLE))
        ready(OURS_PORT)
        ways = {FLOOR: floor, US: asked(ours, OURS_PORT)}
        theirs = 0
        if exporter and count <= 10000:
            theirs = stack.enter_context(server(exporter, "-i", IF, "-l", "127.0.0.1", "-p", str(THEIRS_PORT)))
            if count <= 1000:
                ready(THEIRS_PORT)
                ways[THEM] = asked(theirs, THEIRS_PORT)
        out["without"] = turns(ways, count)
        if theirs and count > 1000:
            time.sleep(1)
            cpu, wall, size = asked(theirs, THEIRS_PORT)()
            out["without"][THEM] = {"cpu": [cpu], "wall": [wall], "bytes": [size]}
        out["memory"] = {US: memory(ours)}
        if theirs:
            out["memory"][THEM] = memory(theirs)
        table(count)
        get(OURS_PORT)
        ways = {FLOOR: floor, US: asked(ours, OURS_PORT), KERNEL: listing}
        out["with"] = turns(ways, count)
        cpu, wall, size = by_nft()
        out["with"][NFT] = {"cpu": [cpu], "wall": [wall], "bytes": [size]}
        out["memory with"] = {US: memory(ours)}
    return out


# -- outside


def spread(values: Sequence[float]) -> str:
    return " / ".join(f"{f(values) * 1e3:.3g}" for f in (min, statistics.median, max))


def ratio(values: Sequence[float], base: Sequence[float]) -> float:
    pairs = zip(values, base, strict=True) if len(values) == len(base) else [(values[0], statistics.median(base))]
    return statistics.median(a / b for a, b in pairs)


def rows(count: int, found: dict[str, Any]) -> Iterator[str]:
    for phase in ("without", "with"):
        base = found[phase][FLOOR]["cpu"]
        for name, figures in found[phase].items():
            held = found["memory" if phase == "without" else "memory with"].get(name)
            kept = f"{held[0] / 1024:.0f} / {held[1] / 1024:.0f}" if held else "-"
            yield (
                f"| {count} | {phase} | {name} | {spread(figures['cpu'])} | {ratio(figures['cpu'], base):.2f} "
                f"| {spread(figures['wall'])} | {kept} | {figures['bytes'][-1]:.0f} |"
            )


def growth(found: dict[int, dict[str, Any]]) -> Iterator[str]:
    """How CPU grows from size to size, beside the peers."""
    sizes = [size for size in sorted(found) if size >= 1000]
    for small, large in itertools.pairwise(sizes):
        for phase, name in (("without", FLOOR), ("without", US), ("with", US), ("with", KERNEL)):
            cpu = [statistics.median(found[size][phase][name]["cpu"]) for size in (small, large)]
            yield f"| {small} to {large}: x {large / small:.0f} | {phase} | {name} | x {cpu[1] / cpu[0]:.1f} |"


def version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30).stdout.splitlines()
    return said[0] if said else program


def main() -> None:
    wireguard_go = os.environ.get("WIREGUARD_GO", "wireguard-go")
    exporter = os.environ.get("EXPORTER", "")
    lines = [
        f"{version(wireguard_go)}; CPU and wall in ms, min / median / max; memory in MiB, RSS / peak.",
        "",
        "| peers | table | what | CPU | of floor | wall | memory | bytes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found: dict[int, dict[str, Any]] = {}
    for count in SIZES:
        with machine("hub") as hub, daemon(hub, [wireguard_go, "-f", IF], LOG_LEVEL="error", WG_PROCESS_FOREGROUND="1"):
            must(hub, f"for i in $(seq 100); do [ -S /run/wireguard/{IF}.sock ] && exit; sleep 0.05; done; exit 1")
            must(hub, f"ip link set {IF} up")
            assert inside(hub, __file__, "load", count) == count
            found[count] = inside(hub, __file__, "measure", count, exporter, timeout=900)
        lines += rows(count, found[count])
        print(*rows(count, found[count]), sep="\n", flush=True)
    if len([size for size in found if size >= 1000]) > 1:
        lines += ["", "| peers | table | what | CPU |", "|---|---|---|---|", *growth(found)]
    record("One scrape", lines)


if sys.argv[1:] == ["--inside"]:
    name, *arguments = json.load(sys.stdin)
    functions: dict[str, Callable[..., Any]] = {"load": load, "measure": measure}
    print(json.dumps(functions[name](*arguments)))
else:
    main()
