"""What the cluster should hold: rights, walls, and the order in which they stand."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from meshwright.desired import kubernetes, monitoring
from meshwright.desired.facts import ClusterFacts, Facts
from meshwright.desired.kubernetes.roles import READER, RESTRICTED
from meshwright.desired.resource import Resource, collect
from meshwright.errors import SpecError
from meshwright.spec import boxes, egress, load, policy
from meshwright.spec.model import Mesh, Test
from meshwright.spec.quantity import canonical
from meshwright.spec.walls import walls

NOW = datetime(2026, 11, 23, tzinfo=UTC)
CASES = Path(__file__).parents[1] / "cases"
FRIENDS = ("hamilton", "bryce", "jake", "steve")
SPACES = {"hamilton": "ham", "bryce": "bryce", "jake": "jake", "steve": "steve"}


def mesh(**more: Any) -> Mesh:
    """A small mesh; `more` are sections of the file, None takes one away."""
    sections: dict[str, Any] = {
        "version": 1,
        "name": "friends",
        "hub": {"node": "home", "address": "192.168.20.20", "interface": "wg0", "endpoint": "vpn.example.net:51820"},
        "network": {
            "cidr": ["10.100.0.0/16"],
            "hub": ["10.100.0.1"],
            "routes": {"nodes": ["192.168.20.0/24"], "services": ["10.43.0.0/16"]},
        },
        "peers": {
            "alice": {"address": ["10.100.1.1"], "namespace": "alice"},
            "bob": {"address": ["10.100.1.2"], "namespace": "bob", "groups": ["gamers"]},
            "carl": {"address": ["10.100.1.3"]},
        },
        "kubernetes": {},
        "observability": {},
    }
    return Mesh.model_validate({key: value for key, value in (sections | more).items() if value is not None})


def built(what: Mesh, **services: str) -> dict[str, Resource]:
    known = {name: (ip_address(address),) for name, address in services.items()}
    facts = Facts(NOW, known, cluster=ClusterFacts("1.36"))
    return collect([*kubernetes.build(what, facts), *monitoring.build(what, facts)])


def reference() -> dict[str, Resource]:
    return built(load.load(CASES / "reference" / "mesh.yaml", NOW).mesh)


def pairs(rules: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


def blocks(resource: Resource, way: str) -> list[dict[str, Any]]:
    peers = [peer for rule in resource.attrs["spec"][way] for peer in rule["to" if way == "egress" else "from"]]
    return [peer["ipBlock"] for peer in peers if "ipBlock" in peer]


# the cluster reader, R14

NEVER_READ = (
    "secrets configmaps nodes/proxy nodes/log nodes/metrics nodes/stats nodes/configz pods/exec "
    "pods/attach pods/log pods/portforward pods/proxy pods/ephemeralcontainers services/proxy "
    "serviceaccounts/token certificatesigningrequests helmcharts helmchartconfigs applications "
    "helmreleases kustomizations externalsecrets *"
)
MUST_READ = {
    "": "nodes namespaces persistentvolumes pods services endpoints persistentvolumeclaims serviceaccounts"
    " resourcequotas limitranges events",
    "storage.k8s.io": "storageclasses",
    "networking.k8s.io": "ingressclasses ingresses networkpolicies",
    "scheduling.k8s.io": "priorityclasses",
    "node.k8s.io": "runtimeclasses",
    "apiextensions.k8s.io": "customresourcedefinitions",
    "apiregistration.k8s.io": "apiservices",
    "admissionregistration.k8s.io": "validatingadmissionpolicies validatingadmissionpolicybindings",
    "metrics.k8s.io": "nodes pods",
    "apps": "deployments replicasets statefulsets daemonsets",
    "batch": "jobs cronjobs",
    "autoscaling": "horizontalpodautoscalers",
    "policy": "poddisruptionbudgets",
    "discovery.k8s.io": "endpointslices",
    "coordination.k8s.io": "leases",
    "rbac.authorization.k8s.io": "roles rolebindings clusterroles clusterrolebindings",
    "monitoring.coreos.com": "servicemonitors podmonitors prometheusrules",
}


def test_the_reader_only_reads_and_never_what_holds_a_secret_or_runs_a_command() -> None:
    reads = pairs(READER)
    assert {verb for _, verb in reads} == {"get", "list", "watch"}
    assert not {resource for resource, _ in reads} & set(NEVER_READ.split())
    assert not any("/" in resource or "*" in resource for resource, _ in reads)
    assert not any("*" in group or group == "helm.cattle.io" for rule in READER for group in rule["apiGroups"])


def test_the_reader_sees_what_makes_the_cluster_understandable() -> None:
    seen = {(g, r): set(rule["verbs"]) for rule in READER for g in rule["apiGroups"] for r in rule["resources"]}
    for group, names in MUST_READ.items():
        for name in names.split():
            assert seen[group, name] == {"get", "list", "watch"}


def test_roles_are_explicit() -> None:
    roles = [r.attrs for r in reference().values() if r.attrs["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        assert "aggregationRule" not in role
        assert not any(word.startswith("aggregate-to") for word in role["metadata"]["labels"])
        assert "*" not in json.dumps(role)


WRITES = ("create", "update", "patch", "delete", "deletecollection")


def test_the_restricted_role_cannot_widen_itself() -> None:
    may = pairs(RESTRICTED)
    walls = "networkpolicies roles rolebindings resourcequotas limitranges namespaces endpoints endpointslices"
    assert not may & {(resource, verb) for resource in walls.split() for verb in (*WRITES, "bind", "escalate")}
    assert not {resource for resource, _ in may} & {"serviceaccounts/token", "pods/proxy", "services/proxy", "*"}
    assert "impersonate" not in {verb for _, verb in may}
    assert {("pods", "create"), ("secrets", "patch"), ("deployments", "delete"), ("pods/exec", "create")} <= may


# bindings and the deployer, R12, R13


def test_each_friend_is_admin_of_his_namespace_and_reads_the_cluster() -> None:
    objects = reference()
    for friend, space in SPACES.items():
        binding = objects[f"kubernetes/rolebinding/{space}/meshwright-admin"].attrs
        assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"}
        account = {"kind": "ServiceAccount", "name": f"peer-{friend}", "namespace": "collective-access"}
        assert binding["subjects"] == [account]
        assert account in objects["kubernetes/clusterrolebinding/hamilton-cluster-reader"].attrs["subjects"]
        assert (
            objects[f"kubernetes/serviceaccount/collective-access/peer-{friend}"].attrs["automountServiceAccountToken"]
            is False
        )


def test_the_deployer_writes_its_own_secrets_by_name_and_nothing_else() -> None:
    objects = reference()
    assert "kubernetes/serviceaccount/default/collective-deployer" in objects
    subject = {"kind": "ServiceAccount", "name": "collective-deployer", "namespace": "default"}
    holding = {
        id for id, r in objects.items() if "Binding" in r.attrs["kind"] and subject in r.attrs.get("subjects", [])
    }
    assert holding == {f"kubernetes/rolebinding/{space}/meshwright-deployer" for space in SPACES.values()}
    for friend, space in SPACES.items():
        role = objects[f"kubernetes/role/{space}/meshwright-deployer"].attrs
        names = [f"wireguard-{friend}"]
        assert role["rules"] == [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["patch"]}
        ]
        secret = objects[f"kubernetes/secret/{space}/wireguard-{friend}"].attrs
        assert secret["type"] == "Opaque"
        assert not {"data", "stringData"} & set(secret)


def test_a_device_that_is_out_keeps_its_secret_and_the_deployer_loses_it() -> None:
    devices = {"home": {"address": ["10.100.1.1"]}, "phone": {"address": ["10.100.1.2"], "disabled": True}}
    objects = built(mesh(peers={"alice": {"devices": devices, "namespace": "alice"}}))
    assert {"wireguard-alice-home", "wireguard-alice-phone"} <= {id.rpartition("/")[2] for id in objects}
    rule = objects["kubernetes/role/alice/meshwright-deployer"].attrs["rules"][0]
    assert rule["resourceNames"] == ["wireguard-alice-home"]


def test_with_oidc_the_friend_is_a_user_and_has_no_account() -> None:
    oidc = {"issuer_url": "https://id.example.net", "client_id": "k", "username_prefix": "oidc:"}
    objects = built(mesh(kubernetes={"access": {"issuer": "oidc", "oidc": oidc}}))
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "oidc:alice"}
    assert objects["kubernetes/rolebinding/alice/meshwright-admin"].attrs["subjects"] == [user]
    assert user in objects["kubernetes/clusterrolebinding/mesh-reader"].attrs["subjects"]
    assert not [id for id in objects if id.endswith("/peer-alice")]
    notes = objects["kubernetes/namespace/alice"].attrs["metadata"]["annotations"]
    assert notes == {"meshwright.io/user": "oidc:alice"}


@pytest.mark.parametrize("out", [{"disabled": True}, {"expires": "2026-11-01"}])
def test_who_is_out_has_no_rights_and_no_account(out: dict[str, Any]) -> None:
    peers = {"alice": {"address": ["10.100.1.1"], "namespace": "alice", **out}}
    objects = built(mesh(peers=peers))
    assert not [id for id in objects if "alice" in id]
    assert not [id for id in objects if id.startswith("kubernetes/clusterrolebinding/mesh-reader")]


# namespaces, R15


def test_a_namespace_pins_pod_security_in_all_modes() -> None:
    labels = reference()["kubernetes/namespace/ham"].attrs["metadata"]["labels"]
    security = {key.partition("/")[2]: value for key, value in labels.items() if key.startswith("pod-security")}
    modes = ("enforce", "audit", "warn")
    assert security == {mode: "restricted" for mode in modes} | {f"{mode}-version": "v1.36" for mode in modes}
    assert labels["meshwright.io/peer"] == "hamilton"
    assert labels["meshwright.io/admission"] == "enforced"


@pytest.mark.parametrize(
    ("said", "cluster", "pinned"),
    [("1.34", "1.36", "v1.34"), ("v1.34.2", None, "v1.34"), (None, "1.36+", "v1.36"), (None, None, "latest")],
)
def test_which_release_is_pinned(said: str | None, cluster: str | None, pinned: str) -> None:
    facts = Facts(NOW, cluster=ClusterFacts(cluster) if cluster else None)
    objects = collect(kubernetes.build(mesh(kubernetes={"version": said}), facts))
    labels = objects["kubernetes/namespace/alice"].attrs["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce-version"] == pinned


def test_only_a_namespace_of_a_friend_names_a_peer() -> None:
    assert "meshwright.io/peer" not in reference()["kubernetes/namespace/collective-access"].attrs["metadata"]["labels"]


# walls


def test_a_friends_own_walls_win_key_by_key() -> None:
    said = {"quota": {"pods": 60}, "egress": "none"}
    whole = mesh(
        kubernetes={"tenant": {"quota": {"cpu": "2", "pods": 10}, "role": "restricted", "egress": ["8.8.8.0/24"]}},
        peers={
            "alice": {"address": ["10.100.1.1"], "namespace": "alice", "tenant": said},
            "bob": {"address": ["10.100.1.2"], "namespace": "bob"},
        },
    )
    assert whole.kubernetes
    alice, bob = (walls(whole.kubernetes, whole.peers[name]) for name in ("alice", "bob"))
    assert (alice.cpu, alice.pods, alice.memory, alice.role, alice.egress) == ("2", 60, "8Gi", "restricted", "none")
    assert (bob.cpu, bob.pods, bob.egress) == ("2", 10, (ip_network("8.8.8.0/24"),))
    objects = built(whole)
    binding = objects["kubernetes/rolebinding/alice/meshwright-admin"].attrs
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("Role", "meshwright-tenant")
    assert "kubernetes/networkpolicy/alice/meshwright-egress" not in objects


def test_a_wall_that_is_off_is_not_there() -> None:
    off = {"network_policy": False, "admission": False}
    peers = {"alice": {"address": ["10.100.1.1"], "namespace": "alice", "tenant": off}}
    objects = built(mesh(peers=peers))
    assert not [id for id in objects if id.startswith("kubernetes/networkpolicy/")]
    assert "meshwright.io/admission" not in objects["kubernetes/namespace/alice"].attrs["metadata"]["labels"]


def test_nothing_of_a_friend_opens_a_port_of_a_node() -> None:
    hard = reference()["kubernetes/resourcequota/ham/meshwright-quota"].attrs["spec"]["hard"]
    assert (hard["services.nodeports"], hard["services.loadbalancers"]) == ("0", "0")
    assert (hard["requests.cpu"], hard["limits.memory"], hard["pods"]) == ("4", "8Gi", "30")
    counted = "secrets configmaps jobs.batch cronjobs.batch ingresses.networking.k8s.io leases.coordination.k8s.io"
    assert {f"count/{kind}" for kind in counted.split()} <= set(hard)
    assert {"persistentvolumeclaims", "requests.storage", "requests.ephemeral-storage"} <= set(hard)


def test_whatever_the_quota_asks_for_a_container_gets_by_default() -> None:
    objects = reference()
    hard = objects["kubernetes/resourcequota/ham/meshwright-quota"].attrs["spec"]["hard"]
    (container,) = objects["kubernetes/limitrange/ham/meshwright-limits"].attrs["spec"]["limits"]
    for part, key in (("limits", "default"), ("requests", "defaultRequest")):
        asked = {name.partition(".")[2] for name in hard if name.startswith(f"{part}.") and name != "requests.storage"}
        assert asked == set(container[key])


# network policies

PRIVATE = (
    "10.1.2.3 172.31.0.1 192.168.1.1 100.64.0.1 169.254.169.254 127.0.0.1 0.0.0.0 192.0.2.1 198.51.100.1 "
    "203.0.113.1 198.18.0.1 224.0.0.1 255.255.255.255 ::1 fe80::1 fc00::1 fd00::1 ff02::1 2001:db8::1 "
    "64:ff9b::a00:1 2002:a00::1 2001::1 ::ffff:10.0.0.1"
)
PUBLIC = ("1.1.1.1", "8.8.8.8", "193.0.0.1", "2606:4700::1111", "2a00:1450::1")


def reaches(resource: Resource, address: str) -> bool:
    there = ip_address(address)
    return any(
        there in ip_network(block["cidr"]) and not any(there in ip_network(hole) for hole in block.get("except", ()))
        for block in blocks(resource, "egress")
    )


def test_internet_means_public_addresses_only() -> None:
    out = reference()["kubernetes/networkpolicy/jake/meshwright-egress"]
    assert [address for address in PRIVATE.split() if reaches(out, address)] == []
    assert [address for address in PUBLIC if not reaches(out, address)] == []


def test_the_meshs_own_networks_are_not_the_internet_even_where_they_are_public() -> None:
    network = {"cidr": ["8.8.0.0/24"], "hub": ["8.8.0.1"], "routes": {"nodes": ["9.9.9.0/24"], "all": ["0.0.0.0/0"]}}
    hub = {"node": "home", "address": "7.7.7.7", "interface": "wg0", "endpoint": "vpn.example.net:51820"}
    peers = {"alice": {"address": ["8.8.0.2"], "namespace": "alice", "lan": ["6.6.6.0/24"]}}
    out = built(mesh(network=network, hub=hub, peers=peers))["kubernetes/networkpolicy/alice/meshwright-egress"]
    assert [a for a in ("8.8.0.9", "9.9.9.9", "7.7.7.7", "6.6.6.6") if reaches(out, a)] == []
    assert reaches(out, "7.7.7.8")


def test_who_reaches_a_friends_pods_over_the_mesh() -> None:
    whole = mesh(
        services={
            "jelly": {"kubernetes": "alice/jelly", "ports": ["8096/tcp"]},
            "web": {"kubernetes": "bob/web", "ports": ["80/tcp"]},
        },
        policy={
            "allow": [
                {"from": ["gamers"], "to": ["jelly"]},
                {"from": ["carl"], "to": ["services"], "ports": ["80/tcp"]},
                {"from": ["any"], "to": ["jelly"], "ports": ["icmp"]},
            ]
        },
        network={
            "cidr": ["10.100.0.0/24"],
            "hub": ["10.100.0.1"],
            "routes": {"services": ["10.43.0.0/16"], "nodes": ["192.168.20.0/24"]},
        },
        peers={
            "alice": {"address": ["10.100.0.2"], "namespace": "alice", "lan": ["172.20.0.0/24"]},
            "bob": {"address": ["10.100.0.3"], "namespace": "bob", "groups": ["gamers"]},
            "carl": {"address": ["10.100.0.4"]},
        },
    )
    objects = built(whole, jelly="10.43.0.7", web="10.43.0.8")
    came = {
        name: {
            block["cidr"] for block in blocks(objects[f"kubernetes/networkpolicy/{name}/meshwright-mesh"], "ingress")
        }
        for name in ("alice", "bob")
    }
    # bob by his address, carl by the port of the Service, the hub; never the house, whatever `any` says
    assert came["bob"] == {"10.100.0.1/32", "10.100.0.3/32", "10.100.0.4/32", "192.168.20.20/32"}
    assert came["alice"] == {"10.100.0.0/24", "172.20.0.0/24", "192.168.20.20/32"}


def test_what_a_closed_namespace_says() -> None:
    spec = reference()["kubernetes/networkpolicy/jake/meshwright-default-deny"].attrs["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


# monitors, R17 to R19


def test_monitors_of_every_friend() -> None:
    objects = reference()
    found = {id for id in objects if id.startswith(("kubernetes/servicemonitor/", "kubernetes/podmonitor/"))}
    found.remove("kubernetes/servicemonitor/wireguard-exporter/wireguard-exporter")
    assert found == {f"kubernetes/servicemonitor/{s}/{s}-autodiscover" for s in SPACES.values()} | {
        f"kubernetes/podmonitor/{s}/{s}-pods" for s in SPACES.values()
    }
    for id in found:
        attrs = objects[id].attrs
        spec = attrs["spec"]
        assert spec["selector"] == {"matchLabels": {"prometheus.io/scrape": "true"}}
        assert spec["namespaceSelector"] == {"matchNames": [attrs["metadata"]["namespace"]]}
    relabeling = objects["kubernetes/podmonitor/ham/ham-pods"].attrs["spec"]["podMetricsEndpoints"][0]["relabelings"]
    assert {"action": "replace", "replacement": "hamilton", "targetLabel": "tenant"} in relabeling


@pytest.mark.parametrize(
    ("said", "interval", "most"), [("30s", "30s", "10s"), ("5s", "5s", "2s500ms"), ("30s1m", "1m30s", "10s")]
)
def test_a_scrape_ends_before_the_next(said: str, interval: str, most: str) -> None:
    objects = built(mesh(observability={"interval": said}))
    (endpoint,) = objects["kubernetes/podmonitor/alice/alice-pods"].attrs["spec"]["podMetricsEndpoints"]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == (interval, most)


def test_without_observability_nothing_watches() -> None:
    assert not [id for id in built(mesh(observability=None)) if "monitor" in id]


# order


def before(objects: dict[str, Resource], id: str) -> set[str]:
    """Everything that stands before it."""
    found: set[str] = set()
    todo = list(objects[id].after)
    while todo:
        base = todo.pop()
        if base not in found and base in objects:
            found.add(base)
            todo += objects[base].after
    return found


OWN_ROLE = {
    "meshwright-admin": ("kubernetes/role/alice/meshwright-tenant",),
    "meshwright-deployer": ("kubernetes/role/alice/meshwright-deployer",),
}


def test_nobody_has_rights_before_his_walls_stand() -> None:
    objects = built(mesh(kubernetes={"tenant": {"role": "restricted"}}))
    everywhere = {id for id in objects if id.startswith("kubernetes/validatingadmissionpolicybinding/")}
    assert everywhere
    for name in ("meshwright-admin", "meshwright-deployer"):
        first = before(objects, f"kubernetes/rolebinding/alice/{name}")
        walls = {
            id
            for id, r in objects.items()
            if r.attrs["metadata"].get("namespace") == "alice"
            and (r.attrs["kind"] in ("NetworkPolicy", "LimitRange", "ServiceAccount") or id in OWN_ROLE[name])
        }
        assert walls | everywhere | {"kubernetes/resourcequota/alice/meshwright-quota"} <= first
    assert "kubernetes/serviceaccount/collective-access/peer-alice" in before(
        objects, "kubernetes/rolebinding/alice/meshwright-admin"
    )
    assert everywhere <= before(objects, "kubernetes/clusterrolebinding/mesh-reader")


def test_a_new_quota_refuses_nothing_of_ours() -> None:
    """A quota that no controller has seen yet refuses what it counts: so what comes after it is counted by none."""
    objects = reference()
    plural = {
        "Secret": "secrets",
        "Role": "roles.",
        "RoleBinding": "rolebindings.",
        "ServiceAccount": "serviceaccounts",
    }
    plural |= {"NetworkPolicy": "networkpolicies.", "LimitRange": "-", "ResourceQuota": "-", "Namespace": "-"}
    plural |= {"ServiceMonitor": "-", "PodMonitor": "-"}
    for id, quota in objects.items():
        if quota.attrs["kind"] != "ResourceQuota":
            continue
        first = before(objects, id)
        counted = [key.removeprefix("count/") for key in quota.attrs["spec"]["hard"]]
        for other, resource in objects.items():
            if other in first or resource.attrs["metadata"].get("namespace") != quota.attrs["metadata"]["namespace"]:
                continue
            assert not [key for key in counted if key.startswith(plural[resource.attrs["kind"]])], (id, other)


# a friend's own pods


@pytest.mark.parametrize(("egress_", "leaks"), [("10.42.7.0/24", True), ("10.44.7.0/24", False)])
def test_who_may_dial_pods_may_dial_services(egress_: str, leaks: bool) -> None:
    """A Service leads to a pod, and it is the pod that NetworkPolicy sees."""
    routes = {"pods": ["10.42.0.0/16"], "services": ["10.43.0.0/16"]}
    network = {"cidr": ["10.100.0.0/16"], "hub": ["10.100.0.1"], "routes": routes}
    judge = policy.Judge(mesh(network=network, kubernetes={"tenant": {"egress": [egress_]}}), {}, NOW)
    test = Test.model_validate({"from": "alice", "to": "services", "expect": "deny"})
    assert (egress.Pods(judge.names, judge.grants).leak(test) is not None) is leaks


def test_a_denied_test_speaks_of_his_pods_too() -> None:
    def leak(test: dict[str, str], **tenant: Any) -> egress.Leak | None:
        peers = {
            "alice": {"address": ["10.100.1.1"], "namespace": "alice", "tenant": tenant},
            "bob": {"address": ["10.100.1.2"], "namespace": "bob"},
            "carl": {"address": ["10.100.1.3"]},
        }
        judge = policy.Judge(mesh(peers=peers), {}, NOW)
        return egress.Pods(judge.names, judge.grants).leak(Test.model_validate(test))

    nodes = {"from": "alice", "to": "nodes", "port": "22/tcp", "expect": "deny"}
    assert leak(nodes) is None
    assert leak(nodes, egress=["192.168.20.0/28"]) == ("alice", ip_address("192.168.20.0"))
    assert leak(nodes | {"from": "peers"}, egress=["192.168.20.0/28"]) == ("alice", ip_address("192.168.20.0"))
    assert leak(nodes | {"expect": "allow"}, egress=["192.168.20.0/28"]) is None
    assert leak(nodes | {"from": "bob"}, egress=["192.168.20.0/28"]) is None
    assert leak(nodes | {"from": "carl"}, egress=["192.168.20.0/28"]) is None
    assert leak(nodes, network_policy=False) == ("alice", ip_address("192.168.20.0"))
    assert leak(nodes | {"to": "9.9.9.9/32"}) == ("alice", ip_address("9.9.9.9"))
    assert leak(nodes | {"to": "9.9.9.9/32"}, egress="none") is None
    # the hub's firewall stops a pod that dials a friend, whatever its NetworkPolicy says; the hub itself it may dial
    assert leak(nodes | {"to": "bob"}, network_policy=False) is None
    assert leak(nodes | {"to": "hub"}, network_policy=False) == ("alice", ip_address("10.100.0.1"))


def test_reach_is_what_the_policy_opens() -> None:
    """What check judges and what the NetworkPolicy says are the same addresses."""
    whole = mesh()
    assert whole.kubernetes
    spans = egress.reach(whole, walls(whole.kubernetes, whole.peers["alice"]))
    out = built(whole)["kubernetes/networkpolicy/alice/meshwright-egress"]
    for address in (*PRIVATE.split(), *PUBLIC):
        there = ip_address(address)
        assert bool(boxes.overlap((boxes.host(there),), spans)) == reaches(out, address)


# whatever check accepts

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
AMOUNTS = st.builds(
    lambda n, s: f"{n}{s}", st.integers(0, 4096), st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi", ".5"])
)
TENANTS = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["admin", "restricted"]),
        "quota": st.fixed_dictionaries(
            {}, optional={"cpu": AMOUNTS, "memory": AMOUNTS, "storage": AMOUNTS, "pods": st.integers(0, 10_000)}
        ),
        "limits": st.fixed_dictionaries({}, optional={"cpu": AMOUNTS, "memory": AMOUNTS}),
        "egress": st.sampled_from(["internet", "none", [], ["192.0.2.0/24", "fd00::/8"], ["0.0.0.0/0", "::/0"]]),
        "network_policy": st.booleans(),
        "admission": st.booleans(),
        "storage_classes": st.lists(st.text(max_size=8), max_size=2),
        "registries": st.lists(st.text(max_size=8), max_size=2),
    },
)
DEVICES = st.dictionaries(LABELS, st.fixed_dictionaries({"disabled": st.booleans()}), min_size=1, max_size=3)
PEERS = st.dictionaries(
    LABELS,
    st.fixed_dictionaries({"devices": DEVICES, "namespace": LABELS}, optional={"tenant": TENANTS}),
    min_size=1,
    max_size=4,
)
CLUSTERS = st.fixed_dictionaries(
    {},
    optional={
        "reader": LABELS,
        "tenant": TENANTS,
        "access": st.fixed_dictionaries({"namespace": LABELS}),
        "deployer": st.fixed_dictionaries({"name": LABELS, "namespace": LABELS}),
        "pod_security": st.sampled_from(["restricted", "baseline", "privileged"]),
        "ingress": st.fixed_dictionaries(
            {}, optional={"domain": st.one_of(st.text(max_size=9), st.just("{namespace}.apps.example.net"))}
        ),
    },
)
WATCHES = st.none() | st.fixed_dictionaries(
    {"release": st.one_of(LABELS, st.text(max_size=5)), "interval": st.sampled_from(["30s", "1s", "0s", "1d1h", "90m"])}
)
_name = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?").fullmatch
_value = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?").fullmatch


def sound(resource: Resource) -> None:
    """As far as can be seen without a server."""
    attrs = resource.attrs
    meta = attrs["metadata"]
    assert _name(meta["name"])
    assert len(meta.get("namespace", "")) <= 63
    assert all(_value(value) for value in meta["labels"].values())
    assert all(value.isprintable() for value in meta.get("annotations", {}).values())
    assert meta["labels"]["meshwright.io/mesh"] == "friends"
    if attrs["kind"] == "ResourceQuota":
        assert all(canonical(amount) == amount for amount in attrs["spec"]["hard"].values())
    if attrs["kind"] == "NetworkPolicy":
        for way in ("ingress", "egress"):
            for block in blocks(resource, way) if way in attrs["spec"] else ():
                assert all(ip_network(hole).subnet_of(ip_network(block["cidr"])) for hole in block.get("except", ()))


@settings(max_examples=150)
@given(PEERS, CLUSTERS, WATCHES)
def test_what_check_accepts_makes_sound_objects(
    peers: dict[str, Any], cluster: dict[str, Any], watch: dict[str, Any] | None
) -> None:
    number = iter(range(2, 250))
    for peer in peers.values():
        for device in peer["devices"].values():
            device["address"] = f"10.100.1.{next(number)}"
    text = json.dumps(
        {
            "version": 1,
            "name": "friends",
            "hub": {"node": "h", "address": "192.168.20.20", "interface": "wg0", "endpoint": "vpn.example.net:51820"},
            "network": {"cidr": "10.100.0.0/16", "hub": "10.100.0.1"},
            "peers": peers,
            "kubernetes": cluster,
            **({"observability": watch} if watch else {}),
        },
        ensure_ascii=True,
    )
    try:
        accepted = load.load_text(text, "mesh.yaml", NOW).mesh
    except SpecError:
        assume(False)
    objects = built(accepted)
    assert accepted.kubernetes
    elsewhere = {f"kubernetes/namespace/{name}" for name in (accepted.kubernetes.deployer.namespace, "monitoring")}
    for resource in objects.values():
        sound(resource)
        assert {base for base in resource.after if base not in objects} <= elsewhere
