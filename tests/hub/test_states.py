"""From any starting state one apply is enough: generated states against real WireGuard and nft."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from small import INTERFACE, PING, SSH, TABLE, WEB, Friend, apply, friends, key, look, mesh, settle

from meshwright.desired.resource import Resource
from meshwright.io.host import Host, service

pytestmark = pytest.mark.lab

CONF = f"/etc/wireguard/{INTERFACE}.conf"
SAVED = f"/etc/meshwright/{TABLE}.json"
STRANGER = key("stranger")
Random = random.Random


def sh(host: Host, script: str) -> str:
    done = host.run(["sh", "-c", script], timeout=30)
    assert done.code == 0, (script, done.err)
    return done.out.decode()


def edit(host: Host, old: str, new: str) -> None:
    """Someone edits the conf by hand."""
    sh(host, f"sed -i 's|{old}|{new}|' {CONF}")


def kill_daemon(host: Host) -> None:
    sh(host, f"kill -9 $(pidof wireguard-go); while ip link show {INTERFACE} 2>/dev/null >&2; do sleep 0.05; done")


def swap_live(host: Host) -> None:
    sh(host, f"wg set {INTERFACE} peer {key('ham')} allowed-ips 10.100.2.2/32 "
             f"peer {key('bryce')} allowed-ips 10.100.2.1/32")  # fmt: skip


def swap_saved(host: Host) -> None:
    edit(host, "10.100.2.1/32", "SWAP")
    edit(host, "10.100.2.2/32", "10.100.2.1/32")
    edit(host, "SWAP", "10.100.2.2/32")


def role_emptied(host: Host) -> None:
    sets = [
        word
        for word in sh(host, f"nft list table inet {TABLE}").split()
        if word.startswith("role_") and "_" in word[5:]
    ]
    assert sets
    sh(host, f"nft flush set inet {TABLE} {sets[0]}")


Mutation = Callable[[Host], object]
MUTATIONS: dict[str, Mutation] = {
    "foreign peer, live": lambda h: sh(h, f"wg set {INTERFACE} peer {STRANGER} allowed-ips 10.100.9.9/32"),
    "foreign peer, saved": lambda h: sh(
        h, f"printf '[Peer]\\nPublicKey = {STRANGER}\\nAllowedIPs = 10.100.9.8/32\\n' >> {CONF}"
    ),
    "foreign peer takes an address": lambda h: sh(h, f"wg set {INTERFACE} peer {STRANGER} allowed-ips 10.100.2.1/32"),
    "widened allowed IPs, live": lambda h: sh(
        h, f"wg set {INTERFACE} peer {key('ham')} allowed-ips 10.100.2.1/32,10.100.2.0/24"
    ),
    "widened allowed IPs, saved": lambda h: edit(h, "10.100.2.2/32", "10.100.2.2/32, 10.100.3.0/24"),
    "addresses swapped, live": swap_live,
    "addresses swapped, saved": swap_saved,
    "table missing, live": lambda h: sh(h, "nft flush ruleset"),
    "table missing, saved": lambda h: sh(h, f"rm -f {SAVED}"),
    "saved table is garbage": lambda h: sh(h, f"echo '{{\"nftables\": 3' > {SAVED}"),
    "conf without live twin": lambda h: sh(h, f"ip link delete {INTERFACE}"),
    "live without conf": lambda h: sh(h, f"rm -f {CONF}"),
    "neither": lambda h: sh(h, f"rm -f {CONF}; ip link delete {INTERFACE}"),
    "daemon killed": kill_daemon,
    "link down": lambda h: sh(h, f"ip link set {INTERFACE} down"),
    "conf without a private key": lambda h: edit(h, "^PrivateKey.*", ""),
    "conf with another private key": lambda h: edit(h, "^PrivateKey.*", "PrivateKey = '$(wg genkey)'"),
    "conf with a block that is none": lambda h: sh(h, f"printf '[Peer]\\nPublicKey = AAAA\\n' >> {CONF}"),
    "conf with an unknown section": lambda h: sh(h, f"printf '[Foo]\\nbar = 1\\n' >> {CONF}"),
    "conf with an unknown key": lambda h: sh(h, f"echo 'Foo = 1' >> {CONF}"),
    "conf with a line that is none": lambda h: sh(h, f"echo 'junk line' >> {CONF}"),
    "conf of somebody else": lambda h: sh(h, f"chown 1000 {CONF}"),
    "saved table is bottomless": lambda h: sh(h, f"head -c 200000 /dev/zero | tr '\\0' '[' > {SAVED}"),
    "saved table of somebody else": lambda h: sh(h, f"chown 1000 {SAVED}"),
    "others write where the table is saved": lambda h: sh(h, "chmod 777 /etc/meshwright"),
    "the folder of the saved table is somebody else's": lambda h: sh(h, "chown 1000 /etc/meshwright"),
    "conf truncated": lambda h: sh(h, f"head -c 150 {CONF} > /run/c; cat /run/c > {CONF}"),
    "private key replaced, live": lambda h: sh(h, f"wg genkey | wg set {INTERFACE} private-key /dev/stdin"),
    "listen port changed": lambda h: sh(h, f"wg set {INTERFACE} listen-port 4444"),
    "listen port changed, saved": lambda h: edit(h, "^ListenPort.*", "ListenPort = 4445"),
    "mtu changed": lambda h: sh(h, f"ip link set {INTERFACE} mtu 1300"),
    "address replaced": lambda h: sh(
        h, f"ip address add 10.100.0.7/16 dev {INTERFACE}; ip address delete 10.100.0.1/16 dev {INTERFACE}"
    ),
    "route gone": lambda h: sh(h, f"ip route delete 198.51.100.0/24 dev {INTERFACE} || true"),
    "preshared key replaced": lambda h: sh(
        h, f"wg genpsk > /run/psk; wg set {INTERFACE} peer {key('bryce')} preshared-key /run/psk"
    ),
    "peer removed, live": lambda h: sh(h, f"wg set {INTERFACE} peer {key('ham')} remove"),
    "peer removed, saved": lambda h: edit(h, f"^PublicKey = {key('bryce')}", ""),
    "foreign rule in the table": lambda h: sh(h, f"nft insert rule inet {TABLE} from_peers accept"),
    "foreign chain in the table": lambda h: sh(h, f"nft add chain inet {TABLE} mine"),
    "chain emptied": lambda h: sh(h, f"nft flush chain inet {TABLE} to_peers"),
    "role emptied": role_emptied,
    "everyone unlisted": lambda h: sh(h, f"nft flush map inet {TABLE} hosts4"),
    "closing rule gone": lambda h: sh(h, "ip rule delete priority 10"),
    "closing rule with another mark": lambda h: sh(
        h, f"ip rule delete priority 10; ip rule add iif {INTERFACE} fwmark 0/0x1 prohibit"
    ),
    "forwarding off": lambda h: sh(h, "echo 0 > /proc/sys/net/ipv4/ip_forward"),
    "not started at boot": lambda h: service(h, f"wg-quick@{INTERFACE}", "disable"),
}  # fmt: skip


def people(chance: Random) -> dict[str, Resource]:
    """Some mesh of up to four friends, with and without LAN and preshared key."""
    pool = {
        "ham": Friend(("10.100.2.1/32", "198.51.100.0/24"), (WEB,)),
        "bryce": Friend(("10.100.2.2/32",), (SSH, WEB), shared=chance.choice(["", key("shared")])),
        "jake": Friend(("10.100.2.3/32",), chance.choice([(PING,), (PING, WEB), ()])),
        "steve": Friend(("10.100.2.4/32", "10.100.2.5/32"), (PING,)),
    }
    there = chance.sample(sorted(pool), chance.randint(1, 4))
    return mesh(friends(**{name: pool[name] for name in there}), listen=chance.choice([51821, 51999]))


GOAL = mesh(
    friends(
        ham=Friend(("10.100.2.1/32", "198.51.100.0/24"), (WEB,)),
        bryce=Friend(("10.100.2.2/32",), (SSH, WEB), shared=key("shared")),
        jake=Friend(("10.100.2.3/32",), (PING,)),
    )
)


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_drift_is_seen_and_mended(hub_host: Host, name: str) -> None:
    settle(hub_host, GOAL)
    MUTATIONS[name](hub_host)
    assert look(hub_host, GOAL).changes, "the plan does not see it"
    settle(hub_host, GOAL)


@pytest.mark.parametrize("seed", range(12))
def test_generated_states_converge(hub_host: Host, seed: int) -> None:
    chance = Random(seed)
    if chance.random() < 0.9:
        apply(hub_host, people(chance))
        for name in chance.sample(sorted(MUTATIONS), chance.randint(1, 5)):
            try:
                MUTATIONS[name](hub_host)
            except AssertionError:
                continue  # an earlier mutation took away what this one would change
    settle(hub_host, people(chance))
