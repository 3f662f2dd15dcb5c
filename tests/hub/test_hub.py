"""What the hub promises beside converging: no lost update, one writer, no secret in sight, the admin's lines kept."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from small import INTERFACE, PING, SSH, TABLE, WEB, Friend, friends, key, look, mesh, settle

import meshwright
from meshwright.desired.resource import Resource
from meshwright.errors import HostError
from meshwright.events import silent
from meshwright.io.host import Host, Namespace, remote, service
from meshwright.io.process import Done
from meshwright.plan import plan
from meshwright.providers.hub import Hub

pytestmark = pytest.mark.lab

CONF = f"/etc/wireguard/{INTERFACE}.conf"
ONE = mesh(friends(ham=Friend(("10.100.2.1/32",), (WEB,))))
TWO = mesh(friends(ham=Friend(("10.100.2.1/32",), (WEB, PING)), bryce=Friend(("10.100.2.2/32",), (SSH,))))
NFTABLES = """[Unit]
Description=stands in for Debian's
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft flush ruleset
ExecReload=/usr/sbin/nft flush ruleset
ExecStop=/usr/sbin/nft flush ruleset
"""
OURS = f"""[Unit]
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -j -f /etc/meshwright/{TABLE}.json
ExecReload=/usr/sbin/nft -j -f /etc/meshwright/{TABLE}.json
"""


def sh(host: Host, script: str) -> str:
    done = host.run(["sh", "-c", script], timeout=30)
    assert done.code == 0, (script, done.err)
    return done.out.decode()


def test_a_plan_that_the_hub_has_left_behind_writes_nothing(hub_host: Namespace) -> None:
    settle(hub_host, ONE)
    todo = look(hub_host, TWO)
    sh(hub_host, f"wg set {INTERFACE} peer {key('ham')} allowed-ips 10.100.2.9/32")
    todo_now = look(hub_host, TWO)
    before = sh(hub_host, f"wg show {INTERFACE} allowed-ips; cat {CONF}; nft list table inet {TABLE}")
    stale = [c for c in todo.changes if c.id != "hub/peer/ham"]
    moved = next(c for c in todo_now.changes if c.id == "hub/peer/ham")
    sh(hub_host, f"wg set {INTERFACE} peer {key('ham')} allowed-ips 10.100.2.8/32")
    results = Hub(hub_host, INTERFACE, TABLE).apply([*stale, moved], silent)
    assert {r.id: r.why for r in results if r.why == "changed since the plan"} == {
        "hub/peer/ham": "changed since the plan"
    }
    assert not any(result.ok for result in results)
    sh(hub_host, f"wg set {INTERFACE} peer {key('ham')} allowed-ips 10.100.2.9/32")
    assert sh(hub_host, f"wg show {INTERFACE} allowed-ips; cat {CONF}; nft list table inet {TABLE}") == before


def test_a_second_writer_waits_and_then_names_the_first(hub_host: Namespace) -> None:
    lock = f"/run/meshwright-{INTERFACE}.lock"
    script = (
        f"import sys, time; sys.path.insert(0, '{Path(meshwright.__file__).parent}')\n"
        f"from hubd.host import system\nwith system.lock('{lock}', 1):\n    time.sleep(30)\n"
    )
    sh(hub_host, f'exec >/dev/null 2>&1 </dev/null; {hub_host.python} -c "{script}" &')
    sh(hub_host, f"for i in $(seq 100); do grep -q pid {lock} && exit 0; sleep 0.05; done; exit 1")
    payload = {"interface": INTERFACE, "table": TABLE, "labels": {}, "changes": [], "patience": 0.2}
    with pytest.raises(Exception, match=r"another run is writing this hub \(pid \d+ since 20"):
        remote(hub_host, "write", payload)


@dataclass(frozen=True)
class Watched:
    """The host, with every argument list of hubd's programs kept in a file."""

    host: Namespace
    name: str = "watched"

    @property
    def python(self) -> str:
        return self.host.python

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        document = json.loads(zlib.decompress(stdin))
        document["modules"]["host/system.py"] += (
            "\n_attempt = attempt\n"
            "def attempt(argv, *rest, **more):\n"
            "    open('/run/argv', 'a').write(' '.join(argv) + chr(10))\n"
            "    return _attempt(argv, *rest, **more)\n"
        )
        assert not any(text in " ".join(argv) for text in document["payload"].get("labels", ()))
        return self.host.run(argv, stdin=json.dumps(document).encode(), timeout=timeout)

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        raise NotImplementedError

    def fresh(self) -> None:
        return None


