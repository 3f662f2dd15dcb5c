"""Services: by systemd where it runs; else by the units' own Exec lines, as systemd.service(5) says they mean.

Without systemd (a network namespace) only what our units and Debian's nftables.service and wg-quick@.service use is
done: drop-ins, templates, Exec lines with prefixes, specifiers and Environment=, Wants= and Requires= on start, PartOf=
on stop and restart, ReloadPropagatedFrom= on reload, After= and Before= for the order. RUNNING holds what is active.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import system

RUNNING = "/run/meshwright-units"
PATIENCE = 5.0  # seconds that a daemon has to end by itself
FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
KINDS = (".service", ".socket")
"""Of ours, what is enabled and active or not in force."""
NAME = re.compile(r"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\=+-]*)?\.(service|socket|target)")


class Unit(NamedTuple):
    """A unit as its files say: "Section.Key" -> values in order. `place` is the unit file."""

    name: str
    place: str
    values: dict[str, list[str]]

    def words(self, key: str) -> list[str]:
        """The values of a key that holds a list of names."""
        return [self.fill(word) for value in self.values.get(key, []) for word in value.split()]

    def last(self, key: str, default: str = "") -> str:
        return (self.values.get(key) or [default])[-1]

    def fill(self, text: str) -> str:
        """The text with the specifiers of systemd.unit(5) that these units use."""
        stem = self.name.rpartition(".")[0]
        prefix, _, instance = stem.partition("@")
        known = {"i": instance, "I": _unescape(instance), "n": self.name, "N": stem, "p": prefix, "%": "%"}
        return re.sub(r"%([iInNp%])", lambda found: known[found[1]], text)


def act(name: str, action: str) -> dict[str, Any]:
    """Do one thing to a unit -> {"active": bool, "enabled": bool}. HubError with what the unit said when it fails."""
    name = name if name.endswith((".service", ".socket", ".target")) else f"{name}.service"
    if not NAME.fullmatch(name) or action not in ACTIONS:
        raise system.HubError(f"{action} {name}: no such action or unit name", "this is a bug of meshwright; report it")
    if booted():
        return _systemctl(name, action)
    if not name.endswith(".socket") or action in ("enable", "disable"):
        ACTIONS[action](name)
    return {"active": active(name), "enabled": enabled(name)}


def booted() -> bool:
    """Whether systemd runs here (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def _systemctl(name: str, action: str) -> dict[str, Any]:
    if action != "status":
        try:
            system.run(["systemctl", action, *([name] if action != "daemon-reload" else [])], timeout=100)
        except system.HubError as error:
            masked = re.search(r"[Uu]nit (?:file )?(\S+) is masked", str(error))
            if masked:
                raise _masked(masked[1].rpartition("/")[2]) from None
            raise
    done = system.attempt(["systemctl", "is-active", name])
    return {"active": done.out.strip() == b"active", "enabled": enabled(name)}


def enabled(name: str) -> bool:
    """Whether some target in /etc/systemd/system wants the unit at boot."""
    folder = FOLDERS[0]
    entries = os.listdir(folder) if os.path.isdir(folder) else []
    return any(
        os.path.lexists(f"{folder}/{entry}/{name}") for entry in entries if entry.endswith((".wants", ".requires"))
    )


def active(name: str) -> bool:
    """Whether the unit is active; without systemd: whether we started it, have not stopped it, and its daemon lives."""
    return state(name) == "active"


def state(name: str) -> str:
    """In systemd's words: active, inactive, failed, activating and so on."""
    if booted():
        return system.attempt(["systemctl", "is-active", name]).out.decode().strip()
    if name.endswith(".socket"):  # without systemd the service listens by itself
        return state(f"{name[: -len('.socket')]}.service")
    noted = system.read_file(f"{RUNNING}/{name}")
    return "active" if noted is not None and (not noted or _lives(noted.decode())) else "inactive"


def again(name: str, state: str) -> None:
    """Start a unit again without waiting for it. What anybody else has asked for meanwhile goes first."""
    if booted():
        verb = "try-restart" if state == "active" else "start"
        system.run(["systemctl", "--no-block", "--job-mode=fail", verb, name])
    else:
        restart(name)


def _lives(noted: str) -> bool:
    """Whether the process that a note speaks of ("PID START") still runs."""
    pid, _, begun = noted.partition(" ")
    return _begun(int(pid)) == begun != ""


def _begun(pid: int) -> str:
    """When a process began, in ticks since boot, "" when it has ended; proc(5)."""
    try:
        words = (system.read_file(f"/proc/{pid}/stat") or b"").decode(errors="replace").rpartition(")")[2].split()
    except ProcessLookupError:
        return ""
    return words[19] if len(words) > 19 and words[0] not in "ZX" else ""


def load(name: str) -> Unit | None:
    """The unit with its drop-ins, None when there is none. A masked unit is an error."""
    template = re.sub(r"@.*\.", "@.", name)
    places = [f"{folder}/{file}" for file in dict.fromkeys((name, template)) for folder in FOLDERS]
    place = next((p for p in places if os.path.lexists(p)), None)
    if place is None:
        return None
    if os.path.realpath(place) == "/dev/null":
        raise _masked(name)
    values: dict[str, list[str]] = {}
    for path in [place, *_drop_ins(dict.fromkeys((template, name)))]:
        _read(path, values)
    return Unit(name, place, values)


def _masked(name: str) -> system.HubError:
    return system.HubError(f"{name} is masked", f"on the hub: systemctl unmask {name}; then apply again")


def _drop_ins(names: dict[str, None]) -> list[str]:
    found: dict[str, str] = {}
    for folder in reversed(FOLDERS):
        for name in names:
            directory = f"{folder}/{name}.d"
            for file in os.listdir(directory) if os.path.isdir(directory) else ():
                if file.endswith(".conf"):
                    found[file] = f"{directory}/{file}"
    return [found[file] for file in sorted(found)]


def _read(path: str, values: dict[str, list[str]]) -> None:
    """Add a unit file's assignments; an empty one forgets what stood there before."""
    section = ""
    text = (system.read_file(path) or b"").decode(errors="replace").replace("\\\n", " ")
    for line in (raw.strip() for raw in text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line and line[0] not in "#;" and "=" in line:
            key, _, value = line.partition("=")
            name = f"{section}.{key.strip()}"
            values[name] = [*values.get(name, []), value.strip()] if value.strip() else []


def _unescape(text: str) -> str:
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), text.replace("-", "/"))


