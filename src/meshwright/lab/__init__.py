"""The mesh on one machine: every host of the file as a network namespace, with real WireGuard, nftables and DNS.

`up` builds everything but what the product itself writes (the hub's WireGuard and table, the gateway's port forward);
`open` gives the running lab, whose hosts are ordinary `io.host` hosts.
"""

from __future__ import annotations

from meshwright.lab.make import down
from meshwright.lab.state import directory
from meshwright.lab.world import Lab, open_lab, up

open = open_lab

__all__ = ["Lab", "directory", "down", "open", "up"]
