"""What every identity of the mesh may and may not do, put to the API server one question at a time.

This is about RBAC alone (SubjectAccessReview, authorization.k8s.io/v1). What RBAC grants and an admission policy then
refuses is no fault here: a tenant with the role admin may write RoleBindings by RBAC, and which ones is the wall's.
`tables` has the questions; here they become identities, and the answers become checks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from meshwright.desired import names
from meshwright.desired.facts import Facts
from meshwright.desired.kubernetes.namespaces import user_name
from meshwright.desired.tenants import Tenant, tenants
from meshwright.errors import ClusterError
from meshwright.events import Checked, Progress, Started, Tell
from meshwright.io.apifailures import clean
from meshwright.io.cluster import Cluster, Object
from meshwright.spec.model import Kubernetes, Mesh
from meshwright.verify import tables
from meshwright.verify.tables import Right

ALL_OTHERS = 4
"""Up to so many other tenants' namespaces each friend is asked about all of them."""
SOME_OTHERS = 3
"""... and where there are more, about so many: those that follow his in the file."""
AT_ONCE = 16
TELL_EVERY = 100
SHOWN = 6
LAG = 1.0
"""Seconds after which a surprising answer is asked for again: the server's authorizer lags behind what was written."""

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody as the API server sees him, with what he has to be allowed and what refused.

    note: what was left out of the questions, "" when nothing was.
    """

    who: str
    user: str
    groups: tuple[str, ...]
    may: tuple[Right, ...]
    must_not: tuple[Right, ...]
    note: str = ""

    @property
    def rights(self) -> tuple[Right, ...]:
        return self.may + self.must_not


@dataclass(frozen=True, slots=True)
class Answer:
    """allowed: whether he may. why: in the server's words, which name the binding. error: why it could not say."""

    allowed: bool
    why: str = ""
    error: str = ""


def identities(mesh: Mesh, facts: Facts) -> list[Identity]:
    """Every tenant, everybody who is out or never had a namespace, and the deployer. Pure."""
    cluster = mesh.kubernetes
    if cluster is None:
        return []
    everyone = tenants(mesh, facts)
    spaces = _spaces(mesh, facts)
    found = [_tenant(mesh, cluster, who, everyone, spaces) for who in everyone]
    without = sorted((spaces.keys() | mesh.peers.keys()) - {who.peer for who in everyone})
    found += [_nobody(mesh, cluster, peer, spaces.get(peer, ())) for peer in without]
    return [*found, _deployer(mesh, cluster, everyone)]


def _spaces(mesh: Mesh, facts: Facts) -> dict[str, tuple[str, ...]]:
    """The namespaces of each peer: those that the cluster has for him, and the one of the file."""
    pairs = {(peer, space.namespace) for peer, space in mesh.peers.items() if space.namespace}
    if facts.cluster:
        pairs |= {(space.labels[names.PEER], space.name) for space in facts.cluster.tenants.values()}
    out: dict[str, tuple[str, ...]] = {}
    for peer, name in sorted(pairs):
        out[peer] = (*out.get(peer, ()), name)
    return out


def _known_as(cluster: Kubernetes, peer: str) -> tuple[str, tuple[str, ...]]:
    """A peer's user name and groups. Which groups an issuer adds to a name of its own is not known here."""
    user = user_name(cluster, peer)
    return (user, (tables.EVERYBODY,)) if user else _account(cluster.access.namespace, names.account(peer))


def _account(namespace: str, name: str) -> tuple[str, tuple[str, ...]]:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", tables.EVERYBODY)
    return f"system:serviceaccount:{namespace}:{name}", groups


def _platform(mesh: Mesh, cluster: Kubernetes) -> list[str]:
    """Namespaces of the owner's that matter, beside kube-system."""
    more = [mesh.observability.namespace] if mesh.observability else []
    places = ["default", cluster.access.namespace, cluster.deployer.namespace, cluster.ingress.namespace]
    return [name for name in dict.fromkeys(places + more) if name != "kube-system"]


def _tenant(
    mesh: Mesh,
    cluster: Kubernetes,
    who: Tenant,
    everyone: Sequence[Tenant],
    spaces: Mapping[str, Sequence[str]],
) -> Identity:
    own = who.namespace
    asked, note = _others(who, everyone)
    old = [name for name in spaces.get(who.peer, ()) if name != own]
    full = who.walls.role == "admin"
    may = [*tables.rights(tables.USE, own), *(tables.rights(tables.ADMIN, own) if full else ())]
    must_not = [
        *tables.rights(tables.NEVER, own),
        *(() if full else tables.rights(tables.ADMIN, own)),
        *tables.rights(tables.NEVER_ANYWHERE),
        *tables.rights(tables.NOT_THERE, "kube-system"),
        *(
            right
            for place in (*_platform(mesh, cluster), *old, *asked)
            for right in tables.rights(tables.NOT_HIS, place)
        ),
    ]
    user, groups = _known_as(cluster, who.peer)
    return Identity(who.peer, user, groups, (*may, *tables.rights(tables.READ)), tuple(must_not), note)


def _others(who: Tenant, everyone: Sequence[Tenant]) -> tuple[list[str], str]:
    """Which other tenants' namespaces a friend is asked about, so that the cost grows with friends and not squared."""
    at = everyone.index(who)
    others = [other.namespace for other in (*everyone[at + 1 :], *everyone[:at])]
    if len(others) <= ALL_OTHERS:
        return others, ""
    few = others[:SOME_OTHERS]
    return few, f"of {len(others)} other tenants' namespaces these were asked about: {', '.join(few)}"


