"""Why a labelled Service or Pod is not scraped: the way from it to Prometheus, hop by hop. Pure but for `reading`."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from meshwright.desired.names import QUARANTINE
from meshwright.verify import netpol
from meshwright.verify.scraping import monitors, targets
from meshwright.verify.scraping.hops import Hop, Json, Seen, Way, World, labels, place, some

__all__ = ["Hop", "Seen", "Way", "World", "judge"]


def judge(namespace: str, name: str, seen: Seen, world: World) -> tuple[Way, ...]:
    """Every way that something of this name could be scraped by, the best first; one without a kind where there is
    nothing of the name.
    """
    home = _home(namespace, seen, world)
    ways = []
    for kind, object in _objects(namespace, name, seen):
        own = targets.service(object, seen) if kind == "Service" else targets.pod(object, seen)
        found = f"{kind} {place(object)[1]}"
        hops = (
            home,
            Hop("object", "ok", found),
            *own,
            *monitors.hops(kind, object, seen, world),
            *_limits(kind, world),
        )
        ways.append(Way(kind, place(object)[1], hops))
    ways.sort(key=lambda way: way.broken is not None)
    return tuple(ways) or (Way("", name, (home, _nothing(namespace, name, seen))),)


def _home(namespace: str, seen: Seen, world: World) -> Hop:
    """Whether the namespace is one that we have monitors in."""
    name = "namespace"
    space = seen.named("namespaces", "", namespace)
    if not seen.blind("namespaces") and space is None:
        return Hop(name, "failed", f"there is no namespace {namespace}", "see `kubectl get namespaces`")
    if space and QUARANTINE in labels(space):
        peer = world.out.get(namespace, world.tenants.get(namespace, ""))
        mend = f"`meshwright peer enable {peer}`, then apply" if peer else "see `meshwright plan`"
        return Hop(name, "failed", f"{namespace} is in quarantine, so nothing runs or is scraped there", mend)
    if namespace in world.out:
        peer = world.out[namespace]
        return Hop(
            name, "failed", f"its peer {peer} is disabled or expired", f"`meshwright peer enable {peer}`, then apply"
        )
    if namespace not in world.tenants:
        mend = "write `namespace:` under the peer it belongs to; or make a monitor of your own for it"
        return Hop(
            name,
            "failed",
            f"no peer of {world.mesh} has the namespace {namespace}, so no monitor of ours is there",
            mend,
        )
    if not world.wanted:
        return Hop(name, "failed", "the mesh file has no `observability`, so nothing is scraped", "add it, then apply")
    return Hop(name, "ok", f"{namespace} is that of {world.tenants[namespace]}")


def _objects(namespace: str, name: str, seen: Seen) -> Iterator[tuple[str, Json]]:
    """What the name means: a Service, a Pod, both; else a workload stands for the first of its pods."""
    found = False
    for kind, plural in (("Service", "services"), ("Pod", "pods")):
        object = seen.named(plural, namespace, name)
        if object:
            found = True
            yield kind, object
    pods = [] if found or seen.blind("services") else _of_workload(namespace, name, seen)
    yield from (("Pod", pod) for pod in pods[:1])


def _workload(namespace: str, name: str, seen: Seen) -> Json | None:
    every = (seen.named(kind, namespace, name) for kind in targets.WORKLOADS)
    return next((each for each in every if each), None)


def _of_workload(namespace: str, name: str, seen: Seen) -> list[Json]:
    workload = _workload(namespace, name, seen)
    if workload is None:
        return []
    selector = workload["spec"].get("selector") or {}
    return [pod for pod in seen.of("pods") if place(pod)[0] == namespace and netpol.matches(selector, labels(pod))]


def _nothing(namespace: str, name: str, seen: Seen) -> Hop:
    if blind := seen.blind("services", "pods"):
        return Hop("object", "unknown", blind)
    if workload := _workload(namespace, name, seen):
        kind = workload["kind"]
        mend = f"kubectl -n {namespace} describe {kind.lower()} {name}"
        return Hop("object", "failed", f"{kind} {name} has no pod, and no Service has its name", mend)
    there = [
        place(each)[1] for plural in ("services", "pods") for each in seen.of(plural) if place(each)[0] == namespace
    ]
    near = get_close_matches(name, there, 3)
    mend = f"did you mean {some(near)}?" if near else f"see `kubectl -n {namespace} get services,pods`"
    return Hop("object", "failed", f"there is no Service and no Pod {namespace}/{name}", mend)


def _limits(kind: str, world: World) -> Iterator[Hop]:
    """What would cut a scrape off: nothing here can tell how much the object answers."""
    wanted = world.wanted.get(monitors.MONITOR[kind])
    spec = wanted.attrs["spec"] if wanted else {}
    if spec:
        most = f"{spec.get('sampleLimit')} series or {spec.get('bodySizeLimit')} in an answer"
        said = f"an answer over one of them is refused as a whole: {most}, {spec.get('targetLimit')} targets"
        yield Hop("limits", "ok", said)