def test_no_secret_in_any_argument_list_and_no_file_open_to_others(hub_host: Namespace) -> None:
    shared = key("shared")
    settle(hub_host, ONE)
    todo = look(hub_host, mesh(friends(ham=Friend(("10.100.2.1/32",), shared=shared)), listen=51999))
    assert all(result.ok for result in Hub(Watched(hub_host), INTERFACE, TABLE).apply(todo.changes, silent))
    said = sh(hub_host, "cat /run/argv")
    private = sh(hub_host, f"sed -n 's/^PrivateKey = //p' {CONF}").strip()
    assert shared in sh(hub_host, f"cat {CONF}")
    assert len(private) == 44
    assert shared not in said
    assert private not in said
    modes = sh(hub_host, f"stat -c '%a %n' {CONF} /etc/meshwright/{TABLE}.json")
    assert modes == f"600 {CONF}\n600 /etc/meshwright/{TABLE}.json\n"


def test_a_conf_that_others_can_read_is_drift(hub_host: Namespace) -> None:
    settle(hub_host, ONE)
    sh(hub_host, f"chmod 644 {CONF}")
    assert [c.id for c in look(hub_host, ONE).changes] == [f"hub/interface/{INTERFACE}"]
    settle(hub_host, ONE)
    assert sh(hub_host, f"stat -c %a {CONF}") == "600\n"


def test_the_admins_own_lines_stay(hub_host: Namespace) -> None:
    settle(hub_host, ONE)
    sh(hub_host, f"sed -i 's/^MTU.*/&\\n# why\\nPostUp = true/; s/^AllowedIPs.*/&\\nPersistentKeepalive = 9/' {CONF}")
    settle(hub_host, TWO)
    text = sh(hub_host, f"cat {CONF}")
    assert "# why\nPostUp = true\n" in text
    assert "AllowedIPs = 10.100.2.1/32\nPersistentKeepalive = 9\n" in text


def test_a_replaced_private_key_comes_back_from_the_conf(hub_host: Namespace) -> None:
    settle(hub_host, ONE)
    known = Hub(hub_host, INTERFACE, TABLE).read({})[f"hub/interface/{INTERFACE}"].attrs["saved"]["public_key"]
    assert known
    assert known == sh(hub_host, f"wg show {INTERFACE} public-key").strip()
    sh(hub_host, f"wg genkey | wg set {INTERFACE} private-key /dev/stdin")
    settle(hub_host, ONE)
    assert sh(hub_host, f"wg show {INTERFACE} public-key").strip() == known
    sh(hub_host, f"rm {CONF}")
    settle(hub_host, ONE)
    assert sh(hub_host, f"sed -n 's/^PrivateKey = //p' {CONF} | wg pubkey").strip() == known


def test_a_pinned_key_that_is_not_on_the_hub_is_refused(hub_host: Namespace) -> None:
    settle(hub_host, ONE)
    pinned = mesh(friends(ham=Friend(("10.100.2.1/32",), (WEB,))), key=key("elsewhere"))
    results = Hub(hub_host, INTERFACE, TABLE).apply(look(hub_host, pinned).changes, silent)
    assert [(r.ok, r.why) for r in results] == [
        (False, f"the private key that belongs to {key('elsewhere')} is not on the hub")
    ]
    assert not look(hub_host, ONE).changes


def renamed(wanted: dict[str, Resource], old: str, new: str) -> dict[str, Resource]:
    """The same resources with another name for the interface or the table."""
    others = (r for r in wanted.values() if not r.id.startswith("hub/interface"))
    texts = ((r, json.dumps(dict(r.attrs), default=str).replace(old, new)) for r in others)
    out = (replace(r, id=r.id.replace(old, new), attrs=json.loads(text)) for r, text in texts)
    own = wanted[f"hub/interface/{INTERFACE}"]
    return {r.id: r for r in (*out, replace(own, id=own.id.replace(old, new)))}


def write(host: Host, interface: str, table: str, wanted: dict[str, Resource]) -> set[tuple[bool, str]]:
    hub = Hub(host, interface, table)
    return {(r.ok, r.why) for r in hub.apply(plan.make(wanted, hub.read(wanted)).changes, silent)}


