"""What else lives on the hub, and whether a mesh can live beside it: the judgement of a survey (hubd/survey/). Pure.

A survey comes from machines of every kind: what is missing in it, or has a form that nobody foresaw, is said to be
unknown, and never stops the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from meshwright.events import Checked
from meshwright.plan.text import printable
from meshwright.spec.model import Mesh, Network
from meshwright.verify import firewalls, wayback
from meshwright.verify.finding import Finding

Json = Any
Survey = Mapping[str, Json]
FLANNEL = {"flannel-wg": 51820, "flannel-wg-v6": 51821}
K3S = {"cluster-cidr": "10.42.0.0/16", "service-cidr": "10.43.0.0/16"}


def judge(mesh: Mesh, survey: Survey) -> tuple[Finding, ...]:
    """Everything that stands in the way, or will; the worst first."""
    out = []
    for name, rule in RULES.items():
        try:
            out += list(rule(mesh, survey))
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
            missing = (survey.get("errors") or {}) if isinstance(survey, dict) else {}
            why = "; ".join(f"{part}: {text}" for part, text in missing.items()) if isinstance(missing, dict) else ""
            said = f"cannot be judged: {why or f'the hub answered in a form that is not known here ({error!r})'}"
            out.append(Finding(name, "info", said[:400]))
    order = ("refuse", "warn", "info")
    clean = [replace(f, what=printable(f.what), where=printable(f.where), next=printable(f.next)) for f in out]
    return tuple(sorted(dict.fromkeys(clean), key=lambda finding: order.index(finding.level)))


def reasons(found: Sequence[Finding]) -> list[str]:
    """What apply refuses to set a hub up over, as the guard of a plan says it."""
    return [f"is for a hub with a fault: {f.name}: {f.what}" for f in found if f.level == "refuse"]


def checks(found: Sequence[Finding]) -> Iterator[Checked]:
    """The findings as verify tells them; one line where there is nothing to tell."""
    for finding in found:
        observed = f"{finding.what}{f' ({finding.where})' if finding.where else ''}"
        yield Checked(f"hub: {finding.name}", not finding.broken, "nothing in the way", observed, finding.next)
    if not found:
        yield Checked("hub: what else lives there", True, "nothing in the way", "nothing in the way")


def port(mesh: Mesh, survey: Survey) -> Iterator[Finding]:
    """Who else has our UDP port."""
    interface, number = mesh.hub.interface, mesh.hub.port
    devices = survey.get("wireguard", {})
    if devices.get(interface) == number:
        return
    holder = next((name for name, listen in devices.items() if listen == number), "")
    heard = [entry for entry in survey["udp"] if entry["port"] == number]
    if not holder and not heard:
        return
    who = f"the WireGuard interface {holder}" if holder else heard[0]["owner"] or "the kernel, for another tunnel"
    yield Finding(
        "UDP port",
        "refuse",
        f"{number} is taken by {who}",
        "",
        f"stop that, or give hub.listen another port than {number}",
        broken=True,
    )


def flannel(mesh: Mesh, survey: Survey) -> Iterator[Finding]:
    """flannel's own WireGuard takes 51820, and 51821 when IPv6 comes: k3s's table of inbound ports."""
    there = survey.get("kubernetes", {})
    names = {link["name"] for link in survey.get("links", ())}
    flag = (there.get("k3s") or {}).get("flannel-backend", "")
    if not (flag.startswith("wireguard") or there.get("backend") == "wireguard" or names & FLANNEL.keys()):
        return
    for name, taken in FLANNEL.items():
        if taken == mesh.hub.port and not (name == "flannel-wg-v6" and name not in names):
            hint = "give hub.listen another port, and forward to it"
            yield Finding("flannel", "refuse", f"its backend wireguard-native uses UDP {taken}", name, hint, True)
        elif taken == mesh.hub.port:
            said = f"its backend wireguard-native will take UDP {taken} as soon as the cluster has IPv6"
            yield Finding("flannel", "warn", said, name, "give hub.listen another port before that")


def node_address(mesh: Mesh, survey: Survey) -> Iterator[Finding]:
    """A cluster that talks to itself through the mesh's own interface dies with it."""
    flags = (survey.get("kubernetes") or {}).get("k3s") or {}
    own = {str(address) for address in mesh.network.hub}
    if flags.get("flannel-iface") == mesh.hub.interface or own & set(flags.get("node-ip", "").split(",")):
        yield Finding(
            "k3s",
            "refuse",
            f"its own traffic goes over {mesh.hub.interface}: our firewall would cut the cluster off",
            "flannel-iface, node-ip",
            "give k3s the address of the LAN in node-ip and flannel-iface",
            broken=True,
        )