def start(name: str) -> None:
    """Start a unit and what it wants, in order. Already active: nothing happens."""
    for unit in _ordered(_needed(name)):
        try:
            _start(unit)
        except system.HubError:
            if unit.name == name or unit.name in _must(name):
                raise


def _must(name: str) -> list[str]:
    unit = load(name)
    return unit.words("Unit.Requires") + unit.words("Unit.BindsTo") if unit else []


def _needed(name: str) -> list[Unit]:
    """The unit and, transitively, what it wants or requires and exists here."""
    unit = load(name)
    if unit is None:
        raise system.HubError(f"there is no unit {name}", "install the package that brings it")
    found = {name: unit}
    waiting = [unit]
    while waiting:
        current = waiting.pop()
        named = [other for key in ("Unit.Wants", "Unit.Requires", "Unit.BindsTo") for other in current.words(key)]
        for other in (*named, *_linked(current.name)):
            loaded = load(other) if other.endswith(".service") and other not in found else None
            if loaded:
                found[other] = loaded
                waiting.append(loaded)
    return list(found.values())


def _linked(name: str) -> list[str]:
    """What `enable` linked to the unit: it is wanted too."""
    folder = f"{FOLDERS[0]}/{name}.wants"
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _ordered(units: list[Unit]) -> list[Unit]:
    """The units so that each comes after those it names in After= and those that name it in Before=."""
    names = {unit.name: unit for unit in units}
    earlier = {unit.name: {other for other in unit.words("Unit.After") if other in names} for unit in units}
    for unit in units:
        for other in unit.words("Unit.Before"):
            if other in names:
                earlier[other].add(unit.name)
    out: list[Unit] = []
    while names:
        ready = next((name for name in names if not earlier[name] & names.keys()), next(iter(names)))
        out.append(names.pop(ready))
    return out


def _start(unit: Unit) -> None:
    if active(unit.name):
        return
    kind = unit.last("Service.Type", "simple" if "Service.ExecStart" in unit.values else "oneshot")
    _execute(unit, "ExecStartPre")
    process = ""
    if kind in ("oneshot", "forking"):
        _execute(unit, "ExecStart")
    else:
        process = _launch(unit)
    _execute(unit, "ExecStartPost")
    if process or unit.last("Service.RemainAfterExit", "no") in ("yes", "true", "1", "on") or kind == "forking":
        system.write_file(f"{RUNNING}/{unit.name}", process.encode(), 0o644)


def _launch(unit: Unit) -> str:
    """Start a daemon in the background -> "PID START". Its output goes to a file: nobody waits on it."""
    line = unit.values["Service.ExecStart"][-1]
    system.make_folder(RUNNING)
    with open(f"{RUNNING}/.{unit.name}.log", "ab") as log:
        process = subprocess.Popen(
            _arguments(unit, line)[1],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **_environment(unit)},
            start_new_session=True,
            cwd="/",
        )
    return f"{process.pid} {_begun(process.pid)}"


def stop(name: str) -> None:
    """Stop a unit and those that are part of it, the last started first."""
    for unit in reversed(_with_parts(name)):
        _stop(unit)


def _stop(unit: Unit) -> None:
    if not active(unit.name):
        return
    noted = (system.read_file(f"{RUNNING}/{unit.name}") or b"").decode()
    # first: who sees what it held go away must not take it for active still, and bring it back
    system.remove_file(f"{RUNNING}/{unit.name}")
    try:
        _execute(unit, "ExecStop")
    finally:
        if noted:
            _end(noted)


