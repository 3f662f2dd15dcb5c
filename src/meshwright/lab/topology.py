"""Mesh -> the hosts, links and addresses of a lab. Pure: the same file and slots give the same world.

                      inet (switch, public server, DNS)
          ___________________|____________________
         |                   |                    |
         gw               LABEL.nat ...      (one per active device)
         | server VLAN       | a home of its own
    hub -+- node2          LABEL -- LABEL.lan (only where the device has `lan`)
     |        |
   pod1     pod2           services: DNAT on the hub, as kube-proxy would
   coredns

A device keeps its slot (and so its addresses) while the lab is up; what a change of the file may touch is decided
from the values made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from ipaddress import ip_address, ip_interface, ip_network
from itertools import chain, islice
from typing import Any, cast

from meshwright.errors import LabError
from meshwright.lab import rulesets
from meshwright.spec.model import Address, Device, Mesh, Network

CORE = ("inet", "gw", "hub", "node2", "pod1", "pod2", "coredns")
WAN = "wan0"  # the gateway's interface towards the internet
SERVER = "srv0"  # ... and towards the server VLAN
# Where nothing of the mesh lies; the first that fits is taken.
OUTSIDE = {
    4: ("203.0.113.0/24", "198.18.0.0/16", "198.51.0.0/16", "100.64.0.0/16", "11.0.0.0/16"),
    6: ("2001:db8:ffff::/48", "2001:db8:fffe::/48"),
}
HOMES = {4: ("172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16", "100.64.0.0/10"), 6: ("fd6d:6577::/32", "fd6d:6578::/32")}
HIDDEN_PODS = {4: ("10.42.0.0/16", "10.244.0.0/16", "172.20.0.0/16", "100.96.0.0/16"), 6: ("fd6d:7064::/48",)}
TRANSIT = {4: ("169.254.77.0/24", "100.127.77.0/24"), 6: ("fd6d:7472::/64", "fd6d:7473::/64")}
ALWAYS = (22, 80, 443, 6443, 8080)
MOST_PORTS = 60


@dataclass(frozen=True, slots=True)
class Place:
    """One host of the lab, in the words of what builds it.

    ip: lines of ip-batch(8). nft: text for `nft -f`. dns: addresses on which a DNS server answers with `names`
    (name -> addresses), asking `upstream` for the rest. ports: what its responder listens on, ("tcp", 22).
    addresses: all of them, without prefix length, for people and probes.
    """

    name: str
    addresses: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()
    sysctl: Mapping[str, str] = field(default_factory=dict)
    nft: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dns: tuple[str, ...] = ()
    upstream: str = ""
    ports: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """A cable: interface a_name at host a, b_name at host b, there a port of the bridge `master`, if any.

    neighbours: (host, line of ip-batch) to run when the cable is there.
    """

    a: str
    a_name: str
    b: str
    b_name: str
    master: str = ""
    a_mac: str = ""
    b_mac: str = ""
    neighbours: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Something a probe may aim at. host answers for it; kind: hub, route, service, dns, peer, lan, outside."""

    name: str
    kind: str
    address: str
    host: str
    ports: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole lab. peers: device label -> host name. standins: service name -> addresses we invented for it."""

    hosts: tuple[Place, ...]
    links: tuple[Link, ...]
    peers: Mapping[str, str]
    slots: Mapping[str, int]
    standins: Mapping[str, tuple[Address, ...]]
    targets: tuple[Target, ...]
    public: str

    def host(self, name: str) -> Place:
        return next(h for h in self.hosts if h.name == name)


def as_json(topology: Topology) -> dict[str, Any]:
    """Plain data, for golden files and for the state file."""
    plain = asdict(topology)
    plain["standins"] = {name: [str(a) for a in found] for name, found in topology.standins.items()}
    return plain


def build(mesh: Mesh, now: datetime, slots: Mapping[str, int] | None = None) -> Topology:
    """The lab of a mesh file at `now`. `slots`: those of a lab that is up.

    LabError when no address range is left.
    """
    devices = tuple(d for d in mesh.devices if d.active(now))
    taken = assign((d.label for d in devices), slots or {})
    ground = _ground(mesh, devices, max(taken.values(), default=0) + 1)
    core = _Core(mesh, ground, devices)
    hosts, links = core.hosts(), core.links()
    names = peer_names(devices)
    for device in devices:
        more_hosts, more_links = _peer(mesh, ground, device, names[device.label], taken[device.label])
        hosts += more_hosts
        links += more_links
    peers = {d.label: names[d.label] for d in devices}
    targets = (*core.targets(), *_peer_targets(mesh, devices, names))
    return Topology(tuple(hosts), tuple(links), peers, taken, core.standins, targets, str(ground.public))


def assign(labels: Iterable[str], before: Mapping[str, int]) -> dict[str, int]:
    """A slot for each label: the one it has, else the lowest that is free."""
    wanted = list(labels)
    out = {label: before[label] for label in wanted if label in before}
    free = (n for n in range(len(wanted) + len(before) + 1) if n not in set(out.values()))
    for label in wanted:
        if label not in out:
            out[label] = next(free)
            free = (n for n in range(len(wanted) + len(before) + 1) if n not in set(out.values()))
    return out


def peer_names(devices: Iterable[Device]) -> dict[str, str]:
    """Device label -> host name: the label itself, unless a host of the house has that name. No label has a dot."""
    return {d.label: f"{d.label}.peer" if d.label in CORE else d.label for d in devices}


def claimed(mesh: Mesh) -> list[Network]:
    """Every network that the mesh file speaks of, disabled devices' too."""
    routes = chain.from_iterable(mesh.network.routes.values())
    lans = chain.from_iterable(d.lan for d in mesh.devices)
    return [*mesh.network.cidr, *routes, *lans, *(n for n in _vlan(mesh) if n)]


