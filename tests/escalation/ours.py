"""What belongs to the mesh: its walls, its names, its labels; and who would carry out what one may not."""

from __future__ import annotations

from typing import Any

from api import Request, apply, collection, create, delete, get, merge, patch
from attempt import (
    ADMIN,
    DENY,
    NOTE,
    OWN_BINDING,
    OWN_CONFIG,
    OWN_DEPLOYMENT,
    OWN_POLICY,
    OWN_ROLE,
    OWN_SECRET,
    Attempt,
    acting,
    add,
    core,
)
from things import RBAC, account, binding, config, labelled, make, network_policy, pod, role, secret, service, token
from world import BRYCE, FLUX, JAKE, MESH, OUT, STEVE

SAYS = "This object belongs to the mesh"
WALLS = {
    "the wall of the network": DENY,
    "the binding of one's rights": ADMIN,
    "the deployer's role": collection(f"{RBAC}/v1", "Role", JAKE) + "/meshwright-deployer",
    "the deployer's binding": collection(f"{RBAC}/v1", "RoleBinding", JAKE) + "/meshwright-deployer",
    "one's tunnel": core("Secret", "wireguard-jake"),
    "the account that pods run as": core("ServiceAccount", "default"),
    "the monitor of one's services": collection("monitoring.coreos.com/v1", "ServiceMonitor", BRYCE)
    + f"/{BRYCE}-autodiscover",
    "the monitor of one's pods": collection("monitoring.coreos.com/v1", "PodMonitor", BRYCE) + f"/{BRYCE}-pods",
}
LIMITS = {
    "the quota": core("ResourceQuota", "meshwright-quota"),
    "the limits": core("LimitRange", "meshwright-limits"),
}


def walls() -> list[Attempt]:
    """The monitors are bryce's, who got rights on them by mistake and whose admission wall is off."""
    label = "/metadata/labels/meshwright.io~1mesh"
    out = []
    for what, where in WALLS.items():
        who = "jake" if f"/{JAKE}/" in where else "bryce"
        fine = merge(OWN_CONFIG, NOTE) if who == "jake" else get(where)
        out += [
            _ours(f"deleting {what}", delete(where), fine, who),
            _ours(f"disowning {what}", patch(where, {"op": "remove", "path": label}), fine, who),
        ]
    for what, where in LIMITS.items():
        kind = where.split("/")[-2]
        out += [
            Attempt(f"deleting {what}", delete(where), f'cannot delete resource "{kind}"', get(where)),
            Attempt(f"raising {what}", merge(where, {"spec": {}}), f'cannot patch resource "{kind}"', get(where)),
        ]
    return out


def _ours(title: str, bad: Request, good: Request, who: str = "jake") -> Attempt:
    return Attempt(title, bad, SAYS, good, who, "protect")


def tampering() -> list[Attempt]:
    fewer = {"spec": {"podSelector": {"matchLabels": {"app": "none"}}}}
    mine = network_policy(JAKE, "own", podSelector={"matchLabels": {"app": "web"}}, policyTypes=["Ingress"])
    theirs = network_policy(JAKE, "meshwright-default-deny", policyTypes=["Ingress"])
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "own", "uid": "00000000-0000-0000-0000-000000000000"}
    worker = account("worker", JAKE)
    return [
        _ours("loosening the wall of the network", merge(DENY, fewer), merge(OWN_POLICY, NOTE)),
        _ours("loosening it under our field manager", apply(theirs, "meshwright"), apply(mine, "meshwright")),
        _ours(
            "wiping the traces of who wrote it",
            merge(DENY, {"metadata": {"managedFields": [{}]}}),
            merge(OWN_POLICY, {"metadata": {"managedFields": [{}]}}),
        ),
        _ours(
            "keeping it from being deleted",
            patch(DENY, add("/metadata/finalizers", ["example.net/x"])),
            patch(OWN_CONFIG, add("/metadata/finalizers", [])),
        ),
        _ours(
            "having it deleted as part of something else",
            patch(DENY, add("/metadata/ownerReferences", [owner])),
            patch(OWN_CONFIG, add("/metadata/ownerReferences", [])),
        ),
        _ours(
            "adding one's pods to one's own rights", patch(ADMIN, add("/subjects/-", worker)), merge(OWN_BINDING, NOTE)
        ),
        _ours(
            "writing one's own tunnel",
            merge(core("Secret", "wireguard-jake"), {"stringData": {"wg.conf": "x"}}),
            merge(OWN_SECRET, {"stringData": {"wg.conf": "x"}}),
        ),
        _ours(
            "tokens for all pods that did not ask",
            merge(core("ServiceAccount", "default"), {"automountServiceAccountToken": True}),
            merge(core("ServiceAccount", "worker"), {"automountServiceAccountToken": True}),
        ),
        _ours("deleting the wall as one's own pod", delete(DENY), merge(OWN_CONFIG, NOTE), "worker"),
        _ours("deleting the wall by acting as one's own pod", acting(delete(DENY)), acting(get(OWN_POLICY))),
        _ours(
            "deleting all network policies at once",
            delete(collection("networking.k8s.io/v1", "NetworkPolicy", JAKE)),
            delete(core("Event")),
        ),
        _ours(
            "deleting a wall where admission is switched off",
            delete(collection("networking.k8s.io/v1", "NetworkPolicy", BRYCE) + "/meshwright-default-deny"),
            create(service(BRYCE, clusterIP="10.43.200.9")),
            "bryce",
        ),
    ]