def _nobody(mesh: Mesh, cluster: Kubernetes, peer: str, spaces: Sequence[str]) -> Identity:
    """A peer who is out, or who has no namespace: what he was must have no right that is not everybody's."""
    places = [*spaces, *_platform(mesh, cluster)]
    must_not = [
        *tables.rights(tables.READ),
        *tables.rights(tables.NEVER_ANYWHERE),
        *(right for place in places for right in tables.rights(tables.NOT_HIS, place)),
        *(right for place in spaces for right in tables.rights(tables.USE, place)),
    ]
    user, groups = _known_as(cluster, peer)
    return Identity(f"{peer}, who has none", user, groups, (), tuple(dict.fromkeys(must_not)))


def _deployer(mesh: Mesh, cluster: Kubernetes, everyone: Sequence[Tenant]) -> Identity:
    """He patches the Secrets of active devices by their names: nothing else, nowhere else."""
    may: list[Right] = []
    must_not = [*tables.rights(tables.READ), *tables.rights(tables.NEVER_ANYWHERE), Right("patch", "secrets")]
    must_not += tables.rights(tables.NOT_THERE, "kube-system")
    for place in _platform(mesh, cluster):
        must_not += tables.rights(tables.NOT_HIS, place)
    for who in everyone:
        active = {device.label for device in who.active}
        for device in who.devices:
            secret = names.tunnel_secret(device.label)
            written = Right("patch", "secrets", namespace=who.namespace, name=secret)
            (may if device.label in active else must_not).append(written)
            must_not += [Right(verb, "secrets", namespace=who.namespace, name=secret) for verb in tables.NOT_TO_SECRETS]
        must_not += tables.rights(tables.NOT_THE_DEPLOYERS, who.namespace)
    user, groups = _account(cluster.deployer.namespace, cluster.deployer.name)
    return Identity("the deployer", user, groups, tuple(may), tuple(must_not))


def checks(mesh: Mesh, facts: Facts, cluster: Cluster, tell: Tell) -> Iterator[Checked]:
    """One check per identity, asked of the API server. ClusterError where it cannot be asked."""
    everyone = identities(mesh, facts)
    pairs = [(who, right) for who in everyone for right in who.rights]
    tell(Started("asking who may do what", len(pairs)))
    answers: dict[str, dict[Right, Answer]] = {who.who: {} for who in everyone}
    for number, ((who, right), said) in enumerate(zip(pairs, _answers(cluster, pairs), strict=True), 1):
        answers[who.who][right] = said
        if number % TELL_EVERY == 0:
            tell(Progress(who.who, number))
    again = [(who, right) for who in everyone for right in faults(who, answers[who.who])]
    if again:
        time.sleep(LAG)
        for (who, right), said in zip(again, _answers(cluster, again), strict=True):
            answers[who.who][right] = said
    yield from (judged(who, answers[who.who]) for who in everyone)


def _answers(cluster: Cluster, pairs: Sequence[tuple[Identity, Right]]) -> Iterator[Answer]:
    """The answers in the order of the questions, many asked at a time. Where one fails the rest is not asked."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield from pool.map(lambda pair: review(cluster, *pair), pairs)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def review(cluster: Cluster, who: Identity, right: Right) -> Answer:
    """Ask the API server about one right of somebody."""
    spec = {"user": who.user, "groups": list(who.groups), **right.attributes()}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    try:
        return answer(cluster.create(REVIEWS, body))
    except ClusterError as error:
        if error.status == 403:
            error.hint = "whoever audits needs the right to create subjectaccessreviews: use the owner's context"
        raise


def answer(said: Object) -> Answer:
    """What a SubjectAccessReview came back with."""
    status = said.get("status") or {}
    return Answer(
        status.get("allowed") is True,
        clean(str(status.get("reason") or "")),
        clean(str(status.get("evaluationError") or "")),
    )


def faults(who: Identity, answers: Mapping[Right, Answer]) -> list[Right]:
    """The rights whose answer is not the expected one. An error decides nothing, unless the answer was yes."""
    wrong = [right for right in who.may if not answers[right].allowed]
    return wrong + [right for right in who.must_not if answers[right].allowed or answers[right].error]


def judged(who: Identity, answers: Mapping[Right, Answer]) -> Checked:
    """The check of one identity: every cell that differs, those with one cause together."""
    wrong = faults(who, answers)
    expected = f"{len(who.may)} rights and {len(who.must_not)} refusals"
    if not wrong:
        return Checked(f"rights of {who.who}", True, expected, f"{expected}{f'; {who.note}' if who.note else ''}")
    causes: dict[str, list[Right]] = {}
    for right in wrong:
        causes.setdefault(_cause(right in who.may, answers[right]), []).append(right)
    observed = "; ".join(cause.format(_some(found)) for cause, found in causes.items())
    return Checked(f"rights of {who.who}", False, expected, observed, _hint(who, wrong))


def _cause(expected: bool, said: Answer) -> str:
    """The sentence with a gap for what is concerned."""
    why = (said.error or said.why).replace("{", "(").replace("}", ")")
    if said.error and not said.allowed:
        return f"the server cannot say whether he may {{}}: {why}"
    told = f" ({why})" if why else ""
    return f"may not {{}}, has to{told}" if expected else f"may {{}}, must not{told}"


def _some(found: Sequence[Right]) -> str:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{', '.join(map(str, found[:SHOWN]))}{more}"


def _hint(who: Identity, wrong: Sequence[Right]) -> str:
    if any(right in who.must_not for right in wrong):
        return "take away the binding or the rule that is named there, unless the file is what is wrong"
    return "run `meshwright apply --only kubernetes`; if this stays, a role of the cluster itself was changed"
