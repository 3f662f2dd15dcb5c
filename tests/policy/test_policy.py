"""Names, grants and verdicts: by example, and against the plainest possible reading of the rules."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright.spec import boxes, policy
from meshwright.spec.model import Mesh

NOW = datetime(2027, 1, 1, tzinfo=UTC)
JELLYFIN = (ip_address("10.43.0.77"),)
FILE = {
    "version": 1,
    "name": "northern-lights",
    "hub": {"node": "n", "address": "192.168.20.20", "interface": "wg1", "endpoint": "vpn.example.net:51820"},
    "network": {
        "cidr": ["10.100.0.0/16", "fd77::/64"],
        "hub": ["10.100.0.1", "fd77::1"],
        "routes": {"nodes": "192.168.20.0/24", "pods": ["10.42.0.0/16", "fd42::/64"], "services": "10.43.0.0/16"},
    },
    "peers": {
        "astrid": {"address": ["10.100.1.1", "fd77::11"], "groups": ["gamers"]},
        "bjorn": {
            "groups": ["gamers"],
            "devices": {
                "router": {"address": "10.100.1.2", "lan": ["198.51.100.0/24"]},
                "phone": {"address": "10.100.1.3"},
                "old": {"address": "10.100.1.9", "expires": "2026-12-31", "lan": "203.0.113.0/24"},
            },
        },
        "carl": {"address": "10.100.1.4", "disabled": True},
    },
    "services": {
        "git": {"address": "10.43.7.7", "ports": ["443/tcp", "22/tcp"]},
        "jellyfin": {"kubernetes": "media/jellyfin", "ports": ["8096/tcp"]},
    },
}


def mesh(allow=(), tests=(), **more):
    return Mesh.model_validate({**FILE, **more, "policy": {"allow": list(allow), "tests": list(tests)}})


def texts(name, known=None):
    return [str(n) for n in policy.resolve(mesh(), name, known or {}, NOW)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hub", ["10.100.0.1/32", "fd77::1/128"]),
        ("peers", ["10.100.1.1/32", "10.100.1.2/31", "fd77::11/128"]),
        ("any", ["0.0.0.0/0", "::/0"]),
        ("astrid", ["10.100.1.1/32", "fd77::11/128"]),
        ("bjorn", ["10.100.1.2/31"]),
        ("bjorn/phone", ["10.100.1.3/32"]),
        ("bjorn/old", []),
        ("carl", []),
        ("gamers", ["10.100.1.1/32", "10.100.1.2/31", "fd77::11/128"]),
        ("bjorn.lan", ["198.51.100.0/24"]),
        ("bjorn/router.lan", ["198.51.100.0/24"]),
        ("pods", ["10.42.0.0/16", "fd42::/64"]),
        ("git", ["10.43.7.7/32"]),
        ("jellyfin", []),
        ("172.16.0.0/12", ["172.16.0.0/12"]),
        ("fd00::7", ["fd00::7/128"]),
    ],
)
def test_names_stand_for_networks(name, expected):
    assert texts(name) == expected


def test_a_kubernetes_service_has_the_address_that_was_found():
    assert texts("jellyfin", {"jellyfin": JELLYFIN}) == ["10.43.0.77/32"]
    assert policy.unresolved(mesh(), {}) == ("jellyfin",)
    assert policy.unresolved(mesh(), {"jellyfin": JELLYFIN}) == ()


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("asrid", "astrid"), ("bjorn/fone", "bjorn/phone"), ("podz", "pods"), ("10.1.2.3/16", "10.1.0.0/16")],
)
def test_an_unknown_name_comes_with_a_suggestion(name, suggestion):
    with pytest.raises(policy.PolicyNameError) as caught:
        texts(name)
    assert caught.value.name == name
    assert suggestion in caught.value.suggestions


@pytest.mark.parametrize("name", ["astrid.lan", "nobody.lan", "nobody", "", "bjorn/"])
def test_a_name_that_nobody_has_is_an_error(name):
    with pytest.raises(policy.PolicyNameError):
        texts(name)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("443/tcp", ("tcp", 443, 443)),
        ("27000-27100/udp", ("udp", 27000, 27100)),
        ("tcp", ("tcp", 0, 65535)),
        ("udp", ("udp", 0, 65535)),
        ("icmp", ("icmp", 0, 0)),
    ],
)
def test_port_words(word, expected):
    assert policy.ports(word) == expected
    assert str(policy.ports(word)) == word


@pytest.mark.parametrize(
    "word", ["", "443", "443/sctp", "0/tcp", "65536/tcp", "9-8/tcp", "a/tcp", "-5/tcp", "5-/udp", "1-2-3/tcp", "٣/tcp"]
)
def test_bad_port_words(word):
    with pytest.raises(policy.PolicyPortError):
        policy.ports(word)


def test_a_rule_without_ports_towards_a_service_means_the_ports_of_the_service():
    rules = [{"from": "astrid", "to": ["git", "pods"]}, {"from": "astrid", "to": "git", "ports": "icmp"}]
    found = policy.grants(mesh(rules), {}, NOW)
    assert [(g.rule, g.to, [str(p) for p in g.protocols]) for g in found] == [
        (0, "git", ["443/tcp", "22/tcp"]),
        (0, "pods", ["any"]),
        (1, "git", ["icmp"]),
    ]
    assert [str(n) for n in found[1].destinations] == ["10.42.0.0/16", "fd42::/64"]


RULES = [
    {"from": "peers", "to": "nodes", "ports": ["6443/tcp", "icmp"]},
    {"from": "gamers", "to": "pods"},
    {"from": "astrid", "to": "bjorn.lan", "ports": "8000-8100/tcp"},
    {"from": "hub", "to": "peers", "ports": "icmp"},
]


@pytest.mark.parametrize(
    ("source", "destination", "port", "allow", "deny"),
    [
        ("peers", "nodes", "6443/tcp", True, False),
        ("peers", "nodes", "22/tcp", False, True),
        ("peers", "nodes", "6443/udp", False, True),
        ("peers", "nodes", "icmp", True, False),
        ("peers", "nodes", None, False, False),
        ("gamers", "pods", None, True, False),
        ("gamers", "10.42.3.0/24", None, True, False),
        ("gamers", "10.0.0.0/8", "80/tcp", False, False),
        ("astrid", "bjorn.lan", "8050/tcp", True, False),
        ("astrid", "bjorn.lan", "7999/tcp", False, True),
        ("astrid", "bjorn.lan", "8101/tcp", False, True),
        ("bjorn", "bjorn.lan", "8050/tcp", False, True),
        ("gamers", "bjorn.lan", "8050/tcp", False, False),
        ("peers", "hub", None, False, True),
        ("hub", "peers", "icmp", True, False),
        ("hub", "peers", "22/tcp", False, True),
        ("carl", "nodes", "6443/tcp", False, True),
        ("any", "nodes", "6443/tcp", False, False),
        ("nodes", "peers", None, False, True),
        ("10.100.1.4", "nodes", "6443/tcp", False, True),
        ("bjorn", "fd42::/64", "80/tcp", False, True),
        ("astrid", "fd42::/64", "80/tcp", True, False),
    ],
)
def test_verdicts(source, destination, port, allow, deny):
    for expect, wanted in (("allow", allow), ("deny", deny)):
        test = {"from": source, "to": destination, "expect": expect, **({"port": port} if port else {})}
        it = mesh(RULES, [test])
        verdict = policy.judge(it.policy.tests[0], it, {}, NOW)
        assert verdict.ok == wanted, verdict
        assert verdict.known


def test_a_mixture_is_explained_by_a_pair():
    it = mesh(
        RULES, [{"from": "gamers", "to": "bjorn.lan", "port": "8050/tcp", "expect": e} for e in ("allow", "deny")]
    )
    allow, deny = (policy.judge(test, it, {}, NOW) for test in it.policy.tests)
    assert allow.example == ("10.100.1.2", "198.51.100.0", "8050/tcp")
    assert allow.explanation == "10.100.1.2 may not reach 198.51.100.0 (8050/tcp)"
    assert deny.example == ("10.100.1.1", "198.51.100.0", "8050/tcp")


def test_a_test_of_an_unknown_service_is_neither_right_nor_wrong():
    it = mesh(
        [{"from": "astrid", "to": "jellyfin"}],
        [{"from": "astrid", "to": "jellyfin", "port": "8096/tcp", "expect": "allow"}],
    )
    assert not policy.judge(it.policy.tests[0], it, {}, NOW).known
    found = policy.judge(it.policy.tests[0], it, {"jellyfin": JELLYFIN}, NOW)
    assert found.known
    assert found.ok


NAMES = ["peers", "hub", "any", "astrid", "bjorn", "bjorn/phone", "gamers", "nodes", "pods", "bjorn.lan", "git"]
NAMES += ["jellyfin", "carl", "10.100.1.0/30", "198.51.100.128/25", "fd77::/64", "10.43.7.7"]
PORTS = ["443/tcp", "22/tcp", "8000-8100/tcp", "tcp", "udp", "53/udp", "icmp"]
rules = st.lists(
    st.fixed_dictionaries(
        {
            "from": st.lists(st.sampled_from(NAMES), min_size=1, max_size=2),
            "to": st.lists(st.sampled_from(NAMES), min_size=1, max_size=2),
        },
        optional={"ports": st.lists(st.sampled_from(PORTS), min_size=1, max_size=3)},
    ),
    max_size=5,
)
SAMPLES = [
    "10.100.0.1",
    "10.100.1.1",
    "10.100.1.2",
    "10.100.1.3",
    "10.100.1.4",
    "10.100.1.9",
    "192.168.20.20",
    "10.42.0.9",
]
SAMPLES += [
    "198.51.100.1",
    "198.51.100.200",
    "203.0.113.5",
    "10.43.7.7",
    "10.43.0.77",
    "8.8.8.8",
    "fd77::1",
    "fd77::11",
    "fd42::9",
]
POINTS = ["443/tcp", "22/tcp", "21/tcp", "8096/tcp", "8101/tcp", "53/udp", "54/udp", "icmp"]


def said(word, point):
    """Whether a rule's port word speaks of the point, by reading the text alone."""
    if word in ("tcp", "udp", "icmp"):
        return point.endswith(word)
    low, _, high = word.split("/")[0].partition("-")
    return point.endswith("/" + word.split("/")[1]) and int(low) <= int(point.split("/")[0]) <= int(high or low)


