"""Namespaces whose peers are gone, disabled or expired. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired.facts import Facts
from meshwright.desired.resource import Resource
from meshwright.spec.model import Mesh


def build(mesh: Mesh, facts: Facts) -> Iterator[Resource]:
    """What stays wanted of the namespaces of the mesh that have no active peer."""
    yield from ()