def policy_ports(mesh: Mesh) -> tuple[tuple[str, int], ...]:
    """What responders listen on: the ends of every port range in the file, one beyond, some usually shut."""
    found = {(kind, port): None for port in ALWAYS for kind in ("tcp", "udp")}
    texts = chain.from_iterable(rule.ports or () for rule in mesh.policy.allow)
    tested = (t.port for t in mesh.policy.tests if t.port)
    for text in (*texts, *tested, *chain.from_iterable(s.ports for s in mesh.services.values())):
        for pair in _edges(text):
            found.setdefault(pair)
    return tuple(sorted(list(found)[:MOST_PORTS]))


def _edges(text: str) -> Iterator[tuple[str, int]]:
    ports, _, protocol = text.partition("/")
    if protocol not in ("tcp", "udp"):
        return
    low, _, high = ports.partition("-")
    for port in (int(low), int(high or low)):
        yield protocol, port
    if high and int(high) < 65535:
        yield protocol, int(high) + 1


@dataclass(frozen=True, slots=True)
class _Ground:
    """The ranges that the whole lab agrees on."""

    version: int
    outside: Network
    wan: Address
    public: Address
    homes: tuple[Network, ...]
    vlan: tuple[Network, ...]


def _vlan(mesh: Mesh) -> tuple[Network, ...]:
    """The server VLAN: the route that holds hub.address, else the /24 (or /64) around it."""
    address = mesh.hub.address
    for networks in mesh.network.routes.values():
        if any(address in n and n.num_addresses >= 8 for n in networks if n.version == address.version):
            return networks
    length = 24 if address.version == 4 else 64
    return (ip_network(f"{address}/{length}", strict=False),)


def _ground(mesh: Mesh, devices: tuple[Device, ...], count: int) -> _Ground:
    version = mesh.hub.address.version
    avoid = claimed(mesh)
    outside = _free(OUTSIDE[version], avoid, count + 20)
    literal = _literal(mesh.hub.endpoint_host)
    usable = literal and literal.version == version and literal != mesh.hub.address
    wan = literal if literal and usable else outside[2]
    homes = _homes(version, [*avoid, outside, ip_network(wan)], count)
    return _Ground(version, outside, wan, outside[1], homes, _vlan(mesh))


