"""audit on a real API server: a mesh as applied passes; each thing that should not be there fails its checks alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from controlplane import ControlPlane
from meshwright import discover
from meshwright.errors import ClusterError
from meshwright.events import Checked, Event, Progress, Started, silent
from meshwright.verify import audit
from tenancy import House, about, eventually, placed

pytestmark = pytest.mark.cluster

RBAC = "rbac.authorization.k8s.io"
AGGREGATE = f"{RBAC}/aggregate-to-"
STRANGERS = "bindings in the friends' namespaces name only who belongs there"
ELSEWHERE = "no other binding names somebody of the mesh"
CLIMBING = "nobody makes himself more in his own namespace"
TOKENS = "no Secret holds a token that never ends"
SERVICES = "no Service of a friend is open to the outside"
HOSTS = "no host name is claimed by two namespaces"
ANN, BEN, DEPLOYER = "rights of ann", "rights of ben", "rights of the deployer"


@pytest.fixture(scope="module")
def house(cluster: ControlPlane) -> Iterator[House]:
    """ann is admin of her namespace, ben has the restricted role in his, cid has the network only."""
    made = House(
        cluster,
        "audited",
        friends=("ann", "ben", "cid"),
        peers={"ben": {"tenant": {"role": "restricted"}}, "cid": {"namespace": None}},
        settings={"ingress": {"domain": "{namespace}.apps.example.net"}},
    )
    try:
        assert made.apply() == []
        yield made
    finally:
        made.gone()


def looked(house: House, tell: Callable[[Event], None] = silent) -> list[Checked]:
    with house.connected() as to:
        mesh = house.mesh
        return audit.run(mesh, discover.read(mesh, {}, to, house.now), to, tell)


def failed(house: House) -> dict[str, str]:
    """What each failed check saw."""
    found = looked(house)
    assert all(bool(check.hint) != check.ok for check in found), "who fails says what to do next"
    return {check.name: check.observed for check in found if not check.ok}


@contextmanager
def there(house: House, *manifests: dict[str, Any]) -> Iterator[None]:
    """Objects that the owner makes by hand, and takes away again."""
    try:
        house.make(*manifests)
        yield
    finally:
        for made in manifests:
            space = made["metadata"].get("namespace")
            where = ["-n", space] if space else []
            house.run("delete", made["kind"], made["metadata"]["name"], *where, "--ignore-not-found", "--now")


def bound(kind: str, name: str, role: tuple[str, str], *subjects: dict[str, str]) -> dict[str, Any]:
    ref = {"apiGroup": RBAC, "kind": role[0], "name": role[1]}
    return about(kind, name, f"{RBAC}/v1", roleRef=ref, subjects=list(subjects))


def account(space: str, name: str) -> dict[str, str]:
    return {"kind": "ServiceAccount", "namespace": space, "name": name}


def ruled(kind: str, name: str, group: str, resource: str, *verbs: str, **labels: str) -> dict[str, Any]:
    rules = [{"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}]
    made = about(kind, name, f"{RBAC}/v1", rules=rules)
    return {**made, "metadata": {**made["metadata"], "labels": labels}}


def added(name: str, to: str, group: str, resource: str, *verbs: str) -> dict[str, Any]:
    return ruled("ClusterRole", name, group, resource, *verbs, **{f"{AGGREGATE}{to}": "true"})


def test_a_mesh_as_it_was_applied_passes_and_every_question_is_counted(house: House) -> None:
    told: list[Event] = []
    found = looked(house, told.append)
    assert [check for check in found if not check.ok] == []
    names = [check.name for check in found]
    assert names[:4] == [ANN, BEN, "rights of cid, who has none", DEPLOYER]
    assert {STRANGERS, ELSEWHERE, CLIMBING, TOKENS, SERVICES, HOSTS} <= set(names)
    assert [event for event in told if isinstance(event, Checked)] == found
    asked = next(event.total for event in told if isinstance(event, Started) and event.total)
    counted = [event.done for event in told if isinstance(event, Progress)]
    assert counted == list(range(100, asked + 1, 100))
    assert asked == sum(int(n) for check in found[:4] for n in check.observed.split() if n.isdigit())


@dataclass(frozen=True)
class Sin:
    """made: objects made by hand. names: the checks that fail, each with what it has to say."""

    made: Callable[[House], list[dict[str, Any]]]
    names: dict[str, str]


def _friend(house: House) -> dict[str, str]:
    return account(f"{house.name}-access", "peer-ann")


def _robot(house: House) -> list[dict[str, Any]]:
    """A right to more rights, for an account of ann's own."""
    space = house.space("ann")
    role = ruled("Role", "ladder", RBAC, "roles", "escalate")
    return placed(space, role, bound("RoleBinding", "ladder", ("Role", "ladder"), account(space, "default")))


