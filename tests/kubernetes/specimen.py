"""A hand-written set of objects, one of every kind that a mesh has, and the provider that keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from controlplane import ControlPlane
from meshwright.desired.manifest import id_of, resource
from meshwright.desired.names import PEER, labels
from meshwright.desired.resource import Resource, collect
from meshwright.errors import ClusterError
from meshwright.events import Event, silent
from meshwright.io.cluster import Cluster
from meshwright.plan.plan import Change, Plan, make
from meshwright.providers.base import Result
from meshwright.providers.kubernetes import Kubernetes
from meshwright.providers.kubernetes.kinds import TABLE, Kind

RBAC = "rbac.authorization.k8s.io"
CEL = "admissionregistration.k8s.io/v1"
KINDS = {**TABLE, "configmap": Kind("ConfigMap", "v1", "configmaps")}


@dataclass
class Specimen:
    """The mesh `name`: its namespaces are NAME-access and NAME-ann, a tenant's."""

    control: ControlPlane
    name: str
    more: list[Resource] = field(default_factory=list)
    without: set[str] = field(default_factory=set)
    edits: dict[str, Callable[[dict[str, Any]], None]] = field(default_factory=dict)

    @property
    def access(self) -> str:
        return f"{self.name}-access"

    @property
    def tenant(self) -> str:
        return f"{self.name}-ann"

    def id(self, kind: str, name: str = "", namespace: str | None = None) -> str:
        """The id of an object in the tenant's namespace, or of one that has no namespace (namespace "")."""
        where = self.tenant if namespace is None else namespace
        return "/".join(part for part in ("kubernetes", kind.lower(), where, name) if part)

    def wanted(self) -> dict[str, Resource]:
        out = collect([*objects(self.name, self.access, self.tenant), *self.more])
        for id, edit in self.edits.items():
            manifest = json.loads(json.dumps(out[id].attrs))
            edit(manifest)
            out[id] = Resource(id, manifest, after=out[id].after)
        return {id: r for id, r in out.items() if id not in self.without}

    def provider(self, cluster: Cluster | None = None) -> Kubernetes:
        return Kubernetes(cluster or self.control.connect(), self.name, self.access)

    def plan(self, *adopt: str) -> Plan:
        wanted = self.wanted()
        return make(wanted, self.provider().read(wanted), adopt)

    def write(self, todo: Plan, tell: Callable[[Event], None] = silent) -> dict[str, Result]:
        return {r.id: r for r in self.provider().apply(todo.changes, tell)}

    def apply(self, *adopt: str) -> tuple[Change, ...]:
        """Plan and write; what was changed. Everything must go well."""
        todo = self.plan(*adopt)
        results = self.write(todo)
        failed = {id: r.why for id, r in results.items() if not r.ok}
        assert not failed, failed
        return todo.changes

    def kubectl(self, *args: str, stdin: Any = None, token: str | None = None) -> str:
        """kubectl that has to succeed. stdin: an object."""
        done = self.control.kubectl(*args, stdin=json.dumps(stdin).encode() if stdin else b"", token=token)
        assert done.returncode == 0, (args, done.stderr.decode())
        return done.stdout.decode()

    def live(self, id: str) -> dict[str, Any]:
        """The object as the server has it, with managedFields; {} when it is not there."""
        _, kind, *place = id.split("/")
        asked = self.control.connect()  # a kubectl for each look would be most of what these tests cost
        try:
            return asked.get(f"{KINDS[kind].collection(*place[:-1])}/{place[-1]}")
        except ClusterError as error:
            if error.status != 404:
                raise
            return {}
        finally:
            asked.close()

    def patch(self, id: str, body: Mapping[str, Any], manager: str = "kubectl-edit") -> None:
        _, kind, *place = id.split("/")
        where = ["-n", place[0]] if len(place) == 2 else []
        patch = ("--type=merge", f"--field-manager={manager}", "-p", json.dumps(body))
        self.kubectl("patch", kind, place[-1], *where, *patch)

    @property
    def _lease(self) -> tuple[str, str, str, str]:
        return "lease", f"meshwright-{self.name}", "-n", self.access

    def holder(self) -> str:
        """Who has the lock."""
        return self.kubectl("get", *self._lease, "-o", "jsonpath={.spec.holderIdentity}")

    def steal(self) -> None:
        """Somebody takes the lock, whoever has it."""
        self.kubectl("patch", *self._lease, "--type=merge", "-p", json.dumps({"spec": {"holderIdentity": "eve"}}))

    def forget_lock(self) -> None:
        """As if its holder's time had gone by."""
        self.kubectl("delete", *self._lease)

    def sweep(self) -> None:
        kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
        self.control.kubectl("delete", kinds, "-l", f"meshwright.io/mesh={self.name}", "--wait=false")
        names = [f"{self.name}-{end}" for end in ("reader", "services")]
        for kind in kinds.split(","):
            self.control.kubectl("delete", kind, *names, "--ignore-not-found", "--wait=false")
        self.control.kubectl("delete", "namespace", self.access, self.tenant, "--ignore-not-found", "--wait=false")


@contextmanager
def specimen(control: ControlPlane, name: str) -> Iterator[Specimen]:
    made = Specimen(control, name)
    try:
        yield made
    finally:
        made.sweep()