def _end(noted: str) -> None:
    """End a daemon and all that it started: first asked to, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + PATIENCE
        if _lives(noted):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(noted.partition(" ")[0]), number)
        while _lives(noted) and time.monotonic() < end:
            time.sleep(0.01)


def _with_parts(name: str) -> list[Unit]:
    """The unit and the active ones that stop and restart with it, in the order of their start."""
    unit = load(name)
    if unit is None:
        raise system.HubError(f"there is no unit {name}", "install the package that brings it")
    found = {name: unit}
    while True:
        more = {
            other.name: other
            for other in _all_active()
            if other.name not in found
            and any(n in found for key in ("PartOf", "Requires", "BindsTo") for n in other.words(f"Unit.{key}"))
        }
        if not more:
            return _ordered(list(found.values()))
        found.update(more)


def _all_active() -> Iterator[Unit]:
    for name in sorted(os.listdir(RUNNING)) if os.path.isdir(RUNNING) else ():
        unit = load(name) if NAME.fullmatch(name) else None
        if unit:
            yield unit


def restart(name: str) -> None:
    """Stop and start a unit together with the active ones that are part of it. A failing stop does not keep it down."""
    units = _with_parts(name)
    for unit in reversed(units):
        try:
            _stop(unit)
        except system.HubError:
            continue
    start(name)
    for unit in units:
        _start(unit)


def reload(name: str) -> None:
    """Reload a unit, then the active ones that reload with it."""
    unit = load(name)
    if unit is None or "Service.ExecReload" not in unit.values:
        raise system.HubError(f"{name} cannot be reloaded", "restart it instead")
    if not active(name):
        raise system.HubError(f"{name} is not active, so it cannot be reloaded", "start it first")
    others = [
        other
        for other in _all_active()
        if name in other.words("Unit.ReloadPropagatedFrom") or other.name in unit.words("Unit.PropagatesReloadTo")
    ]
    for each in _ordered([unit, *(other for other in others if "Service.ExecReload" in other.values)]):
        _execute(each, "ExecReload")


def enable(name: str) -> None:
    """Link the unit to what its [Install] section names, so that it starts at boot."""
    unit = load(name)
    if unit is None:
        raise system.HubError(f"there is no unit {name}", "install the package that brings it")
    for link in _links(unit):
        system.make_folder(os.path.dirname(link))
        if not os.path.lexists(link):
            os.symlink(unit.place, link)


def disable(name: str) -> None:
    """Take the links of `enable` away."""
    folder = FOLDERS[0]
    for entry in os.listdir(folder) if os.path.isdir(folder) else ():
        if entry.endswith((".wants", ".requires")):
            system.remove_file(f"{folder}/{entry}/{name}")


def _links(unit: Unit) -> list[str]:
    pairs = (("Install.WantedBy", "wants"), ("Install.RequiredBy", "requires"))
    return [f"{FOLDERS[0]}/{target}.{kind}/{unit.name}" for key, kind in pairs for target in unit.words(key)]


def _execute(unit: Unit, key: str) -> None:
    """Run the lines of one Exec key in order; a line that fails ends it, unless it begins with `-`."""
    environment = _environment(unit)
    for line in unit.values.get(f"Service.{key}", []):
        ignore, argv = _arguments(unit, line)
        done = system.attempt(argv, timeout=100, env=environment)
        if done.code and not ignore:
            # wg-quick names each command it runs, also those that clean up after the one that failed
            lines = [said.strip() for said in done.err.splitlines() if said.strip() and not said.startswith("[#]")]
            raise system.HubError(
                f"{unit.name}: {key}: {argv[0]}: {lines[-1][:300] if lines else f'code {done.code}'}",
                "run that line on the hub by hand to see more",
            )


def _arguments(unit: Unit, line: str) -> tuple[bool, list[str]]:
    """(whether a failure is ignored, the argument list) of an Exec line."""
    bare = line.lstrip("-@:+!|")
    prefix = line[: len(line) - len(bare)]
    environment = {**os.environ, **_environment(unit)}
    argv: list[str] = []
    for word in map(unit.fill, shlex.split(bare)):
        name = re.fullmatch(r"\$([A-Za-z_][A-Za-z0-9_]*)", word)
        if name:
            argv += environment.get(name[1], "").split()
        else:
            argv.append(re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", lambda m: environment.get(m[1], ""), word))
    return "-" in prefix, [word.replace("$$", "$") for word in argv]


def _environment(unit: Unit) -> dict[str, str]:
    words = [word for value in unit.values.get("Service.Environment", []) for word in shlex.split(unit.fill(value))]
    return dict(word.partition("=")[::2] for word in words if "=" in word)


def _nothing(_: str) -> None:
    """For what needs no work without systemd: it reads the unit files each time."""


ACTIONS = {
    "start": start,
    "stop": stop,
    "restart": restart,
    "reload": reload,
    "enable": enable,
    "disable": disable,
    "status": _nothing,
    "daemon-reload": _nothing,
}
