"""What NetworkPolicies, as the API server has them, let the pods of a namespace dial: read policy by policy, knowing
nothing of how policies are made.

The second opinion on a tenant's pods: it reads networking.k8s.io/v1 with the meaning of the Kubernetes documentation
("Network Policies"). What it does not understand counts as open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, ip_network
from typing import Any

from meshwright.spec import boxes
from meshwright.spec.boxes import ANY, Services, Span
from meshwright.spec.policy import ANYWHERE

Json = Any
Labels = Mapping[str, str]
EVERYTHING: Services = (ANY,)
_DNS = {"k8s-app": "kube-dns"}


@dataclass(frozen=True, slots=True)
class Opening:
    """Addresses and services that some pod of a namespace may dial, and the policy that says so: NAMESPACE/NAME.

    policy is "" where there is nothing that closes every pod.
    """

    policy: str
    spans: tuple[Span, ...]
    services: Services


@dataclass(frozen=True)
class Ground:
    """What policies mean by their selectors.

    namespaces: the labels of every namespace. pods, services: the networks of pods and of Services. homes: addresses of
    those Services of which the namespace is known.
    """

    namespaces: Mapping[str, Labels]
    pods: tuple[Span, ...] = ()
    services: tuple[Span, ...] = ()
    homes: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    _behind: dict[frozenset[str], tuple[Span, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def behind(self, namespaces: frozenset[str]) -> tuple[Span, ...]:
        """Services whose pods may be in one of these namespaces: all but those that are known to be elsewhere."""
        if namespaces not in self._behind:
            known = [(name, spans) for name, spans in self.homes.items() if spans]
            here = boxes.merge(span for name, spans in known if name in namespaces for span in spans)
            elsewhere = boxes.merge(span for name, spans in known if name not in namespaces for span in spans)
            rest = boxes.without(self.services, elsewhere)
            self._behind[namespaces] = boxes.merge([*rest, *here])
        return self._behind[namespaces]


def openings(namespace: str, policies: Iterable[Json], ground: Ground) -> list[Opening]:
    """What any pod of the namespace may dial, whatever labels it is given.

    Policies add up, and a pod that none selects for egress is open: so all that any of them allows is open to some pod,
    and everything is where none selects every pod. His own namespace and the cluster's DNS are not in it.
    """
    found: list[Opening] = []
    closed = False
    for policy in policies:
        spec = policy.get("spec") or {}
        if covers(spec, "Egress"):
            closed = closed or selects_all(spec.get("podSelector"))
            name = f"{namespace}/{policy['metadata']['name']}"
            for rule in spec.get("egress") or ():
                found += _rule(name, namespace, rule, ground)
    return found if closed else [Opening("", ANYWHERE, EVERYTHING), *found]


def covers(spec: Json, direction: str) -> bool:
    """Whether a policy is about what comes in ("Ingress") or goes out ("Egress")."""
    types = spec.get("policyTypes")
    if not types:
        return direction == "Ingress" or bool(spec.get("egress"))
    return direction in types


def selects_all(selector: Json) -> bool:
    """Whether a selector matches whatever labels there are."""
    return not any((selector or {}).get(key) for key in ("matchLabels", "matchExpressions"))


def _rule(name: str, namespace: str, rule: Json, ground: Ground) -> Iterator[Opening]:
    services = _services(rule.get("ports"))
    for spans, behind in _peers(namespace, rule.get("to"), ground):
        if spans:
            yield Opening(name, spans, services)
        if behind:
            # a Service may lead to any port of its pods, and policies see the pod and its port
            yield Opening(name, behind, EVERYTHING)


def _peers(namespace: str, to: Json, ground: Ground) -> Iterator[tuple[tuple[Span, ...], tuple[Span, ...]]]:
    """Addresses that the peers of a rule stand for; and those of Services that may lead to them."""
    everywhere = frozenset(ground.namespaces)
    peers: Iterable[Json] = to or ({},)
    for peer in peers:
        if "ipBlock" in peer:
            block = peer["ipBlock"] or {}
            spans = _block(str(block.get("cidr")), tuple(map(str, block.get("except") or ())))
            yield spans, ground.behind(everywhere) if boxes.overlap(spans, ground.pods) else ()
        elif not {"podSelector", "namespaceSelector"} & peer.keys():
            yield ANYWHERE, ground.behind(everywhere)
        elif chosen := _others(namespace, peer, ground):
            yield ground.pods, ground.behind(chosen)


def _others(namespace: str, peer: Json, ground: Ground) -> frozenset[str]:
    """The namespaces that a peer selects by its labels, but for what every pod may reach."""
    selector = peer.get("namespaceSelector")
    if selector is None:
        return frozenset()
    chosen = {name for name, labels in ground.namespaces.items() if matches(selector, labels)} - {namespace}
    pods = peer.get("podSelector") or {}
    dns = _DNS.items() <= (pods.get("matchLabels") or {}).items()
    return frozenset(chosen - {"kube-system"} if dns else chosen)


def matches(selector: Json, labels: Labels) -> bool:
    """Whether a label selector matches these labels."""
    wanted = (selector.get("matchLabels") or {}).items()
    said = selector.get("matchExpressions") or ()
    return all(labels.get(key) == value for key, value in wanted) and all(_holds(one, labels) for one in said)


def _holds(expression: Json, labels: Labels) -> bool:
    key, values = expression.get("key"), expression.get("values") or ()
    operator = expression.get("operator")
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    if operator == "DoesNotExist":
        return key not in labels
    return key in labels or operator != "Exists"


def _services(ports: Json) -> Services:
    """The ports of a rule. None means every protocol; a port by its name may be any, as the pod that is dialled says.

    Where a rule names ports ICMP does not pass.
    """
    return boxes.join(_interval(port) for port in ports) if ports else EVERYTHING


def _interval(port: Json) -> boxes.Interval:
    protocol = str(port.get("protocol") or "TCP").lower()
    if protocol not in boxes.OFFSET:
        return boxes.Interval(boxes.OTHER, boxes.OTHER) if protocol == "sctp" else ANY
    first = port.get("port")
    if not isinstance(first, int):
        return boxes.interval(protocol)
    return boxes.interval(protocol, first, port.get("endPort") or first)


@lru_cache(4096)
def _block(cidr: str, holes: tuple[str, ...]) -> tuple[Span, ...]:
    """The addresses of an ipBlock."""
    spans = _spans(cidr)
    if not spans:
        return ANYWHERE
    return boxes.without(boxes.merge(spans), boxes.merge(span for hole in holes for span in _spans(hole)))


def _spans(cidr: str) -> list[Span]:
    """A CIDR as the API server takes it: also with host bits, leading zeros, or IPv4 written as IPv6."""
    address, _, bits = cidr.partition("/")
    octets = address.split(".")
    if all(octet.isascii() and octet.isdigit() for octet in octets):
        address = ".".join(str(int(octet[:20])) for octet in octets)
    try:
        network = ip_network(f"{address}/{bits}", strict=False)
    except ValueError:
        return []
    found = [boxes.span(network)]
    first = network.network_address
    if isinstance(first, IPv6Address) and first.ipv4_mapped and network.prefixlen >= 96:
        found.append(Span(4, found[0].low & 0xFFFFFFFF, found[0].high & 0xFFFFFFFF))
    return found


@dataclass(frozen=True, slots=True)
class Caller:
    """Who dials a pod: a pod of a namespace. labels: None where nobody knows them, so every selector may mean it.

    addresses: where it may be.
    """

    namespace: str
    space: Labels
    labels: Labels | None
    addresses: tuple[Span, ...]


def barred(pod: Json, policies: Iterable[Json], caller: Caller, port: int) -> list[str]:
    """The policies of the pod's namespace that close its TCP port to the caller, by name; none where it is let in."""
    meta = pod["metadata"]
    closing = [
        policy
        for policy in policies
        if covers(policy.get("spec") or {}, "Ingress")
        and matches(policy["spec"].get("podSelector") or {}, meta.get("labels") or {})
    ]
    rules = [rule for policy in closing for rule in policy["spec"].get("ingress") or ()]
    here = meta.get("namespace", "")
    if any(_opens(rule.get("ports"), pod, port) and _lets(rule.get("from"), here, caller) for rule in rules):
        return []
    return sorted(policy["metadata"]["name"] for policy in closing)


