"""Our part of the way: the monitor, who reads it, and whether its packets come through. Pure.

Who reads which monitor is said by the Prometheus and PrometheusAgent objects of the Prometheus operator: its API
reference, `serviceMonitorSelector` and the like. A selector that is left out selects nothing, {} selects everything;
left out, a namespace selector means the object's own namespace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from meshwright.desired.names import PREFIX
from meshwright.verify import netpol
from meshwright.verify.netpol import Caller
from meshwright.verify.scraping import targets
from meshwright.verify.scraping.hops import LABEL, PORT, VALUE, Hop, Json, Seen, World, labels, place, some

MONITOR = {"Service": "ServiceMonitor", "Pod": "PodMonitor"}
READERS = ("prometheuses", "prometheusagents")
_APPLY = "run `meshwright apply --only kubernetes`"


def hops(kind: str, object: Json, seen: Seen, world: World) -> Iterator[Hop]:
    """The hops behind the object, up to its packets."""
    plural = f"{MONITOR[kind].lower()}s"
    if seen.parts.get(plural, "missing") == "missing":
        mend = "install the Prometheus operator's CRDs (kube-prometheus-stack brings them), then apply"
        yield Hop("CRD", "failed", f"the cluster has no kind {MONITOR[kind]}", mend)
        return
    if blind := seen.blind(plural):
        yield Hop("monitor", "unknown", blind)
    else:
        yield _monitor(kind, object, seen, world)
    yield _read(kind, object, seen, world)
    yield network(kind, object, seen, world)
    yield _once(kind, object, seen, world)


def ours(kind: str, namespace: str, world: World) -> Json | None:
    """Our monitor as the file wants it."""
    found = world.wanted.get(MONITOR[kind])
    return found.attrs if found else None


def _monitor(kind: str, object: Json, seen: Seen, world: World) -> Hop:
    wanted = ours(kind, place(object)[0], world)
    if wanted is None:
        return Hop("monitor", "unknown", "the mesh file wants no monitor here")
    name = f"{MONITOR[kind]} {place(wanted)[1]}"
    live = seen.named(f"{MONITOR[kind].lower()}s", *place(wanted))
    if live is None:
        return Hop("monitor", "failed", f"{name} is not there", _APPLY)
    changed = [*_differences(labels(wanted), labels(live), "label "), *_differences(wanted["spec"], live.get("spec"))]
    if changed:
        return Hop("monitor", "failed", f"{name} was changed: {some(changed, 3)}", _APPLY)
    return Hop("monitor", "ok", f"{name} is as apply wrote it")


def _differences(wanted: Any, live: Any, at: str = "") -> Iterator[str]:
    """Where the live object does not say what is wanted; what it says besides does not count."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        for key, value in wanted.items():
            yield from _differences(value, live.get(key), f"{at}{'' if not at or at.endswith(' ') else '.'}{key}")
    elif isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        for index, (one, other) in enumerate(zip(wanted, live, strict=True)):
            yield from _differences(one, other, f"{at}[{index}]")
    elif wanted != live:
        yield at


def readers(kind: str, monitor: Json, seen: Seen) -> Iterator[tuple[Json, str]]:
    """Every Prometheus, and why it does not read the monitor, "" where it does."""
    for each in (each for plural in READERS for each in seen.of(plural)):
        yield each, _unread(kind, monitor, each, seen)


def _unread(kind: str, monitor: Json, reader: Json, seen: Seen) -> str:
    spec = reader.get("spec") or {}
    field = f"{kind[0].lower()}{kind[1:]}MonitorSelector"
    chosen, spaces = spec.get(field), spec.get(field.replace("Selector", "NamespaceSelector"))
    if chosen is None:
        return f"{field} is not set, which selects none"
    if not netpol.matches(chosen, labels(monitor)):
        return f"{field} wants {_words(chosen)}, and the monitor has {_has(chosen, monitor)}"
    namespace = place(monitor)[0]
    if spaces is None:
        return (
            "" if place(reader)[0] == namespace else f"it reads only monitors of its own namespace {place(reader)[0]}"
        )
    if spaces and not netpol.matches(spaces, _space(namespace, seen)):
        return f"it reads only monitors of namespaces with {_words(spaces)}"
    return "it is paused, so what changed since is not seen" if spec.get("paused") else ""


