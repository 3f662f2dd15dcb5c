"""What each command does, in a few lines: file -> mesh -> wanted; world -> actual; both -> plan -> apply -> verify.

Read this first. No classes but the values that pass between the steps. What only verify and audit need is imported
there, for plan and apply need half the modules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from meshwright import discover
from meshwright.desired.facts import Facts
from meshwright.desired.resource import Blocked, Resource, fill
from meshwright.desired.state import known, state
from meshwright.errors import ConflictError, GuardError, MeshwrightError, PartlyApplied
from meshwright.events import Changed, Checked, Failed, Started, Tell
from meshwright.io.cluster import Cluster
from meshwright.plan import plan
from meshwright.plan.plan import Change, Plan
from meshwright.plan.text import printable
from meshwright.providers.base import Provider, Result
from meshwright.providers.hub import Hub
from meshwright.providers.table import Places
from meshwright.spec import policy
from meshwright.spec.model import Address, Mesh

if TYPE_CHECKING:
    from meshwright.verify.finding import Finding

Services = Mapping[str, tuple[Address, ...]]

# what must be read before a system can be planned
_NEEDS: Mapping[str, frozenset[str]] = {
    "files": frozenset({"hub"}),
    "hub": frozenset({"files"}),
    "gateway": frozenset({"files", "hub"}),
    "kubernetes": frozenset({"files"}),
}
_TOLD = frozenset({"hub", "kubernetes"})
"""Systems that are told the exporter's token or certificate."""


@dataclass(frozen=True)
class View:
    """One look at everything: what the file wants, what is there, and the plan between them. findings: what stands in
    the way on a hub that is new to us.
    """

    mesh: Mesh
    facts: Facts
    wanted: Mapping[str, Resource]
    actual: Mapping[str, Resource]
    todo: Plan
    unmanaged: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def look(
    mesh: Mesh,
    providers: Mapping[str, Provider],
    places: Places,
    tell: Tell,
    systems: Sequence[str] = (),
    adopt: Collection[str] = (),
) -> View:
    """Read the world once, system by system, and plan. A later system may need what an earlier one told.

    systems: those that the plan is about; none: all. What they do not need is not asked. adopt: as in plan.make.
    """
    tell(Started("looking around"))
    folder = places.folder if not systems or _TOLD.intersection(systems) else None
    facts = discover.read(mesh, places.services, _cluster(mesh, providers, places, systems), folder=folder)
    draft = state(mesh, facts)
    unmanaged = tuple(sorted({r.system for r in draft.values()} - providers.keys()))
    asked = {*systems, *(need for system in systems for need in _NEEDS.get(system, ()))} or providers.keys()
    draft = {id: resource for id, resource in draft.items() if resource.system in providers.keys() & asked}
    actual: dict[str, Resource] = {}
    survey = None
    for system, provider in providers.items():
        if system in asked:
            tell(Started(f"reading {system}"))
            if isinstance(provider, Hub):
                found, survey = provider.look(known(draft, actual), places.survey)
            else:
                found = provider.read(known(draft, actual))
            actual.update(found)
    wanted = known(draft, actual)
    _check_pinned(mesh, actual)
    findings = _judged(mesh, survey)
    todo = _guarded(plan.make(wanted, actual, adopt), findings)
    return View(mesh, facts, wanted, actual, only(todo, systems) if systems else todo, unmanaged, findings)


_STAYS: Mapping[str, frozenset[str]] = {"hub": frozenset({"packages"})}
_GOES: Mapping[str, frozenset[str]] = {"kubernetes": frozenset({"rolebinding", "clusterrolebinding"})}
_OURS = frozenset({"table", "inbound", "unit", "program"})


def leave(mesh: Mesh, providers: Mapping[str, Provider], places: Places, tell: Tell, cluster: bool) -> View:
    """The plan that takes the mesh away: all of hub and gateway, of the cluster the rights; keys and files stay.

    Nothing is wanted any more. ConflictError where the hub has the interface, but nothing that shows it to be ours.
    """
    facts = discover.read(mesh, places.services, places.cluster if cluster else None)
    draft = state(mesh, facts)
    actual: dict[str, Resource] = {}
    for system, provider in providers.items():
        if cluster or system != "kubernetes":
            tell(Started(f"reading {system}"))
            mine = {id: resource for id, resource in draft.items() if resource.system == system}
            actual.update(provider.read(known(mine, actual)))
    _check_pinned(mesh, actual)
    interface = f"hub/interface/{mesh.hub.interface}"
    if interface in actual and not any(map(_shows_ours, actual)):
        raise ConflictError(
            f"the hub has {mesh.hub.interface}, but nothing there is of the mesh {mesh.name}",
            "it was never applied there, or under another name; to take the interface down by hand:"
            f" systemctl disable --now wg-quick@{mesh.hub.interface}",
        )
    going = {id: resource for id, resource in actual.items() if _goes(resource)}
    return View(mesh, facts, {}, actual, plan.make({}, going))


