"""status, verify: what the mesh does, seen from outside the plan."""

from __future__ import annotations

import time

import click

from meshwright.cli.lazy import OnMesh
from meshwright.cli.output import Output


@click.command(cls=OnMesh)
@click.pass_obj
def status(out: Output) -> int:
    """Show who is connected: endpoint, last handshake and traffic of every device, as the hub sees them."""
    from meshwright.cli import world
    from meshwright.cli.columns import age, columns, size

    where = world.world(out)
    seen = world.seen(where)
    now = int(time.time())
    rows = [
        (
            label,
            str(peer["endpoint"] or "-"),
            age(now, peer["handshake"]),
            size(peer["received"]),
            size(peer["sent"]),
        )
        for label, peer in seen.items()
    ]
    missing = [d.label for d in where.mesh.devices if d.label not in seen]
    rows += [(label, "-", "not on the hub", "-", "-") for label in missing]
    data = {"mesh": where.mesh.name, "peers": seen, "not_on_hub": missing}
    return out.result(data, columns([("DEVICE", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT"), *rows]))
