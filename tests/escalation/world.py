"""The reference mesh in a cluster, under names of its own, with friends who already have ordinary things there."""

from __future__ import annotations

import json
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from api import Answer, Api, Body, Request, collection, create, delete, path
from things import (
    RBAC,
    account,
    allow,
    binding,
    claim,
    config,
    ingress,
    make,
    network_policy,
    pod,
    role,
    secret,
    service,
    workload,
)

from controlplane import ControlPlane
from meshwright.desired import state
from meshwright.desired.facts import ClusterFacts, Facts, TenantNamespace
from meshwright.desired.names import PEER, QUARANTINE, labels
from meshwright.desired.resource import Resource
from meshwright.events import silent
from meshwright.plan.plan import make as make_plan
from meshwright.providers.kubernetes import Kubernetes
from meshwright.spec import load

MESH = "escalation"
ACCESS = "esc-access"
JAKE, STEVE, BRYCE, HAM = "esc-jake", "esc-steve", "esc-bryce", "esc-ham"
OUT = "esc-out"
"""The namespace of a friend who is out: it is in quarantine."""
DEPLOYER = "esc-deployer"
EXPORTER, MONITORING = "esc-exporter", "esc-monitoring"
FLUX = "esc-flux"
"""A namespace of the owner's: what works for him there has all rights, as Flux has."""
EVENTUALLY = 30
"""Seconds in which the server has to have noticed a policy or a right."""

REFERENCE = Path(__file__).parents[1] / "cases" / "reference" / "mesh.yaml"


def _key(number: int) -> str:
    """A public key of nobody's: the exporter's monitor names every friend by his."""
    return b64encode(bytes([number]) * 32).decode()


CHANGES = {
    "name: collective-mesh": f"name: {MESH}",
    "namespace: ham}": f"namespace: {HAM}, public_key: {_key(1)}, "
    "tenant: {registries: [ghcr.io, docker.io/library]}}",
    "namespace: bryce}": f"namespace: {BRYCE}, public_key: {_key(2)}, tenant: {{admission: false}}}}",
    "namespace: jake}": f"namespace: {JAKE}, public_key: {_key(3)}}}",
    "namespace: steve}": f"namespace: {STEVE}, public_key: {_key(4)}, tenant: {{storage_classes: [esc-fast]}}}}",
    "reader: hamilton-cluster-reader": "reader: esc-reader",
    "namespace: wireguard-exporter}": f"namespace: {EXPORTER}}}\n  namespace: {MONITORING}",
    "deployer: {name: collective-deployer,": f"access: {{namespace: {ACCESS}}}\n"
    '  ingress: {domain: "{namespace}.apps.example.net"}\n'
    f"  deployer: {{name: {DEPLOYER},",
}

KINDS = {
    "monitoring.coreos.com": ("ServiceMonitor", "PodMonitor", "PrometheusRule", "Prometheus"),
    "helm.cattle.io": ("HelmChart",),
    "gateway.networking.k8s.io": ("HTTPRoute", "Gateway"),
    "cert-manager.io": ("Certificate", "CertificateRequest"),
}
PLURAL = {"Prometheus": "prometheuses"}


OURS = {"labelSelector": f"test={MESH}"}
"""The kinds that we brought: another test may have had its own before."""


@dataclass(frozen=True)
class World:
    plane: ControlPlane
    apis: dict[str, Api]

    def ask(self, who: str, request: Request) -> Answer:
        return self.apis[who].ask(request)

    def restore(self) -> None:
        """The policies as they were, in force."""
        _make_so(self.plane)
        _wait(self)

    def must(self, who: str, request: Request) -> Answer:
        answer = self.ask(who, request)
        assert answer.good, f"{who}: {request.method} {request.path}: {answer.message}"
        return answer

    def until(self, who: str, request: Request, judge: Callable[[Answer], bool]) -> Answer:
        end = time.monotonic() + EVENTUALLY
        while not judge(answer := self.ask(who, request)):
            assert time.monotonic() < end, f"{who}: {request.method} {request.path}: {answer.message or answer.status}"
            time.sleep(0.1)
        return answer


def mesh_objects() -> list[Body]:
    return [dict(resource.attrs) for resource in _wanted().values()]


def _wanted() -> dict[str, Resource]:
    text = REFERENCE.read_text()
    for old, new in CHANGES.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    mesh = load.load_text(text).mesh
    out = TenantNamespace(OUT, {**labels(MESH), PEER: "out", QUARANTINE: "true"}, {})
    wanted = state.state(mesh, Facts(datetime.now(UTC), cluster=ClusterFacts("1.36", {OUT: out})))
    return {id: resource for id, resource in wanted.items() if resource.system == "kubernetes"}