def names() -> list[Attempt]:
    label = {"meshwright.io/mesh": MESH}
    random = {**secret(JAKE), "metadata": {"namespace": JAKE, "generateName": "wireguard-"}}
    good = {**secret(JAKE), "metadata": {"namespace": JAKE, "generateName": "openvpn-", "labels": {"test": "1"}}}
    worker = account("worker", JAKE)
    mark = {"metadata": {"annotations": {"meshwright.io/was": '{"replicas": 9}'}}}
    return [
        _ours(
            "taking the name of a device's Secret",
            create(secret(JAKE, "wireguard-phone")),
            create(secret(JAKE, "openvpn-phone")),
        ),
        _ours(
            "taking the name of a wall",
            create(network_policy(JAKE, "meshwright-mesh-2")),
            create(network_policy(JAKE, "mesh-2")),
        ),
        _ours(
            "taking the name of a role of ours",
            create(role(JAKE, name="meshwright-tenant")),
            create(role(JAKE, name="tenant")),
        ),
        _ours(
            "taking the name of a binding of ours",
            create(binding(JAKE, worker, name="meshwright-x")),
            create(binding(JAKE, worker, name="x")),
        ),
        _ours("having the server make a name of ours", create(random), create(good)),
        Attempt(
            "rights under a name that fits into no URL",
            create(binding(JAKE, worker, name="?" * 400_000)),
            "This name is too long",
            create(binding(JAKE, worker, name="?" * 60)),
            policy="protect",
        ),
        _ours(
            "a label of ours on one's own Secret",
            create(labelled(secret(JAKE), **label)),
            create(labelled(secret(JAKE), **{"example.net/mesh": MESH})),
        ),
        _ours(
            "a label of ours put on one's own role later",
            merge(OWN_ROLE, {"metadata": {"labels": label}}),
            merge(OWN_ROLE, {"metadata": {"labels": {"a": "b"}}}),
        ),
        Attempt(
            "forging what quarantine would put back",
            merge(OWN_DEPLOYMENT, mark),
            "Labels and annotations of meshwright.io are set by the mesh only",
            merge(OWN_DEPLOYMENT, NOTE),
            policy="marks",
        ),
    ]


def namespaces() -> list[Attempt]:
    """jake got rights on his Namespace by mistake; the others have none."""
    where = f"/api/v1/namespaces/{JAKE}"
    loose = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}
    says = "The namespace itself, its labels and its annotations are the owner's"

    def refused(title: str, bad: Request) -> Attempt:
        return Attempt(title, bad, says, get(where), policy="namespaces")

    return [
        Attempt(
            "pods without Pod Security",
            merge(f"/api/v1/namespaces/{STEVE}", loose),
            'cannot patch resource "namespaces"',
            get(f"/api/v1/namespaces/{STEVE}"),
            "steve",
        ),
        refused("pods without Pod Security, with rights got by mistake", merge(where, loose)),
        refused("leaving the mesh", patch(where, {"op": "remove", "path": "/metadata/labels/meshwright.io~1peer"})),
        refused(
            "switching admission off",
            patch(where, {"op": "remove", "path": "/metadata/labels/meshwright.io~1admission"}),
        ),
        refused(
            "another domain for one's Ingresses",
            merge(where, {"metadata": {"annotations": {"meshwright.io/ingress-domain": "example.net"}}}),
        ),
        refused("deleting the namespace", delete(where)),
        Attempt(
            "a namespace of one's own",
            create(make("v1", "Namespace", "mine")),
            'cannot create resource "namespaces"',
            get("/api/v1/namespaces"),
        ),
    ]


