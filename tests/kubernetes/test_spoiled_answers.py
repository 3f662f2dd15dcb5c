"""An API server that is busy, hangs, goes away or refuses: what is mended by itself, what is told of each object."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from specimen import CEL, RBAC, Specimen, many, undeclared

import between
from between import Between, Fault, Handler
from controlplane import ControlPlane
from meshwright.io.cluster import Cluster
from meshwright.plan.plan import Plan
from meshwright.providers.base import Result
from meshwright.providers.kubernetes import write
from meshwright.providers.kubernetes.kinds import TABLE

pytestmark = pytest.mark.cluster
Through = Callable[..., Cluster]
UNKNOWN = "roles is forbidden: status unknown for quota: meshwright-quota, resources: count/roles"


def status(code: int, message: str, reason: str) -> Fault:
    """A refusal that the real server never made."""
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "message": message, "reason": reason}
    return lambda handler: handler.say(code, [("Content-Type", "application/json")], json.dumps(body).encode())


def written(home: Specimen, client: Cluster, todo: Plan) -> dict[str, Result]:
    """What was not written, after a look that everything is named."""
    results = home.provider(client).apply(todo.changes, lambda event: None)
    assert [r.id for r in results] == [change.id for change in todo.changes]
    failed = {r.id: r for r in results if not r.ok}
    assert all(r.why and r.hint for r in failed.values())
    # what is said to be written is; what is said not to be may be, where its answer was lost
    assert {change.id for change in home.plan().changes} <= set(failed)
    return failed


def converges(home: Specimen) -> None:
    home.kubectl("delete", "lease", f"meshwright-{home.name}", "-n", home.access, "--ignore-not-found")
    home.apply()
    left = home.plan()
    assert (left.changes, left.blocked) == ((), {})


def from_write(way: Between, number: int, fault: Fault) -> None:
    """From so many writes on, everything ends like this."""
    seen = 0

    def rule(handler: Handler) -> Fault:
        nonlocal seen
        seen += handler.command != "GET" and "/leases" not in handler.path
        return fault if seen > number else between.passes

    way.rule = rule


PASSING = {
    "429": between.refuses(429, Retry_After="0"),
    "503": between.refuses(503, Retry_After="0"),
    "cut before": between.cut_before,
    "cut after": between.cut_after,
    "garbled": between.garbled,
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_passes_is_not_even_told(fault: Fault, home: Specimen, way: Between, through: Through) -> None:
    """Every third request, of the first apply of all and of one that changes and deletes."""
    count = 0

    def rule(handler: Handler) -> Fault:
        nonlocal count
        count += 1
        return fault if count % 3 == 0 else between.passes

    way.rule = rule
    home.more = many(home, 5)
    assert written(home, through(), home.plan()) == {}
    for role in home.more[:3]:
        home.patch(role.id, {"rules": []})
    home.more = home.more[:4]
    assert written(home, through(), home.plan()) == {}
    converges(home)


def test_a_server_that_returns_in_time_costs_nothing(home: Specimen, way: Between, through: Through) -> None:
    home.apply()
    home.more = many(home, 60)
    away: list[float] = []

    def rule(handler: Handler) -> Fault:
        if len(way.asked) > 50 and not away:
            away.append(time.monotonic() + 2)
        return between.cut_before if away and time.monotonic() < away[0] else between.passes

    way.rule = rule
    assert written(home, through(patience=20), home.plan()) == {}
    assert away
    converges(home)


ENDING = {
    "expired token": (between.refuses(401), "are not accepted"),
    "goes away": (between.cut_before, "the connection broke"),
    "hangs": (between.hangs(4), "nobody answers"),
    "too busy": (between.refuses(429, Retry_After="60"), "not now"),
    "a proxy's page": (between.page(502), "not what an API server says"),
}


@pytest.mark.parametrize(("fault", "said"), ENDING.values(), ids=ENDING)
def test_what_stays_is_told_of_each_object(
    fault: Fault, said: str, home: Specimen, way: Between, through: Through
) -> None:
    home.apply()
    home.more = many(home, 60)
    from_write(way, 20, fault)
    failed = written(home, through(patience=2), home.plan())
    assert 24 <= len(failed) <= 40  # 20 were written, and those on their way may have been
    assert all(said in r.why for r in failed.values()), {r.why for r in failed.values()}
    assert len(way.asked) < 400, "and not tried for ever"
    way.rule = lambda handler: between.passes
    converges(home)


def test_a_conflict_that_stays_is_told_of_the_object_alone(home: Specimen, way: Between, through: Through) -> None:
    home.apply()
    id = home.id("ResourceQuota", "meshwright-quota")
    for each in (id, home.id("ClusterRole", f"{home.name}-reader", "")):
        home.patch(each, {"metadata": {"labels": {"app.kubernetes.io/part-of": "x"}}})
    conflict = status(409, "the object has been modified; please apply your changes to the latest version", "Conflict")
    way.rule = lambda handler: (
        conflict if "/meshwright-quota?" in handler.path and handler.command != "GET" else between.passes
    )
    failed = written(home, through(), home.plan())
    assert list(failed) == [id]
    assert "changed it again and again" in failed[id].why
    way.rule = lambda handler: between.passes
    converges(home)


def test_a_quota_that_nobody_has_counted_yet_is_waited_for(home: Specimen, way: Between, through: Through) -> None:
    home.apply()
    home.more = many(home, 3)
    way.rule = _unknown(way, 3)
    assert written(home, through(), home.plan()) == {}
    assert sum("/meshwright-1?" in path for _, path in way.asked) == 4


def test_but_not_for_ever(home: Specimen, way: Between, through: Through, monkeypatch: pytest.MonkeyPatch) -> None:
    home.apply()
    home.more = many(home, 3)
    monkeypatch.setattr(write, "QUOTA_SETTLES", 1.0)
    way.rule = _unknown(way, 1000)
    failed = written(home, through(), home.plan())
    assert list(failed) == [home.id("Role", "meshwright-1")]
    (result,) = failed.values()
    assert "status unknown for quota" in result.why
    assert "kube-controller-manager" in result.hint
    converges(home)


def _unknown(way: Between, times: int) -> Callable[[Handler], Fault]:
    left = times

    def rule(handler: Handler) -> Fault:
        nonlocal left
        if handler.command == "GET" or "/meshwright-1?" not in handler.path or not left:
            return between.passes
        left -= 1
        return status(403, UNKNOWN, "Forbidden")

    return rule


def test_who_lacks_a_right_is_told_of_each_object_and_does_the_rest(home: Specimen, cluster: ControlPlane) -> None:
    """He may make all but LimitRanges, and bind nothing."""
    home.apply()
    limits, binding = home.id("LimitRange", "meshwright-limits"), home.id("RoleBinding", "meshwright-admin")
    other = home.id("NetworkPolicy", "meshwright-dns")
    for id in (limits, binding, other):
        home.kubectl("delete", id.split("/")[1], id.split("/")[3], "-n", home.tenant)
    kinds = [kind.plural for kind in TABLE.values() if kind.plural != "limitranges"]
    rules = [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["list", "get"]},
        {"apiGroups": ["*"], "resources": [*kinds, "leases"], "verbs": ["create", "update", "patch", "delete"]},
    ]
    name = f"{home.name}-few"
    home.kubectl("create", "-f", "-", stdin=undeclared(home.name, "ClusterRole", name, "", {"rules": rules}))
    account = f"{home.access}:peer-ann"
    home.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount={account}")
    try:
        failed = written(home, cluster.as_(cluster.token(*account.split(":"))), home.plan())
    finally:
        home.kubectl("delete", "clusterrole,clusterrolebinding", name)
    assert failed.keys() == {limits, binding}
    assert "cannot patch resource" in failed[limits].why
    assert "rights" in failed[limits].hint
    assert failed[binding].why == f"not tried: it needs {limits} first"
    assert home.live(other)
    converges(home)


@contextmanager
def installed(home: Specimen, *objects: dict[str, Any]) -> Iterator[None]:
    for each in objects:
        home.kubectl("create", "-f", "-", stdin=each)
    try:
        yield
    finally:
        for each in objects:
            home.kubectl("delete", each["kind"], each["metadata"]["name"])


def _rule(group: str, resource: str) -> dict[str, Any]:
    return {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}


def test_a_policy_of_somebody_else_is_named(home: Specimen) -> None:
    home.apply()
    id, name = home.id("NetworkPolicy", "meshwright-dns"), f"{home.name}-house-rule"
    home.kubectl("delete", "networkpolicy", "-n", home.tenant, "meshwright-dns")
    policy = undeclared(home.name, "ValidatingAdmissionPolicy", name, "", {"apiVersion": CEL, "spec": {
        "matchConstraints": {"resourceRules": [_rule("networking.k8s.io", "networkpolicies")]},
        "validations": [{"expression": "false", "message": "we do that by hand"}],
    }})  # fmt: skip
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": home.tenant}}}
    spec = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    bound = undeclared(home.name, "ValidatingAdmissionPolicyBinding", name, "", {"apiVersion": CEL, "spec": spec})
    with installed(home, policy, bound):
        _until_refused(home, id, "we do that by hand")
        failed = written(home, home.control.connect(), home.plan())
        assert list(failed) == [id]
        assert "we do that by hand" in failed[id].why
        assert f"the admission policy {name} of this cluster refuses it" in failed[id].hint
    _until_refused(home, id, "we do that by hand", refused=False)
    converges(home)


def test_a_webhook_of_somebody_else_that_is_down_is_named(home: Specimen) -> None:
    home.apply()
    id, name = home.id("LimitRange", "meshwright-limits"), f"{home.name}-hook"
    home.kubectl("delete", "limitrange", "-n", home.tenant, "meshwright-limits")
    hook = {
        "name": "down.example.net", "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
        "clientConfig": {"url": "https://127.0.0.1:9/x"}, "rules": [_rule("", "limitranges")],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": home.tenant}},
    }  # fmt: skip
    body = {"apiVersion": CEL, "webhooks": [hook]}
    with installed(home, undeclared(home.name, "ValidatingWebhookConfiguration", name, "", body)):
        _until_refused(home, id, "down.example.net")
        failed = written(home, home.control.connect(), home.plan())
        assert list(failed) == [id]
        assert "the webhook down.example.net" in failed[id].hint
    _until_refused(home, id, "down.example.net", refused=False)
    converges(home)


def _until_refused(home: Specimen, id: str, said: str, refused: bool = True) -> None:
    """A policy or a webhook is in force a moment after it was written, and for a moment after it was deleted."""
    end = time.monotonic() + 20
    while True:
        manifest = home.wanted()[id].attrs
        done = home.control.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest).encode())
        if (said in done.stderr.decode()) is refused:
            return
        assert time.monotonic() < end, done.stderr
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("message", "code", "reason", "hint"),
    [
        ('admission webhook "w.example.net" denied the request: no', 403, "Forbidden", "the webhook w.example.net"),
        ('roles "x" is forbidden: exceeded quota: his, requested: a', 403, "Forbidden", "the quota his"),
        ("unable to create new content in namespace a because it is being terminated", 403, "Forbidden", "is gone"),
        ("attempting to grant RBAC permissions not currently held:", 403, "Forbidden", "cluster-admin"),
        ('Role "x" is invalid: type: Invalid value: "a": field is immutable', 422, "Invalid", "delete it"),
        ('namespaces "a" not found', 404, "NotFound", "make the namespace a first"),
        ("roles is forbidden: User cannot patch", 403, "Forbidden", "the rights of user"),
        ("Role is invalid: rules: Required value", 422, "Invalid", "correct what it names"),
    ],
)
def test_the_next_step_is_that_of_the_reason(
    message: str, code: int, reason: str, hint: str, way: Between, through: Through
) -> None:
    way.faults = [status(code, message, reason)]
    with pytest.raises(write.ClusterError) as raised:
        through().apply("/api/v1/namespaces/x", {}, manager="m")
    assert hint in raised.value.hint
    assert RBAC not in raised.value.hint
