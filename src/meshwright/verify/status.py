"""Who is connected, as the hub sees it, beside what the mesh file expects. Pure: hubd/status.py reads.

The same sample as the exporter's page, so the terminal and Prometheus cannot disagree. A device counts as online while
its keys hold: a session of WireGuard ends 180 s after its handshake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from meshwright.desired.resource import Resources
from meshwright.spec.model import BuiltinExporter, Device, Mesh, MindflavorExporter

ONLINE = 180  # seconds
SKEW = 5  # seconds that a clock may have been set back by
SHOWN = 5  # names in one sentence

State = Literal[
    "online", "silent", "never", "ahead", "missing", "unknown key", "not removed", "disabled", "expired", "not known"
]
TROUBLE: tuple[State, ...] = ("unknown key", "not removed", "missing", "ahead")
ORDER: tuple[State, ...] = (*TROUBLE, "not known", "online", "silent", "never", "disabled", "expired")


@dataclass(frozen=True, slots=True)
class Row:
    """A device of the file, or a peer of the interface that the file does not have: peer "unknown", addresses as the
    hub has them.

    device: "" for the only one of its peer. handshake: epoch seconds; age: seconds, below 0 for one in the future; both
    None where there never was one, or nothing could be read. received, sent: bytes. attempted, denied: packets since
    the firewall's table was made; None where nobody counts. staged: this is the device's next key. waits: it has one.
    """

    peer: str
    device: str
    addresses: tuple[str, ...]
    state: State
    public_key: str = ""
    handshake: int | None = None
    age: int | None = None
    received: int | None = None
    sent: int | None = None
    endpoint: str = ""
    attempted: int | None = None
    denied: int | None = None
    always_on: bool = False
    staged: bool = False
    waits: bool = False

    @property
    def name(self) -> str:
        return f"{self.peer}/{self.device}" if self.device else self.peer


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something that is not as it should be, and the next step."""

    what: str
    next: str


@dataclass(frozen=True, slots=True)
class Status:
    """One moment. exporter: what is to be said of it; answers: None where the file has none. wrong: worst first."""

    mesh: str
    interface: str
    up: bool
    online: int
    expected: int
    firewall: Literal["there", "missing", "unknown"]
    closed: bool
    answers: bool | None
    exporter: str
    rows: tuple[Row, ...]
    wrong: tuple[Wrong, ...]


def keys(mesh: Mesh, stored: Resources) -> dict[str, str]:
    """Device label -> public key, also of who is out: the file's, or that of the pair among the operator's files."""
    pairs = {id: resource.attrs["public_key"] for id, resource in stored.items() if id.startswith("files/key/")}
    found = {d.label: d.public_key or pairs.get(f"files/key/{d.label}") for d in mesh.devices}
    return {label: key for label, key in found.items() if key}


