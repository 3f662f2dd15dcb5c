"""The friend's part of the way: the label, the port's name, and something that answers behind it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from meshwright.verify import netpol
from meshwright.verify.scraping.hops import LABEL, PORT, VALUE, Hop, Json, Seen, labels, place, some

WORKLOADS = ("deployments", "statefulsets", "daemonsets")


def service(object: Json, seen: Seen) -> Iterator[Hop]:
    """The hops of a Service."""
    yield label(object, seen)
    spec = object["spec"]
    ports = spec.get("ports") or []
    yield port_name(object, ports)
    yield _type(object, seen)
    if not spec.get("selector") or spec.get("type") == "ExternalName":
        return
    if blind := seen.blind("pods"):
        yield Hop("pods", "unknown", blind)
        return
    pods = behind(object, seen)
    yield _selected(object, pods, seen)
    if not pods:
        return
    chosen = next((port for port in ports if port.get("name") == PORT), None)
    if chosen:
        yield _target(chosen, pods)
    yield _running(pods)
    if chosen:
        yield _endpoints(object, seen)


def pod(object: Json, seen: Seen) -> Iterator[Hop]:
    """The hops of a Pod."""
    yield label(object, seen)
    yield port_name(object, netpol.declared(object))
    yield _running([object])


def label(object: Json, seen: Seen) -> Hop:
    """Whether the object asks to be scraped, exactly as the monitors select it."""
    name = "label"
    namespace, called = place(object)
    kind = object["kind"].lower()
    said = labels(object)
    if said.get(LABEL) == VALUE:
        return Hop(name, "ok", f'{LABEL}: "{VALUE}"')
    owner = _owner(object, seen)
    where = f"{owner['kind'].lower()}/{owner['metadata']['name']}" if owner else ""
    mend = f'kubectl -n {namespace} label --overwrite {kind} {called} "{LABEL}={VALUE}"'
    if owner:
        mend = f'set {LABEL}: "{VALUE}" under spec.template.metadata.labels of {where} (a pod is made by its template)'
    if LABEL in said:
        return Hop(name, "failed", f'{LABEL} is "{said[LABEL]}", and only "{VALUE}" counts', mend)
    if owner and LABEL in labels(owner):
        return Hop(name, "failed", f"the label is on {where}, not on the template of its pods", mend)
    if LABEL in (object["metadata"].get("annotations") or {}):
        return Hop(name, "failed", f"{LABEL} is an annotation here, and only a label counts", mend)
    near = get_close_matches(LABEL, list(said), 1, 0.8)
    more = f"; {near[0]} is another one" if near else ""
    return Hop(name, "failed", f"it has no label {LABEL}{more}", mend)


def _owner(object: Json, seen: Seen) -> Json | None:
    """The workload that made a pod, of those that were listed. A Deployment's ReplicaSet has its name and a hash."""
    for owner in object["metadata"].get("ownerReferences") or ():
        names = {owner["name"], owner["name"].rpartition("-")[0] if owner.get("kind") == "ReplicaSet" else ""}
        for kind in WORKLOADS:
            for each in seen.of(kind):
                if place(each)[0] == place(object)[0] and place(each)[1] in names:
                    return each
    return None


def port_name(object: Json, ports: Sequence[Json]) -> Hop:
    name, kind = "port", object["kind"]
    where = "spec.ports" if kind == "Service" else "the ports of its container"
    mend = f"call it `name: {PORT}` in {where}"
    found = next((port for port in ports if port.get("name") == PORT), None)
    if found is None:
        names = [port["name"] for port in ports if port.get("name")]
        numbers = [port.get("port") or port.get("containerPort") for port in ports]
        if not ports:
            return Hop(name, "failed", "it has no port", f"add one with `name: {PORT}` to {where}")
        said = f"its ports are called {some(names)}" if names else f"its port {some(numbers)} has no name"
        near = [n for n in names if "metric" in n.lower()] or get_close_matches(PORT, names, 1, 0.7)
        more = f"; {near[0]} is not {PORT}" if near else ""
        return Hop(name, "failed", f"it has no port named {PORT}: {said}{more}", mend)
    number = found.get("port") or found.get("containerPort")
    protocol = found.get("protocol") or "TCP"
    if protocol != "TCP":
        return Hop(name, "failed", f"{PORT} is a port of {protocol}", f"make it one of TCP in {where}")
    return Hop(name, "ok", f"{PORT}, {number}")


def _type(object: Json, seen: Seen) -> Hop:
    spec = object["spec"]
    if spec.get("type") == "ExternalName":
        mend = "label a Service that selects pods, or the pods themselves"
        return Hop("type", "failed", f"ExternalName: it is a name for {spec.get('externalName')}, without pods", mend)
    if spec.get("selector"):
        return Hop("type", "ok", "headless" if spec.get("clusterIP") == "None" else spec.get("type", "ClusterIP"))
    blind = seen.blind("endpointslices")
    if blind:
        return Hop("type", "unknown", f"it has no selector; {blind}")
    if _slices(object, seen):
        return Hop("type", "warned", "it has no selector: somebody keeps its endpoints by hand")
    mend = "give it a selector of the labels of its pods"
    return Hop("type", "failed", "it has no selector, and nobody wrote endpoints for it", mend)


