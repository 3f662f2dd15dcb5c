"""Real packets through the real table: the evaluator, the policy and the kernel must say the same.

Three namespaces: a peer, the hub, a server. The link to the peer is a plain veth called wg1: the table sees interfaces,
not tunnels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from test_firewall import NOW, mesh, table

from meshwright.hubd.firewall import nft as codec
from meshwright.verify import judge
from meshwright.verify.evaluate import Evaluator

pytestmark = pytest.mark.lab
ALLOW = [
    {"from": "astrid", "to": "nodes", "ports": ["443/tcp", "53/udp", "icmp"]},
    {"from": "dora", "to": "hub", "ports": "icmp"},
    {"from": "nodes", "to": "astrid", "ports": "22/tcp"},
    {"from": "bjorn/phone", "to": "any"},
]
SETUP = """
set -e
ip netns add {p}; ip netns add {h}; ip netns add {s}
ip -n {h} link add wg1 address 02:00:00:00:00:01 type veth peer name eth0 address 02:00:00:00:00:02 netns {p}
ip -n {h} link add lan type veth peer name eth0 netns {s}
for n in {p} {h} {s}; do ip -n $n link set lo up; done
ip -n {h} addr add 10.100.0.1/16 dev wg1; ip -n {h} addr add fd77::1/64 dev wg1 nodad; ip -n {h} link set wg1 up
ip -n {h} addr add 192.168.20.20/24 dev lan; ip -n {h} addr add fd20::20/64 dev lan nodad; ip -n {h} link set lan up
for a in 1 3 6 200; do ip -n {p} addr add 10.100.1.$a/16 dev eth0; done
ip -n {p} addr add fd77::11/64 dev eth0 nodad; ip -n {p} link set eth0 up
# a tunnel has no neighbours to ask for, and the table lets no such question in
ip -n {h} -6 neigh add fd77::11 lladdr 02:00:00:00:00:02 dev wg1 nud permanent
ip -n {p} -6 neigh add fd77::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
ip -n {p} route add default via 10.100.0.1; ip -n {p} -6 route add default via fd77::1
ip -n {s} addr add 192.168.20.9/24 dev eth0; ip -n {s} addr add fd20::9/64 dev eth0 nodad; ip -n {s} link set eth0 up
ip -n {s} route add default via 192.168.20.20; ip -n {s} -6 route add default via fd20::20
ip netns exec {h} sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
ip netns exec {h} sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/src_valid_mark'
for v in 4 6; do ip -n {h} -$v rule add priority 10 iif wg1 fwmark 0/0x100000 prohibit; done
"""
PROBE = """
import json, socket, subprocess, sys
from concurrent.futures import ThreadPoolExecutor

def probe(job):
    source, destination, protocol, port = job
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    if protocol == "icmp":
        done = subprocess.run(["ping", "-c1", "-W2", "-I", source, destination], capture_output=True)
        return done.returncode == 0
    with socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM) as one:
        one.settimeout(2)
        one.bind((source, 0))
        try:
            one.connect((destination, port))
            one.send(b"x")
            return one.recv(1) == b"x"
        except OSError:
            return False

with ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(probe, json.load(sys.stdin)))))
"""
ECHO = """
import contextlib, selectors, socket
chosen = selectors.DefaultSelector()
for family in (socket.AF_INET, socket.AF_INET6):
    for port in (22, 443, 53):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            one = socket.socket(family, kind)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("", port))
            if kind == socket.SOCK_STREAM:
                one.listen(32)
            chosen.register(one, selectors.EVENT_READ, kind)
print("ready", flush=True)
while True:
    for key, _ in chosen.select():
        if key.data == socket.SOCK_DGRAM:
            data, other = key.fileobj.recvfrom(64)
            with contextlib.suppress(OSError):
                key.fileobj.sendto(data, other)
        elif key.data == socket.SOCK_STREAM:
            chosen.register(key.fileobj.accept()[0], selectors.EVENT_READ, "open")
        else:
            data = b""
            with contextlib.suppress(OSError):
                data = key.fileobj.recv(64)
            key.fileobj.send(data) if data else chosen.unregister(key.fileobj)
