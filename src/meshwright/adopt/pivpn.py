"""The folder of a PiVPN, /etc/wireguard: wg0.conf, configs/NAME.conf, configs/clients.txt, keys/NAME_priv and _psk.

A disabled client stands in the conf with `#[disabled] ` before each of its lines. clients.txt: NAME PUBLICKEY SECONDS
ADDRESS on each line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from meshwright import keys
from meshwright.adopt import conf
from meshwright.adopt.source import Client, Source, public, quoted, refuse
from meshwright.errors import MeshwrightError
from meshwright.hubd.kernel import wg
from meshwright.keys import Secret

DISABLED = re.compile(r"^#\[disabled\] ?", re.M)


def read(name: str, texts: Mapping[str, str], interface: str = "") -> Source:
    """The hub of this folder; `interface` says which, where there are several."""
    confs = [path for path in sorted(texts) if "/" not in path and path.endswith(".conf")]
    chosen = [path for path in confs if path == f"{interface}.conf"] if interface else confs
    if len(chosen) != 1:
        what = f"{len(confs)} wg-quick files ({', '.join(map(quoted, confs[:5]))})" if confs else "no wg-quick file"
        raise MeshwrightError(f"{name}: {what} in it", "name one with --interface, or give the file itself")
    text = texts[chosen[0]]
    on = set(wg.parse_conf(text).peers)
    hub = conf.read(f"{name}/{chosen[0]}", DISABLED.sub("", text))
    listed = _listed(texts.get("configs/clients.txt", ""))
    own = dict(_own(name, texts))
    clients = [_client(client, listed, own, texts) for client in hub.clients]
    clients = [replace(client, disabled=client.public_key not in on) for client in clients]
    known = {client.public_key for client in clients}
    lost = [f"{quoted(path)} belongs to no peer of the hub, so it is left out" for path, key in _strays(own, known)]
    theirs = [own[client.public_key][1] for client in clients if client.public_key in own]
    return replace(
        hub,
        kind="the folder of a PiVPN" if listed or own else hub.kind,
        clients=tuple(clients),
        endpoint=_most(_endpoint(found) for found in theirs),
        dns=_servers(_most(conf.settings(found.extra).get("dns", "") for found in theirs)),
        notes=(*hub.notes, *lost),
    )


def _listed(text: str) -> dict[str, str]:
    """Public key -> name."""
    rows = (line.split() for line in text.splitlines())
    return {row[1]: row[0] for row in rows if len(row) >= 2 and wg.usable(row[1])}


def _own(name: str, texts: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, wg.Conf]]]:
    """Public key -> (path, file) of the clients' own files."""
    for path, text in sorted(texts.items()):
        if path.startswith("configs/") and path.endswith(".conf"):
            lines, faults = conf.scan(text)
            refuse(f"{name}/{path}", [*faults, *conf.check(lines)], conf.MEND)
            found = wg.parse_conf(text)
            if found.private_key:
                yield public(Secret(found.private_key)), (path, found)


def _strays(own: Mapping[str, tuple[str, wg.Conf]], known: set[str]) -> Iterator[tuple[str, str]]:
    return ((path, key) for key, (path, _) in own.items() if key not in known)


def _client(
    client: Client, listed: Mapping[str, str], own: Mapping[str, tuple[str, wg.Conf]], texts: Mapping[str, str]
) -> Client:
    """A peer of the hub with all that its own file, the list and the keys beside it say."""
    path, found = own.get(client.public_key, ("", None))
    name = listed.get(client.public_key) or path[len("configs/") : -len(".conf")] or client.name
    client = replace(client, name=name)
    if found is None:
        return _by_key(client, texts)
    hub = next(iter(found.peers.values()), wg.Block())
    beat = conf.settings(hub.extra).get("persistentkeepalive", "0")
    notes = client.notes
    if hub.preshared_key != (client.preshared_key.reveal() if client.preshared_key else ""):
        notes = (*notes, f"{quoted(path)} has another preshared key than the hub; the hub's is kept")
    return replace(
        client,
        private_key=Secret(found.private_key),
        keepalive=int(beat) if beat.isascii() and beat.isdigit() and len(beat) <= 5 else 0,
        mtu=found.mtu or None,
        routes=hub.allowed_ips,
        notes=notes,
    )


def _by_key(client: Client, texts: Mapping[str, str]) -> Client:
    """A client whose own file is gone may still have its key here."""
    text = texts.get(f"keys/{client.name}_priv", "").strip()
    if text and not keys.fault(text) and public(Secret(text)) == client.public_key:
        return replace(client, private_key=Secret(text))
    return client


def _endpoint(found: wg.Conf) -> str:
    return next((conf.settings(hub.extra).get("endpoint", "") for hub in found.peers.values()), "")


def _servers(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _most(texts: Iterator[str]) -> str:
    """What most of them say; "" when none says anything."""
    said = Counter(text for text in texts if text)
    return said.most_common(1)[0][0] if said else ""
