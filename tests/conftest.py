"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

import booted
import controlplane
from controlplane import ControlPlane
from meshwright.io.host import Namespace
from support import machine

# A background job of a shell is born deaf to ^C, one of nohup to a hangup, and so would be all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long an example takes, or is thought up for, is the machine's affair.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# What has a Kubernetes node, whose tests look at the whole machine: one file of these after the other.
NODE = ("tests/node/", "tests/cli/test_lab_kubernetes.py", "tests/observed/")


class OneNode(LoadFileScheduling):
    """Two files at a time, but never two with a node."""

    def _split_scope(self, nodeid: str) -> str:
        return "a node" if nodeid.startswith(NODE) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return OneNode(config, log)


@pytest.fixture
def hub_host() -> Iterator[Namespace]:
    """A fresh machine in namespaces: nothing in /etc/wireguard, /etc/meshwright, /etc/systemd/system or /run."""
    with machine() as host:
        yield host


@pytest.fixture(scope="session")
def cluster() -> Iterator[ControlPlane]:
    """A real API server. Tests share it: each cleans up after itself, or uses names of its own."""
    with controlplane.running() as plane:
        yield plane


@pytest.fixture(scope="module")
def booted_hub() -> Iterator[booted.Hub]:
    """A hub with real systemd and sshd, without anything of ours, for the tests of one file."""
    with booted.site() as site, booted.hub(site) as hub:
        yield hub


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite expected texts; then read the diff")


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update"))
