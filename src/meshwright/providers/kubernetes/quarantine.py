"""Tenants' own objects in namespaces that are in quarantine, or come out of it: the only foreign ones we ever write.

First of all comes the mark: where it is, the API server refuses what the tenant writes. It takes a moment until every
server has heard of it, longer where the policy is new; so what is taken away is looked for until nothing new comes.
Nothing is taken away before it is kept: RoleBindings stand in the namespace's annotation before one is deleted, and a
workload's old number is written in the same patch as the new one. But there is only so much room for RoleBindings; the
rest of them is deleted all the same, and named. Each write is compare-and-set on what it was decided from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from meshwright.desired.kubernetes import bindings, workloads
from meshwright.desired.kubernetes.marks import MARK, NOTES, mark, mark_id
from meshwright.desired.manifest import Manifest, id_of
from meshwright.desired.names import BINDINGS, MESH, PREFIX, QUARANTINE, QUOTA, WAS
from meshwright.desired.resource import Resource, Resources
from meshwright.errors import ClusterError, MeshwrightError
from meshwright.io.cluster import Cluster, Object
from meshwright.plan.plan import Change, id_kind
from meshwright.plan.text import printable
from meshwright.providers.base import Result
from meshwright.providers.kubernetes import inside
from meshwright.providers.kubernetes.look import offboarded
from meshwright.providers.kubernetes.write import QUOTA_SETTLES, patiently

WRITER = f"{PREFIX}quarantine"
"""Our field manager here: what it sets is not the mesh's, which would take back what it no longer declares."""
GRACE = 30
"""Seconds that a pod gets to end, whatever it says of itself."""
LONGEST = 8 * 1024
"""Letters of a path; there are servers and proxies that take no more."""
ROUNDS = 6
PAUSES = (0.1, 0.2, 0.4, 0.8, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0)
"""Seconds between two looks at what comes up while it is taken away."""
QUIET = 0.5
"""Seconds in which nothing may come up: longer than a request that was let through is on its way."""
NEW_POLICY = 3.0
"""... and where the policy that refuses them was written just now: the API server reads policies every second."""
SHOWN = 5


def mine(attrs: Mapping[str, Any], mesh: str) -> bool:
    """Whether a wanted or deleted thing is quarantine's: whatever is no object of the mesh."""
    return bindings.foreign(attrs, mesh)


def read(cluster: Cluster, mesh: str, wanted: Resources) -> dict[str, Resource]:
    """Marks; tenants' own RoleBindings and pods where a mark is wanted; and what is wanted, where it is there."""
    known = {r.attrs["metadata"]["name"] for r in wanted.values() if id_kind(r.id) == "namespace"}
    spaces = [s for s in cluster.list("/api/v1/namespaces", metadata=True) if _known(s, mesh, known)]
    found = [part for space in spaces if (part := _mark(space)) and (part.id in wanted or not offboarded(space))]
    shut = {resource.attrs["metadata"]["name"] for resource in wanted.values() if id_kind(resource.id) == MARK}
    own = [resource.attrs for resource in wanted.values() if mine(resource.attrs, mesh)]
    places = {kind: {a["metadata"]["namespace"] for a in own if a["kind"].lower() == kind} for kind in inside.KINDS}
    for live in inside.objects(cluster, [inside.BINDING], shut | places[inside.BINDING.key]):
        attrs = bindings.kept(live)
        if mine(live, mesh) and (attrs["metadata"]["namespace"] in shut or id_of(attrs) in wanted):
            found.append(Resource(id_of(attrs), attrs, after=(mark_id(attrs["metadata"]["namespace"]),)))
    kinds = [kind for kind in inside.WORKLOADS if places[kind.key]]
    for live in inside.objects(cluster, kinds, set().union(*(places[kind.key] for kind in kinds))):
        attrs = workloads.projected(live)
        if id_of(attrs) in wanted:
            found.append(Resource(id_of(attrs), attrs, after=(mark_id(attrs["metadata"]["namespace"]),)))
    found += [_pod(live) for live in inside.objects(cluster, [inside.POD], shut) if _alive(live)]
    return {resource.id: resource for resource in found}


