"""The mesh file that says what a hub does today, with comments for what it cannot say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network

from meshwright.adopt.names import labels
from meshwright.adopt.place import MOST, Nets, Placed, networks, place
from meshwright.adopt.source import Client, Source, named, quoted, refuse
from meshwright.errors import MeshwrightError, SpecError
from meshwright.keys import Secret
from meshwright.spec import load, splice
from meshwright.spec.model import Address, Network


@dataclass(frozen=True)
class Answers:
    """What no source says. address: the hub's outside the tunnel. local: meshwright runs on the hub itself."""

    name: str
    node: str
    interface: str
    address: Address
    endpoint: str
    local: bool = False


@dataclass(frozen=True)
class Adopted:
    """The file, the keys that belong beside it (label -> key), what each peer is called now, and what was lost."""

    text: str
    keys: Mapping[str, Secret] = field(default_factory=dict)
    preshared: Mapping[str, Secret] = field(default_factory=dict)
    peers: tuple[Placed, ...] = ()
    notes: tuple[str, ...] = ()


def write(source: Source, answers: Answers) -> Adopted:
    """MeshwrightError when the hub is one that no mesh file can say."""
    _check(source)
    _check_routes(source.clients)
    nets = networks(source.addresses, source.clients)
    routes = _routes(source.clients, nets)
    clients = [replace(client, name=named(client.name)) for client in source.clients]
    found = labels([client.name for client in clients], list(routes))
    placed = place(found, clients, nets, answers.address)
    notes = [*source.notes, *nets.notes, *_client_notes(source)]
    lines = [
        *_head(source, notes),
        *_hub(source, answers),
        *_network(source, nets, routes),
        *_peers(placed, routes),
        *_policy(placed),
    ]
    text = "\n".join(lines) + "\n"
    _checked(text)
    own = [*notes, *(f"{p.label}: {note}" for p in placed for note in (*p.lost, *p.client.notes))]
    return Adopted(
        text,
        {p.label: p.client.private_key for p in placed if p.client.private_key},
        {p.label: p.client.preshared_key for p in placed if p.client.preshared_key},
        tuple(placed),
        tuple(own),
    )


def _check(source: Source) -> None:
    """What two clients cannot have both, wherever they were read."""
    counted = Counter(client.public_key for client in source.clients)
    twice = [quoted(c.name) or "a peer" for c in source.clients if counted[c.public_key] > 1]
    refuse(source.kind, [f"{', '.join(twice[:5])} have the same public key"] if twice else [], "remove one of them")
    if any(client.public_key == source.public_key for client in source.clients):
        raise MeshwrightError(f"{source.kind}: a peer has the hub's own key", "remove that peer, then import again")
    owner: dict[str, Client] = {}
    for client in source.clients:
        for prefix in client.allowed_ips:
            other = owner.setdefault(prefix, client)
            if other is not client and not (client.disabled or other.disabled):
                raise MeshwrightError(
                    f"{source.kind}: {prefix} belongs to {_who(other)} and to {_who(client)}; WireGuard gives it to the"
                    " last of them only",
                    "take it away from one of them, then import again",
                )


def _check_routes(clients: Sequence[Client]) -> None:
    count = len({text for client in clients for text in client.routes or ()})
    if count > MOST:
        raise MeshwrightError(
            f"the clients' own files send {count} networks into the tunnel; at most {MOST} can be imported",
            "write them together as wider networks",
        )


def _who(client: Client) -> str:
    return quoted(client.name) or f"the peer {client.public_key}"


def _checked(text: str) -> None:
    try:
        load.load_text(text)
    except SpecError as error:
        first = error.problems[0]
        raise MeshwrightError(
            f"this hub cannot be said in a mesh file: {first.path}: {first.text}",
            first.hint or "mend that on the hub, then import again",
        ) from None


def _routes(clients: Sequence[Client], nets: Nets) -> dict[str, Network]:
    """Networks beyond the mesh that the clients' own files send into the tunnel, by a name."""
    found: dict[str, Network] = {}
    lans = [ip_network(text) for client in clients for text in client.allowed_ips]
    for net in sorted({ip_network(t) for c in clients for t in c.routes or ()}, key=lambda n: (n.version, int(n[0]))):
        others = [*nets.cidr, *found.values(), *lans]
        if net.prefixlen and not any(net.version == o.version and net.overlaps(o) for o in others):
            found[f"net-{len(found) + 1}"] = net
    return found


def _client_notes(source: Source) -> Iterator[str]:
    if len(source.dns) > 1:
        yield f"the clients' own files ask several DNS servers ({quoted(', '.join(source.dns))}); one of them is kept"
    if any(ip_network(text).prefixlen == 0 for client in source.clients for text in client.routes or ()):
        yield (
            "some clients send all of their traffic into the tunnel (AllowedIPs = 0.0.0.0/0 or ::/0); a mesh file"
            " does not say that. Files that friends have go on working; new ones send only the mesh and the routes"
        )