def objects(mesh: str, access: str, tenant: str) -> Iterator[Resource]:
    """One of every kind, walls before rights."""
    walls = [*_policy(mesh), *_walls(mesh, tenant)]
    yield resource(_object(mesh, "v1", "Namespace", access))
    yield resource(_object(mesh, "v1", "ServiceAccount", "peer-ann", access, automountServiceAccountToken=False))
    space = _object(mesh, "v1", "Namespace", tenant)
    space["metadata"]["labels"] |= {PEER: "ann", "pod-security.kubernetes.io/enforce": "restricted"}
    space["metadata"]["annotations"] = {"meshwright.io/ingress-domain": "ann.example.net"}
    yield resource(space)
    yield from map(resource, walls)
    yield from _rights(mesh, access, tenant, tuple(map(id_of, walls)))


def _object(mesh: str, api: str, kind: str, name: str, namespace: str = "", /, **body: Any) -> dict[str, Any]:
    meta = {"name": name, "labels": labels(mesh)} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api, "kind": kind, "metadata": meta, **body}


def _policy(mesh: str) -> Iterator[dict[str, Any]]:
    rule = {
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"], "scope": "*",
    }  # fmt: skip
    yield _object(
        mesh, CEL, "ValidatingAdmissionPolicy", f"{mesh}-services",
        spec={
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule]},
            "variables": [{"name": "kind", "expression": "object.spec.?type.orValue('')"}],
            "validations": [{"expression": "variables.kind != 'LoadBalancer'", "message": "not to the world"}],
        },
    )  # fmt: skip
    yield _object(
        mesh, CEL, "ValidatingAdmissionPolicyBinding", f"{mesh}-services",
        spec={
            "policyName": f"{mesh}-services",
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"meshwright.io/mesh": mesh}}},
        },
    )  # fmt: skip


def _walls(mesh: str, tenant: str) -> Iterator[dict[str, Any]]:
    # not the shortest forms on purpose: amounts are compared by their value
    hard = {"limits.cpu": "0.5", "limits.memory": "1024Mi", "pods": "1e1", "services.nodeports": "0"}
    most = {"cpu": "0.25", "memory": "262144Ki"}
    yield _object(mesh, "v1", "ServiceAccount", "default", tenant, automountServiceAccountToken=False)
    yield _object(mesh, "v1", "ResourceQuota", "meshwright-quota", tenant, spec={"hard": hard})
    yield _object(
        mesh, "v1", "LimitRange", "meshwright-limits", tenant,
        spec={"limits": [{"type": "Container", "default": most, "defaultRequest": most}]},
    )  # fmt: skip
    yield _object(
        mesh, "networking.k8s.io/v1", "NetworkPolicy", "meshwright-default-deny", tenant,
        spec={"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    )  # fmt: skip
    dns = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
    yield _object(
        mesh, "networking.k8s.io/v1", "NetworkPolicy", "meshwright-dns", tenant,
        spec={"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": dns}]},
    )  # fmt: skip


def _rights(mesh: str, access: str, tenant: str, walls: tuple[str, ...]) -> Iterator[Resource]:
    yield resource(_object(mesh, "v1", "Secret", "wireguard-ann", tenant, type="Opaque"))
    rules = [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["wireguard-ann"], "verbs": ["patch"]},
    ]
    yield resource(_object(mesh, f"{RBAC}/v1", "Role", "meshwright-deployer", tenant, rules=rules))
    rules = [{"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list"]}]
    yield resource(_object(mesh, f"{RBAC}/v1", "ClusterRole", f"{mesh}-reader", rules=rules))
    subjects = [{"kind": "ServiceAccount", "name": "peer-ann", "namespace": access}]
    for kind, name, namespace, role in (
        ("RoleBinding", "meshwright-admin", tenant, ("ClusterRole", "admin")),
        ("RoleBinding", "meshwright-deployer", tenant, ("Role", "meshwright-deployer")),
        ("ClusterRoleBinding", f"{mesh}-reader", "", ("ClusterRole", f"{mesh}-reader")),
    ):
        ref = {"apiGroup": RBAC, "kind": role[0], "name": role[1]}
        manifest = _object(mesh, f"{RBAC}/v1", kind, name, namespace, roleRef=ref, subjects=subjects)
        yield resource(manifest, *walls)


def undeclared(mesh: str, kind: str, name: str, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
    """An object that bears no label of anybody."""
    api = {"RoleBinding": f"{RBAC}/v1", "Role": f"{RBAC}/v1", "ClusterRole": f"{RBAC}/v1"}.get(kind, "v1")
    made = _object(mesh, api, kind, name, namespace, **body)
    del made["metadata"]["labels"]
    return made


def many(home: Specimen, count: int) -> list[Resource]:
    """Roles that take a while to write."""
    return [resource(role(home, f"meshwright-{n}")) for n in range(count)]


def role(home: Specimen, name: str) -> dict[str, Any]:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    manifest = undeclared(home.name, "Role", name, home.tenant, {"rules": rules})
    manifest["metadata"]["labels"] = labels(home.name)
    return manifest


def versions(home: Specimen) -> dict[str, str]:
    found = json.loads(home.kubectl("get", "roles", "-n", home.tenant, "-o", "json"))["items"]
    return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in found}
