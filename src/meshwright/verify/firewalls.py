"""Would the filters of others on the hub drop what the mesh lives by? Pure.

Asked of a friend's first packet to the WireGuard port, of what friends send to each route, and of the answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from meshwright.spec import policy
from meshwright.spec.model import Address, Mesh, Network
from meshwright.verify import filters
from meshwright.verify.filters import Fate, Packet
from meshwright.verify.finding import Finding

Json = Any
STRANGER = {4: "9.9.9.9", 6: "2620:fe::9"}
"""Stands for any address of the internet: a public one, in no range that is kept for something."""
SERVICES = "services"


def findings(mesh: Mesh, survey: Mapping[str, Json]) -> Iterator[Finding]:
    """What is dropped for certain, and what cannot be judged, by chain."""
    held = survey["filters"]
    bases = filters.bases(held)
    told: dict[tuple[str, str, bool], list[str]] = {}
    for packet in packets(mesh, survey):
        for fate in filters.fates(bases, packet):
            if fate.dropped or (fate.unsure and not _usual(fate)):
                told.setdefault((fate.base.label, _kind(mesh, packet), fate.dropped), []).append(packet.what)
    for (label, kind, sure), what in told.items():
        base = next(b for b in bases if b.label == label)
        yield _finding(mesh, survey, base, kind, sure, list(dict.fromkeys(what)))
    for left in held.get("left", ()):
        yield Finding("firewall", "info", f"not looked at: {left}")


def _usual(fate: Fate) -> bool:
    """Rules of a service proxy or network policies that can drop, but not by default: not worth a word."""
    return fate.plain == "accept" and ("kube-proxy" in fate.base.label or "KUBE-FIREWALL" in fate.base.chains)


def _kind(mesh: Mesh, packet: Packet) -> str:
    if packet.hook == "forward":
        return "forward"
    return "hub" if packet.into == mesh.hub.interface else "port"


def packets(mesh: Mesh, survey: Mapping[str, Json]) -> Iterator[Packet]:
    """The packets that are asked about."""
    interface, mark = mesh.hub.interface, mesh.hub.mark
    uplink, address = uplink_of(mesh, survey), mesh.hub.address
    source = STRANGER[address.version]
    what, own, number = "the WireGuard packets of friends", str(address), mesh.hub.port
    yield Packet(what, "input", uplink, "", source, own, "udp", number, mark=mark)
    for word, protocol, port in _open(mesh, "hub"):
        for friend, own in _pairs(mesh):
            what = f"{word} from friends to the hub"
            yield Packet(what, "input", interface, "", friend, own, _of(protocol, own), port, mark=mark)
    for name, networks in mesh.network.routes.items():
        for network in networks if name != SERVICES else ():  # to a service: rewritten to a pod before anybody filters
            yield from _forwarded(mesh, survey, name, network)


def _open(mesh: Mesh, name: str) -> list[tuple[str, str | None, int | None]]:
    """(word, protocol, port) of what the rules open there; None is any."""
    out: dict[str, tuple[str, str | None, int | None]] = {}
    for rule in mesh.policy.allow:
        if {name, "any"} & set(rule.to):
            for word in rule.ports or ("everything",):
                found = policy.ports(word) if rule.ports else None
                port = found.first if found and found.first == found.last and found.protocol != "icmp" else None
                out[word] = (word, found.protocol if found else None, port)
    return list(out.values())


def _of(protocol: str | None, destination: str) -> str | None:
    return "icmpv6" if protocol == "icmp" and ":" in destination else protocol


def _forwarded(mesh: Mesh, survey: Mapping[str, Json], name: str, network: Network) -> Iterator[Packet]:
    if any(network.version == own.version and network.overlaps(own) for own in mesh.network.cidr):
        return
    friend = next((friend for friend, _ in _pairs(mesh) if (":" in friend) == (network.version == 6)), None)
    there, device = _host(mesh, network), device_to(survey, network)
    interface, mark = mesh.hub.interface, mesh.hub.mark
    if friend is None or there is None or device == interface:
        return
    for word, said, port in _open(mesh, name):
        protocol = _of(said, there)
        what = f"{word} from friends to {name}"
        yield Packet(what, "forward", interface, device, friend, there, protocol, port, mark=mark)
        what = f"the answers of {name}"
        yield Packet(what, "forward", device, interface, there, friend, protocol, state="established", mark=mark)


def _pairs(mesh: Mesh) -> Iterator[tuple[str, str]]:
    """(a friend's address, the hub's) of each family."""
    for own in mesh.network.hub:
        friend = next((a for d in mesh.devices for a in d.addresses if a.version == own.version), None)
        if friend:
            yield str(friend), str(own)


def _host(mesh: Mesh, network: Network) -> str | None:
    """A host of the network that is not the hub."""
    some: list[Address] = [network[n] for n in range(min(4, network.num_addresses))]
    hosts = [host for host in some[network.num_addresses > 2 :] if host != mesh.hub.address]
    return str(hosts[0]) if hosts else None


def uplink_of(mesh: Mesh, survey: Mapping[str, Json]) -> str | None:
    """The link that holds the hub's address; else the one with the default route; None where nobody knows."""
    for link in survey.get("links", ()):
        if str(mesh.hub.address) in [text.partition("/")[0] for text in link["addresses"]]:
            return str(link["name"])
    default = "0.0.0.0/0" if mesh.hub.address.version == 4 else "::/0"
    return next((r["device"] for r in survey.get("routes", ()) if r["to"] == default and r["device"]), None)