def _deployer(house: House) -> list[dict[str, Any]]:
    who = account("default", f"{house.name}-deployer")
    role = ruled("Role", "more", "", "secrets", "list")
    return placed(house.space("ann"), role, bound("RoleBinding", "more", ("Role", "more"), who))


SINS = {
    "a stranger in a friend's namespace": Sin(
        lambda house: placed(
            house.space("ann"),
            bound("RoleBinding", "guest", ("ClusterRole", "view"), {"apiGroup": RBAC, "kind": "User", "name": "eve"}),
        ),
        {STRANGERS: "RoleBinding audited-ann/guest gives view to User eve"},
    ),
    "a binding in the access namespace": Sin(
        lambda house: placed(
            f"{house.name}-access",
            bound("RoleBinding", "keys", ("ClusterRole", "edit"), account("kube-system", "robot")),
        ),
        {STRANGERS: "RoleBinding audited-access/keys gives edit to ServiceAccount kube-system/robot"},
    ),
    "a friend who is cluster-admin": Sin(
        lambda house: [bound("ClusterRoleBinding", "audited-all", ("ClusterRole", "cluster-admin"), _friend(house))],
        {
            ELSEWHERE: "ClusterRoleBinding audited-all gives cluster-admin to ServiceAccount audited-access/peer-ann",
            ANN: 'allowed by ClusterRoleBinding "audited-all"',
        },
    ),
    "a friend in a namespace of the owner's": Sin(
        lambda house: placed(
            "kube-system", bound("RoleBinding", "audited-peek", ("ClusterRole", "view"), _friend(house))
        ),
        {
            ELSEWHERE: "RoleBinding kube-system/audited-peek gives view to ServiceAccount audited-access/peer-ann",
            ANN: "may get configmaps in kube-system, get pods/log in kube-system, must not",
        },
    ),
    "everybody": Sin(
        lambda house: [
            bound(
                "ClusterRoleBinding",
                "audited-everybody",
                ("ClusterRole", "view"),
                {"apiGroup": RBAC, "kind": "Group", "name": "system:authenticated"},
            )
        ],
        {
            ELSEWHERE: "ClusterRoleBinding audited-everybody gives view to Group system:authenticated",
            **dict.fromkeys(
                (ANN, BEN, DEPLOYER, "rights of cid, who has none"), 'allowed by ClusterRoleBinding "audited-everybody"'
            ),
        },
    ),
    "secrets added to view": Sin(
        lambda house: [added("audited-secrets", "view", "", "secrets", "get", "list")],
        {"ClusterRole audited-secrets, added to view": "dangerous: secrets"},
    ),
    "monitors added to edit": Sin(
        lambda house: [added("audited-monitors", "edit", "monitoring.coreos.com", "servicemonitors", "create")],
        {
            "ClusterRole audited-monitors, added to edit": "dangerous: writing monitoring.coreos.com",
            ANN: "may create servicemonitors.monitoring.coreos.com in audited-ann, must not",
        },
    ),
    "a right to rights for his own account": Sin(
        _robot,
        {CLIMBING: "RoleBinding audited-ann/ladder gives escalate roles to ServiceAccount audited-ann/default"},
    ),
    "a deployer who lists Secrets": Sin(
        _deployer,
        {
            STRANGERS: "RoleBinding audited-ann/more gives more to ServiceAccount default/audited-deployer",
            DEPLOYER: "may list secrets in audited-ann, must not",
        },
    ),
    "an endless token": Sin(
        lambda house: placed(
            house.space("ann"),
            {
                **about("Secret", "forever", type="kubernetes.io/service-account-token"),
                "metadata": {"name": "forever", "annotations": {"kubernetes.io/service-account.name": "default"}},
            },
        ),
        {TOKENS: "Secret audited-ann/forever of ServiceAccount default"},
    ),
}


