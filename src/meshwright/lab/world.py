"""A lab that is up: its hosts, its peers, what can be asked of it."""

from __future__ import annotations

import difflib
import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from meshwright.errors import LabError
from meshwright.events import Progress, Started, Tell, silent
from meshwright.io.host import Namespace
from meshwright.io.process import Done
from meshwright.lab import make, state
from meshwright.lab.cluster import programs, site
from meshwright.lab.parts import SERVER, WAN, Target
from meshwright.lab.state import State
from meshwright.spec.model import Address, Mesh

SHIM = "/run/lab/bin"
# Names that a peer's interface cannot have: the host's own links, and what the kernel keeps for its settings.
TAKEN = frozenset({"lo", "eth0", "lan0", "all", "default"})
# What wg-quick(8) calls where the .conf has DNS=: -a IF with resolv.conf lines on stdin, -d IF.
RESOLVCONF = b"""#!/bin/sh
# stands in for resolvconf(8) in the lab
keep=/run/lab/resolv.conf.before
case "$1" in
-a) [ -e $keep ] || cp /etc/resolv.conf $keep; cat > /etc/resolv.conf ;;
-d) [ ! -e $keep ] || { cat $keep > /etc/resolv.conf; rm $keep; } ;;
esac
"""


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host: its addresses, whether it lives; for a peer the unix time of its newest handshake, or 0."""

    name: str
    addresses: tuple[str, ...]
    alive: bool
    peer: str = ""
    handshake: int = 0


@dataclass(frozen=True, slots=True)
class Lab:
    """A running lab. peers: device label -> host name."""

    directory: Path
    state: State

    wan = WAN
    server = SERVER

    @property
    def mesh(self) -> str:
        return self.state.mesh

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(self.state.hosts)

    @property
    def peers(self) -> Mapping[str, str]:
        peers: dict[str, str] = self.state.topology["peers"]
        return peers

    @property
    def services(self) -> dict[str, tuple[Address, ...]]:
        """What a cluster would have said about `kubernetes:` services: stand-ins, of which a lab with one has none."""
        found: Mapping[str, list[str]] = self.state.topology["standins"]
        return {name: tuple(map(ip_address, addresses)) for name, addresses in found.items()}

    @property
    def kubernetes(self) -> bool:
        """Whether the hub was given a control plane."""
        return site.there(self.directory)

    @property
    def targets(self) -> tuple[Target, ...]:
        """What probes may aim at."""
        return tuple(_target(t) for t in self.state.topology["targets"])

    @property
    def public(self) -> str:
        """A server on the internet, outside the mesh."""
        return str(self.state.topology["public"])

    def host(self, name: str) -> Namespace:
        """A host of the lab. LabError with the nearest names when there is none."""
        pid = self.state.hosts.get(name)
        if pid is None:
            near = difflib.get_close_matches(name, self.state.hosts, 3)
            hint = (
                f"did you mean {', '.join(near)}?" if near else f"there are: {', '.join(sorted(self.state.hosts)[:20])}"
            )
            raise LabError(f"the lab has no host called {name}", hint)
        return Namespace(pid, self.state.userns, name)

    def peer(self, label: str) -> Namespace:
        """The host of a device. Its name is not the label where the house has a host of that name."""
        return self.host(self.peers.get(label, label))

    def exec(self, name: str, argv: Sequence[str]) -> int:
        """Run a program on a host with this terminal, in this folder, and give its exit code.

        kubectl finds the host's own access.
        """
        here = ["sh", "-c", 'cd "$0" 2>/dev/null; exec "$@"', str(Path.cwd()), *argv]
        path = f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin:{programs.own()}"
        return subprocess.call(self.host(name).enter(here), env={**os.environ, "PATH": path, **self._access(name)})

    def _access(self, name: str) -> dict[str, str]:
        """For kubectl: the hub is the admin, a friend has what he was issued, and all others nothing of the owner's."""
        labels = {host: label for label, host in self.peers.items()}
        admin, friends = site.folder(self.directory) / "kubeconfig", site.friends(self.directory)
        file = admin if name == "hub" else friends / labels.get(name, f"none for {name}")
        return {"KUBECONFIG": str(file), "KUBECACHEDIR": f"/run/kubectl/{name}"} if self.kubernetes else {}

    def interface(self, label: str) -> str:
        """The name of a peer's WireGuard interface (15 characters at most, wg-quick(8))."""
        return (f"wg-{label}" if label in TAKEN else label)[:15].rstrip("-")

    def peers_up(self, clients: Path, tell: Tell = silent) -> None:
        """`wg-quick up` on every peer with byte for byte CLIENTS/LABEL.conf; one that runs with it is left alone."""
        labels = list(self.peers)
        tell(Started("connecting the peers", len(labels)))
        with ThreadPoolExecutor(4) as pool:
            for number, label in enumerate(pool.map(lambda x: self._peer_up(x, clients / f"{x}.conf"), labels)):
                tell(Progress(label, number + 1))

    def _peer_up(self, label: str, file: Path) -> str:
        host, name = self.peer(label), self.interface(label)
        try:
            conf = file.read_bytes()
        except OSError as error:
            raise LabError(
                f"{file}: {error.strerror}", "run `meshwright apply --lab` first: it writes the peers' files"
            ) from None
        path = f"/etc/wireguard/{name}.conf"
        up = host.run(["ip", "link", "show", "dev", name]).code == 0
        if up and host.run(["cat", path]).out == conf:
            return label
        if up:
            host.run(["wg-quick", "down", name], timeout=60)
        shim = _wants_dns(conf)
        _install(host, path, conf, shim)
        done = _quick(host, "up", name, shim)
        if done.code:
            raise LabError(
                f"{label}: wg-quick up: {_reason(done)}", "look at the file that the peer got, then try again"
            )
        return label

    def peer_down(self, label: str) -> None:
        """`wg-quick down` on one peer; nothing when its tunnel is not up."""
        host, name = self.peer(label), self.interface(label)
        conf = host.run(["cat", f"/etc/wireguard/{name}.conf"]).out
        if host.run(["ip", "link", "show", "dev", name]).code == 0:
            _quick(host, "down", name, _wants_dns(conf))

    def status(self) -> tuple[HostStatus, ...]:
        """Every host, with the newest handshake of each peer's tunnel."""
        with ThreadPoolExecutor(4) as pool:
            times = dict(zip(self.peers, pool.map(self._handshake, self.peers), strict=True))
        labels = {name: label for label, name in self.peers.items()}
        return tuple(
            HostStatus(
                h["name"],
                tuple(h["addresses"]),
                bool(state.started(self.state.hosts[h["name"]])),
                labels.get(h["name"], ""),
                times.get(labels.get(h["name"], ""), 0),
            )
            for h in self.state.topology["hosts"]
        )

    def _handshake(self, label: str) -> int:
        if not state.started(self.state.hosts[self.peers[label]]):
            return 0
        done = self.peer(label).run(["wg", "show", self.interface(label), "latest-handshakes"])
        return max((int(line.split()[1]) for line in done.out.decode().splitlines()), default=0)


