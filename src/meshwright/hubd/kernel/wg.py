"""WireGuard's three texts, both ways: the conf file, the control socket and `wg show IF dump`. Pure.

Formats: wg(8) "CONFIGURATION FILE FORMAT" and `show dump`; wg-quick(8) for Address and MTU; the cross-platform
userspace interface (get=1, set=1) for the socket. Keys are base64 everywhere but in the socket's hexadecimal.
"""

from __future__ import annotations

import binascii
import contextlib
import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from typing import NamedTuple

NO_KEY = "0" * 64
NO_SHARED = "A" * 43 + "="
LABEL = re.compile(r"#\s*meshwright:\s*([a-z0-9][a-z0-9-]{0,126})\s*$")


class Peer(NamedTuple):
    """A peer of a device. The first two are set by us, the rest is only observed (epoch seconds, bytes)."""

    allowed_ips: tuple[str, ...] = ()
    preshared_key: str = ""
    endpoint: str = ""
    handshake: int = 0
    received: int = 0
    sent: int = 0
    keepalive: int = 0


class Device(NamedTuple):
    """A live interface as WireGuard sees it; private_key "" means none."""

    private_key: str = ""
    listen: int = 0
    peers: Mapping[str, Peer] = {}


class Block(NamedTuple):
    """A [Peer] block of a conf; `extra` are the lines in it that are not ours, as they stand."""

    label: str = ""
    allowed_ips: tuple[str, ...] = ()
    preshared_key: str = ""
    extra: tuple[str, ...] = ()


class Conf(NamedTuple):
    """A conf file. `head`, `extra`: lines that are not ours, kept; `strange`: sentences about lines nobody can use."""

    private_key: str = ""
    listen: int = 0
    addresses: tuple[str, ...] = ()
    mtu: int = 0
    peers: Mapping[str, Block] = {}
    head: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()


class Update(NamedTuple):
    """What to change on a device; None leaves a thing alone.

    peers: public key -> (allowed IPs or None, preshared key or None; "" takes the preshared key away).
    """

    private_key: str | None = None
    listen: int | None = None
    remove: tuple[str, ...] = ()
    peers: Mapping[str, tuple[tuple[str, ...] | None, str | None]] = {}


def prefixes(texts: Iterable[str]) -> tuple[str, ...]:
    """Networks in canonical writing, sorted, each once. ValueError for what is no network."""
    return tuple(sorted({_prefix(text.strip()) for text in texts if text.strip()}))


def _prefix(text: str) -> str:
    address, _, length = text.partition("/")
    if length == "32":
        # what nearly every peer has; inet_pton(3) takes IPv4 in its canonical writing only
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(socket.AF_INET, address)
            return text
    return str(ipaddress.ip_network(text, strict=False))


def usable(key: str) -> bool:
    """Whether this is a key: 32 bytes in canonical base64, not all zero."""
    try:
        raw = binascii.a2b_base64(key.encode())
    except (binascii.Error, ValueError):
        return False
    return len(raw) == 32 and any(raw) and binascii.b2a_base64(raw, newline=False).decode() == key


def update(before: Device, after: Device) -> Update:
    """The least that turns one device into the other: a peer that is the same on both is not mentioned."""
    changed = {}
    for key, peer in after.peers.items():
        old = before.peers.get(key)
        allowed = peer.allowed_ips if old is None or old.allowed_ips != peer.allowed_ips else None
        shared = peer.preshared_key if peer.preshared_key != (old.preshared_key if old else "") else None
        if old is None or allowed is not None or shared is not None:
            changed[key] = (allowed, shared)
    return Update(
        private_key=after.private_key if after.private_key != before.private_key else None,
        listen=after.listen if after.listen != before.listen else None,
        remove=tuple(key for key in before.peers if key not in after.peers),
        peers=changed,
    )


