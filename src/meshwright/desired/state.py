"""The table of systems: what each of them should hold, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshwright.desired import clients, firewall, gateway, hubd, kubernetes, monitoring, packages, wireguard
from meshwright.desired.facts import Facts
from meshwright.desired.resource import Resource, Resources, collect, fill
from meshwright.spec.model import Mesh


def state(mesh: Mesh, facts: Facts) -> dict[str, Resource]:
    """Everything that should exist, by id. Values that only the world knows are Unknown until `known` fills them in."""
    return collect(
        [
            *clients.build(mesh, facts),
            *packages.build(mesh),
            *wireguard.build(mesh, facts),
            *firewall.build(mesh, facts),
            *hubd.build(mesh, facts),
            *gateway.build(mesh),
            *kubernetes.build(mesh, facts),
            *monitoring.build(mesh, facts),
        ]
    )


def known(wanted: Resources, actual: Resources) -> dict[str, Resource]:
    """`wanted` with every Unknown filled in that the world already answers."""
    if not actual:
        return dict(wanted)
    answers = {id: resource.attrs for id, resource in actual.items()}
    return {id: _known(resource, answers) for id, resource in wanted.items()}


def _known(resource: Resource, answers: Mapping[str, Mapping[str, Any]]) -> Resource:
    attrs = fill(resource.attrs, answers)
    return resource if attrs is resource.attrs else Resource(resource.id, attrs, resource.secret, resource.after)