def quarantine() -> list[Attempt]:
    """A robot of a friend who is out got rights everywhere by mistake; so did somebody who is no tenant at all."""
    robot = account("robot", OUT)
    grant = collection(f"{RBAC}/v1", "RoleBinding", OUT) + "/own"
    says = "This namespace is in quarantine: its peer is out"
    rights = "here rights are given by those only who may change the namespace itself"
    execute = Request("POST", core("Pod", "any", OUT) + "/exec", query={"command": "id"})

    def refused(title: str, bad: Request, good: Request | None = None, deeper: bool = False) -> Attempt:
        return Attempt(title, bad, says, good or create(config(FLUX)), "out", "quarantine", deeper)

    def other(title: str, bad: Request) -> Attempt:
        return Attempt(title, bad, rights, create(config(OUT)), "helper", "quarantine")

    return [
        refused("new rights while in quarantine", create(binding(OUT, robot)), create(binding(FLUX, robot))),
        refused("more rights while in quarantine", merge(grant, {"subjects": [robot, account("x", OUT)]})),
        refused("something written while in quarantine", create(config(OUT))),
        refused("something changed while in quarantine", merge(core("ConfigMap", "own", OUT), NOTE)),
        refused("something deleted while in quarantine", delete(core("Secret", "own", OUT))),
        refused("a pod while in quarantine", create(pod(OUT)), deeper=True),
        refused(
            "a token while in quarantine",
            Request("POST", core("ServiceAccount", "robot", OUT) + "/token", token(600)),
        ),
        refused("a shell while in quarantine", execute, get(core("Pod", "", OUT)), deeper=True),
        other("rights given in quarantine by one who is no tenant", create(binding(OUT, account("helper", FLUX)))),
        other("rights made more in quarantine by one who is no tenant", merge(grant, NOTE)),
    ]


def network() -> list[Attempt]:
    fine = create(network_policy(JAKE, ingress=[{"from": [{"podSelector": {"matchLabels": {"a": "b"}}}]}]))

    def refused(title: str, **spec: Any) -> Attempt:
        return Attempt(
            title,
            create(network_policy(JAKE, **spec)),
            "may open ways between pods of this namespace only",
            fine,
            policy="network-policies",
        )

    everybody = {"ipBlock": {"cidr": "0.0.0.0/0"}}
    other = {"namespaceSelector": {}, "podSelector": {}}
    return [
        refused("a way in for everybody", ingress=[{}]),
        refused("a way in for everybody to one port", ingress=[{"from": [], "ports": [{"port": 80}]}]),
        refused("a way in for other namespaces", ingress=[{"from": [{"podSelector": {}}, other]}]),
        refused("a way in for all addresses", ingress=[{"from": [everybody]}]),
        refused("a way out to everywhere", egress=[{}], policyTypes=["Egress"]),
        refused("a way out to the house", egress=[{"to": [everybody]}], policyTypes=["Egress"]),
        refused("a way out to other namespaces", egress=[{"to": [{"namespaceSelector": {}}]}], policyTypes=["Egress"]),
        Attempt(
            "a way opened later",
            merge(OWN_POLICY, {"spec": {"ingress": [{}]}}),
            "may open ways between pods of this namespace only",
            merge(OWN_POLICY, {"spec": {"ingress": []}}),
            policy="network-policies",
        ),
    ]


def operators() -> list[Attempt]:
    """jake got rights on these kinds by mistake."""
    fine = create(config(JAKE))

    def refused(version: str, kind: str, **spec: Any) -> Attempt:
        where = collection(version, kind, JAKE)
        bad = Request("POST", where, make(version, kind, "app", JAKE, spec=spec))
        return Attempt(f"a {kind}", bad, "with the rights of the whole cluster", fine, policy="operators")

    return [
        refused("helm.cattle.io/v1", "HelmChart", chart="x", targetNamespace="kube-system"),
        refused("monitoring.coreos.com/v1", "ServiceMonitor", selector={}, endpoints=[{"bearerTokenFile": "/x"}]),
        refused("monitoring.coreos.com/v1", "PodMonitor", selector={}, namespaceSelector={"any": True}),
        refused("monitoring.coreos.com/v1", "Prometheus", serviceAccountName="default"),
        refused("gateway.networking.k8s.io/v1", "Gateway", listeners=[]),
        refused("cert-manager.io/v1", "CertificateRequest", request="eA==", issuerRef={"kind": "ClusterIssuer"}),
        Attempt(
            "a HelmChart without rights got by mistake",
            create(make("helm.cattle.io/v1", "HelmChart", "app", STEVE)),
            'cannot create resource "helmcharts"',
            create(config(STEVE)),
            "steve",
        ),
    ]