def _make_so(plane: ControlPlane) -> None:
    """The mesh as its file says, made by what makes it for its owner."""
    provider, wanted = Kubernetes(plane.connect(), MESH, ACCESS), _wanted()
    todo = make_plan(wanted, provider.read(wanted))
    assert todo.blocked == {}
    failed = {result.id: result.why for result in provider.apply(todo.changes, silent) if not result.ok}
    assert failed == {}


@contextmanager
def world(plane: ControlPlane) -> Iterator[World]:
    operator = _token(plane)
    trust = ssl.create_default_context(cafile=str(plane.ca))
    apis = {"operator": Api(plane.server, trust, operator)}
    here = World(plane, apis)
    try:
        _kinds(here)
        _apply(plane, _extras())
        _make_so(plane)
        _apply(plane, _after())
        for who in ("jake", "steve", "bryce", "hamilton"):
            apis[who] = Api(plane.server, trust, plane.token(ACCESS, f"peer-{who}"))
        apis["deployer"] = Api(plane.server, trust, plane.token("default", DEPLOYER))
        apis["out"] = Api(plane.server, trust, plane.token(OUT, "robot"))
        apis["helper"] = Api(plane.server, trust, plane.token(FLUX, "helper"))
        apis["nobody"] = Api(plane.server, trust)
        _wait(here)
        _belongings(here)
        apis["worker"] = Api(plane.server, trust, plane.token(JAKE, "worker"))
        yield here
    finally:
        _sweep(here)


def _token(plane: ControlPlane) -> str:
    who = account("owner", FLUX)
    ref = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"}
    objects = [
        make("v1", "Namespace", FLUX),
        make("v1", "ServiceAccount", "owner", FLUX),
        make(f"{RBAC}/v1", "ClusterRoleBinding", FLUX, roleRef=ref, subjects=[who]),
    ]
    _apply(plane, objects)
    return plane.token(FLUX, "owner")


def _apply(plane: ControlPlane, objects: list[Body]) -> None:
    """What the owner has beside the mesh."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}).encode()
    flags = ("--server-side", "--force-conflicts", "--field-manager=owner", "--validate=strict")
    done = plane.kubectl("apply", *flags, "-f", "-", stdin=text)
    assert done.returncode == 0, done.stderr.decode()


def _kinds(here: World) -> None:
    """The kinds of operators that a homelab has; only their names matter here."""
    for group, kinds in KINDS.items():
        for kind in kinds:
            here.ask("operator", create(_definition(group, kind)))
            plural = _definition(group, kind)["spec"]["names"]["plural"]
            here.until("operator", Request("GET", f"/apis/{group}/v1/{plural}"), lambda answer: answer.good)


def _definition(group: str, kind: str) -> Body:
    plural = PLURAL.get(kind, f"{kind.lower()}s")
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    body = make("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"{plural}.{group}", spec=spec)
    approved = {"api-approved.kubernetes.io": "unapproved, for a test"}
    return {**body, "metadata": {**body["metadata"], "annotations": approved, "labels": {"test": MESH}}}


def _extras() -> list[Body]:
    """What the owner has for himself."""
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    classes = [
        make("storage.k8s.io/v1", "StorageClass", name, provisioner="example.net/none")
        for name in ("esc-usual", "esc-fast", "esc-owner")
    ]
    classes[0]["metadata"]["annotations"] = default
    return [
        make("v1", "Namespace", MONITORING),
        *classes,
        make("scheduling.k8s.io/v1", "PriorityClass", "esc-important", value=100000),
        make("scheduling.k8s.io/v1", "PriorityClass", "esc-usual", value=10, globalDefault=True),
        make("node.k8s.io/v1", "RuntimeClass", "esc-other", handler="other"),
    ]


def _after() -> list[Body]:
    """What somebody gave them in the tenants' namespaces by mistake: the policies are then all that is left."""
    rules = [allow("*", "*", group) for group in KINDS]
    jake, deployer = account("peer-jake", ACCESS), account(DEPLOYER, "default")
    admin = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "admin"}
    everywhere = [account("robot", OUT), account("helper", FLUX)]
    return [
        make("v1", "ServiceAccount", "robot", OUT),
        make("v1", "ServiceAccount", "helper", FLUX),
        make(f"{RBAC}/v1", "ClusterRoleBinding", "esc-everywhere", roleRef=admin, subjects=everywhere),
        role(JAKE, *rules, allow("get update patch delete", "namespaces"), name="too-much"),
        make(f"{RBAC}/v1", "ClusterRole", "esc-too-much", rules=[allow("bind escalate", "roles clusterroles", RBAC)]),
        binding(JAKE, jake, "esc-too-much", name="far-too-much"),
        binding(JAKE, jake, "too-much", "Role", "too-much"),
        binding(STEVE, deployer, "admin", name="too-much"),
        role(BRYCE, *rules, name="too-much"),
        binding(BRYCE, account("peer-bryce", ACCESS), "too-much", "Role", "too-much"),
        binding(HAM, account("peer-hamilton", ACCESS), "debug", "Role", "debug"),
        role(HAM, allow("update patch", "pods/ephemeralcontainers"), name="debug"),
    ]