def _shows_ours(id: str) -> bool:
    """Whether this says whose the interface is; another mesh on it has the same closing rule and the same drop-in."""
    return id.startswith("hub/") and plan.id_kind(id) in _OURS and "/wg-quick@" not in id


def _goes(resource: Resource) -> bool:
    kind = plan.id_kind(resource.id)
    return resource.system != "files" and (
        kind in _GOES[resource.system]
        if resource.system in _GOES
        else kind not in _STAYS.get(resource.system, frozenset())
    )


def _judged(mesh: Mesh, survey: Mapping[str, Any] | None) -> tuple[Finding, ...]:
    if survey is None:
        return ()
    from meshwright.verify import preflight

    return preflight.judge(mesh, survey)


def _guarded(todo: Plan, findings: Sequence[Finding]) -> Plan:
    """The plan, which needs a reason to be applied where something on the hub speaks against it."""
    if not findings or not any(change.system == "hub" for change in todo.changes):
        return todo
    from meshwright.verify import preflight

    return replace(todo, guard=(*todo.guard, *preflight.reasons(findings)))


def _cluster(mesh: Mesh, providers: Mapping[str, Provider], places: Places, systems: Sequence[str]) -> Cluster | None:
    """The cluster, if it has to be asked: also where only the hub's rights hang on what it says of a service."""
    needed = not systems or "kubernetes" in systems or policy.unresolved(mesh, places.services)
    return places.cluster if needed and "kubernetes" in providers else None


def _check_pinned(mesh: Mesh, actual: Mapping[str, Resource]) -> None:
    interface = actual.get(f"hub/interface/{mesh.hub.interface}")
    found = (interface.attrs.get("saved") or {}).get("public_key") if interface else None
    if mesh.hub.public_key and found and found != mesh.hub.public_key:
        raise ConflictError(
            f"the hub's public key is {found}, but the file pins {mesh.hub.public_key}",
            "if the hub was made anew on purpose, correct hub.public_key; else find out who changed it",
        )


def only(todo: Plan, systems: Sequence[str]) -> Plan:
    """The part of a plan that belongs to some systems, with a digest of its own.

    An object of the cluster that needs a key which another system is yet to make waits.
    """
    reasons = tuple(reason for reason in todo.guard if any(system in reason for system in systems))
    blocked = {id: why for id, why in todo.blocked.items() if id.partition("/")[0] in systems}
    mine = [change for change in todo.changes if change.system in systems]
    out = {change.id for change in todo.changes if change.system not in systems}
    for change in mine:
        if change.system == "kubernetes" and (needs := sorted(out.intersection(change.after))):
            hint = "apply without --only, or with --only files first"
            blocked[change.id] = Blocked("waits", f"waits for {needs[0]}, which --only leaves out", hint)
            out.add(change.id)
    changes = tuple(change for change in mine if change.id not in blocked)
    return Plan(changes, plan.digest(changes), reasons, blocked)


def allow(todo: Plan, digest: str | None, force: str | None) -> None:
    """Refuse a plan that is not the one reviewed, or that destroys much without a reason given."""
    if digest and digest != todo.digest:
        raise ConflictError(
            f"the plan is now {todo.digest}, not {digest}: the file or the world changed since it was reviewed",
            "run `meshwright plan` again and look at what changed",
        )
    if todo.guard and not force:
        raise GuardError(
            f"this plan {'; it '.join(todo.guard)}", "if that is meant, run apply with --force and the reason"
        )


def apply(todo: Plan, providers: Mapping[str, Provider], tell: Tell, force: str | None = None) -> tuple[Result, ...]:
    """Write a plan: whatever is ready goes to its provider in one batch, until nothing is left or nothing can go on.

    force: a reason why no peer has to be heard again on the hub.
    """
    if force and isinstance(hub := providers.get("hub"), Hub):
        providers = {**providers, "hub": replace(hub, insist=False)}
    tell(Started("applying", len(todo.changes)))
    pending = {change.id: change for change in todo.changes}
    results: dict[str, Result] = {}
    while pending:
        system, batch = _next(pending, results, providers)
        if not batch:
            break
        attrs = {id: result.attrs for id, result in results.items() if result.ok}
        ready = [replace(change, wanted=fill(change.wanted, attrs)) for change in batch]
        for result in providers[system].apply(ready, tell):
            change = pending.pop(result.id)
            results[result.id] = result
            tell(
                Changed(change.id, change.verb)
                if result.ok
                else Failed(change.id, change.verb, result.why, result.hint)
            )
    for id, change in pending.items():
        results[id] = Result(id, False, why=_waiting(change, results), hint="mend that, then apply again")
        tell(Failed(id, change.verb, results[id].why, results[id].hint))
    return tuple(results[change.id] for change in todo.changes)


def _next(
    pending: Mapping[str, Change], results: Mapping[str, Result], providers: Mapping[str, Provider]
) -> tuple[str, list[Change]]:
    """The first system that can go on, with all of its changes that wait only for each other and what is done."""
    for system in providers:
        batch = {id: change for id, change in pending.items() if change.system == system}
        while stuck := [c.id for c in batch.values() if not all(_done(a, batch, results) for a in c.after)]:
            for id in stuck:
                del batch[id]
        if batch:
            return system, list(batch.values())
    return "", []