def naive(it, source, destination, point):
    """The rules one by one, the names one by one, the addresses one by one."""
    known = {"jellyfin": JELLYFIN}

    def holds(name, address):
        return any(ip_address(address) in ip_network(n) for n in policy.resolve(it, name, known, NOW))

    for rule in it.policy.allow:
        for name in rule.to:
            words = rule.ports if rule.ports is not None else getattr(it.services.get(name), "ports", ())
            spoken = not words or any(said(w, point) for w in words)
            if spoken and holds(name, destination) and any(holds(n, source) for n in rule.from_):
                return True
    return False


@settings(max_examples=150)
@given(rules, st.sampled_from(SAMPLES), st.sampled_from(SAMPLES), st.sampled_from(POINTS))
def test_verdicts_on_single_pairs_agree_with_the_plain_reading(allow, source, destination, point):
    test = {"from": source, "to": destination, "port": point}
    it = mesh(allow, [{**test, "expect": "allow"}, {**test, "expect": "deny"}])
    judge = policy.Judge(it, {"jellyfin": JELLYFIN}, NOW)
    wanted = naive(it, source, destination, point) and ip_address(source).version == ip_address(destination).version
    assert [judge.judge(t).ok for t in it.policy.tests] == [wanted, not wanted]


@settings(max_examples=150)
@given(rules, st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(POINTS))
def test_verdicts_on_names_agree_with_the_plain_reading(allow, source, destination, point):
    it = mesh(allow, [{"from": source, "to": destination, "port": point, "expect": e} for e in ("allow", "deny")])
    known = {"jellyfin": JELLYFIN}
    verdicts = [policy.Judge(it, known, NOW).judge(t) for t in it.policy.tests]

    def members(name):
        nets = policy.resolve(it, name, known, NOW)
        return [a for a in SAMPLES if any(ip_address(a) in ip_network(n) for n in nets)]

    pairs = [
        (s, d) for s in members(source) for d in members(destination) if ip_address(s).version == ip_address(d).version
    ]
    answers = {naive(it, s, d, point) for s, d in pairs}
    if False in answers:
        assert not verdicts[0].ok
    if True in answers:
        assert not verdicts[1].ok
    for verdict, expected in ((verdicts[0], False), (verdicts[1], True)):
        if verdict.example:
            assert naive(it, *verdict.example) is expected
    assert not (verdicts[0].ok and verdicts[1].ok)


def test_ten_thousand_peers_are_judged_without_counting_pairs():
    """With pairs this would be 10^8 steps; the work is counted in boxes, not in seconds."""
    peers = {f"p{i}": {"address": str(ip_address("10.100.16.0") + 2 * i)} for i in range(5000)}
    it = mesh(
        [{"from": "peers", "to": "peers", "ports": "icmp"}],
        [{"from": "peers", "to": "peers", "port": "icmp", "expect": "allow"}],
        peers=peers,
    )
    judge = policy.Judge(it, {}, NOW)
    assert judge.judge(it.policy.tests[0]).ok
    assert len(judge._classes) == 1
    assert len(judge.grants[0].destination_spans) == 5000


def test_the_axis_speaks_in_words():
    assert policy.service_name(boxes.ICMP) == "icmp"
    assert policy.service_name(boxes.OTHER) == "other protocols"
    assert policy.service_name(boxes.PORTS + 53) == "53/udp"