@pytest.mark.parametrize("sin", SINS.values(), ids=SINS)
def test_what_the_owner_made_by_hand_fails_its_checks_alone(house: House, sin: Sin) -> None:
    with there(house, *sin.made(house)):
        # controllers put aggregated roles together in their own time, and the authorizer hears of it later
        found = eventually(lambda: (said := failed(house)).keys() == sin.names.keys() and said)
    for name, text in sin.names.items():
        assert text in found[name]


def test_a_harmless_role_that_is_added_is_told_and_no_fault(house: House) -> None:
    with there(house, added("audited-metrics", "view", "metrics.k8s.io", "pods", "get", "list", "watch")):
        found = {check.name: check for check in looked(house)}
    told = found["ClusterRole audited-metrics, added to view"]
    assert told.ok
    assert told.observed == "reads metrics.k8s.io"


def test_a_wider_reader_and_a_missing_binding_are_seen_and_mended(house: House) -> None:
    rule = {"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"]}
    more = json.dumps([{"op": "add", "path": "/rules/-", "value": rule}])
    house.run("patch", "clusterrole", f"{house.name}-reader", "--type=json", "-p", more)
    found = eventually(lambda: (said := failed(house)).keys() == {ANN, BEN} and said)
    assert 'may get nodes/proxy in the whole cluster, must not (RBAC: allowed by ClusterRoleBinding "a' in found[ANN]
    assert house.apply() == []

    house.run("delete", "rolebinding", "meshwright-admin", "-n", house.space("ben"))
    found = eventually(lambda: (said := failed(house)).keys() == {BEN} and "may not" in said[BEN] and said)
    assert found[BEN].startswith(
        "may not create configmaps in audited-ben, create persistentvolumeclaims in audited-ben"
    )
    assert "has to" in found[BEN]
    assert house.apply() == []
    assert eventually(lambda: not failed(house))


@contextmanager
def walls_down(house: House, friend: str) -> Iterator[None]:
    """The moment before the walls stood: what is made now was there before them."""
    space = house.space(friend)
    house.run("label", "namespace", space, "meshwright.io/admission-")
    quota = '{"spec": {"hard": {"services.nodeports": "5"}}}'
    house.run("patch", "resourcequota", "meshwright-quota", "-n", space, "--type=merge", "-p", quota)
    yield
    assert house.apply() == []


def _eventually_made(house: House, manifest: dict[str, Any]) -> None:
    def tried() -> bool:
        try:
            house.make(manifest)
        except AssertionError:
            return False
        return True

    eventually(tried)