def settings(mesh: Mesh, known: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """What hubd/metrics/sample.py has to know of the file: who is expected, and by which key."""
    peers = {}
    for device in mesh.devices:
        if device.active(now):
            peers[device.reference] = {
                "public_key": known.get(device.label),
                "next_public_key": device.next_public_key,
                "always_on": mesh.peers[device.peer].always_on,
            }
    return {"peers": peers}


def exporter(mesh: Mesh) -> dict[str, Any] | None:
    """Where the exporter of the file listens, and whether it is our own; None where the file has none."""
    if mesh.observability is None:
        return None
    chosen = mesh.observability.exporter
    own = isinstance(chosen, BuiltinExporter)
    tls = isinstance(chosen, BuiltinExporter) and chosen.tls is not None
    return {"address": str(chosen.address or mesh.hub.address), "port": chosen.port, "own": own, "tls": tls}


def judge(mesh: Mesh, said: Mapping[str, Any], known: Mapping[str, str], now: datetime, lab: bool = False) -> Status:
    """What the hub said, put beside the file. known: device label -> public key, also of those that are out. lab: no
    pod can be the exporter there.
    """
    rows = sorted(_rows(mesh, said, known, now), key=lambda row: (ORDER.index(row.state), row.peer, row.device))
    answer = said["exporter"]
    status = Status(
        mesh.name,
        mesh.hub.interface,
        said["up"],
        len({row.name for row in rows if row.state == "online"}),
        sum(device.active(now) for device in mesh.devices),
        said["table"],
        {"inet", "inet6"} <= set(said["closed"]),
        answer["answers"] if answer else None,
        answer["said"] if answer else "the file has none",
        tuple(rows),
        (),
    )
    apart = lab and mesh.observability is not None and isinstance(mesh.observability.exporter, MindflavorExporter)
    return replace(status, wrong=(*_hub(status, said), *_devices(status), *([] if apart else _exporter(mesh, status))))


def _rows(mesh: Mesh, said: Mapping[str, Any], known: Mapping[str, str], now: datetime) -> Iterator[Row]:
    devices = {(device.peer, device.name or ""): device for device in mesh.devices}
    out = {known[d.label]: d for d in mesh.devices if d.label in known and not d.active(now)}
    seen = set()
    for peer in said["peers"]:
        device = devices.get((peer["peer"], peer["device"])) or out.get(peer["public_key"])
        if device and not peer["staged"] and peer["public_key"] != known.get(device.label):
            device = None  # a friend may be called what a stranger is: the key says who it is
        row = _live(peer, said["now"])
        if device is None:
            yield row
            continue
        seen.add(device.label)
        yield _owned(mesh, replace(row, staged=peer["staged"]), device, said["counts"], now)
    lost = {tuple(each) for each in said["missing"]}
    for (peer_name, name), device in devices.items():
        if device.label not in seen:
            state: State = "missing" if (peer_name, name) in lost else "not known"
            row = Row(peer_name, name, (), state, known.get(device.label, ""))
            yield _owned(mesh, row, device, said["counts"], now)


def _live(peer: Mapping[str, Any], now: int) -> Row:
    """A peer of the interface as if nobody knew it."""
    handshake = peer["handshake"]
    allowed = tuple(word for word in peer["allowed_ips"].split(",") if word != "(none)")
    age = None if handshake is None else now - handshake
    heard = {"handshake": handshake, "age": age, "received": peer["received"], "sent": peer["sent"]}
    more = {"public_key": peer["public_key"], "endpoint": peer["endpoint"]}
    return Row("unknown", "", allowed, "unknown key", **heard, **more)


def _owned(mesh: Mesh, row: Row, device: Device, counts: Mapping[str, Sequence[int]] | None, now: datetime) -> Row:
    """The row with what the file says of its device, and its state."""
    active = device.active(now)
    attempted, denied = (counts or {}).get(device.reference, (None, None))
    state = _state(row) if active else _out(row, device)
    return replace(
        row,
        peer=device.peer,
        device=device.name or "",
        addresses=tuple(map(str, (*device.addresses, *device.lan))),
        state=state,
        attempted=attempted,
        denied=denied,
        always_on=mesh.peers[device.peer].always_on,
        waits=bool(device.next_public_key) and active and not row.staged,
    )


def _state(row: Row) -> State:
    if row.state != "unknown key":
        return row.state  # it is not on the interface
    if row.age is None:
        return "never"
    if row.age < -SKEW:
        return "ahead"
    return "online" if row.age <= ONLINE else "silent"


def _out(row: Row, device: Device) -> State:
    if row.state == "unknown key":
        return "not removed"
    return "disabled" if device.disabled else "expired"


def _hub(status: Status, said: Mapping[str, Any]) -> Iterator[Wrong]:
    name = status.interface
    if not said["read"]:
        faults = [fault for fault in said["faults"] if name in fault] or [f"{name} cannot be read"]
        yield Wrong(faults[0], "see `meshwright plan`, then `meshwright apply`")
    elif not status.up:
        yield Wrong(f"{name} is down, so nobody is connected", f"on the hub: systemctl restart wg-quick@{name}")
    if status.firewall == "missing":
        apply = "run `meshwright apply`, and find out who took it away"
        if status.closed:
            yield Wrong("the firewall's table is not there, so the mesh is closed: nobody gets anywhere", apply)
        else:
            yield Wrong("the firewall's table is not there, nor the rule that closes the mesh without it", apply)
    elif status.firewall == "unknown" or said["counts"] is None:
        faults = [fault for fault in said["faults"] if "nft" in fault]
        yield Wrong(faults[0] if faults else "what the firewall counted cannot be read", "see `meshwright verify`")


_SAID: Mapping[State, tuple[str, str]] = {
    "unknown key": (
        "on the hub, but its key is not in the file: {}",
        "`meshwright plan` shows it, and apply takes it away; find out who put it there",
    ),
    "not removed": ("not in the mesh any more, but still on the hub: {}", "run `meshwright apply`"),
    "missing": ("in the file, but not on the hub: {}", "run `meshwright apply`"),
    "ahead": (
        "last handshake in the future, so it is not known who is online: {}",
        "look at the hub's clock (timedatectl): it was set back",
    ),
}


def _devices(status: Status) -> Iterator[Wrong]:
    for state in TROUBLE:
        names = [_called(row) for row in status.rows if row.state == state]
        if names:
            text, hint = _SAID[state]
            yield Wrong(text.format(_some(names)), hint)
    # while a device changes its key, either of the two may be the one that is heard
    heard = {row.name for row in status.rows if row.state == "online"}
    rows = [row for row in status.rows if row.always_on and row.state in ("silent", "never")]
    quiet = list(dict.fromkeys(row.name for row in rows if row.name not in heard))
    if quiet:
        hint = "see whether it is on and reaches the internet; on it, `wg show` tells what it sends"
        yield Wrong(f"always on by the file, but not heard: {_some(quiet)}", hint)


def _exporter(mesh: Mesh, status: Status) -> Iterator[Wrong]:
    if status.answers is not False or mesh.observability is None:
        return
    chosen = mesh.observability.exporter
    if isinstance(chosen, MindflavorExporter):
        look = f"kubectl --namespace {chosen.namespace} get pods"
    else:
        look = f"on the hub: journalctl -u meshwright-hubd-{mesh.table}"
    hint = f"see `meshwright plan`, then `meshwright apply`; if there is nothing to do, {look}"
    yield Wrong(f"the exporter does not answer, so Prometheus sees nothing: {status.exporter}", hint)


def _called(row: Row) -> str:
    return short(row.public_key) if row.state == "unknown key" else row.name


def short(key: str) -> str:
    """A public key as far as people compare it."""
    return f"{key[:8]}…"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
