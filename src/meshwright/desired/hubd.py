"""The service on the hub: its program, and the unit that runs it. systemd.service(5), systemd.exec(5).

The mesh works without it. It never is Required by the tunnel, nor requires it: whichever stops, the other goes on.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired import exporter
from meshwright.desired.facts import Facts
from meshwright.desired.resource import Resource
from meshwright.spec.model import Mesh

PYTHON = "/usr/bin/python3"
MODE = "0644"


def build(mesh: Mesh, facts: Facts) -> Iterator[Resource]:
    """The program as one file, its unit, what it serves metrics by; nothing where no program is brought."""
    if facts.program is None:
        return
    id = f"hub/program/{mesh.table}"
    saved = {
        "format": facts.program.format,
        "sha256": facts.program.sha256,
        "mode": MODE,
        "path": _path(mesh),
    }
    yield Resource(id, {"saved": saved}, after=(f"hub/interface/{mesh.hub.interface}",))
    unit = f"/etc/systemd/system/meshwright-hubd-{mesh.table}.service"
    yield Resource(f"hub/unit{unit}", {"text": _unit(mesh), "mode": "0644"}, after=(id,))
    yield from exporter.build(mesh, facts, f"hub/unit{unit}")


def _path(mesh: Mesh) -> str:
    return f"/var/lib/meshwright/{mesh.table}/hubd.pyz"


def _unit(mesh: Mesh) -> str:
    interface, lock = mesh.hub.interface, f"/run/meshwright-{mesh.hub.interface}.lock"
    return "\n".join(
        [
            "# Written by meshwright. Stopping this unit changes nothing about the tunnel; only nobody brings it back.",
            "[Unit]",
            f"Description=Endpoint memory and watch of the mesh {mesh.name}",
            # ready when the tunnel comes up: what the hub sends to a friend whose endpoint is not known costs 5 s more
            f"Before=wg-quick@{interface}.service",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            # the lock that apply takes too; made outside the sandbox, which cannot write there
            f"ExecStartPre=+/bin/sh -c 'umask 077; : >>{lock}'",
            f"ExecStart={PYTHON} -I -S {_path(mesh)} serve {interface} {mesh.table}",
            "Restart=always",
            "RestartSec=1",
            "TimeoutStartSec=5",
            "TimeoutStopSec=5",
            "WatchdogSec=180",
            *([f"Sockets=meshwright-hubd-{mesh.table}.socket"] if exporter.wanted(mesh) else []),
            f"StateDirectory=meshwright/{mesh.table}/memory",
            "StateDirectoryMode=0700",
            "UMask=0077",
            *SANDBOX,
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


SANDBOX = (
    "CapabilityBoundingSet=CAP_NET_ADMIN",
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    # no socket of the internet at all; the exporter's is systemd's, and these lines say nothing about it
    "RestrictAddressFamilies=AF_UNIX AF_NETLINK",
    "IPAddressDeny=any",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallErrorNumber=EPERM",
    "TasksMax=16",
)