def device_to(survey: Mapping[str, Json], network: Network) -> str | None:
    """The link by which a network is reached: that of the longest prefix around it."""
    best: tuple[int, str] | None = None
    for route in survey.get("routes", ()):
        to = ip_network(route["to"], strict=False)
        if to.version == network.version and network.network_address in to and route["device"]:
            best = max(best or (-1, ""), (to.prefixlen, route["device"]))
    return best[1] if best else None


def _finding(
    mesh: Mesh, survey: Mapping[str, Json], base: filters.Base, kind: str, sure: bool, what: Sequence[str]
) -> Finding:
    said = _together(what)
    if sure:
        how = _opener(mesh, survey, base, kind)
        return Finding("firewall", "warn", f"drops {said}", base.label, how, broken=True)
    return Finding(
        "firewall",
        "info",
        f"has rules that cannot be judged and may drop {said}",
        base.label,
        _probe(mesh, kind),
    )


def _together(what: Sequence[str]) -> str:
    """ "6443/tcp, icmp from friends to nodes, the answers of nodes" """
    ways: dict[str, list[str]] = {}
    for text in what:
        word, way, rest = text.partition(" from ")
        ways.setdefault(way + rest, []).append(word)
    return ", ".join(
        f"{', '.join(words[:6])}{' and more' if len(words) > 6 else ''}{way}" for way, words in ways.items()
    )


def _probe(mesh: Mesh, kind: str) -> str:
    if kind == "port":
        return f"let a friend connect, then see `meshwright status`: a handshake on {mesh.hub.interface} proves it open"
    return f"let a friend try it while you watch `tcpdump -ni {mesh.hub.interface}` on the hub"


def _opener(mesh: Mesh, survey: Mapping[str, Json], base: filters.Base, kind: str) -> str:
    """The command that opens it, in the words of whoever manages the filter."""
    services = survey.get("services", {})
    if services.get("ufw"):
        return _joined(_UFW[kind], mesh)
    if services.get("firewalld"):
        return f"{_joined(_FIREWALLD[kind], mesh)} && firewall-cmd --reload"
    if base.label.startswith("nft"):
        words = base.label.removeprefix("nft chain ")
        return " && ".join(f"nft insert rule {words} {rule.format(**_names(mesh))}" for rule in _NFT[kind]) + _KEEP
    tool = base.label.split()[0]
    chain = "DOCKER-USER" if kind == "forward" and "DOCKER-USER" in base.chains else base.name
    rules = [rule.format(**_names(mesh)) for rule in _IPTABLES[kind]]
    return " && ".join(f"{tool} -I {chain} {rule} -j ACCEPT" for rule in rules) + _KEEP


_KEEP = " (and put it where this firewall's rules are kept)"
_UFW = {
    "port": ("ufw allow {port}/udp",),
    "hub": ("ufw allow in on {interface}",),
    "forward": ("ufw route allow in on {interface}", "ufw route allow out on {interface}"),
}
_FIREWALLD = {
    "port": ("firewall-cmd --permanent --add-port={port}/udp",),
    "hub": ("firewall-cmd --permanent --zone=trusted --add-interface={interface}",),
    "forward": ("firewall-cmd --permanent --zone=trusted --add-interface={interface}",),
}
_NFT = {
    "port": ("udp dport {port} accept",),
    "hub": ("iifname {interface} accept",),
    "forward": ("iifname {interface} accept", "oifname {interface} accept"),
}
_IPTABLES = {
    "port": ("-p udp --dport {port}",),
    "hub": ("-i {interface}",),
    "forward": ("-i {interface}", "-o {interface}"),
}


def _names(mesh: Mesh) -> dict[str, Any]:
    return {"port": mesh.hub.port, "interface": mesh.hub.interface}


def _joined(commands: Sequence[str], mesh: Mesh) -> str:
    return " && ".join(command.format(**_names(mesh)) for command in commands)
