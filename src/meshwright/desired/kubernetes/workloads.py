"""What runs in a namespace, how it is put to rest without forgetting how it was, and how it is woken. Pure.

One field of each kind decides whether it makes pods. At rest it holds a value that makes none, and the annotation WAS
beside it, written in the same patch, holds what was there: {"replicas": 3}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshwright.desired.manifest import ANNOTATIONS, Manifest
from meshwright.desired.names import QUARANTINE, WAS

Workload = Mapping[str, Any]
MOST = 2**31 - 1
_label_value = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?").fullmatch


@dataclass(frozen=True, slots=True)
class Rest:
    """path: the field. quiet: its value at rest. default: what the field is where it is left out; None: nothing."""

    path: tuple[str, ...]
    quiet: int | bool | str
    default: int | bool | None

    @property
    def word(self) -> str:
        """What the field is called in WAS."""
        return next(step for step in reversed(self.path) if step != QUARANTINE)


_REPLICAS = Rest(("spec", "replicas"), 0, 1)
_SUSPEND = Rest(("spec", "suspend"), True, False)
_SELECTOR = Rest(("spec", "template", "spec", "nodeSelector", QUARANTINE), "true", None)

RESTS: Mapping[str, Rest] = {
    "deployment": _REPLICAS,
    "statefulset": _REPLICAS,
    "replicaset": _REPLICAS,
    "replicationcontroller": _REPLICAS,
    "daemonset": _SELECTOR,
    "cronjob": _SUSPEND,
    "job": _SUSPEND,
}
"""By the kind as ids have it. What other kinds make is stopped by the quota of `pods: 0` alone."""


def projected(workload: Workload) -> Manifest:
    """What is there of what quarantine sets: as attributes of a Resource."""
    return _manifest(workload, _value(workload), _annotations(workload).get(WAS))


def at_rest(workload: Workload, ours: bool) -> Manifest | None:
    """What quarantine wants of a workload; None where it leaves it alone.

    ours: the namespace was in quarantine before, so a WAS is what we wrote; else it is the tenant's and means nothing.
    """
    rest = RESTS[workload["kind"].lower()]
    if _led(workload):
        return None
    known, was = remembered(workload) if ours else (False, None)
    if not known:
        if _value(workload) == rest.quiet or _finished(workload):
            return None
        was = _value(workload)
    return _manifest(workload, rest.quiet, json.dumps({rest.word: was}))


def awake(workload: Workload) -> Manifest | None:
    """The workload as it was before; None where quarantine never touched it. A value set meanwhile is left."""
    known, was = remembered(workload)
    if not known or _led(workload):
        return None
    value = _value(workload)
    return _manifest(workload, was if value == RESTS[workload["kind"].lower()].quiet else value, None)


def remembered(workload: Workload) -> tuple[bool, Any]:
    """Whether WAS says what was there, and what. Anything but exactly what we would have written says nothing."""
    rest = RESTS[workload["kind"].lower()]
    try:
        said = json.loads(_annotations(workload).get(WAS) or "")
    except (ValueError, RecursionError):
        return False, None
    if not isinstance(said, dict) or list(said) != [rest.word]:
        return False, None
    value = said[rest.word]
    return (True, value) if _possible(rest, value) else (False, None)


def patch(wanted: Manifest, live: Workload) -> Manifest:
    """The merge patch that makes the workload so as it is now: both fields, or neither.

    Where his annotations leave no room for WAS, the largest of them go: he may not keep it running by filling them.
    """
    rest = RESTS[wanted["kind"].lower()]
    was = wanted["metadata"]["annotations"].get(WAS)
    annotations = {**dict.fromkeys(_in_the_way(_annotations(live), was)), WAS: was}
    meta = {"resourceVersion": live["metadata"]["resourceVersion"], "annotations": annotations}
    return {"metadata": meta, **_nested(rest.path, _at(wanted, rest.path))}


def lost(change: Manifest) -> list[str]:
    """The names of his annotations that such a patch takes away."""
    return [name for name, value in change["metadata"]["annotations"].items() if value is None and name != WAS]


def _in_the_way(found: Mapping[str, str], was: str | None) -> list[str]:
    """What has to go so that WAS has room."""
    sizes = {name: len(name.encode()) + len(value.encode()) for name, value in found.items() if name != WAS}
    left = sum(sizes.values()) + len(WAS) + len(was or "")
    gone = []
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if was is None or left <= ANNOTATIONS:
            break
        gone.append(name)
        left -= sizes[name]
    return gone


def _possible(rest: Rest, value: Any) -> bool:
    if isinstance(rest.quiet, str):
        return value is None or (isinstance(value, str) and bool(_label_value(value)))
    if isinstance(rest.quiet, bool):
        return isinstance(value, bool)
    return type(value) is int and 0 <= value <= MOST


def _manifest(workload: Workload, value: Any, was: str | None) -> Manifest:
    meta = workload["metadata"]
    annotations = {} if was is None else {WAS: was}
    out: Manifest = {
        "apiVersion": workload["apiVersion"],
        "kind": workload["kind"],
        "metadata": {"name": meta["name"], "namespace": meta["namespace"], "annotations": annotations},
    }
    return out if value is None else {**out, **_nested(RESTS[workload["kind"].lower()].path, value)}


def _value(workload: Workload) -> Any:
    rest = RESTS[workload["kind"].lower()]
    found = _at(workload, rest.path)
    return rest.default if found is None else found


def _at(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = tree
    for step in path:
        found = (found or {}).get(step)
    return found


def _nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for step in reversed(path):
        value = {step: value}
    nested: dict[str, Any] = value
    return nested


def _annotations(workload: Workload) -> Mapping[str, str]:
    return workload["metadata"].get("annotations") or {}


def _led(workload: Workload) -> bool:
    """Whether something else says what it does: that would only set the field back, and a Deployment copies its own
    annotations into its ReplicaSets. A CronJob leaves its Jobs alone.
    """
    owners = workload["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") and owner.get("kind") != "CronJob" for owner in owners)


def _finished(workload: Workload) -> bool:
    """A Job that is done makes no more pods."""
    if workload["kind"] != "Job":
        return False
    conditions = (workload.get("status") or {}).get("conditions") or ()
    return any(c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions)
