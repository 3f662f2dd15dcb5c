"""An object of the cluster in a few words, for reading a plan of many. Pure.

Takes what a server may hold too, so it looks for nothing that must be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from meshwright.desired import names
from meshwright.desired.kubernetes.bindings import lost, saved

Object = Mapping[str, Any]
_MANY: Final = 4
_SECURITY: Final = "pod-security.kubernetes.io/enforce"


def brief(id: str, attrs: Object) -> str:
    """What the object is, beside its id; "" for a thing of another system or of a kind not known here."""
    system, kind = id.split("/")[:2]
    tell = _KINDS.get(kind) if system == "kubernetes" else None
    return tell(attrs) or "made with no fields of its own" if tell else ""


def _namespace(it: Object) -> str:
    labels, notes = _at(it, "metadata", "labels"), _at(it, "metadata", "annotations")
    parts = [
        f"of {labels[names.PEER]}" if names.PEER in labels else "",
        f"pod security {labels[_SECURITY]} {labels.get(f'{_SECURITY}-version', '')}" if _SECURITY in labels else "",
        f"hosts {notes[names.INGRESS_DOMAIN]}" if names.INGRESS_DOMAIN in notes else "",
    ]
    return ", ".join(part for part in parts if part)


def _mark(it: Object) -> str:
    notes = _at(it, "metadata", "annotations")
    kept, away = saved(notes.get(names.BINDINGS), ""), lost(notes)
    parts = [
        "data stays, nothing runs",
        f"RoleBindings kept: {_some(list(kept))}" if kept else "",
        f"RoleBindings NOT kept, too many or too large: {_some(away)}" if away else "",
    ]
    return "; ".join(part for part in parts if part)


def _pod(it: Object) -> str:
    return "of a namespace in quarantine"


def _account(it: Object) -> str:
    return "no token in pods" if it.get("automountServiceAccountToken") is False else ""


def _role(it: Object) -> str:
    rules = it.get("rules") or []
    if len(rules) > _MANY:
        verbs = sorted({verb for rule in rules for verb in rule.get("verbs", ())})
        return f"{len(rules)} rules: {_some(verbs, 8)}"
    return "; ".join(_rule(rule) for rule in rules)


def _rule(rule: Object) -> str:
    what = _some(rule.get("resources") or rule.get("nonResourceURLs") or ())
    which = f" named {_some(rule['resourceNames'])}" if rule.get("resourceNames") else ""
    return f"{', '.join(rule.get('verbs', ()))} {what}{which}"


def _binding(it: Object) -> str:
    to = _at(it, "roleRef")
    subjects = [_where(s.get("kind", ""), s.get("namespace", ""), s.get("name", "")) for s in it.get("subjects") or []]
    return f"{to.get('kind', '')} {to.get('name', '')} for {_some(subjects)}"


def _where(kind: str, namespace: str, name: str) -> str:
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def _quota(it: Object) -> str:
    hard = _at(it, "spec", "hard")
    first = sorted(hard, key=lambda name: (name not in ("pods", "requests.cpu", "requests.memory"), name))
    return _some([f"{name} {hard[name]}" for name in first])


def _limits(it: Object) -> str:
    limits = _at(it, "spec").get("limits") or []
    return "; ".join(
        f"{limit.get('type', '')} {word} {_some([f'{name} {value}' for name, value in sorted(limit[key].items())])}"
        for limit in limits
        for key, word in (("default", "limit"), ("defaultRequest", "request"), ("max", "at most"))
        if limit.get(key)
    )


def _network(it: Object) -> str:
    spec = _at(it, "spec")
    return ", ".join(
        f"{kind.lower()} {word} {_rules(spec.get(kind.lower()) or [], end)}"
        for kind, end, word in (("Ingress", "from", "from"), ("Egress", "to", "to"))
        if kind in (spec.get("policyTypes") or ())
    )


def _rules(rules: Iterable[Object], end: str) -> str:
    said = [f"{_some([_end(peer) for peer in rule.get(end) or ()]) or 'anywhere'}{_ports(rule)}" for rule in rules]
    return "; ".join(said) or "nowhere"


def _end(peer: Object) -> str:
    if block := peer.get("ipBlock"):
        but = len(block.get("except") or ())
        return f"{block.get('cidr', '')}{f' but {but} ranges' if but else ''}"
    where = _spaces(peer["namespaceSelector"]) if "namespaceSelector" in peer else "this namespace"
    pods = _selected(peer["podSelector"]) if "podSelector" in peer else ""
    return f"{where}, pods {pods}" if pods else where


def _spaces(selector: Object) -> str:
    name = _at(selector, "matchLabels").get("kubernetes.io/metadata.name")
    return f"namespace {name}" if name else f"namespaces {_selected(selector) or 'all'}"


def _selected(selector: Object) -> str:
    return _some([f"{name.rpartition('/')[2]}={value}" for name, value in sorted(_at(selector, "matchLabels").items())])


def _ports(rule: Object) -> str:
    ports = [f"{port.get('port', 'any')}/{port.get('protocol', 'TCP').lower()}" for port in rule.get("ports") or ()]
    return f" ({_some(ports)})" if ports else ""


def _policy(it: Object) -> str:
    spec = _at(it, "spec")
    rules = _at(spec, "matchConstraints").get("resourceRules") or []
    about = sorted({name for rule in rules for name in rule.get("resources", ())})
    says = [text for check in spec.get("validations") or [] if (text := check.get("message"))]
    count = len(spec.get("validations") or [])
    return f"{count} rule{'' if count == 1 else 's'} about {_some(about)}{f': {says[0]}' if len(says) == 1 else ''}"


def _policy_binding(it: Object) -> str:
    spec = _at(it, "spec")
    chosen = _at(spec, "matchResources", "namespaceSelector")
    where = f" in namespaces with {_selected(chosen)}" if _selected(chosen) else ""
    named = _at(it, "metadata").get("name")
    policy = "the policy of its name" if spec.get("policyName") == named else spec.get("policyName", "")
    return f"{', '.join(spec.get('validationActions') or ())} by {policy}{where}"


def _monitor(it: Object) -> str:
    spec = _at(it, "spec")
    ends = spec.get("endpoints") or spec.get("podMetricsEndpoints") or []
    ports = [f"port {end.get('port', '')} every {end.get('interval', '')}" for end in ends]
    return f"{_some(ports)} where {_selected(_at(spec, 'selector'))}"


def _secret(it: Object) -> str:
    his = str(_at(it, "metadata").get("name", "")).startswith(names.TUNNEL_SECRET)
    return f"type {it.get('type', 'Opaque')}, its data is not ours" if his else "what a scraper shows"


def _service(it: Object) -> str:
    spec = _at(it, "spec")
    chosen = _selected({"matchLabels": spec.get("selector")})
    if not spec:
        return ""
    return f"port {_numbers(spec.get('ports'))}, {f'pods {chosen}' if chosen else 'no pods of its own'}"


def _endpoints(it: Object) -> str:
    behind = [
        (address.get("ip", ""), part) for part in it.get("subsets") or [] for address in part.get("addresses") or []
    ]
    return _some(f"{ip} port {_numbers(part.get('ports'))}" for ip, part in behind)


def _slice(it: Object) -> str:
    addresses = [address for end in it.get("endpoints") or [] for address in end.get("addresses") or []]
    return f"{_some(addresses)} port {_numbers(it.get('ports'))}" if addresses else ""


def _numbers(ports: Iterable[Object] | None) -> str:
    return _some([port.get("port", "") for port in ports or []])


def _daemon(it: Object) -> str:
    pod = _at(it, "spec", "template", "spec")
    if not pod:
        return ""
    on = _selected({"matchLabels": pod.get("nodeSelector")})
    images = _some([container.get("image", "") for container in pod.get("containers") or []])
    return f"{images} on {on or 'every node'}{', in its network' if pod.get('hostNetwork') else ''}"


def _at(it: Object, *path: str) -> Object:
    for key in path:
        it = it.get(key) or {}
    return it


def _some(words: Iterable[object], most: int = _MANY) -> str:
    """The first of them, and how many more there are."""
    every = [str(word) for word in words]
    more = [f"and {len(every) - most} more"] if len(every) > most else []
    return ", ".join([*every[:most], *more])


def _alerts(it: Object) -> str:
    rules = [rule for group in _at(it, "spec").get("groups") or () for rule in group.get("rules") or ()]
    alerts = sum("alert" in rule for rule in rules)
    return f"{alerts} alerts, {len(rules) - alerts} series"


def _files(it: Object) -> str:
    return ", ".join(f"{name} of {len(text)} characters" for name, text in _at(it, "data").items())


_KINDS: Final[Mapping[str, Callable[[Object], str]]] = {
    "namespace": _namespace,
    "quarantine": _mark,
    "pod": _pod,
    "serviceaccount": _account,
    "role": _role,
    "clusterrole": _role,
    "rolebinding": _binding,
    "clusterrolebinding": _binding,
    "resourcequota": _quota,
    "limitrange": _limits,
    "networkpolicy": _network,
    "secret": _secret,
    "validatingadmissionpolicy": _policy,
    "validatingadmissionpolicybinding": _policy_binding,
    "service": _service,
    "endpoints": _endpoints,
    "endpointslice": _slice,
    "daemonset": _daemon,
    "servicemonitor": _monitor,
    "podmonitor": _monitor,
    "prometheusrule": _alerts,
    "configmap": _files,
}