def _done(id: str, batch: Mapping[str, Change], results: Mapping[str, Result]) -> bool:
    return id in batch or (id in results and results[id].ok)


def _waiting(change: Change, results: Mapping[str, Result]) -> str:
    failed = [id for id in change.after if id not in results or not results[id].ok]
    return f"not tried: it needs {', '.join(failed)} first"


def outcome(todo: Plan, results: Sequence[Result]) -> MeshwrightError | None:
    """The error that an apply ends with. None where everything was written, and nothing that the file wants is somebody
    else's.
    """
    failed = [result for result in results if not result.ok]
    if not failed:
        return _left(todo, results)
    kind = MeshwrightError if len(failed) == len(results) else PartlyApplied
    return kind(
        f"{len(failed)} of {len(results)} changes could not be written",
        failed[0].hint or "mend what the lines above name, then run apply again: it goes on where this stopped",
    )


def failures(results: Sequence[Result]) -> Iterator[str]:
    """What could not be written and why. What stopped all of it for one reason is said once."""
    failed = [result for result in results if not result.ok]
    why = [f"{r.why}{f' ({r.hint})' if r.hint else ''}" for r in failed]
    if len(failed) == len(results) > 1 and len(set(why)) == 1:
        yield f"! all {len(results)} changes: {why[0]}"
    else:
        yield from (f"! {result.id}: {text}" for result, text in zip(failed, why, strict=True))


def _left(todo: Plan, results: Sequence[Result]) -> MeshwrightError | None:
    if not todo.conflicts:
        return None
    id, first = min(todo.conflicts.items(), key=lambda item: not item[1].hostile)
    more = f", and {len(todo.conflicts) - 1} more" if len(todo.conflicts) > 1 else ""
    hostile = "HOSTILE: " if first.hostile else ""
    kind = PartlyApplied if results else ConflictError
    return kind(printable(f"{hostile}{id} is somebody else's and was left alone{more}: {first.why}"), first.hint)


def verify(view: View, places: Places, providers: Mapping[str, Provider], tell: Tell) -> tuple[Checked, ...]:
    """Whether the mesh is what the file says: nothing left to do, the table does what every policy test says, and the
    cluster gives nobody more than the file.
    """
    from meshwright.verify import checks, metrics
    from meshwright.verify.judge import judge

    tell(Started("verifying"))
    objects = checks.table(places.hub, view.mesh.table)
    seen, survey = around(view, places)
    found = [
        *checks.converged(list(providers), view.todo),
        *_services(view, places),
        *judge(objects, view.mesh, view.facts.services, view.facts.now),
        *checks.closed(view.mesh, places.hub),
        *checks.handshakes(view.mesh, view.facts, seen),
        *metrics.checks(view.mesh, view.facts, places.hub, objects),
        *_around(view, survey),
    ]
    for check in found:
        tell(check)
    return (*found, *_tenancy(view, places, providers, tell))


def audit(view: View, places: Places, providers: Mapping[str, Provider], tell: Tell) -> tuple[Checked, ...]:
    """The part of verify that is about the cluster; the view need not have looked at more."""
    from meshwright.verify import checks

    tell(Started("auditing the tenancy"))
    found = tuple(checks.converged(["kubernetes"], view.todo))
    for check in found:
        tell(check)
    return (*found, *_tenancy(view, places, providers, tell))


def _tenancy(view: View, places: Places, providers: Mapping[str, Provider], tell: Tell) -> list[Checked]:
    """Who may do what in the cluster; nothing where none is managed."""
    if view.mesh.kubernetes is None or places.cluster is None or "kubernetes" not in providers:
        return []
    from meshwright.verify import audit as tenancy

    return tenancy.run(view.mesh, view.facts, places.cluster, tell)


def _services(view: View, places: Places) -> Iterator[Checked]:
    """checks.resolved; but in a young cluster a Service that nobody made yet is told, and is no fault."""
    from meshwright.verify import checks

    for check in checks.resolved(view.mesh, view.facts):
        yield replace(check, ok=True, hint="") if places.young else check


def _around(view: View, survey: Mapping[str, Any] | None) -> Iterator[Checked]:
    from meshwright.verify import preflight

    if survey is not None:
        yield from preflight.checks(preflight.judge(view.mesh, survey))


Seen = Mapping[str, Mapping[str, Any]]


def around(view: View, places: Places) -> tuple[Seen | None, Mapping[str, Any] | None]:
    """What the hub's device saw of each peer, by resource id, None when there is no device; what else lives there, None
    where programs are missing to tell.
    """
    from meshwright.verify import wayback

    hub = Hub(places.hub, view.mesh.hub.interface, view.mesh.table)
    seen, survey = hub.around(view.wanted, wayback.asked(view.mesh))
    interface = view.actual.get(f"hub/interface/{view.mesh.hub.interface}")
    return seen if interface and interface.attrs.get("live") else None, survey