def _comment(text: str, indent: str = "") -> str:
    return f"{indent}# {quoted(text) if len(text) <= 160 else text}"


def _head(source: Source, notes: Sequence[str]) -> Iterator[str]:
    yield f"# Imported from {source.kind}."
    if notes:
        yield "# What it says and this file cannot:"
        yield from (f"#   - {note}" for note in notes)
    yield "version: 1"


def _hub(source: Source, answers: Answers) -> Iterator[str]:
    yield f"name: {splice.plain(answers.name)}"
    yield ""
    yield "hub:"
    yield f"  node: {splice.plain(answers.node)}"
    yield f'  address: "{answers.address}"' if answers.address.version == 6 else f"  address: {answers.address}"
    yield f"  interface: {splice.plain(answers.interface)}"
    yield f"  endpoint: {splice.plain(answers.endpoint)}"
    if source.listen and str(source.listen) != answers.endpoint.rpartition(":")[2]:
        yield f"  listen: {source.listen}"
    if source.public_key:
        yield f"  public_key: {splice.plain(source.public_key)}  # the key that the hub has: an apply keeps it"
    if source.mtu:
        yield f"  mtu: {source.mtu}"
    if answers.local:
        yield "  connection: {kind: local}  # meshwright runs on the hub itself"


def _network(source: Source, nets: Nets, routes: Mapping[str, Network]) -> Iterator[str]:
    yield ""
    yield "network:"
    yield f"  cidr: {splice.flow([str(n) for n in nets.cidr])}"
    yield f"  hub: {splice.flow([str(a) for a in nets.hub])}"
    if routes:
        yield "  routes:  # what the clients' own files send into the tunnel beside the mesh itself"
        yield from (f"    {name}: {splice.plain(str(net))}" for name, net in routes.items())
    servers = [text for text in source.dns if _is_address(text)]
    if servers:
        yield f"  dns: {{server: {splice.plain(servers[0])}, mode: all}}"


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _peers(placed: Sequence[Placed], routes: Mapping[str, Network]) -> Iterator[str]:
    yield ""
    yield "peers:" if placed else "peers: {}"
    for each in placed:
        client = each.client
        called = f"  # called {quoted(client.name)}" if client.name and client.name != each.label else ""
        yield f"  {splice.plain(each.label)}:{called}"
        yield from (_comment(note, "    ") for note in (*each.lost, *client.notes))
        yield from (f"    {name}: {splice.flow(value)}" for name, value in _said(each, routes))


def _said(each: Placed, routes: Mapping[str, Network]) -> Iterator[tuple[str, object]]:
    client = each.client
    yield "address", _one([str(a) for a in each.addresses])
    if not client.private_key:
        yield "public_key", client.public_key
    if client.preshared_key:
        yield "preshared_key", True
    if each.lan:
        yield "lan", _one([str(n) for n in each.lan])
    if client.keepalive is not None:
        yield "keepalive", client.keepalive
    if client.mtu and 1280 <= client.mtu <= 65535:
        yield "mtu", client.mtu
    if client.routes is not None and (own := _own_routes(client, routes)) != list(routes):
        yield "routes", own
    if client.expires:
        yield "expires", client.expires
    if client.disabled:
        yield "disabled", True


def _own_routes(client: Client, routes: Mapping[str, Network]) -> list[str]:
    nets = [ip_network(text) for text in client.routes or ()]
    return [
        name
        for name, net in routes.items()
        if any(n.version == net.version and net.subnet_of(n) for n in nets)  # type: ignore[arg-type]
    ]


def _one(texts: list[str]) -> object:
    return texts[0] if len(texts) == 1 else texts


def _policy(placed: Sequence[Placed]) -> Iterator[str]:
    """What WireGuard alone does: everybody reaches everything. Nothing else would let an apply disturb nobody."""
    lans = [f"{each.label}.lan" for each in placed if each.lan]
    yield from (
        "",
        "# Until now nothing stood between a peer and whatever the hub can reach. These rules say exactly that, so",
        "# that the first apply takes nothing away from anybody. They are far more than friends need: put narrower",
        "# ones in their place, then take these out. What no rule allows is dropped.",
        "policy:",
        "  allow:",
        "    - {from: peers, to: any}    # every peer: the hub, all other peers, the house, the internet",
        "    - {from: any, to: peers}    # and whoever can send through the hub: every peer",
    )
    yield from (f"    - {{from: {splice.plain(name)}, to: any}}" for name in lans)
    yield from (f"    - {{from: any, to: {splice.plain(name)}}}" for name in lans)
    yield from (
        "    # narrower, for example:",
        "    # - {from: peers, to: hub, ports: [53/udp, 443/tcp, icmp]}",
        "    # - {from: peers, to: peers, ports: [icmp]}",
    )
