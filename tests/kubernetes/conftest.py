"""Who applies in these tests, and what may stand between him and the API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import pytest
from specimen import Specimen, specimen

import between
from between import Between
from controlplane import ControlPlane
from meshwright.io.cluster import Cluster
from meshwright.lab.cluster import kubeconfig

OPERATORS = "provider-operators"


@pytest.fixture
def home(cluster: ControlPlane, request: pytest.FixtureRequest) -> Iterator[Specimen]:
    """A specimen of the test's own."""
    number = crc32(request.node.nodeid.encode()) % 10**6
    with specimen(cluster, f"trouble{number}") as made:
        yield made


@pytest.fixture(scope="session")
def boss(cluster: ControlPlane) -> str:
    """A token of somebody who may do everything."""
    cluster.kubectl("create", "namespace", OPERATORS)
    cluster.kubectl("create", "serviceaccount", "boss", "-n", OPERATORS)
    who = ("--clusterrole=cluster-admin", f"--serviceaccount={OPERATORS}:boss")
    cluster.kubectl("create", "clusterrolebinding", "provider-boss", *who)
    return cluster.token(OPERATORS, "boss")


@pytest.fixture
def way(cluster: ControlPlane, tmp_path: Path) -> Iterator[Between]:
    with between.between(cluster, tmp_path / "between") as server:
        yield server


@pytest.fixture
def through(cluster: ControlPlane, way: Between, boss: str, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """through(patience): a connection of that somebody's, through `way`."""
    path, made = tmp_path / "kubeconfig-through", []
    kubeconfig.write(path, way.url, cluster.ca, {"token": boss})

    def connection(patience: float = 5) -> Cluster:
        made.append(Cluster(None, path, patience=patience))
        return made[-1]

    yield connection
    for each in made:
        each.close()
