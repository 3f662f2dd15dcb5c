"""Walls around what runs in a tenant's namespace: where, how important, from which images. Pure.

Pods and the templates of what makes pods alike, so that a friend hears it at once and not by a ReplicaSet's event.
What a container may do on its node is Pod Security's, by the namespace's labels.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired import names
from meshwright.desired.kubernetes.admission.policy import Check, Policy, Rule, listed

_RULES = (
    Rule("", ("pods", "replicationcontrollers")),
    Rule("apps", ("deployments", "statefulsets", "daemonsets", "replicasets")),
    Rule("batch", ("jobs", "cronjobs")),
)
_EPHEMERAL = Rule("", ("pods/ephemeralcontainers",), ("UPDATE",))


def _pod(object: str) -> str:
    """CEL: the pod's spec in a pod, or in the template of what makes pods."""
    spec = f"dyn({object}).spec"
    job = f"{spec}.jobTemplate.spec.template.spec"
    return f"{object} == null ? {{}} : has({spec}.jobTemplate) ? {job} : {spec}.?template.?spec.orValue({spec})"


_VARIABLES = {"spec": _pod("object"), "old": _pod("oldObject")}


def policies() -> Iterator[Policy]:
    """Placement, priority, images."""
    yield _placement()
    yield _priority()
    yield _images()


def _same(key: str, *allowed: str) -> str:
    """CEL: a text of the pod's spec is unset, as before, or one of these."""
    values = ", ".join(["''", *(f"'{value}'" for value in allowed)])
    new = f"variables.spec.?{key}.orValue('')"
    return f"{new} in [{values}] || {new} == variables.old.?{key}.orValue('')"


def _placement() -> Policy:
    return Policy(
        "placement",
        _RULES,
        (
            Check(
                _same("nodeName"),
                "The scheduler chooses the node. Leave spec.nodeName out; a nodeSelector is fine",
            ),
            Check(
                "variables.spec.?tolerations.orValue([]).all(t, t in variables.old.?tolerations.orValue([])"
                " || t.?key.orValue('').startsWith('node.kubernetes.io/'))",
                "Only tolerations of node.kubernetes.io/... are yours: other taints keep nodes for the owner."
                " Take the toleration away",
            ),
            Check(_same("schedulerName", "default-scheduler"), "Leave spec.schedulerName out"),
            Check(
                _same("runtimeClassName"),
                "Another runtime than the nodes' usual one is the owner's to give. Leave spec.runtimeClassName out",
            ),
        ),
        variables=_VARIABLES,
    )


def _priority() -> Policy:
    """Once for each PriorityClass: the server fills in the default one before a policy sees the pod."""
    name = "variables.spec.?priorityClassName.orValue('')"
    return Policy(
        "priority",
        _RULES,
        (
            Check(
                f"{name} != params.metadata.name || {name} == variables.old.?priorityClassName.orValue('')"
                " || dyn(params).?globalDefault.orValue(false)",
                "With this priority your pods would push out those of others. Leave spec.priorityClassName out",
            ),
        ),
        variables=_VARIABLES,
        each=("scheduling.k8s.io/v1", "PriorityClass"),
    )


def _images() -> Policy:
    """A name without a registry means docker.io, and docker.io/library where it has no slash either."""
    containers = "['initContainers', 'containers', 'ephemeralContainers'].map(k, {0}[?k].orValue([]))"
    images = f"{containers}.map(l, l.map(c, c.?image.orValue('')))"
    volumes = "{0}.?volumes.orValue([]).map(v, v.?image.?reference.orValue(''))"
    every = f"({images} + [{volumes}])"
    full = (
        "i.contains('/') ? (i.split('/')[0].matches('[.:]|^localhost$') ? i : 'docker.io/' + i)"
        " : 'docker.io/library/' + i"
    )
    return Policy(
        "images",
        (*_RULES, _EPHEMERAL),
        (
            Check(
                f"size(variables.registries) == 0 || {every.format('variables.spec')}.all(l, l.all(i, i == ''"
                f" || {every.format('variables.old')}.exists(o, i in o)"
                f" || variables.registries.exists(r, ({full}).startsWith(r.endsWith('/') ? r : r + '/'))))",
                "Images come from the registries that the owner allows",
                "'Images come from these registries here: ' + variables.registries.join(', ')",
            ),
        ),
        variables={**_VARIABLES, "registries": listed(names.REGISTRIES)},
    )
