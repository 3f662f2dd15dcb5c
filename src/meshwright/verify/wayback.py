"""network.return_path: what each choice costs, and whether the one that was made works. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meshwright.spec.model import Mesh
from meshwright.verify.finding import Finding

Json = Any
OWN = ("pods", "services")  # these answer through the hub's node anyhow


def costs(mesh: Mesh) -> str:
    """What the file's choice costs, in a sentence; "" where no route leads beyond the cluster and the mesh."""
    routes = _routes(mesh)
    if not routes:
        return ""
    names, cidr = " and ".join(routes), ", ".join(map(str, mesh.network.cidr))
    return {
        "masquerade": f"hosts in {names} see the hub instead of the friend: their logs and firewalls cannot tell"
        " friends apart, and they cannot call one",
        "nodes": f"every host in {names} needs a route to {cidr} by {mesh.hub.address}, which you keep there;"
        " one without it answers no friend",
        "gateway": f"the gateway of {names} needs a static route to {cidr} by {mesh.hub.address}, every answer takes"
        " that way round, and a gateway that tracks connections may drop answers whose beginning it did not see",
    }[mesh.network.return_path]


def _routes(mesh: Mesh) -> dict[str, list[str]]:
    inside = mesh.network.cidr
    out = {}
    for name, networks in mesh.network.routes.items():
        there = [str(n) for n in networks if not any(n.version == own.version and n.overlaps(own) for own in inside)]
        if name not in OWN and there:
            out[name] = there
    return out


def asked(mesh: Mesh) -> dict[str, Json] | None:
    """What hubd has to ask (hubd/survey/wayback.py); None where answers go to the hub anyhow."""
    networks = [network for there in _routes(mesh).values() for network in there]
    if mesh.network.return_path == "masquerade" or not networks:
        return None
    return {"sources": [str(address) for address in mesh.network.hub], "networks": networks}


def findings(mesh: Mesh, survey: Mapping[str, Json]) -> Iterator[Finding]:
    """Hosts that answer the hub but would answer no friend."""
    found = survey.get("way_back")
    if found is None or asked(mesh) is None:
        return
    there = [host for host, result in found.items() if result["plain"]]
    lost = [host for host in there if not found[host]["mesh"]]
    cidr = ", ".join(map(str, mesh.network.cidr))
    if lost:
        said = f"answers of {', '.join(lost)} do not find the way back to {cidr}"
        if mesh.network.return_path == "nodes":
            hint = f"on each: ip route add {cidr} via {mesh.hub.address} (and keep it over a boot)"
        else:
            hint = (
                f"give the gateway a static route to {cidr} by {mesh.hub.address} and let it pass answers whose"
                " beginning it did not see; or take return_path: masquerade"
            )
        yield Finding(
            "return path", "warn", said, f"network.return_path: {mesh.network.return_path}", hint, broken=True
        )
    elif there:
        yield Finding("return path", "info", f"{', '.join(there)} find the way back to {cidr}")
    else:
        yield Finding("return path", "info", "not known: the hub has met no host there that answers; ping one from it")
