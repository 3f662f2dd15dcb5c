"""The policy: that its names and ports are understood, and that its tests agree with its rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network

from meshwright.spec import policy
from meshwright.spec.egress import Pods
from meshwright.spec.model import Network
from meshwright.spec.nodes import Fault, Path, shown
from meshwright.spec.problems import did_you_mean
from meshwright.spec.rules.scene import Scene

_ALL_HINT = "name the ports; this opens every port of every tenant's pods"


def _said(scene: Scene) -> Iterator[tuple[Path, str]]:
    """Every name that the policy says."""
    for number, rule in enumerate(scene.mesh.policy.allow):
        for key, said in (("from", rule.from_), ("to", rule.to)):
            yield from ((("policy", "allow", number, key, index), name) for index, name in enumerate(said))
    for number, test in enumerate(scene.mesh.policy.tests):
        yield ("policy", "tests", number, "from"), test.from_
        yield ("policy", "tests", number, "to"), test.to


def known_names(scene: Scene) -> Iterator[Fault]:
    """A rule about nobody is a mistake that nobody would notice."""
    names = policy.Names(scene.mesh, {}, scene.now)
    known: list[str] = []
    for path, name in _said(scene):
        if name in scene.lost:
            continue
        try:
            names.spans(name)
        except policy.PolicyNameError as error:
            if not error.suggestions:
                yield Fault(path, error.message, error.hint)
                continue
            known = known or names.known()
            yield Fault(path, error.message, did_you_mean(name, known) or error.hint)


def port_words(scene: Scene) -> Iterator[Fault]:
    """443/tcp, 27000-27100/udp, tcp, udp, icmp."""
    mesh = scene.mesh
    for number, rule in enumerate(mesh.policy.allow):
        yield from _words(("policy", "allow", number, "ports"), rule.ports or ())
        if rule.ports == ():
            text = "an empty list of ports"
            yield Fault(("policy", "allow", number, "ports"), text, "leave ports out for every port", on_key=True)
    for name, service in mesh.services.items():
        yield from _words(("services", name, "ports"), service.ports)
    for number, test in enumerate(mesh.policy.tests):
        if test.port is not None:
            path = ("policy", "tests", number, "port")
            yield from _words(path, (test.port,), test=True)


def _words(path: Path, words: Sequence[str], test: bool = False) -> Iterator[Fault]:
    for index, word in enumerate(words):
        place = path if test else (*path, index)
        try:
            found = policy.ports(word)
        except policy.PolicyPortError as error:
            yield Fault(place, _clean(error, word), error.hint)
            continue
        if test and found.protocol != "icmp" and found.first != found.last:
            yield Fault(place, "a test asks about one port", "write 443/tcp, 53/udp or icmp")


def _clean(error: policy.PolicyPortError, word: str) -> str:
    return error.message if word.isprintable() and len(word) <= 60 else f"{shown(word)} is not a port with a protocol"


def wide_open(scene: Scene) -> Iterator[Fault]:
    """A rule for every port towards pods or services reaches what tenants never meant to show."""
    routes = scene.mesh.network.routes
    inner = [network for name in ("pods", "services") for network in routes.get(name, ())]
    for number, rule in enumerate(scene.mesh.policy.allow):
        if rule.ports is not None and not {"tcp", "udp"} & set(rule.ports):
            continue
        for index, name in enumerate(rule.to):
            if inner and (name in ("any", "pods", "services") or _covers(name, inner)):
                path = ("policy", "allow", number, "to", index)
                yield Fault(path, f"every port of {shown(name)} is open here", _ALL_HINT, "warning")


def _covers(name: str, networks: Sequence[Network]) -> bool:
    if "/" not in name:
        return False
    try:
        said = ip_network(name)
    except ValueError:
        return False
    return any(said.version == n.version and said.overlaps(n) for n in networks)


def services(scene: Scene) -> Iterator[Fault]:
    """A service is found by its addresses or in the cluster."""
    for name, service in scene.mesh.services.items():
        path = ("services", name)
        if bool(service.address) == bool(service.kubernetes):
            which = "both address and kubernetes" if service.address else "neither address nor kubernetes"
            yield Fault(path, f"has {which}", "write one of them", on_key=True)
        elif service.kubernetes and not _service_name(service.kubernetes):
            yield Fault((*path, "kubernetes"), "not a Service", "write NAMESPACE/NAME")
        if not service.ports:
            yield Fault(path, "has no ports", "add ports: [443/tcp]", on_key=True)


def _service_name(text: str) -> bool:
    parts = text.split("/")
    return len(parts) == 2 and all(p and p.replace("-", "").isalnum() and p == p.lower() and p.isascii() for p in parts)


def contradicted(scene: Scene) -> Iterator[Fault]:
    """Tests that the rules do not keep. A file with faults in it is not judged: what is missing would be blamed."""
    tests = scene.mesh.policy.tests
    if not scene.sound or not tests:
        return
    try:
        judge = policy.Judge(scene.mesh, {}, scene.now)
        verdicts = [judge.judge(test) for test in tests]
        pods = Pods(judge.names, judge.grants)
    except (policy.PolicyNameError, policy.PolicyPortError):
        return
    for number, (test, verdict) in enumerate(zip(tests, verdicts, strict=True)):
        path = ("policy", "tests", number, "expect")
        if verdict.ok and (leak := pods.leak(test)):
            yield Fault(
                path,
                f"the walls say otherwise: {leak}",
                "narrow tenant.egress (network_policy must be on), or change the test",
            )
        if verdict.ok or not verdict.known:
            continue
        idle = test.expect == "allow" and not all(judge.names.spans(name) for name in (test.from_, test.to))
        if idle:
            # a date that passes must not turn a good file into a bad one
            hint = "it holds again when they are active; or remove the test"
            yield Fault(path, f"cannot hold: {verdict.explanation}", hint, "warning")
        else:
            yield Fault(path, f"the rules say otherwise: {verdict.explanation}", "change the rule or the test")
