"""The units that the mesh wants, on a hub without systemd: they run, and what is wrong with them is seen."""

from __future__ import annotations

import pytest
from small import INTERFACE, TABLE, WEB, Friend, friends, look, mesh, settle

from meshwright.desired.resource import Resource
from meshwright.io.host import Host, service

pytestmark = pytest.mark.lab

UNIT = f"meshwright-{TABLE}"
TEXT = f"""[Unit]
PartOf=nftables.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -j -f /etc/meshwright/{TABLE}.json
[Install]
WantedBy=multi-user.target
"""
DROP_IN = f"""[Unit]
Wants={UNIT}.service
After={UNIT}.service
[Service]
ExecStartPre=/bin/sh -c 'nft list tables inet | grep -qx "table inet {TABLE}" || {{ echo "no table" >&2; exit 1; }}'
"""
FILES = {
    f"/etc/systemd/system/{UNIT}.service": TEXT,
    f"/etc/systemd/system/wg-quick@{INTERFACE}.service.d/meshwright.conf": DROP_IN,
    f"/etc/sysctl.d/90-{UNIT}.conf": "net.ipv4.ip_forward = 1\n",
}
WANTED = {
    **mesh(friends(ham=Friend(("10.100.2.1/32",), (WEB,)))),
    **{f"hub/unit{p}": Resource(f"hub/unit{p}", {"text": t, "mode": "0644"}) for p, t in FILES.items()},
}


def test_units_are_written_started_and_kept(hub_host: Host) -> None:
    settle(hub_host, WANTED)
    assert service(hub_host, UNIT, "status") == {"active": True, "enabled": True}
    for action in ("stop", "disable"):
        service(hub_host, UNIT, action)  # type: ignore[arg-type]
        assert [change.id for change in look(hub_host, WANTED).changes] == [
            f"hub/unit/etc/systemd/system/{UNIT}.service"
        ]
        settle(hub_host, WANTED)
    hub_host.put(f"/etc/sysctl.d/90-{UNIT}.conf", b"net.ipv4.ip_forward = 0\n")
    settle(hub_host, WANTED)


def test_the_tunnel_does_not_start_without_the_table(hub_host: Host) -> None:
    settle(hub_host, WANTED)
    hub_host.run(["sh", "-c", f"rm /etc/meshwright/{TABLE}.json; nft flush ruleset"])
    service(hub_host, UNIT, "stop")
    with pytest.raises(Exception, match="no table"):
        service(hub_host, f"wg-quick@{INTERFACE}", "restart")
    settle(hub_host, WANTED)
