"""What else lives on the hub: raw facts for a judgement that is made elsewhere. Each program once; reads only, except
where programs sit on links: then it is tried out whether packets get around nft (hookprobe.py). With "back" it also
asks hosts whether they know the way back into the mesh (wayback.py).

Every part is plain JSON. A part that cannot be read is missing and named under "errors"; whoever judges knows nothing
of it then. What could hold a secret (a k3s configuration) is read for known keys only.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from ..firewall import closed
from ..host import system, units
from . import foreign, hookprobe, wayback

Json = Any
SERVICES = ("ufw", "firewalld", "systemd-networkd", "NetworkManager", "docker", "k3s", "k3s-agent", "nftables")
MODULES = ("wireguard", "tun", "br_netfilter", "nf_conntrack", "nft_masq")
SYSCTL = (
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.conf.all.rp_filter",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
)
K3S = ("/etc/rancher/k3s/config.yaml", "/etc/rancher/k3s/config.yaml.d/*.yaml", "/etc/systemd/system/k3s*.service")
K3S_KEYS = "cluster-cidr|service-cidr|flannel-backend|flannel-iface|node-ip|disable-kube-proxy"
NETWORKD = ("ManageForeignRoutes", "ManageForeignRoutingPolicyRules", "ManageForeignNextHops")


def gather(payload: Mapping[str, Any]) -> dict[str, Json]:
    """{interface, table, ports: [UDP port], targets: [prefix]} -> the facts by part; "errors" says {part: why not}."""
    out: dict[str, Json] = {"errors": {}}
    for name, part in _PARTS.items():
        try:
            out[name] = part(payload)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, system.HubError) as error:
            out["errors"][name] = str(error)[:300]
    if payload.get("back"):
        out["way_back"] = wayback.ask(payload["back"])
    around = out.get("programs_on_links") or {}
    if around.get("links") or around.get("cilium"):
        out["probe"] = hookprobe.run(hookprobe.addresses(payload))
    return out


def links(_: Mapping[str, Any]) -> list[Json]:
    """Every link: name, kind, master, whether it is up, its addresses, whether XDP programs sit on it."""
    found = json.loads(system.run(["ip", "-j", "-d", "address", "show"]) or b"[]")
    return [
        {
            "name": link["ifname"],
            "kind": (link.get("linkinfo") or {}).get("info_kind", ""),
            "master": link.get("master", ""),
            "up": "UP" in link.get("flags", ()),
            "xdp": bool(link.get("xdp") or link.get("xdpgeneric")),
            "addresses": [f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", ()) if "local" in a],
        }
        for link in found
        if link.get("ifname")
    ]


def routes(_: Mapping[str, Any]) -> list[Json]:
    """The table `main`, both families: {to, device, via, protocol}; `to` is "default" or a prefix."""
    out = []
    for family in ("-4", "-6"):
        done = system.attempt(["ip", "-j", family, "route", "show", "table", "main"])
        for route in json.loads(done.out or b"[]") if not done.code else []:
            device = route.get("dev") or next((hop.get("dev", "") for hop in route.get("nexthops", ())), "")
            to = "::/0" if route["dst"] == "default" and family == "-6" else route["dst"]
            to = "0.0.0.0/0" if to == "default" else to
            via = route.get("gateway", "")
            out.append({"to": to, "device": device, "via": via, "protocol": route.get("protocol", "")})
    return out


def udp(payload: Mapping[str, Any]) -> list[Json]:
    """Who listens on the ports that were asked about: {port, address, owner}; owner "" is the kernel or unknown."""
    taken = [entry for name in ("udp", "udp6") for entry in _sockets(name, payload["ports"])]
    owners = _owners({inode for _, _, inode in taken} - {0}) if taken else {}
    return [{"port": port, "address": address, "owner": owners.get(inode, "")} for port, address, inode in taken]


def _sockets(name: str, ports: Iterable[int]) -> list[tuple[int, str, int]]:
    text = (system.read_file(f"/proc/net/{name}") or b"").decode(errors="replace")
    wanted = set(ports)
    rows = [line.split() for line in text.splitlines()[1:]]
    pairs = [(row[1].partition(":"), int(row[9])) for row in rows if len(row) > 9]
    return [(int(p, 16), a if a.strip("0") else "any", inode) for (a, _, p), inode in pairs if int(p, 16) in wanted]


def _owners(inodes: set[int]) -> dict[int, str]:
    """inode -> "name (pid)" of the process that holds the socket."""
    out: dict[int, str] = {}
    for place in glob.iglob("/proc/[0-9]*/fd/*"):
        if len(out) == len(inodes):
            break
        try:
            target = os.readlink(place)
        except OSError:
            continue
        inode = int(target[8:-1]) if target.startswith("socket:[") and target[8:-1].isdigit() else 0
        if inode in inodes:
            pid = place.split("/")[2]
            words = (system.read_file(f"/proc/{pid}/cmdline") or b"").decode(errors="replace").split("\0")
            # the first argument too: it is the interface of wireguard-go; more could be a secret
            out[inode] = f"{' '.join([os.path.basename(words[0]), *words[1:2]]).strip()[:80]} (process {pid})"
    return out


def wireguard(_: Mapping[str, Any]) -> dict[str, int]:
    """Interface -> the port it listens on, of every WireGuard interface, the kernel's or not."""
    done = system.attempt(["wg", "show", "all", "listen-port"])
    pairs = [line.split() for line in done.out.decode().splitlines()] if not done.code else []
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def modules(_: Mapping[str, Any]) -> dict[str, str]:
    """Module -> "loaded", "built in", "on disk" (it is loaded when needed), "missing", or "unknown"."""
    folder = f"/lib/modules/{os.uname().release}"
    built = (system.read_file(f"{folder}/modules.builtin") or b"").decode(errors="replace")
    listed = system.read_file(f"{folder}/modules.dep")
    disk = (listed or b"").decode(errors="replace")
    out = {}
    for name in MODULES:
        if os.path.isdir(f"/sys/module/{name}"):
            out[name] = "loaded"
        elif f"/{name}.ko" in built:
            out[name] = "built in"
        elif f"/{name}.ko" in disk:
            out[name] = "on disk"
        else:
            out[name] = "missing" if listed is not None else "unknown"
    return out