def _opens(ports: Json, pod: Json, port: int) -> bool:
    """Whether a rule is about this port of the pod; a name in it is that of a container's port."""
    if not ports:
        return True
    for each in ports:
        first = each.get("port")
        if (each.get("protocol") or "TCP") != "TCP":
            continue
        if isinstance(first, str):
            if any(p.get("name") == first and p.get("containerPort") == port for p in declared(pod)):
                return True
        elif first is None or first <= port <= (each.get("endPort") or first):
            return True
    return False


def declared(pod: Json) -> list[Json]:
    """The ports that the containers of a pod declare, those of its sidecars too."""
    spec = pod.get("spec") or {}
    side = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    return [port for each in [*(spec.get("containers") or ()), *side] for port in each.get("ports") or ()]


def _lets(sources: Json, here: str, caller: Caller) -> bool:
    return not sources or any(_means(peer, here, caller) for peer in sources)


def _means(peer: Json, here: str, caller: Caller) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"] or {}
        spans = _block(str(block.get("cidr")), tuple(map(str, block.get("except") or ())))
        return bool(boxes.overlap(spans, caller.addresses))
    space = peer.get("namespaceSelector")
    if space is None and caller.namespace != here:
        return False
    if space is not None and not matches(space, caller.space):
        return False
    pods = peer.get("podSelector")
    return not pods or caller.labels is None or matches(pods, caller.labels)
