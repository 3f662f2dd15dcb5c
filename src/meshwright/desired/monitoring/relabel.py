"""Names for keys: relabelings that give the series of exporter 3.6.6, which knows keys only, `peer` and `device`. Pure.

Format: relabel_config of Prometheus. A regex is RE2 and matches the whole of a text; `$` in a replacement is a group.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired.facts import Facts
from meshwright.desired.manifest import Manifest
from meshwright.desired.monitoring.objects import drop_labels, replace
from meshwright.desired.monitoring.series import DEVICE, KEY, PEER, UNKNOWN
from meshwright.desired.resource import Unknown, pattern
from meshwright.spec.model import Device, Mesh

_WHOSE = "__tmp_whose"
"""A label that lives between two rules: PEER or PEER/DEVICE."""


def keys(mesh: Mesh, facts: Facts) -> list[Manifest]:
    """The rules, in the order of the names, whatever the order of the file.

    Nothing that the exporter itself calls peer or device counts. Every series of a key has a `peer` then; that of a key
    which no active device has, nor is to have next, is `unknown`.
    """
    out = [drop_labels(f"{PEER}|{DEVICE}|{_WHOSE}"), replace(PEER, UNKNOWN, [KEY], "(.+)")]
    for device in sorted(mesh.devices, key=lambda device: device.reference):
        if device.active(facts.now):
            name = device.reference.replace("$", "$$")
            out += [replace(_WHOSE, name, [KEY], regex) for regex in _patterns(device)]
    out.append(replace(PEER, "$1", [_WHOSE], "([^/]+)(?:/.+)?"))
    out.append(replace(DEVICE, "$1", [_WHOSE], "[^/]+/(.+)"))
    out.append(drop_labels(_WHOSE))
    return out


def _patterns(device: Device) -> Iterator[str | Unknown]:
    """What matches the device's keys and nothing else: the key that it has, and the one that it changes to."""
    if device.public_key:
        yield pattern(device.public_key)
    else:
        yield Unknown(f"files/key/{device.label}", "public_key", pattern=True)
    if device.next_public_key:
        yield pattern(device.next_public_key)
