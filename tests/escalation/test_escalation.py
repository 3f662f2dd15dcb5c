"""Every way that is known out of a friend's namespace, tried on a real API server; beside each the nearest fine thing.

The server itself has to refuse, with the reason that its user would see, when it is really asked and when it is asked
for a dry run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import exposing
import ours
import pytest
import reading
import rights
import running
from api import Answer, Request, collection, create, delete, get, merge, path
from attempt import ADMIN, DENY, OWN_CLAIM, Attempt, core
from things import RBAC, account, allow, binding, claim, config, make, network_policy, role, secret, token, workload
from world import JAKE, MESH, OUT, World, mesh_objects, policies, world

from controlplane import ControlPlane
from meshwright.desired.names import QUARANTINE, USER

pytestmark = pytest.mark.cluster

ATTEMPTS = [
    *running.pods(),
    *running.placement(),
    *running.attachments(),
    *running.images(),
    *exposing.services(),
    *exposing.ingresses(),
    *exposing.certificates(),
    *exposing.claims(),
    *exposing.copies(),
    *exposing.grafana(),
    *rights.credentials(),
    *rights.rights(),
    *ours.walls(),
    *ours.tampering(),
    *ours.names(),
    *ours.namespaces(),
    *ours.quarantine(),
    *ours.network(),
    *ours.operators(),
    *reading.secrets(),
    *reading.detours(),
    *reading.house(),
    *reading.deployer(),
]
TITLES = [attempt.title for attempt in ATTEMPTS]


@pytest.fixture(scope="module")
def here(cluster: ControlPlane) -> Iterator[World]:
    with world(cluster) as made:
        yield made


def test_there_are_many_and_each_is_told_from_the_others() -> None:
    assert len(ATTEMPTS) >= 60
    assert len(set(TITLES)) == len(TITLES)


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=TITLES)
def test_refused(here: World, attempt: Attempt) -> None:
    for request in (attempt.bad.dry(), attempt.bad) if attempt.bad.writes else (attempt.bad,):
        answer = here.ask(attempt.who, request)
        assert answer.status in (401, 403, 422), answer
        assert attempt.says in answer.message
        if attempt.policy:
            assert f"ValidatingAdmissionPolicy '{MESH}-{attempt.policy}'" in answer.message


@pytest.mark.parametrize("number", range(len(ATTEMPTS)), ids=TITLES)
def test_the_nearest_thing_passes(here: World, number: int) -> None:
    attempt = ATTEMPTS[number]
    answer = here.must(attempt.who, _named(attempt.good, f"app-{number}"))
    if attempt.good.method == "POST" and "name" in answer.body.get("metadata", {}):
        here.ask("operator", delete(f"{attempt.good.path}/{answer.body['metadata']['name']}"))


def _named(request: Request, name: str) -> Request:
    """What is to be created, under a name that nothing had before."""
    if request.method != "POST" or "name" not in request.body.get("metadata", {}):
        return request
    return replace(request, body={**request.body, "metadata": {**request.body["metadata"], "name": name}})


def test_everything_of_ours_is_still_there_and_as_it_was(here: World) -> None:
    """After all of these attempts, as the owner's own apply would find it."""
    for body in mesh_objects():
        there = here.must("operator", get(path(body))).body
        assert there["metadata"]["labels"].items() >= body["metadata"]["labels"].items()
        for part in ("spec", "rules", "subjects", "roleRef"):
            if part in body and body["kind"] != "ResourceQuota":
                filled = body["kind"] in ("DaemonSet", "Service")
                assert _holds(there[part], body[part]) if filled else there[part] == body[part], path(body)