def set_marks(cluster: Cluster, changes: Sequence[Change], require: Callable[[], None]) -> None:
    """Put the label on every namespace that goes into quarantine: before anything else of a batch is written.

    What goes wrong here is tried again, and told, by `apply`.
    """
    asking = cluster.asking(require)
    for change in changes:
        if id_kind(change.id) == MARK and change.wanted is not None and not _borne(change):
            body = {"metadata": {"labels": {QUARANTINE: "true"}}}
            with suppress(MeshwrightError):
                asking.merge(f"/api/v1/namespaces/{change.id.split('/')[2]}", body, manager=WRITER)


def _borne(change: Change) -> bool:
    """Whether the namespace bore the mark when the plan was made."""
    labels = ((change.before or {}).get("metadata") or {}).get("labels") or {}
    return QUARANTINE in labels


def apply(
    cluster: Cluster,
    mesh: str,
    changes: Sequence[Change],
    failed: Collection[str] = (),
    require: Callable[[], None] = lambda: None,
    quiet: float = QUIET,
) -> list[Result]:
    """Write what is quarantine's of a batch, after everything else of it: one Result each.

    failed: ids of the same batch that could not be written. require: raises when we may write no more; asked before
    every single write. quiet: seconds in which no RoleBinding may have come up.
    """
    spaces: dict[str, dict[str, Change]] = {}
    for change in changes:
        spaces.setdefault(change.id.split("/")[2], {})[change.id] = change
    asking = cluster.asking(require)
    jobs = [_Job(asking, mesh, name, of, failed, quiet) for name, of in spaces.items()]
    results: dict[str, Result] = {}
    with ThreadPoolExecutor(max(1, min(inside.AT_ONCE, len(jobs)))) as pool:
        for job in pool.map(_work, jobs):
            results |= job.results()
    return [results[change.id] for change in changes]


@dataclass(frozen=True)
class _Job:
    """What is to be done in one namespace. errors: by id, what could not be."""

    cluster: Cluster
    mesh: str
    name: str
    changes: Mapping[str, Change]
    failed: Collection[str]
    quiet: float
    errors: dict[str, MeshwrightError] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.name}"

    @property
    def mark(self) -> str:
        return mark_id(self.name)

    def merge(self, path: str, body: Object) -> Object:
        return self.cluster.merge(path, body, manager=WRITER)

    @contextmanager
    def noting(self, *ids: str) -> Iterator[None]:
        """What goes wrong inside is the error of these."""
        try:
            yield
        except MeshwrightError as error:
            self.errors.update(dict.fromkeys(ids, error))

    def of(self, *kinds: str) -> list[str]:
        """Ids of changes of these kinds."""
        return [id for id in self.changes if id_kind(id) in kinds]

    def results(self) -> dict[str, Result]:
        """One for each change. What went wrong with a thing that is in no change is told by the first one."""
        others = [error for id, error in self.errors.items() if id not in self.changes]
        out = {}
        for id, change in self.changes.items():
            error = self.errors.get(id) or (others.pop() if others else None)
            attrs = change.wanted or {}
            out[id] = Result(id, False, why=error.message, hint=error.hint) if error else Result(id, True, attrs)
        return out


def _work(job: _Job) -> _Job:
    if any(_shuts(change) for change in job.changes.values()):
        _shut(job)
    else:
        _open(job)
    return job


def _known(space: Object, mesh: str, known: Collection[str]) -> bool:
    """Whether a namespace is this mesh's: by its label, or by being wanted where that was taken off."""
    named = (space["metadata"].get("labels") or {}).get(MESH)
    return bool(named == mesh or (named is None and space["metadata"]["name"] in known))


def _shuts(change: Change) -> bool:
    """Whether a change takes away, rather than giving back."""
    if id_kind(change.id) == MARK:
        return change.wanted is not None
    return change.wanted is None or WAS in (change.wanted["metadata"].get("annotations") or {})


def _shut(job: _Job) -> None:
    """The mark, then his RoleBindings, then his workloads, then his pods."""
    with job.noting(job.mark, *job.changes):
        ours = job.mark not in job.changes or _borne(job.changes[job.mark])
        _keep(job, _bindings(job))
        with job.noting(job.mark, *job.of(inside.BINDING.key)):
            _unbind(job)
        for id in job.of(*workloads.RESTS):
            with job.noting(id):
                _set(job, job.changes[id].wanted or {}, lambda live: workloads.at_rest(live, ours))
        with job.noting(job.mark):
            _await_quota(job)
        with job.noting(job.mark, *job.of(inside.POD.key)):
            _empty(job)


