"""The cluster: objects by server-side apply, ours by their label, compared field by field through managedFields."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from meshwright.desired.resource import Resource, Resources
from meshwright.errors import MeshwrightError
from meshwright.events import Tell
from meshwright.io.cluster import Cluster
from meshwright.plan.plan import Change, id_kind
from meshwright.providers.base import Result
from meshwright.providers.kubernetes import inside, quarantine, waves
from meshwright.providers.kubernetes.kinds import SYSTEM, TABLE, Kind, of
from meshwright.providers.kubernetes.lease import Held, NoNamespace, held, lease_name, me
from meshwright.providers.kubernetes.look import look
from meshwright.providers.kubernetes.write import Writer


@dataclass(frozen=True)
class Kubernetes:
    """cluster: the API server. mesh: the mesh's name, the value of our label. lease: namespace of the lock's Lease."""

    cluster: Cluster
    mesh: str
    lease: str

    system = SYSTEM

    @property
    def _home(self) -> str:
        """Where the lock stands: made before everything, deleted after all."""
        return f"{SYSTEM}/namespace/{self.lease}"

    def read(self, wanted: Resources) -> dict[str, Resource]:
        """What is there and ours, and what is in the way of what is wanted.

        Where nothing at all is wanted nothing is read: an empty render must never look like a wish to delete all. A
        LIST that fails fails the whole, for the same reason.
        """
        wanted = {id: r for id, r in wanted.items() if r.system == SYSTEM}
        ours = {id: r for id, r in wanted.items() if not quarantine.mine(r.attrs, self.mesh)}
        if not ours:
            return {}
        found = look(self.cluster, self.mesh, ours, list(TABLE.values())).resources
        return quarantine.read(self.cluster, self.mesh, wanted) | found

    def apply(self, changes: Sequence[Change], tell: Tell) -> list[Result]:
        """Write under the lock: first what is the mesh's, then what is quarantine's."""
        own = [change for change in changes if not self._foreign(change)]
        rest = [change for change in changes if self._foreign(change)]
        results: dict[str, Result] = {}
        try:
            with ExitStack() as stack:
                lock = self._lock(own, results, stack, tell)
                quarantine.set_marks(self.cluster, rest, lock.require)
                results |= self._write([c for c in own if c.id not in results], tell, lock)
                failed = {id for id, result in results.items() if not result.ok}
                quiet = quarantine.NEW_POLICY if any(map(self._guards, own)) else quarantine.QUIET
                results |= {r.id: r for r in self._quarantine(rest, failed, lock, quiet)}
        except MeshwrightError as error:
            missed = Result("", False, why=f"not written: {error.message}", hint=error.hint)
            results |= {c.id: _for(missed, c.id) for c in changes if c.id not in results}
        return [results[change.id] for change in changes]

    def _foreign(self, change: Change) -> bool:
        """Whether it is quarantine's; an object of ours whose label was taken off is not."""
        kind = change.id.split("/", 2)[1]
        if kind not in TABLE:
            return True
        return (
            kind in inside.KINDS
            and not change.alarm
            and quarantine.mine(change.wanted or change.before or {}, self.mesh)
        )

    def _lock(self, own: Sequence[Change], results: dict[str, Result], stack: ExitStack, tell: Tell) -> Held:
        def taken() -> Held:
            return stack.enter_context(held(self.cluster, self.lease, lease_name(self.mesh), me(), tell))

        try:
            return taken()
        except NoNamespace:
            # the very first apply: the lock needs a namespace to stand in
            first = [change for change in own if change.id == self._home and change.wanted]
            made = self._write(first, tell, None)
            if not first or not all(result.ok for result in made.values()):
                results |= made
                raise
            results |= made
            return taken()

    def _write(self, changes: Sequence[Change], tell: Tell, lock: Held | None) -> dict[str, Result]:
        if not changes:
            return {}
        # what was compared when the plan was made is what was declared then: of what is to go, what it was
        wanted = {
            c.id: Resource(c.id, c.before or {} if c.wanted is None else c.wanted, after=c.after) for c in changes
        }
        kinds: list[Kind] = of(change.id for change in changes)
        seen = look(self.cluster, self.mesh, wanted, kinds)
        writer = Writer(self.cluster, seen, lock.require if lock else lambda: None)
        return waves.run(changes, writer.write, writer.stop, tell, last=self._home)

    def _guards(self, change: Change) -> bool:
        """Whether it is the policy that keeps quarantine, or puts it in force."""
        kind = id_kind(change.id)
        return kind.startswith("validatingadmissionpolicy") and change.id.endswith(f"/{self.mesh}-quarantine")

    def _quarantine(self, changes: Sequence[Change], failed: Collection[str], lock: Held, quiet: float) -> list[Result]:
        if not changes:
            return []
        return quarantine.apply(self.cluster, self.mesh, changes, failed, lock.require, quiet)


def _for(result: Result, id: str) -> Result:
    return Result(id, result.ok, why=result.why, hint=result.hint)