def _wait(here: World) -> None:
    """Policies and rights are in force a moment after they were written; the quotas too."""
    for who, place in (("jake", JAKE), ("steve", STEVE), ("bryce", BRYCE), ("hamilton", HAM)):
        here.until(who, create(pod(place, "trial")).dry(), lambda answer: answer.good)
    for who, request in TRIPPED:
        here.until(who, request.dry(), lambda answer: "ValidatingAdmissionPolicy" in answer.message)


TRIPPED = (
    ("jake", create(service(JAKE, "trial", type="NodePort"))),
    ("jake", create(workload("Deployment", JAKE, "trial", nodeName="n"))),
    ("jake", create(secret(JAKE, "wireguard-trial"))),
    ("jake", create(config(JAKE, "trial", grafana_dashboard="1"))),
    ("jake", create(network_policy(JAKE, "trial", ingress=[{}]))),
    ("jake", create(binding(JAKE, {"apiGroup": RBAC, "kind": "User", "name": "x"}, name="trial"))),
    ("jake", create(ingress(JAKE, "trial.example.org", name="trial"))),
    ("jake", create(claim(JAKE, "trial", storageClassName="esc-owner"))),
    ("jake", create(make("helm.cattle.io/v1", "HelmChart", "trial", JAKE))),
    ("bryce", delete(path(make("monitoring.coreos.com/v1", "PodMonitor", f"{BRYCE}-pods", BRYCE)))),
    ("deployer", create(pod(STEVE, "trial"))),
    ("out", create(config(OUT, "trial"))),
)
"""Requests that each another policy refuses, the last ones with rights got by mistake: once all are refused, policies
and rights are in force."""


def policies(here: World) -> list[str]:
    """The policies of the mesh by name."""
    where = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    found = here.must("operator", Request("GET", where, query={"labelSelector": f"meshwright.io/mesh={MESH}"}))
    return [item["metadata"]["name"] for item in found.body["items"]]


def _belongings(here: World) -> None:
    """What a friend has, made by himself: all of it is allowed."""
    for body in (
        make("v1", "ServiceAccount", "worker", JAKE),
        binding(JAKE, account("worker", JAKE), "admin", name="worker"),
        config(JAKE, "own"),
        secret(JAKE, "own"),
        service(JAKE, "web"),
        ingress(JAKE, f"{JAKE}.apps.example.net", name="web"),
        claim(JAKE, "data"),
        workload("Deployment", JAKE, "web"),
        role(JAKE, allow("get", "pods"), name="own"),
        binding(JAKE, account("worker", JAKE), "view", name="own"),
        network_policy(JAKE, "own", ingress=[{"from": [{"podSelector": {}}]}]),
        pod(JAKE, "own"),
    ):
        here.must("jake", create(body))
    here.must("hamilton", create(pod(HAM, "own")))
    here.must("steve", create(secret(STEVE, "private")))
    here.must("steve", create(pod(STEVE, "own")))
    for body in (config(OUT, "own"), secret(OUT, "own"), binding(OUT, account("robot", OUT), "view", name="own")):
        here.must("operator", create(body))


def _sweep(here: World) -> None:
    """Everything goes; the namespaces are not waited for."""
    gone = [body for body in [*mesh_objects(), *_extras(), *_after()] if not body["metadata"].get("namespace")]
    gone += [body for body in mesh_objects() if body["metadata"].get("namespace") == "default"]
    for body in gone:
        here.ask("operator", delete(path(body)))
    mine = Request("DELETE", collection("apiextensions.k8s.io/v1", "CustomResourceDefinition"), query=OURS)
    here.must("operator", mine)
    here.plane.kubectl("delete", "namespace,clusterrolebinding", FLUX, "--wait=false")
