"""The real API server that tests marked `cluster` talk to: one control plane per test session, on loopback."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import pytest

from meshwright.errors import LabError
from meshwright.io import cluster as client
from meshwright.io.cluster import Cluster
from meshwright.lab.cluster import children, kubeconfig, programs
from meshwright.lab.cluster.control import Plane
from meshwright.lab.cluster.programs import Programs

TIMEOUT = 120


class ControlPlane:
    """An API server without nodes. Everybody is the admin, unless a token says otherwise."""

    def __init__(self, plane: Plane, found: Programs) -> None:
        self.plane = plane
        self.programs = found
        self.kubeconfig = plane.kubeconfig
        self.server = plane.server
        self.ca = plane.folder / "pki" / "ca.crt"

    def connect(self) -> Cluster:
        """As the admin."""
        return client.connect(kubeconfig=self.kubeconfig)

    def as_(self, token: str) -> Cluster:
        """As whoever the token speaks for."""
        return client.connect(kubeconfig=self.kubeconfig_of(token))

    def kubeconfig_of(self, token: str, namespace: str = "") -> Path:
        """A kubeconfig with this token and nothing else."""
        mark = sha256(f"{token}/{namespace}".encode()).hexdigest()[:16]
        path = self.plane.folder / f"kubeconfig-{mark}"
        kubeconfig.write(path, self.server, self.ca, {"token": token}, namespace)
        return path

    def token(self, namespace: str, serviceaccount: str) -> str:
        """A fresh token of a ServiceAccount (TokenRequest), for an hour."""
        done = self.kubectl("create", "token", serviceaccount, "-n", namespace, "--duration=1h")
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def kubectl(
        self, *args: str, token: str | None = None, stdin: bytes = b"", program: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run kubectl to its end; the caller judges the code. program: another kubectl than the one that was found."""
        chosen = self.kubeconfig_of(token) if token else self.kubeconfig
        # a cache of its own: discovery must not come from another session's server on the same port
        where = [f"--kubeconfig={chosen}", f"--cache-dir={self.plane.folder / 'kubectl'}"]
        return subprocess.run(
            [program or self.programs["kubectl"], *where, *args],
            input=stdin, capture_output=True, timeout=TIMEOUT, check=False,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.plane.folder)},
        )  # fmt: skip

    @property
    def kubectls(self) -> list[str]:
        """Every kubectl here: the one that was found, and the current one where script/cluster fetched it."""
        current = programs.own() / "kubectl"
        return list(dict.fromkeys([self.programs["kubectl"], *([str(current)] if current.exists() else [])]))

    @property
    def crds(self) -> Path:
        """The Prometheus operator's resource definitions, a folder. Skips where script/cluster did not fetch them."""
        if not programs.crds().exists():
            give_up("the Prometheus operator's resource definitions are not here. Next: run script/cluster")
        return programs.crds()

    def install_crds(self, *plurals: str) -> None:
        """Have the Prometheus operator's kinds, or these of them, in the API server; they stay to the session's end."""
        paths = [self.crds / f"monitoring.coreos.com_{plural}.yaml" for plural in plurals] or [self.crds]
        files = [word for path in paths for word in ("-f", str(path))]
        done = self.kubectl("apply", "--server-side", *files)
        assert done.returncode == 0, done.stderr.decode()
        # an old kubectl cannot wait while there is no condition at all
        waits = (self.kubectl("wait", "--for=condition=Established", "--timeout=60s", *files) for _ in range(20))
        assert any(done.returncode == 0 for done in waits)


def give_up(reason: str) -> NoReturn:
    """The tests want something that is missing: they are skipped, and in CI they fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"the cluster tests must run in CI: {reason}")
    pytest.skip(f"THE CLUSTER TESTS DID NOT RUN: {reason}")


@cache
def obstacle() -> str:
    """Why there can be no control plane here, in one line; empty when there can."""
    try:
        programs.find()
    except LabError as error:
        return f"{error.message}. Next: {error.hint}"
    return ""


@contextmanager
def running() -> Iterator[ControlPlane]:
    """A control plane, gone afterwards. Skips where its programs are missing, and fails there in CI."""
    if reason := obstacle():
        give_up(reason)
    found = programs.find()
    with (
        tempfile.TemporaryDirectory(prefix="meshwright-cluster-") as folder,
        children.loopback(Path(folder) / "plane", found) as plane,
    ):
        yield ControlPlane(plane, found)