def overlaps(mesh: Mesh, survey: Survey) -> Iterator[Finding]:
    """Networks of the hub that the mesh, or the LAN behind a friend, would take over."""
    ours = [("network.cidr", network) for network in mesh.network.cidr]
    ours += [(f"the LAN of {device.label}", network) for device in mesh.devices for network in device.lan]
    told: set[Network] = set()
    for where, network, certain in networks(mesh, survey):
        clashes = [(name, own) for name, own in ours if own.version == network.version and own.overlaps(network)]
        for name, own in clashes if network not in told else ():
            told.add(network)
            said = f"{name} {own} overlaps {network}"
            if certain or network.subnet_of(own):  # type: ignore[arg-type]
                hint = f"take a network for {name} that is free, or take that one away"
                yield Finding("address overlap", "refuse", said, where, hint, broken=True)
            else:
                hint = "nothing to do where that route is a catch-all; the longer prefix is ours and wins"
                yield Finding("address overlap", "info", said, where, hint)


def networks(mesh: Mesh, survey: Survey) -> Iterator[tuple[str, Network, bool]]:
    """(where, network, whether hosts are there for certain) of all that the hub knows and is not ours."""
    ours = {mesh.hub.interface, mesh.hub.next.interface if mesh.hub.next else mesh.hub.interface}
    for link in survey["links"]:
        if link["name"] not in ours and link["name"] != "lo":
            for text in link["addresses"]:
                network = ip_network(text, strict=False)
                if not network.is_link_local:
                    yield link["name"], network, True
    for route in survey["routes"]:
        network = ip_network(route["to"], strict=False)
        if route["device"] not in ours and network.prefixlen and not network.is_link_local:
            yield f"route by {route['device']}", network, False
    yield from _cluster(survey)


def _cluster(survey: Survey) -> Iterator[tuple[str, Network, bool]]:
    there, services = survey.get("kubernetes") or {}, survey.get("services") or {}
    flags = dict(K3S) if services.get("k3s") or services.get("k3s-agent") else {}
    flags |= {key: value for key, value in (there.get("k3s") or {}).items() if key in K3S}
    for key, text in flags.items():
        for part in text.split(","):
            yield f"k3s {key}", ip_network(part.strip(), strict=False), True
    if network := (there.get("flannel") or {}).get("FLANNEL_NETWORK"):
        yield "flannel", ip_network(network, strict=False), True


def routes(mesh: Mesh, survey: Survey) -> Iterator[Finding]:
    """Whether the cluster is where the file says."""
    found = list(_cluster(survey))
    for name, keys in (("pods", ("k3s cluster-cidr", "flannel")), ("services", ("k3s service-cidr",))):
        said = mesh.network.routes.get(name, ())
        there = [(where, network) for where, network, _ in found if where in keys]
        for where, network in there:
            if said and all(own.version != network.version or not own.overlaps(network) for own in said):
                what = f"network.routes.{name} is {', '.join(map(str, said))}, but the cluster has {network}"
                hint = f"correct network.routes.{name}: friends send that into the tunnel"
                yield Finding("routes", "warn", what, where, hint, broken=True)
                break


def module(mesh: Mesh, survey: Survey) -> Iterator[Finding]:
    """WireGuard in the kernel, or else as a program."""
    if survey["modules"]["wireguard"] != "missing" or mesh.hub.interface in survey.get("wireguard", {}):
        return
    have = survey["programs"]
    if have["wireguard-go"] and have["tun"]:
        said = "this kernel has no WireGuard; wireguard-go takes its place, and is slower"
        yield Finding("kernel module", "warn", said, "", "install a kernel with the module wireguard")
        return
    lacks = "/dev/net/tun is missing" if have["wireguard-go"] else "wireguard-go is not installed"
    hint = "apt install wireguard-go" if not have["wireguard-go"] else "modprobe tun"
    yield Finding(
        "kernel module",
        "refuse",
        f"this kernel has no WireGuard, and {lacks}",
        "",
        f"install a kernel with the module wireguard, or: {hint}",
        broken=True,
    )


def router_advertisements(mesh: Mesh, survey: Survey) -> Iterator[Finding]:
    """A host that forwards IPv6 takes no router's word any more, and its default route dies: kernel, ip-sysctl.rst."""
    if not any(network.version == 6 for network in mesh.network.cidr):
        return
    values, forwards = survey["sysctl"], survey["sysctl"].get("net.ipv6.conf.all.forwarding") == "1"
    listening = set(survey["router_advertisements"])
    for link in sorted(listening):
        if values.get(f"net/ipv6/conf/{link}/accept_ra") == "1":
            key = f"net.ipv6.conf.{link.replace('.', '/')}.accept_ra"
            said = f"{link} has its IPv6 default route from a router's advertisements"
            what = "and loses it, for IPv6 is forwarded" if forwards else "and would lose it once IPv6 is forwarded"
            hint = f"sysctl -w {key}=2 && echo '{key} = 2' >/etc/sysctl.d/89-{link}-accept-ra.conf"
            yield Finding("router advertisements", "refuse", f"{said}, {what}", link, hint, broken=forwards)


