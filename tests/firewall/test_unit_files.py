"""The files on the hub: their text, and their own lines run in a namespace."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime

import pytest
from test_firewall import mesh, table

from meshwright.desired import firewall_units
from meshwright.hubd.firewall import nft as codec

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def texts():
    return dict(firewall_units.files(mesh()))


def unit():
    return texts()["/etc/systemd/system/meshwright-northern_lights.service"]


def lines(text, key):
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(key + "=")]


def test_the_three_files():
    assert list(texts()) == [
        "/etc/sysctl.d/90-meshwright-northern_lights.conf",
        "/etc/systemd/system/meshwright-northern_lights.service",
        "/etc/systemd/system/wg-quick@wg1.service.d/meshwright.conf",
    ]
    assert "rp_filter" not in "".join(texts().values())


def test_the_unit_follows_the_hosts_firewall_and_comes_before_the_tunnel():
    both = "nftables.service firewalld.service"
    for key in ("After", "PartOf", "ReloadPropagatedFrom"):
        assert lines(unit(), key) == [both]
    assert lines(unit(), "Before") == ["wg-quick@wg1.service"]
    assert lines(unit(), "ExecStop") == []
    assert lines(unit(), "ExecReload") == [lines(unit(), "ExecStart")[-1]]


def test_the_tunnel_wants_the_table_and_never_requires_the_unit():
    drop_in = texts()["/etc/systemd/system/wg-quick@wg1.service.d/meshwright.conf"]
    assert lines(drop_in, "Wants") == lines(drop_in, "After") == ["meshwright-northern_lights.service"]
    assert "Requires=" not in drop_in.replace("not Requires", "")
    assert len(lines(drop_in, "ExecStartPre")) == 1


def test_no_line_holds_what_systemd_would_replace():
    for path, text in texts().items():
        if path.endswith((".service", "meshwright.conf")):
            assert not re.search(r"[%$\\]", text)


@pytest.mark.lab
def test_the_lines_work_and_may_run_again(nft, tmp_path):
    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps({"nftables": codec.create(table(mesh()))}))
    check = lines(texts()["/etc/systemd/system/wg-quick@wg1.service.d/meshwright.conf"], "ExecStartPre")[0]
    code, _, error = nft.run(*shlex.split(check))
    assert code == 1
    assert "northern_lights is missing" in error
    for _ in range(2):
        for line in lines(unit(), "ExecStart"):
            argv = shlex.split(line.replace("/etc/meshwright/northern_lights.json", str(saved)))
            assert nft.run(*argv)[0] == 0, line
    for version in ("-4", "-6"):
        rules = json.loads(nft.run("ip", "-j", version, "rule", "show", "priority", "10")[1])
        assert [(r["iif"], r["action"], r["fwmark"], r["fwmask"]) for r in rules] == [
            ("wg1", "prohibit", "0", "0x100000")
        ]
    assert nft.run("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/src_valid_mark")[1] == "1\n1\n"
    assert codec.parse(nft.objects("northern_lights"), "northern_lights") == table(mesh())
    assert nft.run(*shlex.split(check))[0] == 0