def behind(object: Json, seen: Seen) -> list[Json]:
    """The pods that a Service selects."""
    wanted = (object["spec"].get("selector") or {}).items()
    here = place(object)[0]
    return [each for each in seen.of("pods") if wanted and place(each)[0] == here and wanted <= labels(each).items()]


def _selected(object: Json, pods: Sequence[Json], seen: Seen) -> Hop:
    wanted = some(f"{key}={value}" for key, value in object["spec"]["selector"].items())
    if pods:
        return Hop("selector", "ok", f"{wanted} selects {some(place(each)[1] for each in pods)}")
    there = seen.of("pods")
    near = [
        each
        for each in there
        if place(each)[0] == place(object)[0] and object["spec"]["selector"].keys() & labels(each).keys()
    ]
    has = f"; {place(near[0])[1]} has {_of(near[0], object['spec']['selector'])}" if near else ""
    none = "" if there else "; there is no pod in the namespace"
    mend = "make the Service's selector and the labels of the pod template the same"
    return Hop("selector", "failed", f"no pod has {wanted}{has}{none}", mend)


def _of(pod: Json, keys: Json) -> str:
    return some(f"{key}={labels(pod)[key]}" for key in keys if key in labels(pod))


def number(port: Json, pod: Json) -> int | None:
    """The port of the pod that a Service's port leads to; None where the pod has none of that name."""
    target = port.get("targetPort", port.get("port"))
    if isinstance(target, int):
        return target
    found = next((each for each in netpol.declared(pod) if each.get("name") == target), None)
    return found["containerPort"] if found else None


def _target(port: Json, pods: Sequence[Json]) -> Hop:
    target = port.get("targetPort", port.get("port"))
    ports = [each for pod in pods for each in netpol.declared(pod)]
    has = some(f"{each.get('name') or 'without a name'} {each['containerPort']}" for each in ports)
    if isinstance(target, str) and all(number(port, pod) is None for pod in pods):
        mend = f"name the container's port {target}, or write its number as targetPort"
        return Hop("targetPort", "failed", f"no container has a port named {target}: {has or 'they name none'}", mend)
    if isinstance(target, int) and ports and target not in {each["containerPort"] for each in ports}:
        return Hop(
            "targetPort", "warned", f"{target} is no port that its containers declare: {has}", "see what listens"
        )
    return Hop("targetPort", "ok", str(target))


def _running(pods: Sequence[Json]) -> Hop:
    states = {place(each)[1]: _condition(each) for each in pods}
    good = [name for name, said in states.items() if not said]
    bad = [f"{name} {said}" for name, said in states.items() if said]
    if good:
        return Hop("running", "ok", f"{some(good)} {'is' if len(good) == 1 else 'are'} ready")
    namespace, name = place(pods[0])
    return Hop("running", "failed", some(bad, 3), f"kubectl -n {namespace} describe pod {name}")


def _condition(pod: Json) -> str:
    """What keeps a pod from answering, "" where nothing does."""
    status = pod.get("status") or {}
    phase = status.get("phase", "Unknown")
    if phase in ("Succeeded", "Failed"):
        return f"has ended ({phase})"
    for each in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        reason = ((each.get("state") or {}).get("waiting") or {}).get("reason")
        if reason and reason not in ("PodInitializing", "ContainerCreating"):
            return f"waits: {reason}"
    ready = {each["type"]: each for each in status.get("conditions") or ()}
    if phase != "Running" or not status.get("podIP"):
        said = ready.get("PodScheduled", {}).get("message", "")
        return f"is {phase}{f': {said}' if said else ''}"
    return "" if ready.get("Ready", {}).get("status") == "True" else "runs, but is not ready"


def _slices(object: Json, seen: Seen) -> list[Json]:
    here, name = place(object)
    return [
        each
        for each in seen.of("endpointslices")
        if place(each)[0] == here and labels(each).get("kubernetes.io/service-name") == name
    ]


def _endpoints(object: Json, seen: Seen) -> Hop:
    if blind := seen.blind("endpointslices"):
        return Hop("endpoints", "unknown", blind)
    slices = [each for each in _slices(object, seen) if any(p.get("name") == PORT for p in each.get("ports") or ())]
    ends = [end for each in slices for end in each.get("endpoints") or ()]
    ready = sum((end.get("conditions") or {}).get("ready") is not False for end in ends)
    namespace, name = place(object)
    mend = f"kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={name}"
    if ready:
        return Hop("endpoints", "ok", f"{ready} ready")
    said = f"none of {len(ends)} endpoints is ready" if ends else f"it has no endpoint with the port {PORT}"
    return Hop("endpoints", "failed", said, mend)
