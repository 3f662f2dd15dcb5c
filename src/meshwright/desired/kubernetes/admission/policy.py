"""What a wall at admission is made of: a ValidatingAdmissionPolicy with its binding, canonical. Pure.

No webhook, no parameter that a tenant could write: what differs between tenants stands in annotations of their
namespaces, which no tenant can write, and CEL reads it there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshwright.desired import manifest, names
from meshwright.desired.resource import Resource
from meshwright.spec.model import Kubernetes

GROUP = "admissionregistration.k8s.io"
CREATE_UPDATE = ("CREATE", "UPDATE")
ALL = ("CREATE", "UPDATE", "DELETE")
NEW = "dyn(object)"
OLD = "(oldObject == null ? {'metadata': {}, 'spec': {}} : dyn(oldObject))"
NEW_NOTES = f"{NEW}.metadata.?annotations.orValue({{}})"
OLD_NOTES = f"{OLD}.metadata.?annotations.orValue({{}})"
NOT_THE_OWNER = {"not-the-owner": "!('system:masters' in request.userInfo.?groups.orValue([]))"}


@dataclass(frozen=True, slots=True)
class Rule:
    """Which requests a policy sees. version: "*" only where the kinds are not the API server's own.

    scope: "Namespaced" where `resources` is everything: what stands in no namespace passes every namespaceSelector.
    """

    group: str
    resources: tuple[str, ...]
    operations: tuple[str, ...] = CREATE_UPDATE
    version: str = "v1"
    scope: str = "*"


@dataclass(frozen=True, slots=True)
class Check:
    """holds: what must be true. why: the sentence for who is refused, and what to do instead.

    said: the same sentence as CEL, where it can name the value that was wrong.
    """

    holds: str
    why: str
    said: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """One topic. what: the last part of its name.

    always: it holds in every tenant's namespace; else where the label ADMISSION says that the wall is up.
    only: which of these requests are judged at all, by name (CEL); namespaceObject is not known there.
    who: whose requests are judged (CEL); the owner's (system:masters) then never reach a check, whatever goes wrong.
    each: a cluster-wide kind; the checks are made once for each of its objects, called `params`.
    everywhere: not only in tenants' namespaces; `only` has to know better.
    marked: only where the namespace bears the mark of quarantine.
    """

    what: str
    rules: tuple[Rule, ...]
    checks: tuple[Check, ...]
    only: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    who: str = ""
    always: bool = False
    each: tuple[str, str] | None = None
    everywhere: bool = False
    marked: bool = False


def resources(mesh: str, policy: Policy) -> Iterator[Resource]:
    """The policy and the binding that puts it in force."""
    name = f"{mesh}-{policy.what}"
    body = manifest.resource(_object("ValidatingAdmissionPolicy", name, mesh, _spec(mesh, policy)))
    yield body
    binding: dict[str, Any] = {"policyName": name, "validationActions": ["Deny"]}
    if policy.each:
        binding["paramRef"] = {"parameterNotFoundAction": "Allow", "selector": {}}
    yield manifest.resource(_object("ValidatingAdmissionPolicyBinding", name, mesh, binding), body.id)


def _object(kind: str, name: str, mesh: str, spec: dict[str, Any]) -> manifest.Manifest:
    metadata = {"name": name, "labels": names.labels(mesh)}
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _spec(mesh: str, policy: Policy) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "namespaceSelector": {} if policy.everywhere else _selector(mesh, policy),
            "objectSelector": {},
            "resourceRules": [_rule(rule) for rule in policy.rules],
        },
        "validations": [_check(check, bool(policy.who)) for check in policy.checks],
    }
    if policy.each:
        spec["paramKind"] = {"apiVersion": policy.each[0], "kind": policy.each[1]}
    only, variables = dict(policy.only), dict(policy.variables)
    if policy.who:
        only |= NOT_THE_OWNER
        variables["judged"] = policy.who
    if only:
        spec["matchConditions"] = _named(only)
    if variables:
        spec["variables"] = _named(variables)
    return spec


def _named(expressions: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "expression": text} for name, text in expressions.items()]


def _selector(mesh: str, policy: Policy) -> dict[str, Any]:
    labels = {names.MESH: mesh} if policy.always else {names.MESH: mesh, names.ADMISSION: "enforced"}
    keys = [names.PEER, names.QUARANTINE] if policy.marked else [names.PEER]
    return {"matchLabels": labels, "matchExpressions": [{"key": key, "operator": "Exists"} for key in keys]}


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "apiGroups": [rule.group],
        "apiVersions": [rule.version],
        "operations": list(rule.operations),
        "resources": list(rule.resources),
        "scope": rule.scope,
    }


def _check(check: Check, some: bool) -> dict[str, str]:
    holds = f"!variables.judged || ({check.holds})" if some else check.holds
    out = {"expression": holds, "message": check.why, "reason": "Forbidden"}
    return out | ({"messageExpression": check.said} if check.said else {})


def text(value: str) -> str:
    """A text of the mesh file as a CEL literal: JSON's escapes are among CEL's."""
    return json.dumps(value)


def unchanged(pattern: str, new: str = NEW_NOTES, old: str = OLD_NOTES) -> str:
    """CEL: no annotation whose key matches is new or changed."""
    return f"{new}.all(k, !k.matches({text(pattern)}) || {old}[?k].orValue('') == {new}[k])"


def annotation(key: str, namespace: str = "namespaceObject") -> str:
    """CEL: an annotation of the request's namespace, '' where there is none."""
    return f"{namespace}.metadata.?annotations[?'{key}'].orValue('')"


def listed(key: str) -> str:
    """CEL: a comma separated annotation of the request's namespace, as a list; an absent one is empty."""
    return f"{annotation(key)}.split(',').map(s, s.trim()).filter(s, s != '')"


def tenant(kubernetes: Kubernetes, namespace: str = "namespaceObject", name: str = "request.namespace") -> str:
    """CEL: the request comes from a tenant identity, whose words are not the owner's."""
    deployer, access = kubernetes.deployer, kubernetes.access
    peer = f"system:serviceaccount:{access.namespace}:{names.PEER_ACCOUNT}"
    return " || ".join(
        [
            f"request.userInfo.username.startsWith({text(peer)})",
            f"request.userInfo.username.startsWith('system:serviceaccount:' + {name} + ':')",
            f"request.userInfo.username == {text(f'system:serviceaccount:{deployer.namespace}:{deployer.name}')}",
            f"request.userInfo.username == {annotation(names.USER, namespace)}",
        ]
    )