def parse_dump(text: str) -> Device:
    """`wg show IF dump`: tab separated, the first line is the interface."""
    lines = [line.split("\t") for line in text.splitlines() if line]
    if not lines:
        return Device()
    private, _, listen, _ = lines[0]
    return Device(_word(private), int(listen), {line[0]: _dumped(line) for line in lines[1:]})


def _dumped(line: list[str]) -> Peer:
    _, shared, endpoint, allowed, handshake, received, sent, keepalive = line
    networks = prefixes(_word(allowed).split(","))
    seconds = 0 if keepalive == "off" else int(keepalive)
    return Peer(networks, _word(shared), _word(endpoint), int(handshake), int(received), int(sent), seconds)


def _word(text: str) -> str:
    return "" if text == "(none)" else text


def parse_uapi(data: bytes) -> Device:
    """The answer to get=1 (or the body of a set=1): one pass, one key=value per line, peers begin with public_key."""
    own, *blocks = data.decode().split("\npublic_key=")
    device = dict(line.partition("=")[::2] for line in own.split("\n"))
    private = device.get("private_key", NO_KEY)
    return Device(_base64(private), int(device.get("listen_port", 0)), dict(_spoken(block) for block in blocks))


def _spoken(block: str) -> tuple[str, Peer]:
    key, *lines = block.split("\n")
    seen: dict[str, str] = {}
    allowed = []
    for line in lines:
        name, _, value = line.partition("=")
        if name == "allowed_ip":
            allowed.append(value)
        else:
            seen[name] = value
    peer = Peer(
        tuple(sorted(allowed)),
        _base64(seen.get("preshared_key", NO_KEY)),
        seen.get("endpoint", ""),
        int(seen.get("last_handshake_time_sec", 0)),
        int(seen.get("rx_bytes", 0)),
        int(seen.get("tx_bytes", 0)),
        int(seen.get("persistent_keepalive_interval", 0)),
    )
    return _base64(key), peer


def _base64(key: str) -> str:
    return "" if key == NO_KEY else binascii.b2a_base64(bytes.fromhex(key), newline=False).decode()


def _hex(key: str) -> str:
    return binascii.a2b_base64(key.encode()).hex() if key else NO_KEY


def render_uapi(change: Update) -> bytes:
    """One set=1. Removals come first; allowed IPs are only written where they change, so traffic of others goes on."""
    out = ["set=1"]
    if change.private_key is not None:
        out.append(f"private_key={_hex(change.private_key)}")
    if change.listen is not None:
        out.append(f"listen_port={change.listen}")
    for key in change.remove:
        out += [f"public_key={_hex(key)}", "remove=true"]
    for key, (allowed, shared) in change.peers.items():
        out.append(f"public_key={_hex(key)}")
        if shared is not None:
            out.append(f"preshared_key={_hex(shared)}")
        if allowed is not None:
            out.append("replace_allowed_ips=true")
            out += [f"allowed_ip={prefix}" for prefix in allowed]
    return ("\n".join(out) + "\n\n").encode()


KNOCK = 25
"""Any keepalive but 0: a peer that had none, and gets one, is sent a packet at once."""


def render_endpoints(peers: Mapping[str, tuple[str, int]]) -> tuple[bytes, bytes]:
    """Two set=1 that give peers an endpoint and send each a packet: public key -> (endpoint, keepalive to end with).

    The keepalive passes from 0 to something in one of the two. A peer that is not there is not made.
    """
    first, second = ["set=1"], ["set=1"]
    for key, (endpoint, keepalive) in peers.items():
        own = [f"public_key={_hex(key)}", "update_only=true"]
        between = 0 if keepalive else KNOCK
        first += [*own, f"endpoint={endpoint}", f"persistent_keepalive_interval={between}"]
        second += [*own, f"persistent_keepalive_interval={keepalive}"]
    return ("\n".join(first) + "\n\n").encode(), ("\n".join(second) + "\n\n").encode()


