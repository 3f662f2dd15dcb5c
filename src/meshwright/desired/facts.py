"""What the world must tell before anything can be wanted: the only input beside the mesh file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from meshwright.keys import Secret
from meshwright.spec.model import Address


@dataclass(frozen=True, slots=True)
class Facts:
    """Read once per command by discover.

    now: aware, UTC; decides what has expired.
    hub_key: the hub's public key as found on the hub, None while there is none.
    device_keys, preshared: by device label, as found in the secrets directory.
    services: addresses of the `kubernetes:` services of the file, by their name in the file.
    """

    now: datetime
    hub_key: str | None = None
    device_keys: Mapping[str, str] = field(default_factory=dict)
    preshared: Mapping[str, Secret] = field(default_factory=dict)
    services: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