def networkd(mesh: Mesh, survey: Survey) -> Iterator[Finding]:
    """When systemd-networkd restarts it removes routes and rules that it did not make: networkd.conf(5)."""
    there = survey["networkd"]
    if not there["links"] or not survey.get("services", {}).get("systemd-networkd", True):
        return
    keys = ("ManageForeignRoutes", "ManageForeignRoutingPolicyRules")
    loose = [key for key in keys if str(there["settings"].get(key, "yes")).lower() not in ("no", "false", "0", "off")]
    if loose:
        text = "\\n".join(["[Network]", *(f"{key}=no" for key in loose), ""])
        folder = "/etc/systemd/networkd.conf.d"
        yield Finding(
            "systemd-networkd",
            "warn",
            "may remove routes, and the rule that keeps the mesh closed, when it restarts",
            ", ".join(loose),
            f"mkdir -p {folder} && printf '{text}' >{folder}/meshwright.conf (in force when it next starts)",
        )


def bridges(mesh: Mesh, survey: Survey) -> Iterator[Finding]:
    """Without bridge-nf-call, answers that a bridge passes on miss the service proxy, which has to rewrite them."""
    values = survey["sysctl"]
    kube = any((survey.get("services") or {}).get(name) for name in ("k3s", "k3s-agent"))
    off = [key for key in ("iptables", "ip6tables") if values.get(f"net.bridge.bridge-nf-call-{key}") == "0"]
    bridged = [link["name"] for link in survey["links"] if link["kind"] == "bridge"]
    if kube and off and bridged:
        yield Finding(
            "br_netfilter",
            "warn",
            f"bridge-nf-call-{off[0]} is 0: answers of pods on this node can miss the service proxy",
            ", ".join(bridged[:3]),
            f"sysctl -w net.bridge.bridge-nf-call-{off[0]}=1",
        )


def flowtables(mesh: Mesh, survey: Survey) -> Iterator[Finding]:
    """What a flowtable has taken over meets no chain any more: an open connection outlives the right to it."""
    for table in survey["filters"]["flowtables"]:
        devices = table.get("dev") or []
        devices = [devices] if isinstance(devices, str) else devices
        name = f"{table['family']} {table['table']} {table['name']}"
        said = f"{name} carries connections past our firewall (devices {', '.join(devices) or 'none'})"
        hint = (
            f"let it leave {mesh.hub.interface} out (`iifname {mesh.hub.interface} accept` before its rule `flow add`)"
        )
        if devices:
            yield Finding("flowtable", "refuse", said, name, f"{hint}, or delete it", broken=True)


def programs(mesh: Mesh, survey: Survey) -> Iterator[Finding]:
    """eBPF programs that could hand packets on before or behind our hooks."""
    found = survey["programs_on_links"]
    held = {name: ", ".join(what) for name, what in found["links"].items()}
    held |= {link["name"]: "xdp" for link in survey["links"] if link.get("xdp")}
    if not held and not found["cilium"]:
        return
    who = "Cilium is here" if found["cilium"] else "programs sit on links"
    where = ", ".join(f"{name} ({what})" for name, what in sorted(held.items())[:4])
    seen = survey.get("probe")
    said, broken = _probed(seen, mesh)
    if broken:
        yield Finding("eBPF", "refuse", f"{who}: {said}", where, _AROUND, broken=True)
    else:
        yield Finding("eBPF", "info", f"{who}: {said}", where)


_AROUND = (
    "leave the links of the mesh to the kernel's own path (for Cilium: bpf.hostLegacyRouting=true), or use --force"
)


def _probed(seen: Json, mesh: Mesh) -> tuple[str, bool]:
    """(what the probe through the real hooks showed, whether anything got past them)."""
    if not seen:
        return "packets could go around our firewall, and nothing shows that they do not", True
    if seen.get("why"):
        return f"packets could go around our firewall; the probe could not be made: {seen['why']}", True
    past = [name for name, result in seen["sent"].items() if result != "dropped"]
    if past:
        return f"packets of a probe got around nft: {', '.join(past[:4])}", True
    return f"{len(seen['sent'])} probes through the real hooks were all dropped", False


RULES: dict[str, Callable[[Mesh, Survey], Iterator[Finding]]] = {
    "UDP port": port,
    "flannel": flannel,
    "k3s": node_address,
    "address overlap": overlaps,
    "routes": routes,
    "kernel module": module,
    "router advertisements": router_advertisements,
    "systemd-networkd": networkd,
    "br_netfilter": bridges,
    "flowtable": flowtables,
    "eBPF": programs,
    "firewall": firewalls.findings,
    "return path": wayback.findings,
}
