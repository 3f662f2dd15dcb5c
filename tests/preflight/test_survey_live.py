"""The survey on real machines of namespaces: each thing is really there, is seen, and does what is said of it.

Where something is said to be dropped, packets are sent, and sent again where it is not.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from test_findings import mesh

from meshwright import flow
from meshwright.errors import GuardError
from meshwright.events import silent
from meshwright.io.host import Namespace, remote
from meshwright.providers import table
from meshwright.providers.table import Places
from meshwright.spec import load
from meshwright.spec.model import Mesh
from meshwright.verify import preflight, wayback
from meshwright.verify.finding import Finding
from support import machine

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent
HUB, OUTSIDE, POD = "192.168.20.20", "192.168.20.1", "10.42.0.5"
LISTEN = (
    "import socket,sys;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('',int(sys.argv[1])));"
    "s.settimeout({wait});"
    "print('ready',flush=True);print(s.recvfrom(99)[1][0],flush=True)"
)
SEND = (
    "import socket,sys;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.sendto(b'x',(sys.argv[1],int(sys.argv[2])))"
)


@dataclass
class Street:
    """A hub on a LAN with one host on it, a host in the mesh's place (wg1), and a pod behind the hub."""

    hub: Namespace
    lan: Namespace
    friend: Namespace
    pod: Namespace

    def sh(self, text: str, where: Namespace | None = None) -> str:
        done = (where or self.hub).run(["sh", "-ec", text], timeout=60)
        assert done.code == 0, f"{text}: {done.err}"
        return done.out.decode()

    def survey(self, *targets: str, **more: Any) -> dict[str, Any]:
        """By the very remote call that reads the hub."""
        payload = {"interface": "wg1", "table": "collective_mesh", "labels": {}, "ports": [51821], "targets": targets}
        answer = remote(self.hub, "read", {**payload, "survey": "always", **more})
        found: dict[str, Any] = answer["survey"]
        return found

    def found(self, name: str, of: Mesh | None = None) -> list[Finding]:
        survey = self.survey("10.43.0.0/16")
        assert survey["errors"] == {}
        return [finding for finding in preflight.judge(of or mesh(), survey) if finding.name == name]

    def arrives(self, source: Namespace, to: Namespace, address: str, port: int) -> bool:
        """Whether a datagram gets there."""
        with running(to, ["python3", "-c", LISTEN.format(wait=1), str(port)]) as listener:
            assert listener.stdout
            assert listener.stdout.readline() == b"ready\n"
            source.run(["python3", "-c", SEND, address, str(port)], timeout=10)
            return bool(listener.stdout.readline())


