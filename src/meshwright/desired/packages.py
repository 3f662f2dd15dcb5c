"""What must be installed on the hub before anything else: packages by Debian's names, and their programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from meshwright.desired.resource import Resource
from meshwright.spec.model import Mesh

PROGRAMS: Final = {
    "conntrack": ["conntrack"],
    "iproute2": ["ip"],
    "nftables": ["nft"],
    "python3": ["python3"],
    "wireguard-tools": ["wg", "wg-quick"],
}


def build(mesh: Mesh) -> Iterator[Resource]:
    """One resource for all of them: package -> its programs. What is there has those whose programs are all there."""
    yield Resource(f"hub/packages/{mesh.hub.node}", PROGRAMS)