def _literal(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _free(candidates: Iterable[str], avoid: Iterable[Network], size: int) -> Network:
    taken = list(avoid)
    for text in candidates:
        network = ip_network(text)
        if network.num_addresses >= size and not _clash(network, taken):
            return network
    raise LabError(
        "the mesh file leaves no address range free for the lab's own networks", "use smaller networks in the mesh file"
    )


def _clash(network: Network, others: Iterable[Network]) -> bool:
    return any(network.version == o.version and network.overlaps(o) for o in others)


def _homes(version: int, avoid: list[Network], count: int) -> tuple[Network, ...]:
    """`count` home networks that overlap nothing of the mesh."""
    length, out = (24 if version == 4 else 64), []
    for text in HOMES[version]:
        for network in ip_network(text).subnets(new_prefix=length):
            if not _clash(network, avoid):
                out.append(network)
            if len(out) == count:
                return tuple(out)
    raise LabError("the mesh file leaves no address range free for the peers' homes", "use smaller networks there")


def _nth(network: Network, number: int) -> Address:
    """An address inside, counted from the start; in a small network as near as it goes."""
    last = network.num_addresses - (2 if network.version == 4 and network.num_addresses > 2 else 1)
    return network[min(number, last)]


def _on(address: Address, network: Network) -> str:
    return f"{address}/{network.prefixlen}"


def _add(interface: str, text: str) -> str:
    return f"addr add {text} dev {interface}{' nodad' if ':' in text else ''}"


def _all_of(version: int) -> str:
    return "default" if version == 4 else "::/0"


def _mac(slot: int, number: int) -> str:
    """Hardware addresses are fixed: the kernel's neighbour table is one for all namespaces and holds 1024 entries, too
    few for 200 peers; permanent entries do not count."""
    return f"02:6d:77:{slot >> 8 & 255:02x}:{slot & 255:02x}:{number:02x}"


def _neighbour(address: Address, mac: str, interface: str) -> str:
    return f"neigh replace {address} lladdr {mac} dev {interface} nud permanent"


HOUSE = 0xFFFF  # the "slot" of inet and gw
ROUTER = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
# a switch is not a firewall: bridged frames must bypass the IP hooks
SWITCH = {f"net/bridge/bridge-nf-call-{kind}": "0" for kind in ("iptables", "ip6tables", "arptables")}
# a DNS server on the hub's tunnel address starts before the tunnel
LATER = {"net/ipv4/ip_nonlocal_bind": "1", "net/ipv6/ip_nonlocal_bind": "1"}


def _files(name: str, resolver: Address | str) -> dict[str, str]:
    return {
        "hosts": f"127.0.0.1 localhost {name}\n::1 localhost\n",
        "resolv.conf": f"nameserver {resolver}\noptions timeout:1 attempts:2\n",
        "hostname": f"{name}\n",
    }


def _peer(mesh: Mesh, ground: _Ground, device: Device, name: str, slot: int) -> tuple[list[Place], list[Link]]:
    """One friend: a router of his own, his device behind it, and the network behind that, where he has one."""
    home, every = ground.homes[slot], _all_of(ground.version)
    outer, router, own = ground.outside[slot + 16], home[1], home[2]
    nat = Place(
        f"{device.label}.nat",
        (str(outer), str(router)),
        (
            "link set lo up",
            f"link set {WAN} up",
            "link set lan0 up",
            _add(WAN, _on(outer, ground.outside)),
            _add("lan0", _on(router, home)),
            f"route add {every} via {ground.public}",
            _neighbour(own, _mac(slot, 2), "lan0"),
            _neighbour(ground.public, _mac(HOUSE, 1), WAN),
            *([_neighbour(ground.wan, _mac(HOUSE, 2), WAN)] if ground.wan in ground.outside else []),
        ),
        ROUTER,
        rulesets.home_router(ground.version, WAN, "lan0"),
        _files(f"{device.label}.nat", ground.public),
    )
    lines = [
        "link set lo up",
        "link set eth0 up",
        _add("eth0", _on(own, home)),
        f"route add {every} via {router}",
        _neighbour(router, _mac(slot, 1), "eth0"),
    ]
    near = tuple((h, _neighbour(outer, _mac(slot, 3), i)) for h, i in (("inet", "wan"), ("gw", WAN)))
    hosts, links = (
        [nat],
        [
            Link(nat.name, WAN, "inet", f"p{slot}", "wan", _mac(slot, 3), neighbours=near),
            Link(name, "eth0", nat.name, "lan0", a_mac=_mac(slot, 2), b_mac=_mac(slot, 1)),
        ],
    )
    if device.lan:
        lines += ["link set lan0 up", *(_add("lan0", _on(_nth(n, 1), n)) for n in device.lan)]
        hosts.append(_lan(mesh, device))
        links.append(Link(hosts[-1].name, "eth0", name, "lan0"))
    found = (str(own), *(str(a) for a in device.addresses), *(str(_nth(n, 1)) for n in device.lan))
    sysctl = ROUTER if device.lan else {}
    hosts.append(Place(name, found, tuple(lines), sysctl, "", _files(name, ground.public), ports=policy_ports(mesh)))
    return hosts, links


def _lan(mesh: Mesh, device: Device) -> Place:
    name = f"{device.label}.lan"
    lines = ["link set lo up", "link set eth0 up"]
    for network in device.lan:
        lines.append(_add("eth0", _on(_nth(network, 10), network)))
    for network in _first_of_each(device.lan):
        lines.append(f"route add {_all_of(network.version)} via {_nth(network, 1)}")
    addresses = tuple(str(_nth(n, 10)) for n in device.lan)
    return Place(name, addresses, tuple(lines), {}, "", _files(name, "127.0.0.1"), ports=policy_ports(mesh))


def _first_of_each(networks: Iterable[Network]) -> list[Network]:
    found: dict[int, Network] = {}
    for network in networks:
        found.setdefault(network.version, network)
    return list(found.values())


def _peer_targets(mesh: Mesh, devices: tuple[Device, ...], names: Mapping[str, str]) -> Iterator[Target]:
    ports = policy_ports(mesh)
    for device in devices:
        for address in device.addresses:
            yield Target(device.reference, "peer", str(address), names[device.label], ports)
        for network in device.lan:
            yield Target(f"{device.reference}.lan", "lan", str(_nth(network, 10)), f"{device.label}.lan", ports)


class _Core:
    """The house: internet, gateway, server VLAN, pods, services. Everything is worked out once, then read."""

    def __init__(self, mesh: Mesh, ground: _Ground, devices: tuple[Device, ...]) -> None:
        self.mesh, self.ground = mesh, ground
        self.ports = policy_ports(mesh)
        self.homes = {str(a) for a in (mesh.hub.address, *mesh.network.hub)}
        self.pods = self._pods()
        self.services = mesh.network.routes.get("services", ())
        self.others = self._others(devices)
        self.segment = (*ground.vlan, *self._transit())
        self.standins = self._standins()
        self.extra: dict[str, list[Address]] = {}
        self.nat: dict[Address, Address] = {}
        self.via: list[tuple[Network, Address]] = []
        self.dns: dict[str, list[Address]] = {"inet": [ground.public]}
        self.found: list[Target] = []
        self._place_all()

    # -- ranges -----------------------------------------------------------------------------------------------------

    def _pods(self) -> tuple[Network, ...]:
        declared = self.mesh.network.routes.get("pods", ())
        if declared and not _same(declared, self.ground.vlan):
            return declared
        avoid = [*claimed(self.mesh), self.ground.outside, *self.ground.homes]
        return (_free(HIDDEN_PODS[self.ground.version], avoid, 1024),)

    def _chunks(self) -> list[tuple[Network, Network | None]]:
        """Each pod network as the hub's part and node2's part (None where it is too small to share)."""
        out: list[tuple[Network, Network | None]] = []
        for network in self.pods:
            length = max(24 if network.version == 4 else 64, network.prefixlen + 1)
            if length > network.max_prefixlen - 3:
                out.append((network, None))
            else:
                first, second = islice(network.subnets(new_prefix=length), 2)
                out.append((cast(Network, first), cast(Network, second)))
        return out

    def _others(self, devices: tuple[Device, ...]) -> dict[str, tuple[Network, ...]]:
        """Routes that are neither the VLAN, pods, services, the mesh itself, nor a friend's LAN."""
        lans = [n for d in devices for n in d.lan]
        skip = (*self.ground.vlan, *self.mesh.network.cidr, *lans)
        out = {}
        for name, networks in self.mesh.network.routes.items():
            if name not in ("pods", "services") and (left := tuple(n for n in networks if not _clash(n, skip))):
                out[name] = left
        return out

    def _transit(self) -> Iterator[Network]:
        """A range for next hops in the VLAN, for an IP version that only pods or other routes speak."""
        wanted = {n.version for n in chain(self.pods, *self.others.values())}
        for version in sorted(wanted - {n.version for n in self.ground.vlan}):
            yield _free(TRANSIT[version], claimed(self.mesh), 64)

    def _standins(self) -> dict[str, tuple[Address, ...]]:
        """Addresses for services that only a cluster knows: from the middle of the service range, by name."""
        pool = self.services or self.pods
        used = {a for s in self.mesh.services.values() for a in s.address or ()}
        wanted = sorted(name for name, s in self.mesh.services.items() if not s.address)
        out: dict[str, tuple[Address, ...]] = {}
        for name in wanted:
            found = tuple(_unused(network, used) for network in _first_of_each(pool))
            used |= set(found)
            out[name] = found
        return out

    # -- who answers for an address ---------------------------------------------------------------------------------

    def _place_all(self) -> None:
        mesh = self.mesh
        for address in mesh.network.hub:
            self._target("hub", "hub", address, "hub")
        self._target("hub node", "route", mesh.hub.address, "hub")
        for number, network in enumerate(self.ground.vlan):
            self._target("node2", "route", self._node2(network, number), "node2")
        for mine, theirs in self._chunks() if mesh.network.routes.get("pods") else []:
            self._target("pod1", "route", _nth(mine, 10), "pod1")
            if theirs:
                self._target("pod2", "route", _nth(theirs, 10), "pod2")
        for name, networks in self.others.items():
            for network in networks:
                self._target(name, "route", _nth(network, 10), f"net.{name}")
        self._place_services()
        self._target("internet", "outside", self.ground.public, "inet")

    def _place_services(self) -> None:
        mesh = self.mesh
        used = {a for s in mesh.services.values() for a in s.address or ()}
        used |= {a for found in self.standins.values() for a in found}
        used |= {mesh.network.dns.server} if mesh.network.dns else set()
        for network in self.services:
            address = _unused(network, used, 80)
            self._target("any service", "service", address, self._answer(address, "pod2"))
        for name, service in mesh.services.items():
            for address in service.address or self.standins[name]:
                self._target(name, "service", address, self._answer(address, "pod1"))
        if mesh.network.dns:
            address = mesh.network.dns.server
            host = self._answer(address, "coredns")
            self.dns.setdefault(host, []).append(self.nat.get(address, address))
            self.found.append(Target("dns", "dns", str(address), host, (("udp", 53), ("tcp", 53))))

    def _target(self, name: str, kind: str, address: Address, host: str) -> None:
        ports = tuple(p for p in self.ports if p[1] != 53) if host == "inet" else self._listening(host)
        self.found.append(Target(name, kind, str(address), host, ports))

    def _listening(self, host: str) -> tuple[tuple[str, int], ...]:
        """The ports of a host's responder: on the hub, WireGuard needs one of its own."""
        return tuple(p for p in self.ports if host != "hub" or p != ("udp", self.mesh.hub.port))

    def _answer(self, address: Address, pod: str) -> str:
        """Make some host answer for a service's address, by the kind of network that holds it. Gives the host."""
        same = self._pod_address(pod, address.version)
        if any(address in n for n in self.services) and same:
            self.nat[address] = same
            return pod
        if str(address) in self.homes:
            return "hub"
        for name, networks in self.others.items():
            if any(address in n for n in networks):
                return self._extra(f"net.{name}", address)
        if any(address in n for n in self.ground.vlan):
            return "gw" if address in self._gateways() else self._extra("node2", address)
        if any(address in n for n in self.pods) and same:
            self.via.append((ip_network(address), same))
            return self._extra(pod, address)
        return self._extra("inet", address)

    def _extra(self, host: str, address: Address) -> str:
        held = self.extra.setdefault(host, [])
        if address not in held:
            held.append(address)
        return host

    def _pod_address(self, pod: str, version: int) -> Address | None:
        number = {"pod1": 10, "pod2": 10, "coredns": 53}[pod]
        for mine, theirs in self._chunks():
            part = theirs if pod == "pod2" and theirs else mine
            if part.version == version:
                return _nth(part, number if part is not mine or pod != "pod2" else 11)
        return None

    def _gateways(self) -> list[Address]:
        return [self._gateway(n) for n in self.ground.vlan]

    def _gateway(self, network: Network) -> Address:
        return _nth(network, 1) if _nth(network, 1) != self.mesh.hub.address else _nth(network, 3)

    def _hub(self, network: Network) -> Address:
        return self.mesh.hub.address if self.mesh.hub.address in network else _nth(network, 20)

    def _node2(self, network: Network, _: int = 0) -> Address:
        taken = {self._gateway(network), self._hub(network)}
        return next(a for a in (_nth(network, n) for n in (21, 22, 4, 5, 6, 2)) if a not in taken)

    # -- hosts ------------------------------------------------------------------------------------------------------

    def hosts(self) -> list[Place]:
        out = [self._inet(), self._gw(), self._hub_host(), self._node2_host()]
        out += [self._pod("pod1", 0), self._pod("coredns", 0), self._pod("pod2", 1)]
        return out + [self._other(name, networks) for name, networks in self.others.items()]

    def links(self) -> list[Link]:
        vlan = [Link(h, "eth0", "gw", f"v-{h}", SERVER) for h in ("hub", "node2")]
        pods = [Link("pod1", "eth0", "hub", "c-pod1", "cni0"), Link("coredns", "eth0", "hub", "c-coredns", "cni0")]
        second = "node2" if any(theirs for _, theirs in self._chunks()) else "hub"
        pods.append(Link("pod2", "eth0", second, "c-pod2", "cni0"))
        more = [Link(f"net.{name}", "eth0", "gw", f"v{n}", SERVER) for n, name in enumerate(self.others)]
        return [Link("gw", WAN, "inet", "p-gw", "wan", _mac(HOUSE, 2)), *vlan, *pods, *more]

    def targets(self) -> tuple[Target, ...]:
        return tuple(self.found)

    def _place(self, name: str, addresses: Iterable[Address], lines: list[str], **more: Any) -> Place:
        extra = self.extra.get(name, [])
        lines = [*lines, *(_add("lo", str(ip_interface(a))) for a in extra)]
        served = tuple(str(a) for a in self.dns.get(name, ()))
        ports = tuple(p for p in self._listening(name) if not (served and p[1] == 53))
        names = self._public() if name == "inet" else self._cluster() if served else {}
        files = _files(name, self.ground.public if name != "inet" else "127.0.0.1")
        return Place(
            name,
            tuple(str(a) for a in (*addresses, *extra)),
            ("link set lo up", *lines),
            files=files,
            names=names,
            dns=served,
            upstream="" if name == "inet" or not served else str(self.ground.public),
            ports=ports,
            **more,
        )

    def _public(self) -> dict[str, tuple[str, ...]]:
        host = self.mesh.hub.endpoint_host
        names = {} if _literal(host) else {host: (str(self.ground.wan),)}
        return {**names, "public.example": (str(self.ground.public),)}

    def _cluster(self) -> dict[str, tuple[str, ...]]:
        dns = self.mesh.network.dns
        out: dict[str, tuple[str, ...]] = {}
        if dns:
            out["kube-dns.kube-system.svc.cluster.local"] = (str(dns.server),)
        for name, service in self.mesh.services.items():
            namespace, _, short = (service.kubernetes or f"default/{name}").partition("/")
            found = service.address or self.standins[name]
            out[f"{short}.{namespace}.svc.cluster.local"] = tuple(str(a) for a in found)
        return out

    def _inet(self) -> Place:
        ground = self.ground
        lines = [f"link set wan address {_mac(HOUSE, 1)}", _add("wan", _on(ground.public, ground.outside))]
        if ground.wan not in ground.outside:
            lines.append(f"route add {ground.wan} dev wan")
        if self._direct():
            lines.append(f"route add {self.mesh.hub.address} via {ground.wan}")
        return self._place("inet", [ground.public], lines, sysctl={**ROUTER, **SWITCH})

    def _gw(self) -> Place:
        ground, mesh = self.ground, self.mesh
        lines = [f"link set {WAN} up"]
        lines += [_add(SERVER, _on(self._gateway(n), n)) for n in ground.vlan]
        if ground.wan in ground.outside:
            lines.append(_add(WAN, _on(ground.wan, ground.outside)))
        else:
            lines += [_add(WAN, _on(ground.outside[2], ground.outside)), _add(WAN, str(ip_interface(ground.wan)))]
        lines.append(f"route add {_all_of(ground.version)} via {ground.public}")
        if mesh.network.return_path == "gateway":
            lines += self._towards_mesh()
        trusting, direct = mesh.network.return_path == "gateway", mesh.hub.address if self._direct() else None
        nft = rulesets.home_gateway(ground.version, WAN, SERVER, trusting=trusting, direct=direct)
        found = [ground.wan, *self._gateways()]
        return self._place("gw", found, lines, sysctl={**ROUTER, **SWITCH}, nft=nft)

    def _direct(self) -> bool:
        """Whether peers dial the hub's own address: a hub with a public one, behind a router that only routes."""
        return _literal(self.mesh.hub.endpoint_host) == self.mesh.hub.address

    def _towards_mesh(self) -> list[str]:
        """Routes to the mesh and to the friends' LANs by the hub's address in the VLAN."""
        networks = [*self.mesh.network.cidr, *(n for d in self.mesh.devices for n in d.lan)]
        hubs = {n.version: self._hub(n) for n in self.segment}
        return [f"route add {n} via {hubs[n.version]}" for n in networks if n.version in hubs]

    def _default(self) -> list[str]:
        return [f"route add {_all_of(n.version)} via {self._gateway(n)}" for n in _first_of_each(self.ground.vlan)]

    def _hub_host(self) -> Place:
        lines = ["link set eth0 up", *(_add("eth0", _on(self._hub(n), n)) for n in self.segment), *self._default()]
        lines += self._bridge(0)
        nodes = {n.version: self._node2(n) for n in self.segment}
        for _, theirs in self._chunks():
            if theirs and theirs.version in nodes:
                lines.append(f"route add {theirs} via {nodes[theirs.version]}")
        for name, networks in self.others.items():
            legs = {n.version: self._leg(name, n) for n in self.segment}
            lines += [f"route add {n} via {legs[n.version]}" for n in networks]
        lines += [f"route add {n} via {a}" for n, a in self.via]
        found = [self._hub(n) for n in self.ground.vlan]
        nft = rulesets.kube_proxy(self.nat, self.pods, [mine for mine, _ in self._chunks()])
        sysctl = {**ROUTER, **(LATER if "hub" in self.dns else {})}
        return self._place("hub", [*found, *self.mesh.network.hub], lines, sysctl=sysctl, nft=nft)

    def _bridge(self, part: int) -> list[str]:
        found = [c[part] for c in self._chunks()]
        return [_add("cni0", _on(_nth(n, 1), n)) for n in found if n]

    def _node2_host(self) -> Place:
        lines = ["link set eth0 up", *(_add("eth0", _on(self._node2(n), n)) for n in self.segment), *self._default()]
        lines += self._bridge(1)
        hubs = {n.version: self._hub(n) for n in self.segment}
        lines += [f"route add {mine} via {hubs[mine.version]}" for mine, _ in self._chunks() if mine.version in hubs]
        if self.mesh.network.return_path == "nodes":
            lines += self._towards_mesh()
        return self._place("node2", [self._node2(n) for n in self.ground.vlan], lines, sysctl=ROUTER)

    def _pod(self, name: str, part: int) -> Place:
        lines, found, routed = ["link set eth0 up"], [], set()
        for chunk in self._chunks():
            network = chunk[part] or chunk[0]
            address = self._pod_in(name, network, shared=chunk[part] is None)
            lines.append(_add("eth0", _on(address, network)))
            found.append(address)
            if network.version not in routed:
                lines.append(f"route add {_all_of(network.version)} via {_nth(network, 1)}")
                routed.add(network.version)
        return self._place(name, found, lines)

    def _pod_in(self, name: str, network: Network, *, shared: bool) -> Address:
        number = {"pod1": 10, "coredns": 53, "pod2": 11 if shared else 10}[name]
        return _nth(network, number)

    def _leg(self, name: str, segment: Network) -> Address:
        """Where in the server VLAN the host that stands for a route can be reached."""
        number = list(self.others).index(name)
        return _nth(segment, 30 + number)

    def _other(self, name: str, networks: tuple[Network, ...]) -> Place:
        legs = [(self._leg(name, n), n) for n in self.segment]
        lines = ["link set eth0 up", *(_add("eth0", _on(leg, n)) for leg, n in legs), *self._default()]
        lines += [_add("lo", str(ip_interface(_nth(n, 10)))) for n in networks]
        if self.mesh.network.return_path == "nodes":
            lines += self._towards_mesh()
        return self._place(f"net.{name}", [legs[0][0], *(_nth(n, 10) for n in networks)], lines)


def _same(a: tuple[Network, ...], b: tuple[Network, ...]) -> bool:
    return set(a) == set(b)


def _unused(network: Network, used: set[Address], start: int = 0) -> Address:
    """An address of the network that nobody uses: from its middle on, wrapping once."""
    middle = network.num_addresses // 2
    for number in range(min(network.num_addresses, 4096)):
        address = network[(middle + start + number) % network.num_addresses]
        if address not in used and address != network.network_address:
            return address
    raise LabError(f"the network {network} has no address left for a stand-in", "use a larger network for `services`")
