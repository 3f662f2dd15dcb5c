"""The programs that watch in these tests: Prometheus, its operator and exporter 3.6.6, built once and kept.

As a program (script/observed calls it): builds what is missing, ahead of the tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from meshwright.errors import LabError, MeshwrightError
from meshwright.events import Event, Started, Tell, silent
from meshwright.lab.cluster import build, programs

PINS = Path(__file__).parent / "programs"
OPERATOR = "prometheus-operator-0.85.0"
PACKAGE = "github.com/prometheus-operator/prometheus-operator/cmd/operator"
# Debian's finds nothing in a cluster: it is built without this. The module's number for 3.5.0.
PROMETHEUS, PROMETHEUS_VERSION = "prometheus-3.5.0", "v3.5.0"
MODULE = "github.com/prometheus/prometheus"
CRATE, VERSION = "prometheus_wireguard_exporter", "3.6.6"
# of the crate as crates.io has it; its own Cargo.lock pins all that it is made from
SHA256 = "efef0a253801afc9c64cabfcefd1b9242df008b3ff64d4f395a5b705d2c6093b"
EXPORTER = f"{CRATE}-{VERSION}"
AGAIN = "run script/observed again: it goes on where it stopped"
CARGO = (1, 70)  # older ones want the whole index of crates.io as a git repository


def folder() -> Path:
    """Where they are kept; another pin is another folder."""
    digest = sha256(SHA256.encode())
    for path in sorted(PINS.glob("*/*")):
        digest.update(path.relative_to(PINS).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return programs.base() / f"watchers-{digest.hexdigest()[:12]}"


def operator() -> Path:
    return folder() / OPERATOR


def exporter() -> Path:
    return folder() / EXPORTER


def prometheus() -> Path:
    return folder() / PROMETHEUS


def missing() -> list[str]:
    """What is not here."""
    return [path.name for path in (operator(), prometheus(), exporter()) if not os.access(path, os.X_OK)]


def everything(tell: Tell = silent) -> None:
    """Build what is missing; what was begun is gone on with. LabError when that fails."""
    if not operator().exists():
        build.foreign(PINS / "operator", PACKAGE, operator(), tell)
    if not prometheus().exists():
        build.foreign(PINS / "prometheus", ".", prometheus(), tell, _prometheus)
    if not exporter().exists():
        _exporter(tell)


def _prometheus(folder: Path, module: Callable[[str], Path]) -> None:
    """Its main package with one line changed: of all that can be discovered, only what a cluster has. The rest is the
    clouds' libraries, and most of the time that building takes.
    """
    text = (module(MODULE) / "cmd/prometheus/main.go").read_text()
    every, only = f'_ "{MODULE}/plugins"', f'_ "{MODULE}/discovery/kubernetes"'
    assert text.count(every) == 1
    (folder / "main.go").write_text(text.replace(every, only))


def _exporter(tell: Tell) -> None:
    with build.turn(tell), build.workshop(EXPORTER) as shop:
        if exporter().exists():
            return
        what = f"building exporter {VERSION}"
        argv = ["nice", "-n", "10", cargo(), "install", "--locked", CRATE, "--version", VERSION]
        argv += ["--root", str(shop / "root"), "--target-dir", str(shop / "target")]
        # nothing of the user's own cargo is used or changed
        env = {"CARGO_HOME": str(shop / "home"), "CARGO_TERM_COLOR": "never", "RUSTFLAGS": ""}
        code, log = build.long(argv, env, shop / "log", what, tell)
        if code:
            last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise LabError(
                f"{what} failed: {last[:300]}", f"check network and disk, then {build.AGAIN}; the log: {log}"
            )
        (crate,) = (shop / "home/registry/cache").glob(f"*/{EXPORTER}.crate")
        if sha256(crate.read_bytes()).hexdigest() != SHA256:
            raise LabError(f"{crate} is not what was reviewed", "compare it with SHA256 in tests/observed/watchers.py")
        exporter().parent.mkdir(parents=True, exist_ok=True)
        (shop / "root/bin" / CRATE).rename(exporter())


def cargo() -> str:
    """A cargo that is new enough. LabError says how one is had."""
    known = shutil.which("cargo")
    said = subprocess.run([known, "--version"], capture_output=True, text=True, timeout=60).stdout if known else ""
    found = re.match(r"cargo (\d+)\.(\d+)", said)
    if not known or not found or (int(found[1]), int(found[2])) < CARGO:
        raise LabError(
            f"exporter {VERSION} is built with cargo {CARGO[0]}.{CARGO[1]} or newer; here is {said.strip() or 'none'}",
            "run script/observed as root, or install Debian's package cargo-web (Debian 12) or cargo (later ones)",
        )
    return known


def main() -> int:
    def tell(event: Event) -> None:
        if isinstance(event, Started):
            print(event.what, flush=True)

    try:
        everything(tell)
    except MeshwrightError as error:
        print(f"error: {error.message}\nnext: {error.hint}", file=sys.stderr)
        return error.exit_code
    print("The programs that watch are in place.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
