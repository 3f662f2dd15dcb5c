"""What NetworkPolicies let a tenant's pods dial: policies one by one, and against the plainest reading of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright.desired import kubernetes
from meshwright.desired.facts import ClusterFacts, Facts
from meshwright.desired.names import DEFAULT_DENY
from meshwright.events import Checked
from meshwright.spec import boxes, egress, policy
from meshwright.spec.model import Mesh
from meshwright.verify import netpol, pods
from meshwright.verify.netpol import Ground, Opening

NOW = datetime(2026, 11, 23, tzinfo=UTC)
FACTS = Facts(NOW, cluster=ClusterFacts("1.36"))
BOTH = ["Ingress", "Egress"]
NAMESPACES = {
    "jake": {"kubernetes.io/metadata.name": "jake", "team": "friends"},
    "ben": {"kubernetes.io/metadata.name": "ben", "team": "friends"},
    "media": {"kubernetes.io/metadata.name": "media"},
    "kube-system": {"kubernetes.io/metadata.name": "kube-system"},
}


def spans(*networks: str) -> tuple[boxes.Span, ...]:
    return boxes.merge(boxes.span(ip_network(network)) for network in networks)


GROUND = Ground(
    NAMESPACES,
    spans("10.42.0.0/16"),
    spans("10.43.0.0/16"),
    {"media": spans("10.43.0.7/32"), "jake": spans("10.43.0.8/32")},
)
CLOSED = {"podSelector": {}, "policyTypes": BOTH}


def live(spec: dict[str, Any], name: str = "hole") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "jake"}, "spec": spec}


def block(cidr: str, *holes: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": cidr, **({"except": list(holes)} if holes else {})}}


def space(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def opened(*specs: dict[str, Any]) -> list[Opening]:
    return netpol.openings("jake", [live(spec) for spec in specs], GROUND)


def dials(openings: list[Opening], address: str, service: str) -> bool:
    """Whether one of them opens one service of one address."""
    at, asked = (boxes.host(ip_address(address)),), (policy.ports(service).interval,)
    return any(boxes.overlap(at, o.spans) and boxes.shared(o.services, asked) for o in openings)


def rule(*to: dict[str, Any], ports: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if to:
        body["to"] = list(to)
    if ports is not None:
        body["ports"] = ports
    return {"podSelector": {}, "policyTypes": ["Egress"], "egress": [body]}


SSH = [{"protocol": "TCP", "port": 22}]
CASES: dict[str, tuple[list[dict[str, Any]], str, str, bool]] = {
    "no policy at all": ([], "1.1.1.1", "22/tcp", True),
    "closed": ([CLOSED], "1.1.1.1", "22/tcp", False),
    "closed for what comes in alone": ([{**CLOSED, "policyTypes": ["Ingress"]}], "1.1.1.1", "22/tcp", True),
    "no types and no egress is about what comes in": ([{"podSelector": {}}], "1.1.1.1", "22/tcp", True),
    "no types with egress is about both": ([{"podSelector": {}, "egress": [{"to": [block("9.9.9.9/32")]}]}],
                                           "1.1.1.1", "22/tcp", False),
    "closed for some pods alone": ([{**CLOSED, "podSelector": {"matchLabels": {"a": "b"}}}], "1.1.1.1", "22/tcp", True),
    "selected by an expression alone": (
        [{**CLOSED, "podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}],
        "1.1.1.1", "22/tcp", True,
    ),
    "closed by an empty selector in long": ([{**CLOSED, "podSelector": {"matchLabels": {}, "matchExpressions": []}}],
                                            "1.1.1.1", "22/tcp", False),
    "an empty list of rules": ([{**CLOSED, "egress": []}], "1.1.1.1", "22/tcp", False),
    "an empty rule": ([CLOSED, {**CLOSED, "egress": [{}]}], "1.1.1.1", "icmp", True),
    "an empty list of peers is everybody": ([CLOSED, {**CLOSED, "egress": [{"to": []}]}], "fd00::1", "22/tcp", True),
    "a rule for pods that he may make": (
        [CLOSED, {**rule(block("1.1.1.1/32")), "podSelector": {"matchLabels": {"a": "b"}}}], "1.1.1.1", "22/tcp", True,
    ),
    "egress rules that are not in force": ([CLOSED, {**rule(block("1.1.1.1/32")), "policyTypes": ["Ingress"]}],
                                           "1.1.1.1", "22/tcp", False),
    "a block": ([CLOSED, rule(block("192.168.20.0/24"))], "192.168.20.255", "22/tcp", True),
    "beside a block": ([CLOSED, rule(block("192.168.20.0/24"))], "192.168.21.0", "22/tcp", False),
    "a hole in a block": ([CLOSED, rule(block("192.168.0.0/16", "192.168.20.0/24"))], "192.168.20.1", "22/tcp", False),
    "beside the hole": ([CLOSED, rule(block("192.168.0.0/16", "192.168.20.0/24"))], "192.168.21.0", "22/tcp", True),
    "holes of one block do not close another": (
        [CLOSED, rule(block("192.168.0.0/16", "192.168.20.0/24"), block("192.168.20.9/32"))],
        "192.168.20.9", "22/tcp", True,
    ),
    "policies add up": ([CLOSED, rule(block("1.1.1.1/32")), rule(block("2.2.2.2/32"))], "2.2.2.2", "22/tcp", True),
    "a block with host bits": ([CLOSED, rule(block("192.168.20.77/24"))], "192.168.20.1", "22/tcp", True),
    "beside a block with host bits": ([CLOSED, rule(block("192.168.20.77/24"))], "192.168.21.1", "22/tcp", False),
    "beside a block with zeros before": ([CLOSED, rule(block("192.168.020.000/24"))], "192.168.21.1", "22/tcp", False),
    "a block with zeros before": ([CLOSED, rule(block("192.168.020.000/24"))], "192.168.20.1", "22/tcp", True),
    "IPv4 written as IPv6": ([CLOSED, rule(block("::ffff:192.168.20.0/120"))], "192.168.20.1", "22/tcp", True),
    "IPv6": ([CLOSED, rule(block("fd42::/64", "fd42::1/128"))], "fd42::2", "22/tcp", True),
    "a hole in IPv6": ([CLOSED, rule(block("fd42::/64", "fd42::1/128"))], "fd42::1", "22/tcp", False),
    "all of IPv4 is no IPv6": ([CLOSED, rule(block("0.0.0.0/0"))], "fd42::1", "22/tcp", False),
    "what is no network is everything": ([CLOSED, rule(block("nonsense"))], "1.1.1.1", "22/tcp", True),
    "a hole that is no network closes nothing": ([CLOSED, rule(block("1.0.0.0/8", "x"))], "1.1.1.1", "22/tcp", True),
    "a peer of an unknown kind is everybody": ([CLOSED, rule({"fqdn": "x"})], "1.1.1.1", "22/tcp", True),
    "a port": ([CLOSED, rule(block("1.1.1.1/32"), ports=SSH)], "1.1.1.1", "22/tcp", True),
    "another port": ([CLOSED, rule(block("1.1.1.1/32"), ports=SSH)], "1.1.1.1", "23/tcp", False),
    "another protocol": ([CLOSED, rule(block("1.1.1.1/32"), ports=SSH)], "1.1.1.1", "22/udp", False),
    "no protocol is TCP": ([CLOSED, rule(block("1.1.1.1/32"), ports=[{"port": 22}])], "1.1.1.1", "22/tcp", True),
    "no protocol is not UDP": ([CLOSED, rule(block("1.1.1.1/32"), ports=[{"port": 22}])], "1.1.1.1", "22/udp", False),
    "a protocol alone is all of its ports": ([CLOSED, rule(block("1.1.1.1/32"), ports=[{"protocol": "UDP"}])],
                                             "1.1.1.1", "65535/udp", True),
    "an empty list of ports is every one": ([CLOSED, rule(block("1.1.1.1/32"), ports=[])], "1.1.1.1", "icmp", True),
    "the end of a range": ([CLOSED, rule(block("1.1.1.1/32"), ports=[{"port": 20, "endPort": 22}])],
                           "1.1.1.1", "22/tcp", True),
    "beyond the end": ([CLOSED, rule(block("1.1.1.1/32"), ports=[{"port": 20, "endPort": 22}])],
                       "1.1.1.1", "23/tcp", False),
    "a port by name may be any": ([CLOSED, rule(block("1.1.1.1/32"), ports=[{"port": "ssh"}])],
                                  "1.1.1.1", "22/tcp", True),
    "a port by name is of its protocol": ([CLOSED, rule(block("1.1.1.1/32"), ports=[{"port": "ssh"}])],
                                          "1.1.1.1", "22/udp", False),
    "SCTP is neither": ([CLOSED, rule(block("1.1.1.1/32"), ports=[{"protocol": "SCTP", "port": 22}])],
                        "1.1.1.1", "22/tcp", False),
    "with ports ICMP does not pass": ([CLOSED, rule(block("1.1.1.1/32"), ports=SSH)], "1.1.1.1", "icmp", False),
    "his own pods do not count": ([CLOSED, rule({"podSelector": {}})], "10.42.0.1", "22/tcp", False),
    "his own namespace by its label neither": ([CLOSED, rule(space("jake"))], "10.42.0.1", "22/tcp", False),
    "another's namespace": ([CLOSED, rule(space("ben"))], "10.42.0.1", "22/tcp", True),
    "every namespace": ([CLOSED, rule({"namespaceSelector": {}})], "10.42.0.1", "22/tcp", True),
    "a namespace that is not there": ([CLOSED, rule(space("nobody"))], "10.42.0.1", "22/tcp", False),
    "pods are no hosts": ([CLOSED, rule({"namespaceSelector": {}})], "192.168.20.1", "22/tcp", False),
    "the DNS of the cluster": (
        [CLOSED, rule({**space("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}})],
        "10.43.0.10", "53/udp", False,
    ),
    "DNS by name but everywhere": (
        [CLOSED, rule({"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}})],
        "10.42.0.1", "53/udp", True,
    ),
    "all of kube-system": ([CLOSED, rule(space("kube-system"))], "10.43.0.10", "443/tcp", True),
    "a Service of that namespace": ([CLOSED, rule(space("media"))], "10.43.0.7", "80/tcp", True),
    "a Service leads to another port": ([CLOSED, rule(space("media"), ports=SSH)], "10.43.0.7", "80/tcp", True),
    "a Service of another namespace": ([CLOSED, rule(space("ben"))], "10.43.0.7", "80/tcp", False),
    "Services behind a block of pods": ([CLOSED, rule(block("10.42.7.0/24"))], "10.43.0.7", "80/tcp", True),
    "Services not behind other blocks": ([CLOSED, rule(block("10.44.7.0/24"))], "10.43.0.7", "80/tcp", False),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_policy(case: str) -> None:
    specs, address, service, expected = CASES[case]
    assert dials(opened(*specs), address, service) is expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"operator": "In", "values": ["friends", "x"]}, {"jake", "ben"}),
        ({"operator": "NotIn", "values": ["friends"]}, {"media", "kube-system"}),
        ({"operator": "Exists"}, {"jake", "ben"}),
        ({"operator": "DoesNotExist"}, {"media", "kube-system"}),
        ({"operator": "Unheard"}, set(NAMESPACES)),
    ],
)
def test_namespaces_by_expressions(expression: dict[str, Any], expected: set[str]) -> None:
    selector = {"matchExpressions": [{"key": "team", **expression}]}
    assert {name for name, labels in NAMESPACES.items() if netpol.matches(selector, labels)} == expected


def test_who_opened_it_is_named() -> None:
    found = netpol.openings("jake", [live(CLOSED, "wall"), live(rule(block("1.1.1.1/32")), "hole")], GROUND)
    assert [o.policy for o in found] == ["jake/hole"]
    assert [o.policy for o in opened()] == [""]


# against the plainest reading: one packet, rule by rule

ADDRESSES = [f"10.0.0.{n}" for n in range(16)] + ["10.1.0.0", "fd00::1", "fd00::9"]
cidrs = st.builds(lambda low, bits: str(ip_network(f"10.0.0.{low}/{bits}", strict=False)), st.integers(0, 15),
                  st.integers(27, 32)) | st.sampled_from(["0.0.0.0/0", "::/0", "fd00::/125"])  # fmt: skip
blocks = st.builds(lambda cidr, holes: block(cidr, *holes), cidrs, st.lists(cidrs, max_size=2))
some = st.fixed_dictionaries(
    {}, optional={"protocol": st.sampled_from(["TCP", "UDP", "SCTP"]), "port": st.integers(1, 6) | st.just("web")}
)
port = some | some.map(lambda p: {**p, "endPort": p["port"] + 2} if isinstance(p.get("port"), int) else p)
rules = st.fixed_dictionaries({}, optional={"to": st.lists(blocks, max_size=2), "ports": st.lists(port, max_size=2)})
selectors = st.sampled_from([{}, {"matchLabels": {}}, {"matchLabels": {"app": "a"}}])
specs = st.fixed_dictionaries(
    {"podSelector": selectors},
    optional={
        "policyTypes": st.sampled_from([["Egress"], ["Ingress"], BOTH]),
        "egress": st.lists(rules, max_size=2),
    },
)


def naive(policies: list[Any], address: str, protocol: str, number: int) -> bool:
    """Whether a pod with the label app=a, or one without, may dial that: as the documentation words it."""
    return any(_pod(policies, labels, address, protocol, number) for labels in ({"app": "a"}, {}))


def _pod(policies: list[Any], labels: dict[str, str], address: str, protocol: str, number: int) -> bool:
    mine = [p for p in policies if (p["podSelector"].get("matchLabels") or {}).items() <= labels.items()]
    mine = [p for p in mine if "Egress" in p.get("policyTypes", ["Egress"] if p.get("egress") else ["Ingress"])]
    if not mine:
        return True
    return any(
        (not r.get("to") or any(_in_block(b["ipBlock"], address) for b in r["to"]))
        and (not r.get("ports") or any(_is_port(p, protocol, number) for p in r["ports"]))
        for p in mine
        for r in p.get("egress", [])
    )


def _in_block(said: dict[str, Any], address: str) -> bool:
    at = ip_address(address)
    inside = [at in ip_network(text) for text in said.get("except", [])]
    return at in ip_network(said["cidr"]) and not any(inside)


def _is_port(said: dict[str, Any], protocol: str, number: int) -> bool:
    if said.get("protocol", "TCP") != protocol.upper():
        return False
    first = said.get("port")
    return not isinstance(first, int) or first <= number <= said.get("endPort", first)


@settings(max_examples=150)
@given(st.lists(specs, max_size=4))
def test_any_policies_say_the_same_as_read_plainly(policies: list[Any]) -> None:
    ground = replace(GROUND, pods=(), services=(), homes={})
    found = netpol.openings("jake", [live(p) for p in policies], ground)
    for address in ADDRESSES:
        for protocol in ("tcp", "udp"):
            for number in (1, 2, 3, 6, 8, 9):
                said = dials(found, address, f"{number}/{protocol}")
                assert said == naive(policies, address, protocol, number), (address, protocol, number)


# whole meshes: what we render, judged by what it says

NETWORKS = ["192.168.20.0/24", "192.168.20.128/25", "10.42.0.0/16", "10.43.0.0/24", "9.9.9.0/24", "2606:4700::/32"]
walls = st.fixed_dictionaries(
    {},
    optional={
        "network_policy": st.booleans(),
        "egress": st.sampled_from(["internet", "none"]) | st.lists(st.sampled_from(NETWORKS), max_size=2),
    },
)
tests = st.fixed_dictionaries(
    {
        "from": st.sampled_from(["jake", "ben", "carl", "peers", "gamers", "any", "jake/phone"]),
        "to": st.sampled_from(["nodes", "pods", "services", "hub", "peers", "ben", "any", "ben.lan", *NETWORKS]),
        "expect": st.sampled_from(["deny", "deny", "allow"]),
    },
    optional={"port": st.sampled_from(["22/tcp", "53/udp", "icmp"])},
)
allowed = st.sampled_from(
    [{"from": "peers", "to": "nodes"}, {"from": "hub", "to": "ben"}, {"from": "nodes", "to": "ben.lan"}]
)


def house(jake: Any, ben: Any, said: list[Any], rules: list[Any] = ()) -> Mesh:  # type: ignore[assignment]
    return Mesh.model_validate(
        {
            "version": 1,
            "name": "friends",
            "hub": {"node": "n", "address": "192.168.20.20", "interface": "wg0", "endpoint": "vpn.example.net:51820"},
            "network": {
                "cidr": ["10.100.0.0/16", "fd77::/64"],
                "hub": ["10.100.0.1", "fd77::1"],
                "routes": {"nodes": "192.168.20.0/24", "pods": "10.42.0.0/16", "services": "10.43.0.0/16"},
            },
            "peers": {
                "jake": {
                    "devices": {"phone": {"address": "10.100.1.1"}, "pad": {"address": "10.100.1.4"}},
                    "namespace": "jake",
                    "tenant": jake,
                },
                "ben": {
                    "address": ["10.100.1.2", "fd77::2"],
                    "lan": ["198.51.100.0/24"],
                    "namespace": "ben",
                    "groups": ["gamers"],
                    "tenant": ben,
                },
                "carl": {"address": "10.100.1.3", "groups": ["gamers"]},
            },
            "policy": {"allow": list(rules), "tests": said},
            "kubernetes": {},
        }
    )


def rendered(mesh: Mesh) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {"jake": [], "ben": []}
    for made in kubernetes.build(mesh, FACTS):
        if made.attrs["kind"] == "NetworkPolicy":
            out[made.attrs["metadata"]["namespace"]].append(made.attrs)
    return out


def judged(mesh: Mesh, live: dict[str, list[Any]], facts: Facts = FACTS) -> dict[str, Checked]:
    objects = [{"metadata": {"name": name, "labels": labels}} for name, labels in NAMESPACES.items()]
    ground = pods._ground(mesh, facts, objects)
    return {check.name: check for check in pods.denied(mesh, facts, live, ground)}


@settings(max_examples=150)
@given(walls, walls, st.lists(tests, min_size=1, max_size=3), st.lists(allowed, max_size=2))
def test_what_is_rendered_leaks_exactly_what_the_file_says(
    jake: Any, ben: Any, said: list[Any], rules: list[Any]
) -> None:
    mesh = house(jake, ben, said, rules)
    judge = policy.Judge(mesh, {}, NOW)
    file = egress.Pods(judge.names, judge.grants)
    found = judged(mesh, rendered(mesh))
    for test in mesh.policy.tests:
        check = found.get(f"pods of {test.from_} -> {test.to} {test.port or 'any port'}")
        leak = file.leak(test)
        if leak:
            assert check is not None
            assert not check.ok
        elif test.expect == "allow":
            twin = any(
                (t.from_, t.to, t.port, t.expect) == (test.from_, test.to, test.port, "deny") for t in mesh.policy.tests
            )
            assert check is None or twin
        elif test.from_ != "carl":
            assert check is not None
            assert check.ok, check


def test_a_hole_is_told_with_an_example_and_who_made_it() -> None:
    said = [
        {"from": "jake", "to": "nodes", "port": "22/tcp", "expect": "deny"},
        {"from": "gamers", "to": "nodes", "port": "22/tcp", "expect": "deny"},
        {"from": "peers", "to": "nodes", "expect": "deny"},
        {"from": "jake", "to": "nodes", "port": "icmp", "expect": "deny"},
    ]
    mesh = house({}, {}, said)
    now = rendered(mesh)
    assert all(check.ok for check in judged(mesh, now).values())
    now["jake"].append(live(rule(block("192.168.20.20/32"), ports=[{"port": 22}])))
    found = judged(mesh, now)
    check = found["pods of jake -> nodes 22/tcp"]
    assert check.observed == "a pod of jake may dial 192.168.20.20:22/tcp: NetworkPolicy jake/hole allows it"
    assert check.hint == "ask jake about it, or: kubectl delete networkpolicy -n jake hole"
    assert {name: c.ok for name, c in found.items()} == {
        "pods of jake -> nodes 22/tcp": False,
        "pods of gamers -> nodes 22/tcp": True,
        "pods of peers -> nodes any port": False,
        "pods of jake -> nodes icmp": True,
    }


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ({"protocol": "TCP"}, "192.168.20.0:1/tcp"),
        ({"protocol": "UDP"}, "192.168.20.0:1/udp"),
        ({"port": 20, "endPort": 30}, "192.168.20.0:20/tcp"),
        ({"protocol": "SCTP"}, "192.168.20.0 (other protocols)"),
    ],
)
def test_the_example_is_one_that_can_be_tried(port: dict[str, Any], said: str) -> None:
    mesh = house({}, {}, [{"from": "jake", "to": "nodes", "expect": "deny"}])
    now = rendered(mesh)
    now["jake"].append(live(rule(block("192.168.0.0/16"), ports=[port])))
    (check,) = judged(mesh, now).values()
    assert f"a pod of jake may dial {said}: " in check.observed


def test_without_anything_that_closes_all_is_open() -> None:
    mesh = house({}, {}, [{"from": "peers", "to": "nodes", "expect": "deny"}])
    (check,) = judged(mesh, {"jake": [], "ben": []}).values()
    assert check.observed == (
        "a pod of jake may dial 192.168.20.0 (every protocol and port): no NetworkPolicy closes it"
        "; so may those of 1 more"
    )
    assert "apply" in check.hint


def test_a_named_service_of_the_cluster_is_judged_by_where_it_lives() -> None:
    said = [{"from": "jake", "to": "films", "port": "80/tcp", "expect": "deny"}]
    raw = house({}, {}, said).model_dump(by_alias=True, mode="json", exclude_unset=True)
    mesh = Mesh.model_validate({**raw, "services": {"films": {"kubernetes": "media/films", "ports": ["80/tcp"]}}})
    facts = replace(FACTS, services={"films": (ip_address("10.43.0.7"),)})
    for name, ok in (("ben", True), ("media", False)):
        now = rendered(mesh)
        now["jake"].append(live(rule(space(name))))
        (check,) = judged(mesh, now, facts).values()
        assert check.ok is ok
    assert judged(mesh, rendered(mesh)) == {}, "where its address is not known the tunnel's judge says so"


WALL = {"metadata": {"name": DEFAULT_DENY}, "spec": CLOSED}


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ([WALL], ""),
        ([], "is not there; a pod may have labels by which nothing closes it (Ingress, Egress)"),
        ([live(CLOSED, "other")], "is not there"),
        ([{**WALL, "spec": {**CLOSED, "egress": [{}]}}], "opens something"),
        ([{**WALL, "spec": {**CLOSED, "ingress": [{}]}}], "opens something"),
        ([{**WALL, "spec": {**CLOSED, "policyTypes": ["Ingress"]}}], "does not cover Egress; a pod may have"),
        ([{**WALL, "spec": {**CLOSED, "podSelector": {"matchLabels": {"a": "b"}}}}], "does not select every pod; a"),
    ],
)
def test_the_policy_that_closes_must_be_there_and_close(policies: list[Any], said: str) -> None:
    (jake, _) = pods.tenants(house({}, {}, []), FACTS)
    check = pods._wall(jake, policies)
    assert check.ok == (not said)
    assert said in check.observed


def test_a_wall_that_the_file_leaves_out_is_told_and_not_failed() -> None:
    (jake, ben) = pods.tenants(house({"network_policy": False}, {}, []), FACTS)
    assert pods._wall(jake, []).ok
    assert "network_policy: false" in pods._wall(jake, []).observed
    assert not pods._wall(ben, []).ok
