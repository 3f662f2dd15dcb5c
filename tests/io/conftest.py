"""Who we are in the tests of the connection, and what may stand in the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import between
from between import Between
from controlplane import ControlPlane
from meshwright.io.cluster import Cluster
from meshwright.lab.cluster import kubeconfig

HOME = "io-home"


@pytest.fixture(scope="session")
def home(cluster: ControlPlane) -> Iterator[str]:
    """A namespace with a ServiceAccount `boss` that may do everything in the cluster."""
    cluster.kubectl("create", "namespace", HOME)
    cluster.kubectl("create", "serviceaccount", "boss", "-n", HOME)
    binding = ("create", "clusterrolebinding", "io-boss", "--clusterrole=cluster-admin")
    cluster.kubectl(*binding, f"--serviceaccount={HOME}:boss")
    yield HOME
    cluster.kubectl("delete", "clusterrolebinding", "io-boss")
    cluster.kubectl("delete", "namespace", HOME, "--wait=false")


@pytest.fixture(scope="session")
def boss(cluster: ControlPlane, home: str) -> str:
    """A token of `boss`."""
    return cluster.token(home, "boss")


@pytest.fixture
def way(cluster: ControlPlane, tmp_path: Path) -> Iterator[Between]:
    with between.between(cluster, tmp_path / "between") as server:
        yield server


@pytest.fixture
def through(cluster: ControlPlane, way: Between, boss: str, tmp_path: Path) -> Iterator[Cluster]:
    """As `boss`, through `way`; impatient."""
    path = tmp_path / "kubeconfig-through"
    kubeconfig.write(path, way.url, cluster.ca, {"token": boss})
    client = Cluster(None, path, patience=2)
    yield client
    client.close()