def up(mesh: Mesh, directory: Path, tell: Tell = silent, now: datetime | None = None, *, cluster: bool = False) -> Lab:
    """make.up, and the lab that it made."""
    return Lab(directory, make.up(mesh, directory, tell, now, cluster=cluster))


def open_lab(directory: Path) -> Lab:
    """The lab that is up in this directory. LabError when there is none."""
    found = state.read(directory) if directory.is_dir() else None
    if not found or not state.alive(found):
        raise LabError("the lab is not up", "start it: meshwright lab up")
    if not found.complete:
        raise LabError("the lab is only half built", "finish it: meshwright lab up")
    return Lab(directory, found)


def _target(plain: Mapping[str, Any]) -> Target:
    ports = tuple((kind, port) for kind, port in plain["ports"])
    return Target(plain["name"], plain["kind"], plain["address"], plain["host"], ports)


def _wants_dns(conf: bytes) -> bool:
    return any(line.partition(b"=")[0].strip().lower() == b"dns" for line in conf.splitlines())


def _install(host: Namespace, path: str, conf: bytes, shim: bool) -> None:
    """The peer's file, 0600 from its first byte, by stdin."""
    _must(host, ["sh", "-c", 'umask 077; cat > "$0.new" && mv "$0.new" "$0"', path], conf)
    if shim:
        script = 'mkdir -p "$0" && cat > "$0/resolvconf" && chmod 755 "$0/resolvconf"'
        _must(host, ["sh", "-c", script, SHIM], RESOLVCONF)


def _must(host: Namespace, argv: list[str], stdin: bytes) -> None:
    done = host.run(argv, stdin=stdin)
    if done.code:
        raise LabError(f"{host.name}: {_reason(done)}", "run `meshwright lab down`, then `meshwright lab up`")


def _quick(host: Namespace, action: str, name: str, shim: bool) -> Done:
    path = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    prefix = ["env", f"PATH={SHIM}:{path}"] if shim else []
    return host.run([*prefix, "wg-quick", action, name], timeout=120)


def _reason(done: Done) -> str:
    lines = [line for line in done.err.splitlines() if line and not line.startswith(("[#]", "|", "+", "┌", "│", "└"))]
    return (lines or [f"it ended with code {done.code}"])[-1]