def test_a_table_is_never_turned_away_from_an_interface_that_is_in_use(hub_host: Namespace) -> None:
    settle(hub_host, ONE)
    key_before = sh(hub_host, f"wg show {INTERFACE} public-key")
    other = renamed(ONE, INTERFACE, "wg2")
    before = sh(hub_host, f"nft list table inet {TABLE}; ip rule; ls /etc/wireguard")
    assert write(hub_host, "wg2", TABLE, other) == {
        (
            False,
            f"the table {TABLE} guards wg1, which is still in use: without it wg1 would be open to all",
        )
    }
    assert sh(hub_host, f"nft list table inet {TABLE}; ip rule; ls /etc/wireguard") == before
    service(hub_host, f"wg-quick@{INTERFACE}", "stop")
    assert {ok for ok, _ in write(hub_host, "wg2", TABLE, other)} == {False}, "it would be up again after a reboot"
    service(hub_host, f"wg-quick@{INTERFACE}", "disable")
    sh(hub_host, f"mv {CONF} /etc/wireguard/wg2.conf")
    assert {ok for ok, _ in write(hub_host, "wg2", TABLE, other)} == {True}
    assert sh(hub_host, "wg show wg2 public-key") == key_before


def test_a_foreign_edit_of_the_guarded_interface_is_mended(hub_host: Namespace) -> None:
    settle(hub_host, ONE)
    sh(hub_host, "ip link add wg7 type wireguard 2>/dev/null || wireguard-go wg7 >/dev/null 2>&1 </dev/null")
    handle = sh(hub_host, f"nft -a list chain inet {TABLE} from_peers | sed -n 's/.*iifname.*handle //p'").strip()
    sh(hub_host, f"nft replace rule inet {TABLE} from_peers handle {handle} iifname != wg7 goto pass")
    settle(hub_host, ONE)


def test_a_second_table_on_one_interface_is_refused(hub_host: Namespace) -> None:
    settle(hub_host, ONE)
    before = sh(hub_host, f"nft list ruleset; cat {CONF}; ls /etc/meshwright")
    ((ok, why),) = write(hub_host, INTERFACE, "new_name", renamed(ONE, TABLE, "new_name"))
    assert not ok
    assert why == f"wg1 is guarded already, by the table {TABLE} of another mesh, or of this one's old name"
    assert sh(hub_host, f"nft list ruleset; cat {CONF}; ls /etc/meshwright") == before
    named = Hub(hub_host, INTERFACE, "new_name")
    with pytest.raises(HostError, match=why):  # a plan names it too
        named.look(renamed(ONE, TABLE, "new_name"), "new")
    assert f"hub/table/{TABLE}" in Hub(hub_host, INTERFACE, TABLE).look(ONE, "new")[0]


@pytest.mark.parametrize(
    "instead",
    [
        "priority 33000 iif wg1 fwmark 0/0x100000",
        "priority 11 not iif wg1 fwmark 0/0x100000",
        "priority 10 iif wg1 fwmark 0/0x100000 ipproto 6",
        "priority 11 iif wg1 fwmark 0/0x100000 to 10.100.2.1",
        "priority 10 iif wg1 fwmark 0/0x200000",
    ],
)
def test_only_the_very_rule_keeps_the_mesh_closed(hub_host: Namespace, instead: str) -> None:
    settle(hub_host, ONE)
    sh(hub_host, f"ip rule delete priority 10; ip rule add {instead} prohibit")
    assert [c.id for c in look(hub_host, ONE).changes] == [f"hub/closed/{INTERFACE}"]
    settle(hub_host, ONE)
    rules = sh(hub_host, "ip rule show priority 10")
    assert "10:\tfrom all fwmark 0/0x100000 iif wg1 prohibit\n" in rules.replace(" \n", "\n")


def test_the_hosts_firewall_service_brings_our_table_back(hub_host: Namespace) -> None:
    settle(hub_host, TWO)
    for name, text in (("nftables", NFTABLES), ("ours", OURS)):
        hub_host.put(f"/etc/systemd/system/{name}.service", text.encode())
        assert service(hub_host, name, "start")["active"]
    there = sh(hub_host, f"nft list table inet {TABLE}")
    daemon = sh(hub_host, "pidof wireguard-go")
    for action in ("reload", "restart"):
        sh(hub_host, "nft flush ruleset")
        service(hub_host, "nftables", action)
        assert sh(hub_host, f"nft list table inet {TABLE}") == there
    service(hub_host, "nftables", "stop")
    assert sh(hub_host, "nft list ruleset") == ""
    assert sh(hub_host, "pidof wireguard-go") == daemon
    settle(hub_host, TWO)


def test_put_is_whole_and_private(hub_host: Namespace) -> None:
    hub_host.put("/run/new/folder/secret", b"\x00text", 0o600)
    assert sh(hub_host, "stat -c %a /run/new/folder/secret; ls -A /run/new/folder") == "600\nsecret\n"
    with pytest.raises(Exception, match="/proc/no/file"):
        hub_host.put("/proc/no/file", b"")
