"""Where the programs of a control plane are: KUBEBUILDER_ASSETS, PATH, or the folder where build.py puts them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache as kept
from hashlib import sha256
from pathlib import Path

from meshwright.errors import HostError, LabError
from meshwright.io import process
from meshwright.lab.state import home

VERSION = "v1.36.3"
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
NODE = ("kube-scheduler", "kube-proxy", "kubelet")
# what pins everything that is built or fetched: changed, it is another folder
SOURCES = Path(__file__).parent / "kube"
# older ones on PATH are passed over: ValidatingAdmissionPolicy is stable since 1.30, and needs an etcd of its time
OLDEST = {"etcd": (3, 5), "kubectl": (1, 25)}
OLDEST_KUBERNETES = (1, 30)


@dataclass(frozen=True, slots=True)
class Programs:
    """Programs that are there, by name."""

    paths: Mapping[str, Path]

    def __getitem__(self, name: str) -> str:
        return str(self.paths[name])


def base() -> Path:
    """Where everything that is had for clusters is kept (XDG base directories: cache)."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(given) if Path(given).is_absolute() else home() / ".cache"
    return root / "meshwright" / "kubernetes"


@kept
def key() -> str:
    """The version, and a hash of what it is made from."""
    digest = sha256()
    for path in sorted(p for p in SOURCES.rglob("*") if p.is_file()):
        digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{VERSION}-{digest.hexdigest()[:12]}"


def own() -> Path:
    """The folder of the programs that build.py made or fetched."""
    return base() / key() / "bin"


def crds() -> Path:
    """The folder of the Prometheus operator's CustomResourceDefinitions, one YAML file each."""
    return base() / key() / "crds"


def look(names: Iterable[str]) -> dict[str, Path]:
    """Those of the programs that are there."""
    return {name: found for name in names if (found := _first(name))}


def _first(name: str) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    path = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"
    if assets and (chosen := shutil.which(name, path=assets)):
        return Path(chosen)
    if (found := shutil.which(name, path=path)) and new_enough(name, found):
        return Path(found)
    built = own() / name
    return built if os.access(built, os.X_OK) else None


@kept
def new_enough(name: str, path: str) -> bool:
    """Whether a program says that it is of a release that will do."""
    argv = [path, "version", "--client"] if name == "kubectl" else [path, "--version"]
    try:
        done = process.run(argv, timeout=30)
    except HostError:
        return False
    found = re.search(rb"\bv?(\d+)\.(\d+)\.\d+", done.out)
    return bool(found) and (int(found[1]), int(found[2])) >= OLDEST.get(name, OLDEST_KUBERNETES)  # type: ignore[index]


def find(names: Iterable[str] = CONTROL_PLANE) -> Programs:
    """All of these programs. LabError names those that are missing."""
    wanted = tuple(names)
    found = look(wanted)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise LabError(f"not here: {', '.join(missing)}", "run script/cluster: it builds or fetches what is missing")
    return Programs(found)