"""
PAIRS = [
    ("10.100.1.1", "192.168.20.9"),
    ("10.100.1.3", "192.168.20.9"),
    ("10.100.1.6", "192.168.20.9"),
    ("10.100.1.200", "192.168.20.9"),
    ("10.100.1.6", "10.100.0.1"),
    ("10.100.1.1", "192.168.20.20"),
    ("192.168.20.9", "10.100.1.1"),
    ("192.168.20.9", "10.100.1.6"),
    ("fd77::11", "fd20::9"),
    ("fd77::11", "fd77::1"),
    ("fd20::9", "fd77::11"),
]
SERVICES = [("tcp", 443), ("tcp", 22), ("udp", 53), ("udp", 443), ("icmp", 0)]


@pytest.fixture(scope="module")
def world():
    if os.geteuid():
        pytest.skip("named namespaces need root; the rootless lab proves the same with its own")
    mark = f"mwt{os.getpid()}"
    names = {"p": f"{mark}p", "h": f"{mark}h", "s": f"{mark}s"}
    servers = []

    def inside(name, *argv, stdin=""):
        return subprocess.run(
            ["ip", "netns", "exec", names[name], *argv], input=stdin, capture_output=True, text=True, timeout=60
        )

    try:
        done = subprocess.run(["sh", "-c", SETUP.format(**names)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        for name in names.values():
            one = subprocess.Popen(
                ["ip", "netns", "exec", name, sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True
            )
            servers.append(one)
            assert one.stdout.readline() == "ready\n"
        yield inside
    finally:
        for one in servers:
            one.kill()
            one.wait(timeout=20)
        for name in names.values():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=60)


def load(world, commands):
    done = world("h", "nft", "-j", "-f", "-", stdin=json.dumps({"nftables": commands}))
    assert done.returncode == 0, done.stderr


def reach(world, jobs):
    """Probe all at once, each from where its source is: job -> whether an answer came."""
    out = {}
    for side, own in (("p", ("10.100", "fd77")), ("s", ("192.168", "fd20"))):
        mine = [job for job in jobs if job[0].startswith(own)]
        done = world(side, sys.executable, "-c", PROBE, stdin=json.dumps(mine))
        out |= dict(zip(mine, json.loads(done.stdout), strict=True))
    return out


def matrix(world):
    # a UDP server on the hub answers from the address nearest to the peer, so only TCP is asked of the other
    return reach(world, [(*p, *s) for p in PAIRS for s in SERVICES if (p[1], s[0]) != ("192.168.20.20", "udp")])


def test_counts_tell_attempts_and_denials(world):
    it = mesh(ALLOW)
    load(world, codec.create(table(it)))
    good, bad = ("10.100.1.1", "192.168.20.9", "tcp", 443), ("10.100.1.6", "192.168.20.9", "tcp", 443)
    assert reach(world, [good, bad]) == {good: True, bad: False}
    objects = json.loads(world("h", "nft", "-j", "list", "table", "inet", it.table).stdout)["nftables"]
    assert codec.parse(objects, it.table) == table(it)
    held = {o[k]["name"]: o[k].get("elem", []) for o in objects for k in ("map", "set") if k in o}
    attempts = {e[0]["elem"]["val"]: e[0]["elem"]["counter"]["packets"] for e in held["hosts4"]}
    denied = {e["elem"]["val"]: e["elem"]["counter"]["packets"] for e in held["denied_hosts4"]}
    assert attempts["10.100.1.1"] > 0
    assert denied["10.100.1.1"] == 0
    assert attempts["10.100.1.6"] > 0
    assert denied["10.100.1.6"] == attempts["10.100.1.6"]


def test_kernel_evaluator_and_policy_agree(world):
    it = mesh(ALLOW)
    load(world, codec.create(table(it)))
    out = world("h", "nft", "-j", "list", "table", "inet", it.table).stdout
    evaluator, place = Evaluator(json.loads(out)["nftables"], it.table), judge.ground(it, NOW)
    seen = matrix(world)
    said = {pair: judge.passes(evaluator, place.packet(*pair), place) for pair in seen}
    assert seen == said
    assert sum(seen.values()) >= 10
    assert not all(seen.values())


SEGMENTS = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family) as one:
    one.settimeout(5)
    one.bind((sys.argv[1], 0))
    one.connect((sys.argv[2], int(sys.argv[3])))
    print(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
"""


def segments(world, side, *where):
    """The segment size that the other end's handshake allows; 12 bytes of it go to the timestamp."""
    return int(world(side, sys.executable, "-c", SEGMENTS, *where).stdout) + 12


@pytest.mark.parametrize(
    ("peer", "server", "headers"), [("10.100.1.3", "192.168.20.9", 40), ("fd77::11", "fd20::9", 60)]
)
def test_handshakes_are_clamped_to_the_tunnel_both_ways(world, peer, server, headers):
    """Only the hub's end of the link is narrow: what peer and server say of themselves is too large."""
    it = mesh([{"from": "peers", "to": "any"}, {"from": "nodes", "to": "peers"}])
    load(world, codec.create(table(it)))
    assert world("h", "ip", "link", "set", "wg1", "mtu", "1400").returncode == 0
    try:
        assert segments(world, "p", peer, server, "443") == 1400 - headers
        assert segments(world, "s", server, peer, "443") == 1400 - headers
    finally:
        world("h", "ip", "link", "set", "wg1", "mtu", "1500")


def test_without_the_table_nothing_is_forwarded(world):
    """Somebody flushed all tables: the rule alone must hold; only the hub's own ports are open then."""
    assert world("h", "nft", "flush", "ruleset").returncode == 0
    seen = matrix(world)
    forwarded = [pair for pair, ok in seen.items() if ok and pair[1] not in ("10.100.0.1", "192.168.20.20", "fd77::1")]
    assert forwarded == []
