"""A friend's life in the file: add, remove, disable, rename. Every other character of the file stays as it is.

The result of an edit is loaded before it is written; with errors nothing is written. Files are replaced as a whole,
keeping mode, owner and a symbolic link that leads to them; an edit that somebody else made meanwhile is never lost.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path as FilePath
from typing import Any

from meshwright.errors import ConflictError, MeshwrightError, SpecError
from meshwright.spec import policy
from meshwright.spec.files import read
from meshwright.spec.load import Loaded, dotted, load_edited
from meshwright.spec.model import Address, Mesh, Network
from meshwright.spec.nodes import Path, shown
from meshwright.spec.problems import did_you_mean
from meshwright.spec.splice import Text, plain


@dataclass(frozen=True, slots=True)
class Reference:
    """A place outside `peers` that names a peer. `path` as in a Problem, `text` what stands there."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Edited:
    """What an edit did: the mesh before and after it, the paths that it touched, and the files that it wrote."""

    before: Mesh
    loaded: Loaded
    touched: tuple[str, ...]
    files: tuple[str, ...]


class _Files:
    """The texts of an edit, by file name: as they were found, and as they will be."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.main = os.fspath(path)
        # read once: a place that was found in one text must never be cut out of a newer one
        self.found = {self.main: read(self.main)}
        self.before = load_edited(self.main, self.found)
        self.texts: dict[str, Text] = {}
        self.touched: list[str] = []
        self.holders = self.before.holders

    def text(self, name: str) -> Text:
        if name not in self.texts:
            if name not in self.found:
                self.found[name] = read(name)
            self.texts[name] = Text(self.found[name])
        return self.texts[name]

    def holder(self, peer: str) -> str:
        """The file that a peer stands in. MeshwrightError when there is no such peer."""
        known = self.before.mesh.peers
        if peer not in known:
            hint = did_you_mean(peer, known) or "see `meshwright peer list`"
            raise MeshwrightError(f"no peer is called {shown(peer)}", hint)
        return self.holders.get(peer, self.main)

    def change(self, name: str, path: Path, change: Callable[[Text], Text]) -> None:
        self.texts[name] = change(self.text(name))
        self.touched.append(dotted(path))

    def write(self) -> Edited:
        """Load what came out, then write it. SpecError, with nothing written, when it has errors."""
        new = {name: text.text for name, text in self.texts.items() if text.text != self.found[name]}
        try:
            loaded = load_edited(self.main, new)
        except SpecError as error:
            # the lines that it shows are not in the file
            raise SpecError(error.problems, "this is what the edit would make of it; nothing was written") from None
        for name, text in new.items():
            _replace(name, self.found[name], text)
        return Edited(self.before.mesh, loaded, tuple(self.touched), tuple(new))


def add_peer(path: str | os.PathLike[str], name: str, address: str | None = None, **values: Any) -> Edited:
    """Add a peer with one unnamed device. `values` are other keys of a peer (namespace, groups, public_key, lan, ...).

    Without an address the next free one of each family is written down. SpecError when the result is no good file.
    """
    files = _Files(path)
    if name in files.before.mesh.peers:
        raise MeshwrightError(f"a peer called {shown(name)} is there already", "take another name")
    given = [address] if address else [str(a) for a in next_addresses(files.before.mesh)]
    peer: dict[str, Any] = {"address": given[0] if len(given) == 1 else given}
    peer |= {key: value for key, value in values.items() if value not in (None, (), [], False)}
    files.change(files.main, ("peers", name), lambda text: text.with_entry(("peers", name), peer))
    return files.write()


def next_addresses(mesh: Mesh) -> tuple[Address, ...]:
    """One free address of each family: after the highest in use, so that one given back rests as long as possible."""
    used = {a for device in mesh.devices for a in device.addresses} | set(mesh.network.hub)
    out: dict[int, Address] = {}
    for network in mesh.network.cidr:
        free = None if network.version in out else _next(network, used)
        if free is not None:
            out[network.version] = free
    if not out:
        raise MeshwrightError("no address of network.cidr is free", "remove a peer, or widen network.cidr")
    return tuple(out.values())


def _next(network: Network, used: set[Address]) -> Address | None:
    whole = network.num_addresses <= 2
    low = int(network.network_address) + (0 if whole else 1)
    high = int(network.broadcast_address) - (0 if whole or network.version == 6 else 1)
    taken = {int(a) for a in used if a.version == network.version and a in network}
    make = IPv4Address if network.version == 4 else IPv6Address
    start = max(taken, default=low - 1) + 1
    if low <= start <= high:
        return make(start)
    # everything above is taken: the first gap
    value = next((v for v in range(low, min(high, low + len(taken)) + 1) if v not in taken), None)
    return None if value is None else make(value)


def references(mesh: Mesh, name: str) -> tuple[Reference, ...]:
    """Every rule, test and file entry that would have to go, or be mended, when the peer is removed.

    Also those that name a group which nobody else has.
    """
    names = policy.Names(_without(mesh, name), {}, datetime.now(UTC))
    out = []
    for path, said in _said(mesh):
        try:
            names.spans(said)
        except policy.PolicyNameError:
            out.append(Reference(dotted(path), said))
    if name in mesh.files.tenant:
        out.append(Reference(dotted(("files", "tenant", name)), mesh.files.tenant[name]))
    return tuple(out)


def _without(mesh: Mesh, name: str) -> Mesh:
    rest = {peer: value for peer, value in mesh.peers.items() if peer != name}
    # not model_copy: it would keep the devices that were worked out before
    return Mesh.model_construct(**{key: getattr(mesh, key) for key in Mesh.model_fields} | {"peers": rest})


def _said(mesh: Mesh) -> Iterator[tuple[Path, str]]:
    for number, rule in enumerate(mesh.policy.allow):
        for key, words in (("from", rule.from_), ("to", rule.to)):
            yield from ((("policy", "allow", number, key, index), word) for index, word in enumerate(words))
    for number, test in enumerate(mesh.policy.tests):
        yield ("policy", "tests", number, "from"), test.from_
        yield ("policy", "tests", number, "to"), test.to


def remove_peer(path: str | os.PathLike[str], name: str) -> Edited:
    """Take a peer out, and out of every list that names him; rules and tests that are about nobody then go too."""
    files = _Files(path)
    holder = files.holder(name)
    gone = {reference.path for reference in references(files.before.mesh, name)}
    # from the back, so that an index still means what it meant
    for place in reversed(list(_unsaid(files.before.mesh, gone))):
        files.change(files.main, place, lambda text, place=place: text.without(place))  # type: ignore[misc]
    if name in files.before.mesh.files.tenant:
        tenant: Path = ("files", "tenant", name)
        files.change(files.main, tenant, lambda text: text.without(tenant))
    files.change(holder, ("peers", name), lambda text: text.without(("peers", name)))
    return files.write()


def _unsaid(mesh: Mesh, gone: set[str]) -> Iterator[Path]:
    """What goes from the policy: whole rules and tests that are left with nobody, items of the others."""
    for number, rule in enumerate(mesh.policy.allow):
        path = ("policy", "allow", number)
        items = [
            [(*path, key, index) for index in range(len(words)) if dotted((*path, key, index)) in gone]
            for key, words in (("from", rule.from_), ("to", rule.to))
        ]
        if len(items[0]) == len(rule.from_) or len(items[1]) == len(rule.to):
            yield path
        else:
            yield from (*items[0], *items[1])
    for number in range(len(mesh.policy.tests)):
        path = ("policy", "tests", number)
        if {dotted((*path, "from")), dotted((*path, "to"))} & gone:
            yield path


def set_disabled(path: str | os.PathLike[str], reference: str, disabled: bool) -> Edited:
    """Disable or enable a peer, or one device of his (`bjorn/phone`, or its label `bjorn-phone`).

    Enabling takes the word out of the file.
    """
    files = _Files(path)
    labels = {device.label: device.reference for device in files.before.mesh.devices}
    known_as = reference if reference in files.before.mesh.peers else labels.get(reference, reference)
    peer, _, device = known_as.partition("/")
    holder = files.holder(peer)
    where: Path = ("peers", peer, "devices", device) if device else ("peers", peer)
    if device and device not in (files.before.mesh.peers[peer].devices or {}):
        known = files.before.mesh.peers[peer].devices or {}
        raise MeshwrightError(f"{peer} has no device called {shown(device)}", did_you_mean(device, known))
    if device and not disabled and files.before.mesh.peers[peer].disabled:
        raise MeshwrightError(f"{peer} himself is disabled", f"enable {peer}, then disable the devices that stay out")
    place: Path = (*where, "disabled")
    files.change(holder, place, lambda text: _switched(text, place, disabled))
    return files.write()


def _switched(text: Text, place: Path, disabled: bool) -> Text:
    if text.entry(place) is None:
        return text.with_entry(place, True) if disabled else text
    if not disabled:
        return text.without(place)
    span = text.scalar_at(place)
    return text.replaced({span[0]: (span[1], "true")}) if span else text


def rename_peer(path: str | os.PathLike[str], old: str, new: str) -> Edited:
    """Give a peer another name, everywhere in the file. His namespace stays. `touched` lists every place."""
    files = _Files(path)
    mesh, holder = files.before.mesh, files.holder(old)
    if new in mesh.peers:
        raise MeshwrightError(f"a peer called {shown(new)} is there already", "take another name")
    peer: Path = ("peers", old)
    files.change(holder, peer, lambda text: text.replaced(text.renamed(peer, new)))
    places = [(at, _renamed(word, old, new)) for at, word in _said(mesh) if _renamed(word, old, new) != word]
    main = files.text(files.main)
    spots: dict[int, tuple[int, str]] = {}
    for at, word in places:
        span = main.scalar_at(at)
        if span:
            spots[span[0]] = (span[1], plain(word))
    tenant: Path = ("files", "tenant", old)
    spots |= main.renamed(tenant, new)
    files.texts[files.main] = main.replaced(spots)
    files.touched += [dotted(at) for at, _ in places] + ([dotted(tenant)] if old in mesh.files.tenant else [])
    return files.write()


def _renamed(word: str, old: str, new: str) -> str:
    """`bjorn`, `bjorn.lan`, `bjorn/phone` and `bjorn/phone.lan` of the policy with another name for bjorn."""
    rest = word[len(old) :]
    return new + rest if word.startswith(old) and (not rest or rest == ".lan" or rest.startswith("/")) else word


def _replace(name: str, found: str, text: str) -> None:
    """Put a new file in the place of the old one, unless that is no longer the one that was read. Never half of it."""
    target = FilePath(name).resolve()
    try:
        lock = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if read(name) != found:
                raise ConflictError(f"{name} was changed meanwhile; nothing was written", "run the command again")
            _write_beside(target, text)
            os.fsync(lock)
        finally:
            os.close(lock)
    except OSError as error:
        hint = "make room or mend the permissions of its folder, then run the command again"
        raise MeshwrightError(f"{name} cannot be written: {error.strerror}", hint) from None


def _write_beside(target: FilePath, text: str) -> None:
    kept = target.stat()
    with target.open("rb") as old:
        mark = "\ufeff" if old.read(3) == b"\xef\xbb\xbf" else ""
    new = target.with_name(f"{target.name}.{os.getpid()}.new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write((mark + text).encode())
            file.flush()
            if (os.geteuid(), os.getegid()) != (kept.st_uid, kept.st_gid):
                _own(handle, kept)
            os.fchmod(handle, kept.st_mode & 0o7777)
            os.fsync(handle)
        new.replace(target)
    except BaseException:
        new.unlink()
        raise


def _own(handle: int, kept: os.stat_result) -> None:
    try:
        os.fchown(handle, kept.st_uid, kept.st_gid)
    except PermissionError:
        why = "the file belongs to somebody else, and only root can keep it so"
        raise MeshwrightError(why, "run as its owner, or change its owner") from None
