"""The files on the hub that bring the firewall back: after a boot, and after the host's own firewall was reloaded.

The forms are those of systemd.unit(5), systemd.service(5) and sysctl.d(5). The hub itself writes the saved table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

from meshwright.spec.model import Mesh

HOST_FIREWALLS = "nftables.service firewalld.service"
# right behind the table `local`, before any rule that could route the packet; hubd/firewall/closed.py uses the same
PRIORITY = 10


class Closed(TypedDict):
    """`rules`: families in which a packet from the tunnel without our mark is refused a route. `sysctl`: by name."""

    rules: list[str]
    sysctl: dict[str, str]


def closed(mesh: Mesh) -> Closed:
    return Closed(rules=["inet", "inet6"], sysctl=_sysctl(mesh))


def _sysctl(mesh: Mesh) -> dict[str, str]:
    """rp_filter is left as the host has it; with src_valid_mark the mark takes part in its look at the way back."""
    out = {"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.src_valid_mark": "1"}
    if any(network.version == 6 for network in mesh.network.cidr):
        out["net.ipv6.conf.all.forwarding"] = "1"
    return out


def files(mesh: Mesh) -> Iterator[tuple[str, str]]:
    """(path, text) of each file."""
    settings = f"/etc/sysctl.d/90-meshwright-{mesh.table}.conf"
    yield settings, "".join(f"{key} = {value}\n" for key, value in _sysctl(mesh).items())
    yield f"/etc/systemd/system/meshwright-{mesh.table}.service", _unit(mesh)
    yield f"/etc/systemd/system/wg-quick@{mesh.hub.interface}.service.d/meshwright.conf", _drop_in(mesh)


def _unit(mesh: Mesh) -> str:
    load = f"/usr/sbin/nft -j -f /etc/meshwright/{mesh.table}.json"
    settings = " && ".join(f"echo {value} >/proc/sys/{key.replace('.', '/')}" for key, value in _sysctl(mesh).items())
    starts = [_rule(mesh, 4), _rule(mesh, 6), f"/bin/sh -c '{settings}'", load]
    return "\n".join(
        [
            "# Written by meshwright. Stopping this unit removes nothing: without the table, or without this unit, the",
            "# rule keeps the mesh closed. The saved table replaces the loaded one in a single transaction.",
            "[Unit]",
            f"Description=Firewall of the mesh {mesh.name}",
            f"After={HOST_FIREWALLS}",
            f"PartOf={HOST_FIREWALLS}",
            f"ReloadPropagatedFrom={HOST_FIREWALLS}",
            f"Before=wg-quick@{mesh.hub.interface}.service",
            "",
            "[Service]",
            "Type=oneshot",
            "RemainAfterExit=yes",
            *(f"ExecStart={line}" for line in starts),
            f"ExecReload={load}",
            "",
            "[Install]",
            # whoever starts the host's firewall by hand gets ours too; a restart alone would do without
            f"WantedBy=multi-user.target {HOST_FIREWALLS}",
            "",
        ]
    )


def _rule(mesh: Mesh, version: int) -> str:
    """Adds the rule; succeeds when it is there already, and only then."""
    interface, mark = mesh.hub.interface, f"fwmark 0/{mesh.hub.mark:#x}"
    add = f"ip -{version} rule add priority {PRIORITY} iif {interface} {mark} prohibit"
    there = f'ip -{version} rule show priority {PRIORITY} iif {interface} | grep -q "{mark}.* prohibit"'
    return f"/bin/sh -c '{add} 2>/dev/null || {there}'"


def _drop_in(mesh: Mesh) -> str:
    unit = f"meshwright-{mesh.table}.service"
    missing = f"the nft table {mesh.table} is missing, so the tunnel stays down; look at: systemctl status {unit}"
    check = f'nft list tables inet | grep -qx "table inet {mesh.table}"'
    return "\n".join(
        [
            "# Written by meshwright. Wants, not Requires: a restart of the firewall must not restart the tunnel.",
            "[Unit]",
            f"Wants={unit}",
            f"After={unit}",
            "",
            "[Service]",
            f"""ExecStartPre=/bin/sh -c '{check} || {{ echo "{missing}" >&2; exit 1; }}'""",
            "",
        ]
    )
