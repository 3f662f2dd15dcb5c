"""The operator's own files: key pairs, preshared keys and the .conf files that friends are given. All 0600.

Ours is what lies in the directory of secrets under keys/ and preshared/, and each .conf of the clients' directory
whose first line names this mesh.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meshwright import keys
from meshwright.desired.resource import Resource, Resources, Unknown, fill
from meshwright.errors import ConflictError, MeshwrightError, SecretsError
from meshwright.events import Progress, Tell
from meshwright.io import files
from meshwright.keys import Secret
from meshwright.plan.plan import Change
from meshwright.providers.base import Result

Attrs = Mapping[str, Any]
PRESHARED = frozenset({("preshared_key",)})
TELL_EVERY = 200


@dataclass(frozen=True)
class Files:
    """secrets: the directory of keys. clients: the directory of .conf files. mesh: the mesh's name."""

    secrets: Path
    clients: Path
    mesh: str
    system: str = "files"

    def read(self, wanted: Resources) -> dict[str, Resource]:
        files.check_private_directory(self.secrets)
        return {resource.id: resource for resource in [*self._keys(), *self._preshared(), *self._confs(wanted)]}

    def _keys(self) -> Iterator[Resource]:
        for label, text in self._stored("keys"):
            yield Resource(f"files/key/{label}", {"public_key": keys.public(text)})

    def _preshared(self) -> Iterator[Resource]:
        for label, text in self._stored("preshared"):
            yield Resource(f"files/preshared/{label}", {"preshared_key": text.reveal()}, PRESHARED)

    def _stored(self, folder: str) -> Iterator[tuple[str, Secret]]:
        for path in sorted((self.secrets / folder).glob("*.key")):
            text = files.read_private(path) or ""
            if why := keys.fault(text):
                raise SecretsError(
                    f"{path}: not a WireGuard key: {why}",
                    "put the key back from a backup, or remove the file for a new one",
                )
            yield path.stem, Secret(text)

    def _confs(self, wanted: Resources) -> Iterator[Resource]:
        for path in sorted(self.clients.glob("*.conf")):
            text = files.read_private(path)
            if text is None or text.partition("\n")[0] != self._mark(path.stem):
                continue
            id = f"files/client/{path.stem}"
            after = wanted[id].after if id in wanted else (f"files/key/{path.stem}", f"files/preshared/{path.stem}")
            yield Resource(id, _parse(text), PRESHARED, after)

    def _mark(self, label: str) -> str:
        return f"# meshwright: {self.mesh} {label}"

    def apply(self, changes: Sequence[Change], tell: Tell) -> list[Result]:
        results: list[Result] = []
        written: dict[str, Attrs] = {}  # a .conf may need the key that the same batch has just made
        for number, change in enumerate(changes, 1):
            try:
                written[change.id] = self._apply(replace(change, wanted=fill(change.wanted, written)))
                results.append(Result(change.id, True, written[change.id]))
            except MeshwrightError as error:
                results.append(Result(change.id, False, why=error.message, hint=error.hint))
            except OSError as error:
                hint = "make room or mend the permissions, then apply again"
                where = error.filename or (self.clients if change.id.startswith("files/client/") else self.secrets)
                results.append(Result(change.id, False, why=f"{where}: {error.strerror}", hint=hint))
            if number % TELL_EVERY == 0:
                tell(Progress(change.id, number))
        return results

    def _apply(self, change: Change) -> Attrs:
        _, kind, label = change.id.split("/", 2)
        if kind == "client":
            return self._client(label, change)
        folder = self.secrets / {"key": "keys", "preshared": "preshared"}[kind]
        path = folder / f"{label}.key"
        if change.wanted is None:
            path.unlink(missing_ok=True)
            return {}
        files.private_directory(self.secrets)
        folder.mkdir(mode=0o700, exist_ok=True)
        # another process may have made it since the plan, or be at it now: a key that exists is never replaced
        with files.lock(self.secrets / ".lock", str(self.secrets)):
            text = files.read_private(path)
            secret = Secret(text) if text else (keys.generate() if kind == "key" else keys.preshared())
            if not text:
                files.write(path, secret.reveal().encode() + b"\n")
        return {"public_key": keys.public(secret)} if kind == "key" else {"preshared_key": secret.reveal()}

    def _client(self, label: str, change: Change) -> Attrs:
        path = self.clients / f"{label}.conf"
        if change.wanted is None:
            path.unlink(missing_ok=True)
            return {}
        if change.before is None and path.exists():
            raise ConflictError(f"{path} is there already and not ours", "move it away, then apply again")
        missing = [name for name, value in change.wanted.items() if isinstance(value, Unknown)]
        if missing:
            raise MeshwrightError(f"{path.name}: {', '.join(missing)} is still unknown", "apply without --only")
        private = files.read_private(self.secrets / "keys" / f"{label}.key")
        if private and keys.public(Secret(private)) != change.wanted["public_key"]:
            private = None  # the friend brought a key of his own; ours no longer counts
        files.private_directory(self.clients)
        files.write(path, "\n".join([self._mark(label), *_render(change.wanted, private)]).encode())
        return change.wanted