def programs(_: Mapping[str, Any]) -> dict[str, bool]:
    """What WireGuard without the kernel's module would need, and a character device."""
    return {"wireguard-go": bool(shutil.which("wireguard-go", path=system.PATH)), "tun": os.path.exists("/dev/net/tun")}


def settings(_: Mapping[str, Any]) -> dict[str, str]:
    """Kernel settings by name; "" where the kernel has none. accept_ra and rp_filter of every link."""
    out = {key: closed.sysctl(key) for key in SYSCTL}
    for family, leaf in (("ipv6", "accept_ra"), ("ipv4", "rp_filter")):
        for place in glob.glob(f"/proc/sys/net/{family}/conf/*/{leaf}"):
            out[f"net/{family}/conf/{place.split('/')[-2]}/{leaf}"] = (system.read_file(place) or b"").decode().strip()
    return out


def services(_: Mapping[str, Any]) -> dict[str, bool]:
    """Unit -> whether it is active; empty where systemd does not run. ufw counts only when it is switched on."""
    if not units.booted():
        return {}
    done = system.attempt(["systemctl", "is-active", *SERVICES])
    states = done.out.decode().split("\n")
    out = {name: state.strip() == "active" for name, state in zip(SERVICES, states)}  # noqa: B905  Python 3.9
    text = (system.read_file("/etc/ufw/ufw.conf") or b"").decode(errors="replace")
    out["ufw"] = out.get("ufw", False) and bool(re.search(r"(?m)^\s*ENABLED=yes\b", text))
    return out


def networkd(_: Mapping[str, Any]) -> dict[str, Json]:
    """{"links": how many links networkd manages, "settings": what its configuration says of foreign routes}."""
    managed = [
        p for p in glob.glob("/run/systemd/netif/links/*") if b"ADMIN_STATE=conf" in (system.read_file(p) or b"")
    ]
    found: dict[str, str] = {}
    for path in ["/etc/systemd/networkd.conf", *_drop_ins("systemd/networkd.conf.d")]:
        text = (system.read_file(path) or b"").decode(errors="replace")
        for key, value in re.findall(r"(?m)^\s*(\w+)\s*=\s*(\S*)", text):
            if key in NETWORKD:
                found[key] = value
    return {"links": len(managed), "settings": found}


def _drop_ins(folder: str) -> list[str]:
    """Drop-ins in the order in which they are read: by name; of the same name the one in /etc counts."""
    found = {}
    for root in ("/usr/lib", "/usr/local/lib", "/run", "/etc"):
        found.update({os.path.basename(p): p for p in glob.glob(f"{root}/{folder}/*.conf")})
    return [found[name] for name in sorted(found)]


def kubernetes(_: Mapping[str, Any]) -> dict[str, Json]:
    """What k3s and flannel say of themselves: {"k3s": {flag: value}, "flannel": {key: value}, "backend": type}."""
    flags: dict[str, str] = {}
    for pattern in K3S:
        for path in sorted(glob.glob(pattern)):
            text = (system.read_file(path) or b"").decode(errors="replace")
            flags.update(re.findall(rf"""({K3S_KEYS})['"]?[ \t]*[:=\s][ \t]*\\?\s*['"]?([\w.:/,-]+)""", text))
    subnet = (system.read_file("/run/flannel/subnet.env") or b"").decode(errors="replace")
    conf = system.read_file("/var/lib/rancher/k3s/agent/etc/flannel/net-conf.json")
    backend = (json.loads(conf).get("Backend") or {}).get("Type", "") if conf else ""
    return {"k3s": flags, "flannel": dict(re.findall(r"(?m)^(FLANNEL_\w+)=(\S+)", subnet)), "backend": backend}


def router_advertisements(_: Mapping[str, Any]) -> list[str]:
    """Links whose IPv6 default route came from a router advertisement that the kernel itself took in."""
    text = (system.read_file("/proc/net/ipv6_route") or b"").decode(errors="replace")
    rows = [line.split() for line in text.splitlines()]
    # ipv6_route: destination, its length, ..., flags, device; 0x40000 RTF_ADDRCONF, 0x10000 RTF_DEFAULT
    found = [r[9] for r in rows if len(r) == 10 and r[1] == "00" and int(r[8], 16) & 0x50000 == 0x50000]
    return sorted(set(found))


_PARTS = {
    "links": links,
    "routes": routes,
    "udp": udp,
    "wireguard": wireguard,
    "modules": modules,
    "programs": programs,
    "sysctl": settings,
    "services": services,
    "networkd": networkd,
    "kubernetes": kubernetes,
    "router_advertisements": router_advertisements,
    "filters": foreign.filters,
    "programs_on_links": foreign.attached,
}