@contextmanager
def running(host: Namespace, argv: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program on a host for as long as the block lasts."""
    process = subprocess.Popen(
        host.enter(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # nsenter and what it started
        process.communicate(timeout=10)


@pytest.fixture
def street() -> Iterator[Street]:
    with ExitStack() as stack:
        hosts = {name: stack.enter_context(machine(name)) for name in ("hub", "lan", "friend", "pod")}
        street = Street(**hosts)
        wires = (("eth0", f"{HUB}/24", "lan", f"{OUTSIDE}/24"), ("wg1", "10.100.0.1/16", "friend", "10.100.2.1/16"),
                 ("cni0", "10.42.0.1/24", "pod", f"{POD}/24"))  # fmt: skip
        for near, own, name, far in wires:
            ends = [f"/proc/{host.pid}/ns/net" for host in (street.hub, hosts[name])]
            words = [
                "ip",
                "link",
                "add",
                near,
                "netns",
                ends[0],
                "type",
                "veth",
                "peer",
                "name",
                "eth9",
                "netns",
                ends[1],
            ]
            subprocess.run(words, check=True, timeout=10)
            street.sh(f"ip address add {own} dev {near}; ip link set {near} up")
            gateway = own.partition("/")[0]
            street.sh(f"ip address add {far} dev eth9; ip link set eth9 up", hosts[name])
            street.sh(f"ip route add default via {gateway}", hosts[name])
        street.sh(f"ip route add default via {OUTSIDE}; sysctl -qw net.ipv4.ip_forward=1; mkdir -p /run/netns")
        yield street


def broken(findings: Sequence[Finding]) -> list[str]:
    return [finding.what for finding in findings if finding.broken]


def test_a_port_that_a_program_holds(street: Street) -> None:
    with running(street.hub, ["python3", "-c", LISTEN.format(wait=60), "51821"]) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"ready\n"
        (finding,) = street.found("UDP port")
        assert finding.level == "refuse"
        assert "python3" in finding.what
    assert street.found("UDP port") == []


def test_a_port_that_another_tunnel_holds(street: Street) -> None:
    street.sh("ip link delete wg1; wireguard-go flannel-wg && wg set flannel-wg listen-port 51821")
    try:
        (finding,) = street.found("UDP port")
        assert "flannel-wg" in finding.what
        assert [f.level for f in street.found("flannel")] == ["warn"]
        street.sh("wg set flannel-wg listen-port 51999")
        assert street.found("UDP port") == []
    finally:
        street.sh("ip link delete flannel-wg")


def test_our_own_tunnel_holds_its_port(street: Street) -> None:
    street.sh("ip link delete wg1; wireguard-go wg1 && wg set wg1 listen-port 51821")
    try:
        assert street.found("UDP port") == []
    finally:
        street.sh("ip link delete wg1")


@pytest.mark.parametrize("tool", ["nft", "iptables-nft", "iptables-legacy"])
def test_a_filter_that_drops_friends_at_the_door(street: Street, tool: str) -> None:
    """The finding is there as long as the packets are dropped; the command that it names lets them in."""
    close = {
        "nft": "nft 'table inet host { chain in { type filter hook input priority 0; policy drop; }; }'",
        "iptables-nft": "iptables-nft -P INPUT DROP",
        "iptables-legacy": "iptables-legacy -P INPUT DROP",
    }[tool]
    assert street.arrives(street.lan, street.hub, HUB, 51821)
    assert broken(street.found("firewall")) == []
    street.sh(close)
    assert not street.arrives(street.lan, street.hub, HUB, 51821)
    finding = next(f for f in street.found("firewall") if "WireGuard" in f.what)
    assert finding.broken
    street.sh(finding.next.partition(" (and put")[0].replace("iptables -I", "iptables-nft -I"))
    assert street.arrives(street.lan, street.hub, HUB, 51821)
    assert not any("WireGuard" in f.what for f in street.found("firewall"))


def test_without_nft_the_rules_of_iptables_are_looked_at_all_the_same(street: Street) -> None:
    street.sh("ip link delete wg1; iptables-nft -P INPUT DROP; mount --bind /dev/null $(command -v nft)")
    found = street.found("firewall")
    assert any(f.broken and "WireGuard" in f.what for f in found)
    assert any("nft, which is not installed" in f.what for f in found)


def test_a_host_that_forwards_nothing_as_docker_leaves_it(street: Street) -> None:
    assert street.arrives(street.friend, street.pod, POD, 7000)
    street.sh("iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER")
    assert not street.arrives(street.friend, street.pod, POD, 7000)
    (finding,) = [f for f in street.found("firewall") if f.broken]
    assert "to pods" in finding.what
    street.sh(finding.next.partition(" (and put")[0])
    assert street.arrives(street.friend, street.pod, POD, 7000)
    assert broken(street.found("firewall")) == []


def test_networks_that_the_mesh_would_take_over(street: Street) -> None:
    street.sh("ip link add docker0 type bridge; ip address add 172.17.0.1/16 dev docker0; ip link set docker0 up")
    assert street.found("address overlap") == []
    street.sh("ip address add 10.100.7.1/24 dev docker0")
    (finding, *_) = street.found("address overlap")
    assert finding.level == "refuse"
    assert finding.where == "docker0"
    street.sh("ip address delete 10.100.7.1/24 dev docker0; ip route add 10.100.9.0/24 dev docker0")
    assert [f.where for f in street.found("address overlap")] == ["route by docker0"]


RA = """
import socket, struct, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0, socket.if_nametoindex("eth9")))
"""


@pytest.mark.parametrize(("accept", "lost"), [("1", True), ("2", False)])
def test_an_uplink_that_lives_by_router_advertisements(street: Street, accept: str, lost: bool) -> None:
    """With accept_ra 1 the default route is gone once IPv6 is forwarded, and the finding says so before; with 2 not."""
    six = mesh("router-advertisements")
    street.sh(f"sysctl -qw net.ipv6.conf.eth0.accept_ra={accept} net.ipv6.conf.eth0.accept_dad=0")
    end = time.monotonic() + 20
    while "default" not in street.sh("ip -6 route"):
        assert time.monotonic() < end, "no default route came of the advertisements"
        street.lan.run(["python3", "-c", RA], timeout=10)  # once its link has an address
        time.sleep(0.2)
    found = street.found("router advertisements", six)
    assert [finding.level for finding in found] == (["refuse"] if lost else [])
    assert street.found("router advertisements") == [], "a mesh of IPv4 alone does not care"
    street.sh("sysctl -qw net.ipv6.conf.all.forwarding=1")
    assert ("default" not in street.sh("ip -6 route")) is lost


AROUND = {"": ("cni0", ""), "in": ("mwprobe", "eth0"), "out": ("lxc1", "mwprobe")}


@pytest.mark.parametrize("around", AROUND)
def test_packets_that_a_program_takes_around_nft(street: Street, around: str) -> None:
    """A real eBPF program; the twin lets packets go on. The probe's own packets show which it is."""
    street.sh("ip netns add tenant; ip link add lxc1 type veth peer name eth0 netns tenant")
    street.sh("ip address add 10.42.9.1/24 dev lxc1; ip link set lxc1 up; ip -n tenant link set eth0 up")
    street.sh("ip -n tenant address add 10.42.9.5/24 dev eth0; ip -n tenant route add default via 10.42.9.1")
    street.sh("nsenter --net=/run/netns/tenant ping -qc1 10.42.9.1")  # ARP is done before the program takes everything
    idle, active = (["python3", str(HERE / "ebpf.py"), *ends] for ends in (("eth0", ""), AROUND[around]))
    with running(street.hub, idle) as first, running(street.hub, active) as second:
        assert first.stdout
        assert second.stdout
        assert (first.stdout.readline(), first.stdout.readline()) == (b"ready\n", b"attached\n")
        assert second.stdout.readline() == b"ready\n"  # it takes hold as soon as the probe's own link is there
        (finding,) = street.found("eBPF")
    assert finding.level == ("refuse" if around else "info")
    assert {"": "all dropped", "in": "from the tunnel", "out": "from the network tenant"}[around] in finding.what
    assert street.found("eBPF") == []
    assert "meshwright_probe" not in street.sh("nft list tables")
    assert "mwprobe" not in street.sh("ip link")