def endpoint_words(peers: Mapping[str, tuple[str, int]]) -> tuple[list[str], list[str]]:
    """The same two as arguments of `wg set IF`, which makes a peer that is not there."""
    first: list[str] = []
    second: list[str] = []
    for key, (endpoint, keepalive) in peers.items():
        between = 0 if keepalive else KNOCK
        first += ["peer", key, "endpoint", endpoint, "persistent-keepalive", str(between)]
        second += ["peer", key, "persistent-keepalive", str(keepalive)]
    return first, second


def render_addconf(change: Update, device: Device) -> bytes:
    """The changed peers for `wg addconf`, which replaces a peer's allowed IPs by what stands here."""
    out = []
    for key, (allowed, shared) in change.peers.items():
        networks = allowed if allowed is not None else device.peers[key].allowed_ips
        out += ["[Peer]", f"PublicKey = {key}"]
        if shared is not None:
            out.append(f"PresharedKey = {shared or NO_SHARED}")
        if networks:
            out.append(f"AllowedIPs = {', '.join(networks)}")
    return ("\n".join(out) + "\n").encode()


def render_conf(conf: Conf) -> str:
    """The file as wg-quick reads it. ValueError without a private key: such a file must never be written."""
    if not conf.private_key:
        raise ValueError("a conf without a private key")
    out = [*conf.head, "[Interface]", f"PrivateKey = {conf.private_key}"]
    out += [f"ListenPort = {conf.listen}"] if conf.listen else []
    out += [f"Address = {', '.join(conf.addresses)}"] if conf.addresses else []
    out += [f"MTU = {conf.mtu}"] if conf.mtu else []
    out += conf.extra
    for key, block in conf.peers.items():
        out += ["", "[Peer]"]
        out += [f"# meshwright: {block.label}"] if block.label else []
        out.append(f"PublicKey = {key}")
        out += [f"PresharedKey = {block.preshared_key}"] if block.preshared_key else []
        out += [f"AllowedIPs = {', '.join(block.allowed_ips)}"] if block.allowed_ips else []
        out += block.extra
    return "\n".join(out) + "\n"


class _Section:
    """Lines of one section while a conf is read: our keys apart from what is not ours."""

    def __init__(self, name: str, extra: list[str]) -> None:
        self.name = name
        self.keys: dict[str, list[str]] = {}
        self.extra = extra
        self.label = ""


OURS = {
    "interface": ("privatekey", "listenport", "address", "mtu"),
    "peer": ("publickey", "presharedkey", "allowedips"),
}
FOREIGN = {
    "interface": ("fwmark", "dns", "table", "preup", "postup", "predown", "postdown", "saveconfig"),
    "peer": ("endpoint", "persistentkeepalive"),
}
"""What else wg and wg-quick take; a line with any other key, and they take nothing of the file."""
VALUES = {
    "fwmark": re.compile(r"off|\d{1,10}|0x[0-9a-f]{1,8}", re.IGNORECASE),
    "saveconfig": re.compile(r"true|false", re.IGNORECASE),
    "endpoint": re.compile(r"(\[[^]\s]+\]|[^][:\s]+):\w+"),
    "persistentkeepalive": re.compile(r"off|\d{1,5}", re.IGNORECASE),
}


def parse_conf(text: str) -> Conf:
    """Read a conf as wg and wg-quick do: keys without case, `#` begins a comment, keys may be repeated.

    Never fails: what cannot be used becomes a sentence in `strange` (with its line's number, never its content).
    Two blocks with one public key: the last one counts, as for wg.
    """
    sections, strange = _sections(text)
    conf = Conf(head=tuple(sections[0].extra))
    peers: dict[str, Block] = {}
    for section in sections[1:]:
        if section.name == "interface":
            conf = _interface(conf, section, strange)
        elif section.name == "peer":
            _peer(peers, section, strange)
    return conf._replace(peers=peers, strange=tuple(strange))