def keep(secrets: Path, private: Mapping[str, Secret], preshared: Mapping[str, Secret]) -> None:
    """Store keys that came from elsewhere, by label, as if they had been made here. No other key is ever replaced:
    then ConflictError, and nothing is written.
    """
    wanted = {secrets / "keys" / f"{label}.key": key for label, key in private.items()}
    wanted |= {secrets / "preshared" / f"{label}.key": key for label, key in preshared.items()}
    if not wanted:
        return
    files.private_directory(secrets)
    with files.lock(secrets / ".lock", str(secrets)):
        there = {path: text for path in wanted if (text := files.read_private(path))}
        for path, text in there.items():
            if Secret(text) != wanted[path]:
                raise ConflictError(f"{path} is there already and holds another key", "move it away, then try again")
        for path, key in wanted.items():
            if path not in there:
                path.parent.mkdir(mode=0o700, exist_ok=True)
                files.write(path, key.reveal().encode() + b"\n")


def rename(secrets: Path, labels: Mapping[str, str]) -> list[str]:
    """Give the stored keys of devices their new labels (old -> new), so that a friend's .conf goes on working.

    A key that already has the new label is never replaced. Gives the names of the files that moved.
    """
    files.check_private_directory(secrets)
    moved = []
    for folder in ("keys", "preshared"):
        for old, new in labels.items():
            source, target = secrets / folder / f"{old}.key", secrets / folder / f"{new}.key"
            if source.is_file() and not target.exists():
                source.rename(target)
                moved.append(f"{folder}/{target.name}")
    return moved


def _render(attrs: Attrs, private: str | None) -> list[str]:
    """The lines of a .conf (wg-quick(8)). Without a private key the friend puts in his own."""
    key = [f"PrivateKey = {private}"] if private else [f"{OWN_KEY}{attrs['public_key']}:", "PrivateKey = "]
    lines = ["[Interface]", *key, f"Address = {', '.join(attrs['address'])}", f"MTU = {attrs['mtu']}"]
    if attrs["dns"]:
        lines.append(f"DNS = {', '.join(attrs['dns'])}")
    if attrs["split_dns"]:
        lines += _split(attrs["split_dns"])
    lines += ["", "[Peer]", f"PublicKey = {attrs['hub_key']}"]
    if attrs["preshared_key"]:
        lines.append(f"PresharedKey = {attrs['preshared_key']}")
    lines += [f"Endpoint = {attrs['endpoint']}", f"AllowedIPs = {', '.join(attrs['allowed_ips'])}"]
    if attrs["keepalive"]:
        lines.append(f"PersistentKeepalive = {attrs['keepalive']}")
    return [*lines, ""]


def _split(dns: Sequence[str]) -> list[str]:
    """Split DNS as a comment: a resolver for the mesh's names alone is the device's business, never all of its DNS."""
    domains = " ".join(f"~{domain}" for domain in dns[1:])
    return [
        "# Linux with systemd-resolved: take the next line out of comment to resolve only the mesh itself there",
        f"{SPLIT}{dns[0]}; resolvectl domain %i {domains}",
    ]


SPLIT = "# PostUp = resolvectl dns %i "


def _parse(text: str) -> dict[str, Any]:
    """What a .conf of ours says; a line that we did not write shows up under `strange`."""
    interface, _, peer = text.partition("[Peer]")
    said = _values(interface)
    hub = _values(peer)
    split = [line for line in text.splitlines() if line.startswith(SPLIT)]
    private = said.pop("PrivateKey", "")
    found: dict[str, Any] = {
        "address": _listed(said.pop("Address", "")),
        "public_key": _public(private, text),
        "mtu": _number(said.pop("MTU", "")),
        "dns": _listed(said.pop("DNS", "")),
        "split_dns": [word.lstrip("~") for word in split[0][len(SPLIT) :].replace("; resolvectl domain %i", "").split()]
        if split
        else [],
        "hub_key": hub.pop("PublicKey", ""),
        "preshared_key": hub.pop("PresharedKey", ""),
        "endpoint": hub.pop("Endpoint", ""),
        "allowed_ips": _listed(hub.pop("AllowedIPs", "")),
        "keepalive": _number(hub.pop("PersistentKeepalive", "")),
    }
    strange = sorted([*said, *hub])
    return {**found, "strange": strange} if strange else found


OWN_KEY = "# the private key of "


def _public(private: str, text: str) -> str:
    """The device's public key: from the private one, or from the note that stands where the friend puts his own."""
    if private and not keys.fault(private):
        return keys.public(Secret(private))
    notes = [line for line in text.splitlines() if line.startswith(OWN_KEY)]
    return notes[0].removeprefix(OWN_KEY).rstrip(":") if notes else ""


def _values(section: str) -> dict[str, str]:
    lines = (line.partition("=") for line in section.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in lines}


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() else 0
