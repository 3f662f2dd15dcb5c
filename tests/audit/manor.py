"""The small mesh on a real API server, with networks and policy tests; and how the cluster's checks look at it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshwright import discover
from meshwright.events import Checked
from meshwright.spec.model import Mesh
from meshwright.verify import checks, pods, standing
from tenancy import House, eventually

TESTS = (
    {"from": "ann", "to": "nodes", "port": "22/tcp", "expect": "deny"},
    {"from": "peers", "to": "nodes", "expect": "deny"},
    {"from": "ben", "to": "pods", "expect": "deny"},
    {"from": "ann", "to": "nodes", "port": "443/tcp", "expect": "allow"},
)


class Manor(House):
    @property
    def mesh(self) -> Mesh:
        raw = super().mesh.model_dump(by_alias=True, mode="json", exclude_unset=True)
        routes = {"nodes": "192.168.20.0/24", "pods": "10.42.0.0/16", "services": "10.43.0.0/16"}
        raw["network"]["routes"] = routes
        raw["policy"] = {"tests": [test for test in TESTS if test["from"] not in self.out]}
        return Mesh.model_validate(raw)

    def pods(self) -> dict[str, Checked]:
        """What pods.checks says, by name."""
        return self._said("pods")

    def standing(self) -> dict[str, Checked]:
        """What standing.checks says, by name."""
        return self._said("standing")

    def _said(self, which: str) -> dict[str, Checked]:
        look = {"pods": pods.checks, "standing": standing.checks}[which]
        with self.connected() as to:
            mesh = self.mesh
            found = list(look(mesh, discover.read(mesh, {}, to, self.now), to))
        assert len({check.name for check in found}) == len(found), "each has a name of its own"
        return {check.name: check for check in found}

    def converged(self) -> Checked:
        """What verify says of the cluster as a whole."""
        with self.connected() as to:
            (check,) = checks.converged(["kubernetes"], self.plan(to))
        return check

    def token(self, friend: str) -> str:
        return self.control.token(f"{self.name}-access", f"peer-{friend}")

    def without_admission(self, friend: str, token: str) -> None:
        """The policies of the mesh no longer judge anybody: what a friend may do then is what `admin` lets him do."""
        label = f"meshwright.io/mesh={self.name}"
        self.run("delete", "validatingadmissionpolicybindings", "-l", label)
        probe = ("label", "networkpolicy", "meshwright-dns", "probe=x", "--overwrite", "--dry-run=server")
        eventually(lambda: self.run(*probe, "-n", self.space(friend), token=token).returncode == 0)


def faults(found: dict[str, Checked]) -> list[str]:
    """The names of those that failed."""
    return names(check for check in found.values() if not check.ok)


def names(found: Iterable[Checked]) -> list[str]:
    return [check.name for check in found]


def network_policy(name: str, **spec: Any) -> dict[str, Any]:
    made = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}}
    return {**made, "spec": {"podSelector": {}, **spec}}
