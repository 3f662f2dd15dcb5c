"""One change of one object, written by compare-and-set: server-side apply of everything that is declared.

An object is judged once more before it is written: what is not as the plan saw it is refused, not overwritten.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshwright.desired.names import MANAGER
from meshwright.desired.resource import Blocked
from meshwright.errors import ClusterError, ConflictError, MeshwrightError
from meshwright.io.cluster import Cluster, Object
from meshwright.plan.diff import Path, fields, same
from meshwright.plan.plan import Change
from meshwright.providers.base import Result
from meshwright.providers.kubernetes import managed, project
from meshwright.providers.kubernetes.kinds import Place, place
from meshwright.providers.kubernetes.look import Seen, again

Attrs = Mapping[str, Any]
ROUNDS = 5
QUOTA_SETTLES = 15.0
"""Seconds in which a controller must have seen a new quota: until then it refuses whatever it counts."""
NAMESPACE_GOES = 60.0
"""Seconds that a namespace gets to disappear with all that is in it."""
_UNCHANGEABLE: Mapping[str, tuple[Path, ...]] = {
    "rolebinding": (("roleRef",),),
    "clusterrolebinding": (("roleRef",),),
    "resourcequota": (("spec", "scopes"), ("spec", "scopeSelector")),
    "secret": (("type",),),
    "service": (("spec", "clusterIP"),),
    "endpointslice": (("addressType",),),
    "daemonset": (("spec", "selector"),),
}
"""Fields that the server does not let anybody change: the object is deleted and made again."""


@dataclass
class _Known:
    """An object as we last saw it."""

    live: Object


@dataclass
class Writer:
    """seen: what was there a moment ago. lock: raises when we may write no more; asked before every single write.

    After an answer that fails for all (nobody answers, the credentials have ended) nothing more is tried. What is the
    matter with one object alone is a ConflictError.
    """

    cluster: Cluster
    seen: Seen
    lock: Callable[[], None] = lambda: None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _over: ClusterError | None = None

    def __post_init__(self) -> None:
        self.cluster = self.cluster.asking(self._may)

    def stop(self) -> None:
        """Write no more; what is being asked of the server at this moment ends by itself."""
        self._stopped.set()

    def write(self, change: Change) -> Result:
        try:
            self._may()
            return Result(change.id, True, self._write(change))
        except MeshwrightError as error:
            if isinstance(error, ClusterError) and error.status in (0, 401) and not self._over:
                self._over = error
            return Result(change.id, False, why=error.message, hint=error.hint)

    def _may(self) -> None:
        if self._stopped.is_set():
            raise ConflictError("not written: it was interrupted", "apply again")
        if self._over:
            raise MeshwrightError(f"not written: {self._over.message}", self._over.hint)
        self.lock()

    def _write(self, change: Change) -> Attrs:
        there, live = self.seen.resources.get(change.id), self.seen.live.get(change.id)
        if live is None:
            if there and there.blocked:
                raise ConflictError(there.blocked.why, there.blocked.hint)
            if change.wanted is None:
                return {}
            if change.before is not None:
                raise _moved(change.id, "it is gone")
            return self._create(place(change.id), change.wanted)
        assert there is not None
        if change.wanted is not None and same(there.attrs, change.wanted) and not there.blocked:
            return there.attrs
        if not self._as_planned(change, there.attrs, there.blocked, live):
            raise _moved(change.id, "it is not what the plan saw")
        if change.wanted is None:
            return self._delete(place(change.id), live)
        return self._update(place(change.id), change.wanted, live)

    def _as_planned(self, change: Change, attrs: Attrs, blocked: Blocked | None, live: Object) -> bool:
        if change.before is not None:
            return same(attrs, change.before)
        if blocked:
            raise ConflictError(f"somebody else took the name since the plan: {blocked.why}", blocked.hint)
        # the cluster itself makes the account of a new namespace
        return bool(change.id.endswith("/default") and not any(h.ours for h in managed.holders(live)))

    def _create(self, where: Place, wanted: Attrs) -> Attrs:
        """Without force: whoever took the name meanwhile keeps it, and is named."""
        got = patiently(lambda: self.cluster.apply(where.path, dict(wanted), manager=MANAGER))
        return project.view(self._typed(got, where, wanted), wanted).attrs

    def _update(self, where: Place, wanted: Attrs, live: Object) -> Attrs:
        known = _Known(live)
        for _ in range(ROUNDS):
            try:
                if since := known.live["metadata"].get("deletionTimestamp"):
                    return self._instead(where, wanted, known.live, since)
                return self._force(where, wanted, known)
            except ClusterError as error:
                if error.status != 409:
                    raise
            found = again(self.cluster, where, wanted)
            if found is None:
                raise _moved(where.id, "it is gone")
            # a controller may write its status, and we ourselves something whose answer was lost; whoever else touches
            # what counts is not overwritten unseen
            now = project.view(found, wanted).attrs
            if not (same(now, wanted) or same(now, project.view(known.live, wanted).attrs)):
                raise _moved(where.id, "somebody else changed it just now")
            known.live = found
        raise ConflictError("others changed it again and again while it was written", "find out who does; apply again")

    def _instead(self, where: Place, wanted: Attrs, live: Object, since: str) -> Attrs:
        """Make anew what is being deleted. A namespace takes its walls along: those have to be planned first."""
        if where.kind.key == "namespace":
            hint = f"wait until it is gone (kubectl wait --for=delete namespace/{where.name}), then apply again"
            raise ConflictError(f"it is being deleted since {since}", hint)
        self._remove(where, live)
        return self._create(where, wanted)

    def _force(self, where: Place, wanted: Attrs, known: _Known) -> Attrs:
        """Make it as declared where apply alone would not, then apply. Then others hold only what is as declared."""
        now = project.view(known.live, wanted)
        if _differs(now.attrs, wanted, _UNCHANGEABLE.get(where.kind.key, ())):
            self._remove(where, known.live)
            return self._create(where, wanted)
        if now.strays or project.shared(known.live, now.attrs, wanted):
            known.live = self._mend(where, wanted, known.live, now.strays)
        body = _with(wanted, {"resourceVersion": known.live["metadata"]["resourceVersion"]})
        known.live = self._typed(self.cluster.apply(where.path, body, manager=MANAGER, force=True), where, wanted)
        now = project.view(known.live, wanted)
        if now.strays or not same(now.attrs, wanted):
            known.live = self._mend(where, wanted, known.live, now.strays)
        return project.view(known.live, wanted).attrs

    def _mend(self, where: Place, wanted: Attrs, live: Object, strays: Iterable[Path]) -> Object:
        """One patch that makes the object whole, so that no wall is ever in between two shapes.

        A default that somebody wrote out keeps its value when it is taken away; so his name is taken off it too.
        """
        meta = live["metadata"]
        more: dict[str, Any] = {"resourceVersion": meta["resourceVersion"]}
        if entries := managed.without(meta.get("managedFields") or (), strays):
            more["managedFields"] = entries
        body = _with(wanted, more)
        for path in strays:
            inner = body
            for step in path[:-1]:
                inner = inner.setdefault(step, {})
            inner[path[-1]] = None
        return self._typed(self.cluster.merge(where.path, body, manager=MANAGER), where, wanted)

    def _typed(self, got: Object, where: Place, wanted: Attrs) -> Object:
        """What a write answered, as a read gives it. Of what is opaque it tells only the metadata."""
        if where.kind.opaque and where.kind.whole(wanted):
            if (found := again(self.cluster, where, wanted)) is None:
                raise _moved(where.id, "it is gone")
            return found
        return {**got, "apiVersion": where.kind.api, "kind": where.kind.name}

    def _delete(self, where: Place, live: Object) -> Attrs:
        found: Object | None = live
        for _ in range(ROUNDS):
            if found is None:
                return {}
            if not same(project.view(found, None).attrs, project.view(live, None).attrs):
                raise _moved(where.id, "somebody else changed it just now")
            try:
                self._remove(where, found)
            except ClusterError as error:
                if error.status != 409:
                    raise
                found = again(self.cluster, where)
                continue
            if where.kind.key == "namespace":
                self._gone(where)
            return {}
        raise ConflictError("others changed it again and again while it was deleted", "find out who does; apply again")

    def _remove(self, where: Place, live: Object) -> None:
        """Delete exactly this object. A finalizer would leave it in force for as long as somebody likes."""
        meta = live["metadata"]
        if meta.get("finalizers"):
            body = {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": None}}
            meta = self.cluster.merge(where.path, body, manager=MANAGER)["metadata"]
        self.cluster.delete(where.path, uid=meta["uid"], version=meta["resourceVersion"])

    def _gone(self, where: Place) -> None:
        end = time.monotonic() + NAMESPACE_GOES
        while again(self.cluster, where):
            if self._stopped.is_set():
                raise ConflictError("it is being deleted; not waited for: it was interrupted", "look again later")
            if time.monotonic() > end:
                raise ConflictError(
                    "it is being deleted, but something in it holds it up",
                    f"see kubectl get namespace {where.name} -o yaml, under status.conditions",
                )
            time.sleep(0.5)


def patiently(ask: Callable[[], Object]) -> Object:
    """Ask again while a quota is so new that it refuses everything: its controller has not seen it."""
    end = time.monotonic() + QUOTA_SETTLES
    while True:
        try:
            return ask()
        except ClusterError as error:
            unknown = error.status == 403 and "status unknown for quota" in error.message
            if not unknown or time.monotonic() > end:
                raise
        time.sleep(0.2)


def _moved(id: str, how: str) -> ConflictError:
    return ConflictError(f"changed since the plan: {how}", "run `meshwright plan` again and look at what changed")


def _with(wanted: Attrs, more: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest, as deep a copy as is changed here, with more metadata."""
    copy = {key: _copied(value) for key, value in wanted.items()}
    copy["metadata"].update(more)
    return copy


def _copied(value: Any) -> Any:
    return {key: _copied(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


def _differs(attrs: Attrs, wanted: Attrs, paths: Iterable[Path]) -> bool:
    return any(f.path[: len(path)] == path for path in paths for f in fields(attrs, wanted))
