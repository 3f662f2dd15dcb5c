"""Where the programs of a control plane are: KUBEBUILDER_ASSETS, PATH, or the folder where build.py puts them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from meshwright.errors import LabError

VERSION = "v1.36.3"
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
NODE = ("kube-scheduler", "kube-proxy", "kubelet")


@dataclass(frozen=True, slots=True)
class Programs:
    """Programs that are there, by name."""

    paths: Mapping[str, Path]

    def __getitem__(self, name: str) -> str:
        return str(self.paths[name])


def cache() -> Path:
    """Where everything that is had for the cluster is kept (XDG base directories: cache), by Kubernetes' version."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return root / "meshwright" / "kubernetes" / VERSION


def folders() -> list[Path]:
    """Where programs are looked for, first to last."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    path = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"
    return [Path(p) for p in [assets, *path.split(":")] if Path(p).is_absolute()] + [cache() / "bin"]


def look(names: Iterable[str]) -> dict[str, Path]:
    """Those of the programs that are there."""
    path = ":".join(map(str, folders()))
    return {name: Path(found) for name in names if (found := shutil.which(name, path=path))}


def find(names: Iterable[str] = CONTROL_PLANE) -> Programs:
    """All of these programs. LabError names those that are missing."""
    wanted = tuple(names)
    found = look(wanted)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise LabError(
            f"not installed: {', '.join(missing)}", "run script/cluster: it builds or fetches what is missing"
        )
    return Programs(found)