def _holds(there: Any, wanted: Any) -> bool:
    """Whether everything wanted is there; of these kinds the server fills in fields of its own."""
    if isinstance(wanted, dict):
        return all(key in there and _holds(there[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(there) == len(wanted) and all(map(_holds, there, wanted))
    return bool(there == wanted)


def test_policies_are_as_the_server_keeps_them_and_their_types_are_sound(here: World) -> None:
    for body in mesh_objects():
        if body["kind"] == "ValidatingAdmissionPolicy":
            there = here.until("operator", get(path(body)), lambda answer: "typeChecking" in answer.body["status"]).body
            assert there["spec"] == body["spec"]
            assert there["status"]["typeChecking"] == {}


OWNER = {"Impersonate-User": "admin", "Impersonate-Group": "system:masters"}


def test_owner_controllers_kubelet_and_flux_are_never_refused(here: World) -> None:
    """What each of them has to do in a tenant's namespace, as the owner who acts as them."""
    system = "system:serviceaccount:kube-system:"
    collector = {"Impersonate-User": f"{system}generic-garbage-collector"}
    binder = {"Impersonate-User": f"{system}persistent-volume-binder"}
    owners = {"metadata": {"labels": {"meshwright.io/peer": "jake", "note": "x"}}}
    year = Request("POST", f"{core('ServiceAccount', 'worker')}/token", token(3607))
    stranger = {"apiGroup": RBAC, "kind": "User", "name": "aunt"}
    chart = make("helm.cattle.io/v1", "HelmChart", "app", JAKE, spec={"chart": "x"})
    for headers in ({}, OWNER):
        for request in (
            delete(DENY),
            merge(DENY, {"spec": {"ingress": [{}]}}),
            delete(ADMIN),
            merge(f"/api/v1/namespaces/{JAKE}", owners),
            create(secret(JAKE, "wireguard-new")),
            create(network_policy(JAKE, "meshwright-new", ingress=[{}])),
            create(binding(JAKE, stranger)),
            create(role(JAKE, allow("*", "*", "*"))),
            create(chart),
            year,
            create(
                secret(
                    JAKE, "t", "kubernetes.io/service-account-token", **{"kubernetes.io/service-account.name": "worker"}
                )
            ),
            merge(core("Secret", "wireguard-jake"), {"stringData": {"wg.conf": "x"}}),
            delete(core("ServiceAccount", "default")),
        ):
            here.must("operator", replace(request, headers=headers).dry())
    here.must("operator", replace(delete(DENY), headers=collector).dry())
    bound = here.must("operator", get(OWN_CLAIM)).body
    bound["spec"]["volumeName"] = "pv-1"
    here.must("operator", Request("PUT", OWN_CLAIM, bound, headers=binder).dry())


def test_in_quarantine_too_owner_and_controllers_go_on(here: World) -> None:
    """They wind down what a friend has left, and he is let back in."""
    system = "system:serviceaccount:kube-system:"
    robot = account("robot", OUT)
    for headers in ({}, OWNER):
        for request in (
            create(config(OUT)),
            create(binding(OUT, robot)),
            delete(f"{collection(f'{RBAC}/v1', 'RoleBinding', OUT)}/own"),
            merge(f"/api/v1/namespaces/{OUT}", {"metadata": {"labels": {QUARANTINE: None}}}),
        ):
            here.must("operator", replace(request, headers=headers).dry())
    for name, request in (
        ("deployment-controller", create(workload("ReplicaSet", OUT))),
        ("generic-garbage-collector", delete(core("ConfigMap", "own", OUT))),
        ("namespace-controller", delete(core("Secret", "", OUT))),
        ("namespace-controller", delete(core("Secret", "own", OUT))),
        ("root-ca-cert-publisher", create(config(OUT))),
        ("job-controller", create(make("v1", "Event", "app", OUT, involvedObject={"namespace": OUT}))),
    ):
        here.must("operator", replace(request, headers={"Impersonate-User": f"{system}{name}"}).dry())


def test_a_controller_that_does_what_a_friend_wrote_is_refused_too(here: World) -> None:
    """A StatefulSet's controller makes claims from its template with its own rights."""
    headers = {"Impersonate-User": "system:serviceaccount:kube-system:statefulset-controller"}
    bad = replace(create(claim(JAKE, "app-0", volumeName="backup")), headers=headers)
    assert "may not choose its volume" in here.ask("operator", bad).message
    here.must("operator", replace(create(claim(JAKE, "app-0")), headers=headers).dry())


def test_a_friend_whom_an_issuer_of_names_knows_is_a_tenant_too(here: World) -> None:
    """Where OIDC is the issuer, the namespace says what its friend is called."""
    headers = {"Impersonate-User": "friend@example.net"}
    subject = {"apiGroup": RBAC, "kind": "User", "name": "friend@example.net"}
    where = f"/api/v1/namespaces/{JAKE}"
    bind = here.must("operator", create(binding(JAKE, subject, "admin", name="by-name")))
    try:
        by_name = replace(delete(DENY), headers=headers).dry()
        here.until("operator", by_name, lambda answer: answer.good)  # his name is not said yet
        here.must("operator", merge(where, {"metadata": {"annotations": {USER: "friend@example.net"}}}))
        here.until("operator", by_name, lambda answer: "belongs to the mesh" in answer.message)
        here.must("operator", replace(create(config(JAKE)), headers=headers).dry())
    finally:
        here.must("operator", merge(where, {"metadata": {"annotations": {USER: None}}}))
        here.must("operator", delete(path(bind.body)))


def test_the_pods_of_a_privileged_deployment_do_not_come_to_be(here: World) -> None:
    """Pod Security judges pods only: the Deployment is there, and says why nothing runs."""
    bad = workload("Deployment", JAKE, "root", hostNetwork=True)
    bad["spec"]["replicas"] = 1
    made = here.must("jake", create(bad))
    try:
        where = collection("apps/v1", "ReplicaSet", JAKE)

        def failed(answer: Answer) -> bool:
            return "violates PodSecurity" in str([i["status"] for i in answer.body.get("items", [])])

        here.until("jake", get(where), failed)
    finally:
        here.must("jake", delete(path(made.body)))


def test_without_the_policies_it_would_go_through(here: World) -> None:
    """The policies are what refuses: without them these attempts pass, unless something else stands behind."""
    bindings = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
    selected = Request("DELETE", bindings, query={"labelSelector": f"meshwright.io/mesh={MESH}"})
    mine = [attempt for attempt in ATTEMPTS if attempt.policy]
    assert {f"{MESH}-{attempt.policy}" for attempt in mine} == set(policies(here))
    here.must("operator", selected)
    try:
        for attempt in mine:
            answer = here.until(attempt.who, attempt.bad.dry(), lambda answer: "AdmissionPolicy" not in answer.message)
            assert answer.good != attempt.deeper, (attempt.title, answer.message)
    finally:
        here.restore()
