"""Walls around what runs in a tenant's namespace: where, how important, from which images. Pure.

Pods and the templates of what makes pods alike, so that a friend hears it at once and not by a ReplicaSet's event.
What a container may do on its node is Pod Security's, by the namespace's labels.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired import names
from meshwright.desired.kubernetes.admission.policy import Check, Policy, Rule, listed, unchanged

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


def _notes(object: str) -> str:
    """CEL: the annotations of the pod, or of the pods that will be made."""
    spec = f"dyn({object}).spec"
    job = f"{spec}.jobTemplate.spec.template.?metadata.?annotations"
    other = f"{spec}.?template.?metadata.?annotations"
    own = f"dyn({object}).metadata.?annotations"
    made = f"has({spec}.jobTemplate) ? {job} : has({spec}.template) ? {other} : {own}"
    return f"{object} == null ? {{}} : ({made}).orValue({{}})"


_NETWORKS = (
    r"^(k8s\.v1\.cni\.cncf\.io/networks|v1\.multus-cni\.io/default-network"
    r"|cni\.projectcalico\.org/(ipAddrs|ipAddrsNoIpam|floatingIPs|hwAddr|ipv4pools|ipv6pools))$"
)
_TOKEN_SECONDS = 24 * 60 * 60
_VARIABLES = {"spec": _pod("object"), "old": _pod("oldObject")}


def policies() -> Iterator[Policy]:
    """Where, how important, attached to what, from which images."""
    yield _placement()
    yield _priority()
    yield _attachments()
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


def _attachments() -> Policy:
    """What Pod Security leaves open: volumes and networks that a pod names by itself."""
    volumes = "variables.spec.?volumes.orValue([]).all(v, v in variables.old.?volumes.orValue([]) || {})"
    seconds = "s.?serviceAccountToken.?expirationSeconds.orValue(0)"
    return Policy(
        "attachments",
        _RULES,
        (
            Check(
                volumes.format("!has(v.csi)"),
                "A volume that a pod asks of a driver by itself could be any of the house's. Use a"
                " PersistentVolumeClaim",
            ),
            Check(
                volumes.format(f"v.?projected.?sources.orValue([]).all(s, {seconds} <= {_TOKEN_SECONDS})"),
                "A token here lives for 24 hours at most. Ask for less in expirationSeconds; it is renewed by itself",
            ),
            Check(
                unchanged(_NETWORKS, "variables.notes", "variables.before"),
                "Another network than the cluster's is the owner's to give. Take the annotation away",
            ),
        ),
        variables={**_VARIABLES, "notes": _notes("object"), "before": _notes("oldObject")},
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