def _space(namespace: str, seen: Seen) -> Any:
    found = seen.named("namespaces", "", namespace)
    return {"kubernetes.io/metadata.name": namespace, **(labels(found) if found else {})}


def _words(selector: Json) -> str:
    said = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    said += [
        f"{each.get('key')} {each.get('operator')} {some(each.get('values') or ())}".strip()
        for each in selector.get("matchExpressions") or ()
    ]
    return some(said)


def _has(selector: Json, monitor: Json) -> str:
    keys = [*(selector.get("matchLabels") or {}), *(e.get("key") for e in selector.get("matchExpressions") or ())]
    return some(f"{key}={labels(monitor)[key]}" if key in labels(monitor) else f"no {key}" for key in keys)


def _read(kind: str, object: Json, seen: Seen, world: World) -> Hop:
    name, wanted = "Prometheus", ours(kind, place(object)[0], world)
    if seen.parts.get("prometheuses") == "forbidden":
        return Hop(name, "unknown", seen.blind("prometheuses"))
    if wanted is None:
        return Hop(name, "unknown", "there is no monitor of ours to read")
    monitor = seen.named(f"{MONITOR[kind].lower()}s", *place(wanted)) or wanted
    found = list(readers(kind, monitor, seen))
    if not found:
        blind = "the cluster has no Prometheus object of the operator, so who reads the monitor cannot be known"
        return Hop(name, "unknown", blind, "ask your Prometheus itself: --prometheus URL")
    reading = [each for each, why in found if not why]
    if reading:
        return Hop(name, "ok", f"{some('/'.join(place(each)) for each in reading)} reads the monitor")
    first, why = found[0]
    wants = ((first.get("spec") or {}).get(f"{kind.lower()}MonitorSelector") or {}).get("matchLabels") or {}
    mend = "correct the Prometheus object (for kube-prometheus-stack: the values of prometheusSpec)"
    if wants.get("release") not in (None, labels(monitor).get("release")):
        mend = f"set observability.release: {wants['release']} in the mesh file, then apply"
    return Hop(name, "failed", f"{'/'.join(place(first))} does not read it: {why}", mend)


def network(kind: str, object: Json, seen: Seen, world: World) -> Hop:
    """Whether NetworkPolicies of the namespace let Prometheus in."""
    name = "network"
    if blind := seen.blind("networkpolicies", "pods"):
        return Hop(name, "unknown", blind)
    ends = list(_ends(kind, object, seen))
    if not ends:
        return Hop(name, "unknown", "there is no pod with such a port to dial")
    here = place(object)[0]
    policies = [each for each in seen.of("networkpolicies") if place(each)[0] == here]
    callers = list(_callers(kind, object, seen, world))
    if not callers:
        return Hop(name, "unknown", "from which namespace it would be scraped cannot be known")
    for caller in callers:
        for pod, port in ends:
            if closing := netpol.barred(pod, policies, caller, port):
                return _barred(pod, port, closing, caller, world)
    return Hop(name, "ok", f"namespace {some(caller.namespace for caller in callers)} gets through")


def _barred(pod: Json, port: int, closing: Sequence[str], caller: Caller, world: World) -> Hop:
    mend = f"add a NetworkPolicy that lets namespace {caller.namespace} reach port {port}"
    if any(each.startswith(PREFIX) for each in closing):
        named = any(p.get("name") == PORT and p.get("containerPort") == port for p in netpol.declared(pod))
        if not named:
            mend = (
                f"name the container's port {port} `{PORT}` too: to namespace {caller.namespace} only that one is open"
            )
        elif world.namespace and caller.namespace != world.namespace:
            mend = f"set observability.namespace: {caller.namespace} in the mesh file, then apply"
        else:
            mend = f"{_APPLY}, which opens the port {PORT} to namespace {caller.namespace}"
    said = f"{some(closing)} lets nobody of namespace {caller.namespace} reach port {port} of {place(pod)[1]}"
    return Hop("network", "failed", said, mend)