def test_an_open_service_and_a_host_of_another_are_named(house: House) -> None:
    port = {"port": 80}
    (service,) = placed(house.space("ann"), about("Service", "web", spec={"type": "NodePort", "ports": [port]}))
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = {"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    rules = [{"host": "audited-ben.apps.example.net", **paths}]
    ingress = about("Ingress", "web", "networking.k8s.io/v1", spec={"rules": rules})
    (hers,), (his,) = placed(house.space("ann"), ingress), placed(house.space("ben"), ingress)
    with walls_down(house, "ann"):
        _eventually_made(house, service)
        _eventually_made(house, hers)
    found = failed(house)
    assert found == {SERVICES: "Service audited-ann/web: NodePort"}, "a host that nobody else has is no fault"
    house.make(his)
    found = failed(house)
    assert found.keys() == {SERVICES, HOSTS}
    assert found[HOSTS] == "audited-ben.apps.example.net by audited-ann and audited-ben"
    house.run("delete", "service,ingress", "web", "-n", house.space("ann"))
    assert failed(house) == {}
    house.run("delete", "ingress", "web", "-n", house.space("ben"))


def test_who_is_out_may_do_nothing_and_what_somebody_gives_him_is_seen(house: House) -> None:
    gone, named = "rights of ben, who has none", "the account of ben, who is out"
    house.out.add("ben")
    try:
        assert house.apply() == []
        assert eventually(lambda: not failed(house))
        his = account(f"{house.name}-access", "peer-ben")
        with there(house, *placed(house.space("ben"), bound("RoleBinding", "back", ("ClusterRole", "view"), his))):
            found = eventually(lambda: (said := failed(house)).keys() == {gone, named, STRANGERS} and said)
            assert "may get configmaps in audited-ben" in found[gone]
    finally:
        house.out.discard("ben")
        assert house.apply() == []


def test_whoever_may_not_ask_is_told_so_at_once(house: House) -> None:
    friend = house.control.as_(house.control.token(f"{house.name}-access", "peer-ann"))
    with house.connected() as to:
        facts = discover.read(house.mesh, {}, to, house.now)
    with pytest.raises(ClusterError) as refused:
        audit.run(house.mesh, facts, friend, silent)
    friend.close()
    assert refused.value.status == 403
    assert refused.value.hint.startswith("whoever audits needs the right to create subjectaccessreviews")


def test_people_of_an_identity_provider_are_asked_about_by_their_names(cluster: ControlPlane) -> None:
    oidc = {"issuer_url": "https://id.example.net", "client_id": "k", "username_prefix": "oidc:"}
    settings = {"access": {"namespace": "auditoidc-access", "issuer": "oidc", "oidc": oidc}}
    house = House(cluster, "auditoidc", friends=("ann",), settings=settings)
    try:
        assert house.apply() == []
        assert failed(house) == {}
        eve = bound(
            "ClusterRoleBinding",
            "auditoidc-all",
            ("ClusterRole", "edit"),
            {"apiGroup": RBAC, "kind": "User", "name": "oidc:ann"},
        )
        with there(house, eve):
            found = eventually(lambda: failed(house))
        assert found.keys() == {ANN, ELSEWHERE}
        assert "edit to User oidc:ann" in found[ELSEWHERE]
    finally:
        house.gone()


def test_what_is_around_is_told(house: House) -> None:
    node = {**about("Node", "n"), "status": {"nodeInfo": {"kubeletVersion": "v1.36.3+k3s1"}}}
    image = "rancher/local-path-provisioner:v0.0.31"
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "audited"}},
        "template": {
            "metadata": {"labels": {"app": "audited"}},
            "spec": {"containers": [{"name": "c", "image": image}]},
        },
    }
    (store,) = placed("kube-system", about("Deployment", "audited-local-path", "apps/v1", spec=spec))
    with there(house, store):
        with house.connected() as to:
            made = to.create("/api/v1/nodes", node)
        assert made["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3+k3s1"
        try:
            found = {check.name: check for check in looked(house)}
        finally:
            house.run("delete", "node", "n")
    assert all(check.ok for check in found.values())
    assert "k3s may put a load balancer's port on n" in found["load balancers stay off the hub"].observed
    assert image in found["local-path-provisioner"].observed
    assert "bring it up to date" in found["local-path-provisioner"].observed