def test_hosts_that_do_not_know_the_way_back(street: Street) -> None:
    """Direct, by a plain gateway, by one that tracks connections, and with no route at all."""
    nodes, gateway = mesh("return-path-nodes"), mesh("return-path-gateway")
    host = street.pod
    ends = [f"/proc/{end.pid}/ns/net" for end in (street.lan, host)]
    words = ["ip", "link", "add", "to1", "netns", ends[0], "type", "veth", "peer", "name", "eth1", "netns", ends[1]]
    subprocess.run(words, check=True, timeout=10)
    street.sh(
        "ip link add br0 type bridge; ip link set br0 up; ip link set to1 master br0 up; ip link set eth9 master br0;"
        f"ip address flush dev eth9; ip address add {OUTSIDE}/24 dev br0; sysctl -qw net.ipv4.ip_forward=1"
        " net.bridge.bridge-nf-call-iptables=0 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.br0.send_redirects=0;"
        f"ip route replace 10.100.0.0/16 via {HUB}",
        street.lan,
    )
    street.sh(
        f"ip address add 192.168.20.30/24 dev eth1; ip link set eth1 up; ip route replace 10.100.0.0/16 via {HUB}", host
    )
    street.sh("ping -qc1 -W5 192.168.20.30")

    def said(of: Mesh) -> list[tuple[bool, str]]:
        found = preflight.judge(of, street.survey(back=wayback.asked(of)))
        return [(f.broken, f.what) for f in found if f.name == "return path" and "192.168.20.30" in f.what]

    assert [bad for bad, _ in said(nodes)] == [False]
    street.sh("ip route delete 10.100.0.0/16; ip route delete default", host)
    assert [bad for bad, _ in said(nodes)] == [True], "no route at all"
    street.sh(f"ip route add default via {OUTSIDE}", host)
    assert [bad for bad, _ in said(gateway)] == [False], "by the gateway's static route"
    street.sh(
        "nft 'table inet f { chain f { type filter hook forward priority 0; ct state invalid drop; }; }'", street.lan
    )
    assert [bad for bad, _ in said(gateway)] == [True], "the gateway saw no beginning"