def _sections(text: str) -> tuple[list[_Section], list[str]]:
    sections = [_Section("", [])]
    strange: list[str] = []
    above = 0  # how many of the last extra lines are comments that stand right above what comes next
    for number, line in enumerate((raw.strip() for raw in text.splitlines()), 1):
        current = sections[-1]
        content = line.partition("#")[0].strip()
        if content.startswith("["):
            name = content.strip("[]").strip().lower()
            moved = current.extra[len(current.extra) - above :] if len(sections) > 1 else []
            del current.extra[len(current.extra) - len(moved) :]
            sections.append(_Section(name, moved))
            if name not in OURS:
                strange.append(f"line {number}: unknown section")
        elif line and not content:
            above = above + 1 if _comment(current, line) else 0
            continue
        elif content:
            fault = _assign(current, line, content)
            strange += [f"line {number}: {fault}"] if fault else []
        above = 0
    return sections, strange


def _comment(section: _Section, line: str) -> bool:
    """Keep a comment; the one that names a peer becomes its label."""
    label = LABEL.match(line)
    if label and section.name == "peer":
        section.label = label[1]
        return False
    section.extra.append(line)
    return True


def _assign(section: _Section, line: str, content: str) -> str:
    """Keep an assignment -> what is wrong with it. What wg or wg-quick would refuse is not kept."""
    name, equals, value = (part.strip() for part in content.partition("="))
    name = name.lower()
    if not equals or not section.name:
        return "not a key and a value"
    if name in OURS.get(section.name, ()):
        section.keys.setdefault(name, []).append(value)
    elif section.name not in OURS:
        return ""  # the section itself is told
    elif name not in FOREIGN[section.name]:
        return f"no key of [{section.name.title()}]"
    elif name in VALUES and not VALUES[name].fullmatch(value):
        return "not a value of its key"
    else:
        section.extra.append(line)
    return ""


def _interface(conf: Conf, section: _Section, strange: list[str]) -> Conf:
    keys = section.keys
    private = keys.get("privatekey", [""])[-1]
    if private and not usable(private):
        strange.append("[Interface]: the private key is not a key")
        private = ""
    return conf._replace(
        private_key=private or conf.private_key,
        listen=_number(keys.get("listenport"), "ListenPort", strange) or conf.listen,
        addresses=tuple(sorted({*conf.addresses, *_addresses(keys.get("address", []), strange)})),
        mtu=_number(keys.get("mtu"), "MTU", strange) or conf.mtu,
        extra=(*conf.extra, *section.extra),
    )


def _number(values: list[str] | None, name: str, strange: list[str]) -> int:
    if not values:
        return 0
    if values[-1].isascii() and values[-1].isdigit():
        return int(values[-1])
    strange.append(f"[Interface]: {name} is not a number")
    return 0


def _addresses(values: list[str], strange: list[str]) -> list[str]:
    out = []
    for text in ",".join(values).replace(" ", ",").split(","):
        try:
            out += [str(ipaddress.ip_interface(text))] if text else []
        except ValueError:
            strange.append("[Interface]: Address is not an address")
    return out


def _peer(peers: dict[str, Block], section: _Section, strange: list[str]) -> None:
    key = section.keys.get("publickey", [""])[-1]
    if not usable(key):
        strange.append("[Peer]: a block without a public key")
        return
    shared = section.keys.get("presharedkey", [""])[-1]
    if shared and not usable(shared) and shared != NO_SHARED:
        strange.append(f"[Peer] {key}: PresharedKey is not a key")
    try:
        allowed = prefixes(",".join(section.keys.get("allowedips", [])).split(","))
    except ValueError:
        strange.append(f"[Peer] {key}: AllowedIPs are not networks")
        allowed = ()
    peers.pop(key, None)
    peers[key] = Block(section.label, allowed, shared if usable(shared) else "", tuple(section.extra))
