"""What several lab tests need: mesh files, a hub configured by hand, a look at what a lab left behind."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from meshwright import keys
from meshwright.lab import Lab
from meshwright.spec import load
from meshwright.spec.model import Mesh
from meshwright.spec.policy import Ports, grants

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 23, tzinfo=UTC)
REFERENCE = ROOT / "examples/homelab/mesh.yaml"
FULL = ROOT / "tests/data/mesh-full.yaml"
SMALL = """
version: 1
name: {name}
hub: {{node: k3s, address: {hub}, interface: wg1, endpoint: "{endpoint}"}}
network:
  cidr: {cidr}
  hub: {tunnel}
  routes: {routes}
peers: {peers}
policy: {{allow: {allow}}}
"""


def read(path: Path) -> Mesh:
    return load.load(path).mesh


def small(folder: Path, **changes: str) -> Mesh:
    """A mesh of two friends; `changes` replace single keys of SMALL."""
    said = {
        "name": "small",
        "hub": "192.168.20.20",
        "endpoint": "home.example.net:51820",
        "cidr": "10.100.0.0/16",
        "tunnel": "10.100.0.1",
        "routes": "{nodes: 192.168.20.0/24, mesh: 10.100.0.0/16}",
        "peers": "{ann: {address: 10.100.2.1}, bob: {address: 10.100.2.2}}",
        "allow": "[{from: peers, to: nodes, ports: [443/tcp, icmp]}, {from: ann, to: hub, ports: [6443/tcp, icmp]}]",
    }
    file = folder / "mesh.yaml"
    file.write_text(SMALL.format(**{**said, **changes}))
    return read(file)


def processes(folder: Path) -> list[int]:
    """Processes on this machine that name the lab's directory, or live in a network namespace of such a one."""
    ours = {pid for pid in _pids() if str(folder) in _text(pid, "cmdline")}
    spaces = {_link(pid, "pid") for pid in ours} - {_link(os.getpid(), "pid"), ""}
    return sorted(ours | {pid for pid in _pids() if _link(pid, "pid") in spaces})


def _pids() -> list[int]:
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _link(pid: int, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


def by_hand(lab: Lab, mesh: Mesh, *, table: bool = True) -> Path:
    """A hub, a port forward and the peers' files without the product: what the probes are tested against."""
    clients = lab.directory / "clients"
    clients.mkdir(exist_ok=True)
    private = keys.generate()
    lines = [f"[Interface]\nPrivateKey = {private.reveal()}\nListenPort = {mesh.hub.port}"]
    lines += [f"Address = {a}/{c.prefixlen}" for a, c in zip(mesh.network.hub, mesh.network.cidr, strict=True)]
    routes = [str(n) for networks in mesh.network.routes.values() for n in networks]
    for device in mesh.devices:
        own = keys.generate()
        addresses = ", ".join(map(str, device.addresses))
        lines.append(f"[Peer]\nPublicKey = {keys.public(own)}\nAllowedIPs = {addresses}")
        (clients / f"{device.label}.conf").write_text(
            f"[Interface]\nPrivateKey = {own.reveal()}\nAddress = {addresses}\n"
            f"[Peer]\nPublicKey = {keys.public(private)}\nEndpoint = {mesh.hub.endpoint}\n"
            f"AllowedIPs = {', '.join(dict.fromkeys(routes))}\nPersistentKeepalive = 25\n"
        )
    hub, forward = lab.host("hub"), f"{mesh.hub.address}:{mesh.hub.port}"
    _ok(hub, ["sh", "-c", "umask 077; cat > /etc/wireguard/wg1.conf"], "\n".join(lines) + "\n")
    _ok(hub, ["wg-quick", "up", "wg1"])
    rule = f"iifname {lab.wan} udp dport {mesh.hub.endpoint_port} dnat to {forward}"
    text = f"table ip f {{\n chain p {{\n type nat hook prerouting priority -100;\n {rule}\n }}\n}}\n"
    _ok(lab.host("gw"), ["nft", "-f", "-"], text)
    if table:
        _ok(hub, ["nft", "-f", "-"], _table(mesh, lab))
    return clients


def _table(mesh: Mesh, lab: Lab) -> str:
    rules = "\n".join(
        f"ip saddr {s} ip daddr {d} {_words(p)} accept"
        for g in grants(mesh, lab.services, NOW)
        for s in g.sources
        for d in g.destinations
        for p in g.protocols
    )
    return f"""table inet {mesh.table} {{
 set denied_hosts4 {{ type ipv4_addr; flags dynamic; counter; size 1000; }}
 chain from_peers {{ type filter hook prerouting priority -110;
  iifname != wg1 accept
  ct direction reply ct state established,related accept
  {rules}
  update @denied_hosts4 {{ ip saddr counter }}
  drop
 }}
 chain to_peers {{ type filter hook postrouting priority 90;
  oifname != wg1 accept
  iifname wg1 accept
  ct direction reply ct state established,related accept
  drop
 }}
 chain masq {{ type nat hook postrouting priority 110;
  iifname wg1 oifname eth0 masquerade
 }}
}}
"""


def _words(ports: Ports) -> str:
    return (
        "icmp type echo-request" if ports.protocol == "icmp" else f"{ports.protocol} dport {ports.first}-{ports.last}"
    )


def _ok(host, argv: list[str], text: str = "") -> None:
    done = host.run(argv, stdin=text.encode())
    assert done.code == 0, done.err