SMALL = """
version: 1
name: collective-mesh
hub: {node: hub, address: 192.168.20.20, interface: wg1, endpoint: "vpn.example.net:51821"}
network: {cidr: 10.100.0.0/16, hub: 10.100.0.1, routes: {nodes: 192.168.20.0/24}}
peers: {ada: {address: 10.100.2.1}}
policy: {allow: [{from: peers, to: nodes, ports: [443/tcp]}]}
"""


def test_apply_sets_no_hub_up_over_a_fault_unless_it_is_told_why(street: Street, tmp_path: Path) -> None:
    """While the hub is new it is looked at; with a fault nothing is written; once it is ours it is not looked at."""
    (tmp_path / "mesh.yaml").write_text(SMALL)
    small = load.load(tmp_path / "mesh.yaml").mesh
    places = Places(street.hub, None, tmp_path / "secrets", tmp_path / "clients", {}, survey="new")
    providers = table.providers(small, places)
    street.sh("ip link delete wg1; ip link add docker0 type bridge; ip address add 10.100.7.1/24 dev docker0")
    view = flow.look(small, providers, places, silent)
    assert [finding.name for finding in view.findings if finding.level == "refuse"] == ["address overlap"]
    with pytest.raises(GuardError, match=r"10\.100\.7\.0/24"):
        flow.allow(view.todo, None, None)
    assert not list(tmp_path.glob("secrets/*"))
    assert street.sh("ls /etc/wireguard") == ""
    flow.allow(view.todo, None, "the bridge goes away tomorrow")
    street.sh("ip link delete docker0")
    view = flow.look(small, providers, places, silent)
    flow.allow(view.todo, None, None)
    results = flow.apply(view.todo, providers, silent)
    assert [(result.id, result.why) for result in results if not result.ok] == []
    street.sh("ip link add docker0 type bridge; ip address add 10.100.7.1/24 dev docker0")
    again = flow.look(small, providers, places, silent)
    assert (again.todo.changes, again.findings, again.todo.guard) == ((), (), ())
    checks = {check.name: check for check in flow.verify(again, places, providers, silent)}
    assert not checks["hub: address overlap"].ok, "verify always looks"
    street.sh("ip link delete docker0")
    checks = {check.name: check for check in flow.verify(again, places, providers, silent)}
    assert [name for name, check in checks.items() if name.startswith("hub: ") and not check.ok] == []


def test_ten_thousand_rules_of_a_service_proxy_are_not_listed(street: Street) -> None:
    """A kube-proxy's rules are in chains of type nat: what is sent home stays small."""
    street.hub.run(["iptables-nft-restore"], stdin=proxy(2500).encode(), timeout=60)
    assert len(street.sh("iptables-nft-save").splitlines()) > 10_000
    survey = street.survey()
    assert survey["errors"] == {}
    assert len(json.dumps(survey)) < 20_000
    assert any("KUBE-FORWARD" in line for line in survey["filters"]["iptables"]["ip"])


def proxy(services: int) -> str:
    """What kube-proxy writes for so many services of one endpoint, for iptables-restore(8)."""
    chains, rules = [], []
    for n in range(services):
        address, service, endpoint = f"10.43.{n >> 8}.{n & 255}", f"KUBE-SVC-{n:016d}", f"KUBE-SEP-{n:016d}"
        chains += [f":{service} - [0:0]", f":{endpoint} - [0:0]"]
        rules += [
            f"-A KUBE-SERVICES -d {address}/32 -p tcp -m tcp --dport 80 -j {service}",
            f"-A {service} ! -s 10.42.0.0/16 -d {address}/32 -p tcp -m tcp -j MARK --set-xmark 0x4000/0x4000",
            f"-A {service} -j {endpoint}",
            f"-A {endpoint} -p tcp -m tcp -j DNAT --to-destination 10.42.0.{n % 250}:80",
        ]
    begin = ["*nat", ":PREROUTING ACCEPT [0:0]", ":KUBE-SERVICES - [0:0]"]
    nat = [*begin, *chains, "-A PREROUTING -j KUBE-SERVICES", *rules]
    forward = "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT"
    table = ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":KUBE-FORWARD - [0:0]"]
    return "\n".join([*nat, "COMMIT", *table, "-A FORWARD -j KUBE-FORWARD", forward, "COMMIT", ""])