def _open(job: _Job) -> None:
    """His RoleBindings, then his workloads; the mark when all of them are back."""
    for id, change in job.changes.items():
        with job.noting(id):
            for base in change.after:
                if base in job.failed:
                    raise ClusterError(f"not tried: it needs {base} first", "mend that, then apply again")
            if change.wanted and id_kind(id) == inside.BINDING.key:
                _create(job, change.wanted)
            elif change.wanted and id_kind(id) in workloads.RESTS:
                _set(job, change.wanted, workloads.awake)
    if job.mark in job.changes:
        with job.noting(job.mark):
            _unmark(job)


def _mark(space: Object) -> Resource | None:
    """The mark that a namespace bears."""
    meta = space["metadata"]
    label, notes = (meta.get("labels") or {}).get(QUARANTINE), meta.get("annotations") or {}
    if label is None and not any(key in notes for key in NOTES):
        return None
    attrs = mark(meta["name"], notes, label)
    return Resource(mark_id(meta["name"]), attrs, after=(f"kubernetes/namespace/{meta['name']}",))


def _pod(live: Object) -> Resource:
    meta = {key: live["metadata"][key] for key in ("name", "namespace")}
    attrs = {"apiVersion": "v1", "kind": "Pod", "metadata": meta}
    return Resource(id_of(attrs), attrs, after=(mark_id(meta["namespace"]),))


def _alive(pod: Object) -> bool:
    """Whether it runs, or may, for longer than we grant it. A pod may ask for a year to end in."""
    meta, phase = pod["metadata"], (pod.get("status") or {}).get("phase")
    ending = meta.get("deletionTimestamp") and (meta.get("deletionGracePeriodSeconds") or 0) <= GRACE
    return not ending and phase not in ("Succeeded", "Failed")


def _bindings(job: _Job) -> list[Object]:
    return inside.objects(job.cluster, [inside.BINDING], [job.name])


def _keep(job: _Job, live: Sequence[Object]) -> None:
    """Set the mark, with these RoleBindings in it, as far as there is room; tell of the others."""
    own = [binding for binding in live if bindings.foreign(binding, job.mesh)]
    for _ in range(ROUNDS):
        meta = job.cluster.get(job.path)["metadata"]
        notes, labels = meta.get("annotations") or {}, meta.get("labels") or {}
        kept = bindings.merged(notes, own, job.name)
        new = {key: kept.get(key) for key in NOTES if kept.get(key) != notes.get(key)}
        if new or labels.get(QUARANTINE) != "true":
            body = {"resourceVersion": meta["resourceVersion"], "labels": {QUARANTINE: "true"}, "annotations": new}
            try:
                job.merge(job.path, {"metadata": body})
            except ClusterError as error:
                if error.status == 409:
                    continue
                raise
        _tell_lost(job, set(bindings.lost(kept)) - set(bindings.lost(notes)))
        return
    raise _busy(f"the namespace {job.name}")


def _tell_lost(job: _Job, names: Collection[str]) -> None:
    if names:
        job.cluster.note(
            f"RoleBindings of {job.name} are gone for good, for there are too many or they are too large to be kept: "
            f"{_some(names)}; who comes back makes them anew"
        )


def _unbind(job: _Job) -> None:
    """Delete every RoleBinding, kept or not, until none comes up any more. Those that come up are kept too."""
    calm, enough = 0, 2 if job.of(MARK, inside.BINDING.key) else 1
    for pause in PAUSES:
        left = [binding for binding in _bindings(job) if id_of(binding) not in job.errors]
        calm = 0 if left else calm + 1
        if calm == enough:
            return
        if left:
            _keep(job, left)
            _delete(job, left)
        time.sleep(pause if left else job.quiet)
    raise _busy(f"who may do what in {job.name}")


def _delete(job: _Job, every: Sequence[Object]) -> None:
    """Delete exactly these. One that has a name too long to be asked for goes with whatever there is: so do all."""
    short = [binding for binding in every if len(inside.path(binding)) <= LONGEST]
    if len(short) < len(every):
        with job.noting(*(id_of(binding) for binding in every if binding not in short), job.mark):
            job.cluster.delete(inside.BINDING.collection(job.name))
    for binding in short:
        with job.noting(id_of(binding), job.mark):
            _delete_one(job, binding)