def _ends(kind: str, object: Json, seen: Seen) -> Iterator[tuple[Json, int]]:
    """The pods to dial, with their port."""
    if kind == "Pod":
        pods, ports = [object], [p["containerPort"] for p in netpol.declared(object) if p.get("name") == PORT][:1]
        yield from ((pod, port) for pod in pods for port in ports)
        return
    chosen = next((port for port in object["spec"].get("ports") or () if port.get("name") == PORT), None)
    for pod in targets.behind(object, seen) if chosen else ():
        port = targets.number(chosen, pod)
        if port is not None:
            yield pod, port


def _callers(kind: str, object: Json, seen: Seen, world: World) -> Iterator[Caller]:
    """Who would dial: each Prometheus that reads our monitor, with the labels that the operator gives its pods."""
    wanted = ours(kind, place(object)[0], world)
    reading = [each for each, why in readers(kind, wanted, seen) if not why] if wanted else []
    for each in reading:
        namespace, name = place(each)
        more = ((each.get("spec") or {}).get("podMetadata") or {}).get("labels") or {}
        own = {
            "app.kubernetes.io/instance": name,
            "app.kubernetes.io/managed-by": "prometheus-operator",
            "app.kubernetes.io/name": "prometheus" if each["kind"] == "Prometheus" else "prometheus-agent",
            "operator.prometheus.io/name": name,
            "operator.prometheus.io/shard": "0",
            "prometheus": name,
        }
        yield Caller(namespace, _space(namespace, seen), {**more, **own}, world.pods)
    if not reading and world.namespace:
        yield Caller(world.namespace, _space(world.namespace, seen), None, world.pods)


def _once(kind: str, object: Json, seen: Seen, world: World) -> Hop:
    """Whether something else scrapes the same."""
    others = list(_other_monitors(kind, object, seen, world))
    if others and ours(kind, place(object)[0], world) is None:
        return Hop("once", "warned", f"not by us: {some(others)}", "see who made that monitor")
    twice = [*_other_way(kind, object, seen), *(f"{each} too" for each in others)]
    if not twice:
        return Hop("once", "ok", "nothing else scrapes it")
    mend = f"take {LABEL} off one of them, or the other monitor away: every series is there twice else"
    return Hop("once", "warned", f"scraped twice: {some(twice)}", mend)


def _asks(object: Json, ports: Sequence[Json]) -> bool:
    return labels(object).get(LABEL) == VALUE and any(port.get("name") == PORT for port in ports)


def _other_way(kind: str, object: Json, seen: Seen) -> Iterator[str]:
    """A Service and its Pod, where both ask."""
    here = place(object)[0]
    for each in [object] if kind == "Service" else [s for s in seen.of("services") if place(s)[0] == here]:
        pods = [pod for pod in targets.behind(each, seen) if kind == "Service" or pod is object]
        asking = [pod for pod in pods if _asks(pod, netpol.declared(pod))]
        if asking and _asks(each, each["spec"].get("ports") or ()):
            yield f"Service {place(each)[1]} and Pod {place(asking[0])[1]} both have the label"


def _other_monitors(kind: str, object: Json, seen: Seen, world: World) -> Iterator[str]:
    wanted = ours(kind, place(object)[0], world)
    own = place(wanted) if wanted else ()
    known = any(seen.of(plural) for plural in READERS)
    for each in seen.of(f"{MONITOR[kind].lower()}s"):
        spec = each.get("spec") or {}
        chosen = netpol.matches(spec.get("selector") or {}, labels(object)) and _covers(each, place(object)[0])
        read = not known or any(not why for _, why in readers(kind, each, seen))
        if place(each) != own and chosen and read and _port(kind, spec, object):
            yield f"{MONITOR[kind]} {'/'.join(place(each))} selects it"


def _covers(monitor: Json, namespace: str) -> bool:
    selector = (monitor.get("spec") or {}).get("namespaceSelector") or {}
    if selector.get("any"):
        return True
    return namespace in (selector.get("matchNames") or [place(monitor)[0]])


def _port(kind: str, spec: Json, object: Json) -> bool:
    """Whether one of the monitor's endpoints is a port of the object."""
    ports = (object["spec"].get("ports") or []) if kind == "Service" else netpol.declared(object)
    ends = spec.get("endpoints" if kind == "Service" else "podMetricsEndpoints") or ()
    names = {port.get("name") for port in ports}
    # one by its number may be any
    return any(end["port"] in names if "port" in end else len(end) > 0 for end in ends)
