"""The labels by which a namespace says what its pods may be. Pure."""

from __future__ import annotations

import re

from meshwright.desired.facts import Facts
from meshwright.spec.model import Kubernetes

_release = re.compile(r"v?([0-9]+\.[0-9]+)").match


def security(level: str, cluster: Kubernetes, facts: Facts) -> dict[str, str]:
    """Pod Security in all three modes, pinned to a minor release so that an upgrade of the cluster changes nothing."""
    known = cluster.version or (facts.cluster.version if facts.cluster else "")
    found = _release(known)
    pin = f"v{found[1]}" if found else "latest"
    modes = ("enforce", "audit", "warn")
    values = {mode: level for mode in modes} | {f"{mode}-version": pin for mode in modes}
    return {f"pod-security.kubernetes.io/{key}": value for key, value in values.items()}
