"""A small mesh on a real API server, applied as the command does it, and a friend who has made himself at home."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml

from controlplane import ControlPlane
from meshwright import discover
from meshwright.desired import kubernetes
from meshwright.desired.resource import collect
from meshwright.errors import ClusterError
from meshwright.events import silent
from meshwright.io.cluster import Cluster
from meshwright.plan.plan import Plan, make
from meshwright.providers.base import Result
from meshwright.providers.kubernetes import Kubernetes
from meshwright.providers.kubernetes.kinds import TABLE
from meshwright.spec.model import Mesh

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@dataclass
class House:
    """The mesh `name` with friends, each with a namespace NAME-FRIEND. `out`: friends the file does not have.

    settings: more of the file's section `kubernetes`.
    """

    control: ControlPlane
    name: str
    friends: tuple[str, ...] = ("ann", "ben")
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    out: set[str] = field(default_factory=set)
    settings: dict[str, Any] = field(default_factory=dict)
    now: datetime = NOW

    def space(self, friend: str) -> str:
        return f"{self.name}-{friend}"

    @property
    def mesh(self) -> Mesh:
        peers = {
            friend: {"address": f"10.100.1.{n}", "namespace": self.space(friend)} | self.peers.get(friend, {})
            for n, friend in enumerate(self.friends, 1)
            if friend not in self.out
        }
        return Mesh.model_validate(
            {
                "version": 1,
                "name": self.name,
                "hub": {"node": "n", "address": "192.0.2.9", "interface": "wg0", "endpoint": "vpn.example.net:51820"},
                "network": {"cidr": "10.100.0.0/16", "hub": "10.100.0.1"},
                "peers": peers,
                "kubernetes": {
                    "access": {"namespace": f"{self.name}-access"},
                    "reader": f"{self.name}-reader",
                    "deployer": {"name": f"{self.name}-deployer"},
                    "tenant": {"quota": {"cpu": "20", "memory": "20Gi"}},
                }
                | self.settings,
            }
        )

    def plan(self, cluster: Cluster) -> Plan:
        mesh = self.mesh
        wanted = collect(kubernetes.build(mesh, discover.read(mesh, {}, cluster, self.now)))
        return make(wanted, self.provider(cluster).read(wanted))

    def provider(self, cluster: Cluster) -> Kubernetes:
        assert self.mesh.kubernetes
        return Kubernetes(cluster, self.name, self.mesh.kubernetes.access.namespace)

    def apply(self, cluster: Cluster | None = None) -> list[Result]:
        """One plan and one apply: what failed."""
        with self.connected(cluster) as to:
            results = self.provider(to).apply(self.plan(to).changes, silent)
        return [result for result in results if not result.ok]

    def left(self) -> list[str]:
        """What a plan would change."""
        with self.connected() as to:
            return [f"{change.verb} {change.id}" for change in self.plan(to).changes]

    @contextmanager
    def connected(self, cluster: Cluster | None = None) -> Iterator[Cluster]:
        own = cluster or self.control.connect()
        try:
            yield own
        finally:
            if cluster is None:
                own.close()

    def make(self, *manifests: dict[str, Any], token: str | None = None) -> None:
        """Create objects, as the admin or as somebody."""
        text = "\n---\n".join(map(yaml.safe_dump, manifests))
        done = self.control.kubectl("create", "-f", "-", token=token, stdin=text.encode())
        assert done.returncode == 0, done.stderr.decode()

    def run(self, *args: str, token: str | None = None) -> subprocess.CompletedProcess[bytes]:
        return self.control.kubectl(*args, token=token)

    def get(self, friend: str, what: str) -> Any:
        """An object, or a list of objects, of a friend's namespace; None where there is none."""
        done = self.run("get", *what.split("/"), "-n", self.space(friend), "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def names(self, friend: str, kind: str) -> set[str]:
        return {item["metadata"]["name"] for item in self.get(friend, kind)["items"]}

    def gone(self) -> None:
        """Take the mesh off the server; its namespaces end in their own time."""
        label = f"meshwright.io/mesh={self.name}"
        with self.connected() as to:
            for kind in TABLE.values():
                if kind.key == "namespace" or not kind.namespaced:
                    for live in to.list(kind.collection(), label=label):
                        to.delete(f"{kind.collection()}/{live['metadata']['name']}")
            to.delete(f"/api/v1/namespaces/default/serviceaccounts/{self.name}-deployer")


def eventually(what: Callable[[], Any], seconds: float = 30) -> Any:
    """What it says when it first says anything; controllers take their time."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.2)
    return found


def about(kind: str, name: str, api: str = "v1", **body: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **body}


def placed(space: str, *manifests: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**m, "metadata": {**m["metadata"], "namespace": space}} for m in manifests]


def pod_spec(**more: Any) -> dict[str, Any]:
    secure = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    context = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "securityContext": context,
        "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10", "securityContext": secure}],
        **more,
    }


def template(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": name}}, "spec": pod_spec(**more)}


def selected(name: str, **more: Any) -> dict[str, Any]:
    return {"selector": {"matchLabels": {"app": name}}, "template": template(name), **more}


def binding(name: str, account: str, space: str, role: str = "edit", **meta: Any) -> dict[str, Any]:
    made = about(
        "RoleBinding",
        name,
        "rbac.authorization.k8s.io/v1",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        subjects=[{"kind": "ServiceAccount", "name": account, "namespace": space}],
    )
    return {**made, "metadata": {**made["metadata"], **meta}}


def belongings(space: str) -> list[dict[str, Any]]:
    """Everything that a friend may leave running or lying about in his namespace."""
    job = {"template": template("job", restartPolicy="Never")}
    cron = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}}
    return placed(
        space,
        about("ServiceAccount", "robot"),
        binding("robot", "robot", space, labels={"made": "by-hand"}, annotations={"note": "meine Räume"}),
        about("ConfigMap", "settings", data={"a": "b"}),
        about("Secret", "password", stringData={"p": "w"}),
        about(
            "PersistentVolumeClaim",
            "disk",
            spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        ),
        about("Deployment", "web", "apps/v1", spec=selected("web", replicas=3)),
        about("Deployment", "idle", "apps/v1", spec=selected("idle", replicas=0)),
        about("StatefulSet", "db", "apps/v1", spec=selected("db", replicas=2, serviceName="db")),
        about("ReplicaSet", "bare", "apps/v1", spec=selected("bare", replicas=1)),
        about(
            "ReplicationController",
            "old",
            spec={"replicas": 1, "selector": {"app": "old"}, "template": template("old")},
        ),
        about("DaemonSet", "everywhere", "apps/v1", spec=selected("everywhere")),
        about("CronJob", "nightly", "batch/v1", spec=cron),
        about("CronJob", "paused", "batch/v1", spec={**cron, "suspend": True}),
        about("Job", "once", "batch/v1", spec=job),
        about("Pod", "alone", spec=pod_spec(terminationGracePeriodSeconds=31536000)),
    )


@contextmanager
def held_on(house: House, friend: str, pod: str) -> Iterator[str]:
    """A pod on a node, with a finalizer: it does not end before that goes. On no node, a controller would fail it."""
    node, space = f"{house.name}-node", house.space(friend)
    house.make(about("Node", node))
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": {"kind": "Node", "name": node}}
    path = f"/api/v1/namespaces/{space}/pods/{pod}/binding"
    done = house.control.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body).encode())
    assert done.returncode == 0, done.stderr
    patch = '{"metadata": {"finalizers": %s}}'
    held = house.run("patch", "pod", pod, "-n", space, "-p", patch % '["example.com/never"]')
    assert held.returncode == 0, held.stderr
    try:
        yield node
    finally:
        house.run("patch", "pod", pod, "-n", space, "-p", patch % "null")
        house.run("delete", "pod", pod, "-n", space, "--grace-period=0", "--force", "--wait=false")
        house.run("delete", "node", node, "--wait=false")


RUNNING = {
    "deployment/web": ("replicas", 3),
    "deployment/idle": ("replicas", 0),
    "statefulset/db": ("replicas", 2),
    "replicaset/bare": ("replicas", 1),
    "replicationcontroller/old": ("replicas", 1),
    "cronjob/nightly": ("suspend", False),
    "cronjob/paused": ("suspend", True),
    "job/once": ("suspend", False),
    "daemonset/everywhere": ("template", None),
}


def state(house: House, friend: str) -> dict[str, Any]:
    """What the workloads are set to, and what their annotations remember."""
    out: dict[str, Any] = {}
    for what, (key, _) in RUNNING.items():
        live = house.get(friend, what)
        value = live["spec"].get(key)
        out[what] = value["spec"].get("nodeSelector") if key == "template" else value
        if was := (live["metadata"].get("annotations") or {}).get("meshwright.io/was"):
            out[f"{what} was"] = json.loads(was)
    return out


class Dying(Cluster):
    """A connection that is cut after some writes: each later one is not sent, as if we had been killed there.

    Only the lock is given back: the next one need not wait until it ends by itself.
    """

    def __init__(self, control: ControlPlane, writes: int) -> None:
        super().__init__(None, control.kubeconfig)
        self.writes = writes

    def _send(self, method: str, path: str, *args: Any, **more: Any) -> Any:
        if method != "GET" and "/leases" not in path:
            if self.writes <= 0:
                raise ClusterError("killed here", "try again")
            self.writes -= 1
        return super()._send(method, path, *args, **more)
