"""The lab's part of the machine's cgroups: what it is called, and how it goes. Only a Kubernetes node needs one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from meshwright.io import process
from meshwright.lab import entry


def name(folder: Path) -> str:
    """What the part of the lab in `folder` is called: known even when every file of the lab is gone."""
    return f"meshwright-lab-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"


def sweep(folder: Path) -> None:
    """Remove the part of a lab whose processes have ended. A user has none, nor has a lab without a node."""
    if os.geteuid() == 0:
        process.run(entry.command("node", "sweep", name(folder)), timeout=60)