def _delete_one(job: _Job, binding: Object) -> None:
    """A finalizer would leave it in force for as long as somebody likes."""
    meta, path = binding["metadata"], inside.path(binding)
    try:
        if meta.get("finalizers"):
            version = {"resourceVersion": meta["resourceVersion"], "finalizers": None}
            meta = job.merge(path, {"metadata": version})["metadata"]
        job.cluster.delete(path, uid=meta["uid"], version=meta["resourceVersion"])
    except ClusterError as error:
        if error.status not in (404, 409):  # gone, or changed meanwhile: the next round sees
            raise


def _set(job: _Job, wanted: Mapping[str, Any], decide: Callable[[Object], Manifest | None]) -> None:
    """Make a workload what is decided of it as it is now. One that is gone needs nothing."""
    path = inside.place(wanted["kind"], job.name, wanted["metadata"]["name"])
    for _ in range(ROUNDS):
        try:
            live = job.cluster.get(path)
            now = decide(live)
            if now is not None and now != workloads.projected(live):
                change = workloads.patch(now, live)
                job.merge(path, change)
                if gone := workloads.lost(change):
                    job.cluster.note(
                        f"{id_of(wanted)}: annotations too large to keep beside ours are gone: {_some(gone)}"
                    )
            return
        except ClusterError as error:
            if error.status == 404:
                return
            if error.status != 409:
                raise
    raise _busy(id_of(wanted))


def _await_quota(job: _Job) -> None:
    """The quota holds only when its controller has seen it."""
    end = time.monotonic() + QUOTA_SETTLES
    while True:
        quota = job.cluster.get(f"{job.path}/resourcequotas/{QUOTA}")
        if ((quota.get("status") or {}).get("hard") or {}).get("pods") == "0":
            return
        if time.monotonic() > end:
            raise ClusterError(
                f"the quota of {job.name} is not in force: new pods can still come up",
                "see whether kube-controller-manager runs, then apply again",
            )
        time.sleep(0.2)


def _empty(job: _Job) -> None:
    """Delete every pod that runs, and those that came up meanwhile."""
    for _ in range(2):
        for pod in filter(_alive, inside.objects(job.cluster, [inside.POD], [job.name])):
            own = pod["spec"].get("terminationGracePeriodSeconds") or GRACE
            with job.noting(id_of(pod), job.mark):
                job.cluster.delete(inside.path(pod), uid=pod["metadata"]["uid"], grace=max(1, min(own, GRACE)))


def _create(job: _Job, wanted: Mapping[str, Any]) -> None:
    """Put a RoleBinding back."""
    path = inside.BINDING.collection(job.name)
    try:
        patiently(lambda: job.cluster.create(path, dict(wanted), manager=WRITER))
    except ClusterError as error:
        if error.reason != "AlreadyExists":
            raise


def _unmark(job: _Job) -> None:
    """Take the mark off, with what it keeps: so only when all of that is back."""
    for _ in range(ROUNDS):
        meta = job.cluster.get(job.path)["metadata"]
        old = meta.get("annotations") or {}
        kept = bindings.saved(old.get(BINDINGS), job.name)
        away = sorted(kept.keys() - {live["metadata"]["name"] for live in _bindings(job)})
        if job.errors or away:
            what = ", ".join([*job.errors] or [f"RoleBinding {name}" for name in away])
            raise ClusterError(
                f"the namespace stays marked, and keeps what is not back yet: {what}",
                f"mend that and apply again; or give it up: kubectl annotate namespace {job.name} {BINDINGS}-",
            )
        notes = {"labels": {QUARANTINE: None}, "annotations": dict.fromkeys(NOTES)}
        try:
            job.merge(job.path, {"metadata": {"resourceVersion": meta["resourceVersion"], **notes}})
        except ClusterError as error:
            if error.status == 409:
                continue
            raise
        if lost := bindings.lost(old):
            job.cluster.note(f"RoleBindings of {job.name} that could not be kept are not back: {_some(lost)}")
        return
    raise _busy(f"the namespace {job.name}")


def _some(names: Collection[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(printable(name) for name in sorted(names)[:SHOWN])}{more}"


def _busy(what: str) -> ClusterError:
    return ClusterError(f"{what} changed again and again while it was written", "find out who does that; apply again")
