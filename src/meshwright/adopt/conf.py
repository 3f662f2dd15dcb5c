"""A wg-quick file, or what `wg showconf` prints: wg(8), wg-quick(8). hubd's codec reads it; this says what is wrong
with it and what people call their peers in comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from meshwright import keys
from meshwright.adopt.source import Client, Source, public, quoted, refuse
from meshwright.errors import MeshwrightError
from meshwright.hubd.kernel import wg
from meshwright.keys import Secret

NO_KEY = "A" * 43 + "="  # how wg writes that there is no preshared key
MEND = "mend that in the file, then import it again"
NAME = re.compile(r"(?!-)[A-Za-z0-9_.=+-]{1,15}")

# what stands in an [Interface] beside what a mesh file says
STAYS = "stays in the hub's own conf, and is in no mesh file: a new hub would not have it"
REASONS = {
    "saveconfig": f"{STAYS}; and wg-quick would write over the conf when it stops: take that line out of it",
    "table": f"{STAYS}; routes to networks behind peers are set by meshwright all the same",
    "dns": f"{STAYS}; it is what the hub itself asks",
}


class Line(NamedTuple):
    """One assignment. block: the number of its section in the file; name in small letters."""

    number: int
    section: str
    block: int
    name: str
    value: str
    comment: str


def read(name: str, text: str) -> Source:
    """Everything that the file says. MeshwrightError where wg itself would not take it."""
    if re.match(r"\s*interface:", text):
        raise MeshwrightError(
            f"{name}: this is what `wg show` prints, which leaves out the keys",
            "run `wg showconf IF` as root on the hub, or give /etc/wireguard/IF.conf",
        )
    lines, faults = scan(text)
    refuse(name, [*faults, *check(lines)], MEND)
    if not any(line.section == "interface" for line in lines):
        raise MeshwrightError(f"{name}: no [Interface] in it", "give a wg-quick file, or what `wg showconf` prints")
    found = wg.parse_conf(text)
    beside = {line.value: line.comment for line in lines if line.name == "publickey"}
    private = Secret(found.private_key) if found.private_key else None
    stem = name.rpartition("/")[2].removesuffix(".conf")
    quick = bool(found.addresses)
    return Source(
        kind="a wg-quick file" if quick else "the output of wg showconf",
        interface=stem if name.endswith(".conf") and NAME.fullmatch(stem) else "",
        public_key=public(private),
        listen=found.listen,
        addresses=found.addresses,
        mtu=found.mtu,
        clients=tuple(_client(key, block, beside.get(key, ""), quick) for key, block in found.peers.items()),
        notes=tuple(_notes(found)),
    )


def scan(text: str) -> tuple[list[Line], list[str]]:
    """(assignments, what is no line of such a file). Never fails."""
    lines: list[Line] = []
    faults: list[str] = []
    section, block = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        content, _, comment = (part.strip() for part in raw.partition("#"))
        if content.startswith("["):
            section, block = content.strip("[]").strip().lower(), block + 1
            if section not in wg.OURS:
                faults.append(f"line {number}: neither [Interface] nor [Peer]")
            elif section == "peer":
                lines.append(Line(number, section, block, "", "", ""))
        elif content:
            name, equals, value = (part.strip() for part in content.partition("="))
            if not equals or not section:
                faults.append(f"line {number}: not a section, a setting or a comment")
            else:
                lines.append(Line(number, section, block, name.lower(), value, comment))
    return lines, faults


def check(lines: list[Line]) -> Iterator[str]:
    """What wg would refuse, or what it would silently take in one of two ways."""
    keyed: dict[int, str] = {}
    owner: dict[str, int] = {}
    for line in lines:
        why = _fault(line)
        if why:
            yield f"line {line.number}: {why}"
        elif line.name == "publickey" and line.section == "peer":
            keyed[line.block] = line.value
            first = owner.setdefault(line.value, line.number)
            if first != line.number:
                yield f"line {line.number}: the same public key as in line {first}"
    yield from (
        f"line {line.number}: a [Peer] without a PublicKey"
        for line in lines
        if line.section == "peer" and not line.name and line.block not in keyed
    )


def _fault(line: Line) -> str:
    if line.name in ("privatekey", "publickey") or (line.name == "presharedkey" and line.value != NO_KEY):
        why = keys.fault(line.value)
        return f"{line.name} is not a key: {why}" if why else ""
    if line.name in ("listenport", "mtu"):
        number = line.value.isascii() and line.value.isdigit() and len(line.value) <= 5 and int(line.value) <= 65535
        return "" if number else f"{line.name} is not a number up to 65535"
    if line.name == "allowedips":
        return _networks(line.value, "AllowedIPs")
    return _networks(line.value.replace(" ", ","), "Address") if line.name == "address" else ""


def _networks(text: str, what: str) -> str:
    try:
        wg.prefixes(text.split(","))
    except ValueError:
        return f"{what} are not networks"
    return ""


def _client(key: str, block: wg.Block, beside: str, quick: bool) -> Client:
    shared = block.preshared_key
    lines = [line for line in block.extra if not line.startswith("#")]
    if not quick:  # the endpoints of a live device are where its peers were last seen, not what anybody set
        lines = [line for line in lines if not line.lower().startswith("endpoint")]
    return Client(
        name=block.label or called(block.extra) or beside,
        public_key=key,
        allowed_ips=block.allowed_ips,
        preshared_key=Secret(shared) if shared else None,
        notes=tuple(f"`{quoted(line)}` {STAYS}" for line in lines),
    )


PATTERNS = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        r"#+\s*begin(?:_peer)?\s+(\S.*?)\s*#*",
        r"#+\s*(?:friendly_name|name|client|peer|user)\s*[:=]\s*(\S.*?)",
        r"###+\s*client\s+(\S.*?)",
        r"#+\s*(?!end\b|end_peer\b)([^=#\s\[][^=]{0,63})",
    )
)
LONGEST = 300  # a longer comment is no name, and the patterns would take long to find that out
_NUMBERED = re.compile(r"\s+\((?:[0-9a-f-]{36}|\d+)\)$")


def called(comments: tuple[str, ...] | list[str]) -> str:
    """The name that comments at a peer give it, as the common tools and people write them; "" when none does."""
    short = [comment.strip() for comment in comments if comment.startswith("#") and len(comment) <= LONGEST]
    for pattern in PATTERNS:
        for comment in short:
            found = pattern.fullmatch(comment)
            if found:
                return _NUMBERED.sub("", found[1].strip())
    return ""


def _notes(found: wg.Conf) -> Iterator[str]:
    for line in found.extra:
        name, _, value = line.partition("=")
        if not line.startswith("#") and value.strip():
            yield f"`{quoted(line)}` {REASONS.get(name.strip().lower(), STAYS)}"
    if not found.private_key:
        yield "there is no private key in it, so hub.public_key is not pinned; `meshwright plan` shows what the hub has"


def settings(extra: tuple[str, ...]) -> Mapping[str, str]:
    """Lines that hubd's codec keeps as they stand, by name in small letters."""
    pairs = (line.partition("#")[0].partition("=") for line in extra if not line.startswith("#"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
