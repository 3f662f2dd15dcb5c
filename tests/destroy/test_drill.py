"""The whole life of a hub that people set up by hand, over ssh and with real systemd: imported, applied, backed up,
destroyed without a trace, and brought back on a second, empty machine. Its friends touch nothing, ever.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyrage
import pytest
from traces import difference, seen

import booted
from meshwright.io.host import Namespace

pytestmark = pytest.mark.booted

SOURCE = Path(__file__).parents[2] / "src"
# what systemd and wireguard-go make for themselves
LISTED = re.compile(r"/etc/(machine-id|\.updated|\.pwd\.lock|resolv\.conf)|/run/(credentials|initctl|wireguard)")


class Drill:
    """A mesh folder and the program in it, acting on one booted hub; friends with tunnels of their own."""

    def __init__(self, site: booted.Site, hub: booted.Hub, folder: Path) -> None:
        self.site, self.hub, self.folder = site, hub, folder
        self.friends = {name: site.host(name, f"192.0.2.{last}") for name, last in (("ham", 21), ("carl", 22))}

    def run(self, *words: object, code: int = 0, folder: Path | None = None) -> str:
        env = {**os.environ, "PYTHONPATH": str(SOURCE), "MESHWRIGHT_SSH_CONFIG": str(self.hub.config), "NO_COLOR": "1"}
        argv = [sys.executable, "-m", "meshwright", *map(str, words)]
        done = subprocess.run(
            argv,
            cwd=folder or self.folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=240,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, (words, done.returncode, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout + done.stderr

    def traces(self) -> dict[str, list[str]]:
        found = seen(lambda *argv: self.hub.run(*argv).stdout, systemd=True)
        return {part: [line for line in lines if not LISTED.match(line)] for part, lines in found.items()}


def sh(host: Namespace, script: str) -> str:
    done = host.run(["sh", "-c", script], timeout=60)
    assert done.code == 0, (script, done.err)
    return done.out.decode().strip()


def by_hand(drill: Drill) -> None:
    """A tunnel as people make one: keys, a conf, a service; one friend who dials."""
    hub, ham = drill.hub, drill.friends["ham"]
    private = hub.run("wg", "genkey").stdout.decode().strip()
    public = hub.run("wg", "pubkey", stdin=private.encode()).stdout.decode().strip()
    shared = hub.run("wg", "genpsk").stdout.decode().strip()
    own = sh(ham, "wg genkey")
    conf = (
        f"[Interface]\nPrivateKey = {private}\nAddress = 10.8.0.1/24\nListenPort = 51820\n"
        "PostUp = sysctl -q -w net.ipv4.ip_forward=1\n\n# Ham's phone\n[Peer]\n"
        f"PublicKey = {sh(ham, f'echo {own} | wg pubkey')}\nPresharedKey = {shared}\nAllowedIPs = 10.8.0.2/32\n"
    )
    hub.write("/etc/wireguard/wg0.conf", conf, 0o600)
    (drill.folder / "wg0.conf").write_text(conf)
    (drill.folder / "wg0.conf").chmod(0o600)
    hub.run("systemctl", "enable", "--now", "wg-quick@wg0")
    dial(
        ham,
        f"[Interface]\nPrivateKey = {own}\nAddress = 10.8.0.2/24\n\n[Peer]\nPublicKey = {public}\n"
        f"PresharedKey = {shared}\nEndpoint = {booted.HUB}:51820\nAllowedIPs = 10.8.0.0/24\nPersistentKeepalive = 1\n",
    )
    reaches(ham)


def dial(friend: Namespace, conf: str) -> None:
    friend.put("/etc/wireguard/mesh.conf", conf.encode(), 0o600)
    sh(friend, "exec wg-quick up mesh >/run/up.log 2>&1")


def reaches(friend: Namespace, patience: float = 40) -> float:
    """Seconds until the friend hears the hub through his tunnel."""
    begun = time.monotonic()
    while friend.run(["ping", "-c1", "-W1", "10.8.0.1"]).code:
        assert time.monotonic() < begun + patience, sh(friend, "wg show")
    return time.monotonic() - begun


@contextmanager
def pinging(folder: Path, friend: Namespace) -> Iterator[list[int]]:
    """Pings twenty times a second while the block runs -> afterwards, the numbers of those that were lost."""
    place = folder / "pings"
    lost: list[int] = []
    with place.open("wb") as log:
        argv = friend.enter(["ping", "-i", "0.05", "-W", "2", "10.8.0.1"])
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        time.sleep(0.5)
        yield lost
        time.sleep(0.5)
    finally:
        process.kill()
        process.wait(10)
    heard = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", place.read_text())}
    assert len(heard) > 20
    lost += sorted(set(range(1, max(heard) + 1)) - heard)


def confs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "ansible/.wg-output").glob("*.conf"))}


def test_a_hub_by_hand_becomes_a_mesh_is_lost_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    owner = pyrage.x25519.Identity.generate()
    identity = tmp_path / "identity"
    identity.write_text(f"{owner}\n")
    identity.chmod(0o600)
    with booted.site() as site, ExitStack() as machines:
        first = machines.enter_context(booted.hub(site))
        drill = Drill(site, first, tmp_path / "home")
        empty = drill.traces()
        by_hand(drill)

        # imported and applied: nobody notices
        drill.run("import", "wg0.conf", "--endpoint", f"{booted.HUB}:51820", "--address", booted.HUB)
        (drill.folder / "wg0.conf").unlink()
        planned = drill.run("plan", code=2)
        assert "hub/peer/hams-phone" in planned
        assert "- hub/" not in planned
        with pinging(tmp_path, drill.friends["ham"]) as lost:
            drill.run("apply", "--yes")
        print(f"pings lost by the first apply: {lost}")
        assert lost == []
        drill.run("plan")

        # one more friend, whose key was born here
        drill.run("peer", "add", "carl")
        drill.run("apply", "--yes")
        before = confs(drill.folder)
        assert set(before) == {"carl.conf", "hams-phone.conf"}
        dial(drill.friends["carl"], before["carl.conf"].decode())
        reaches(drill.friends["carl"])

        changed = difference(empty, drill.traces())
        assert set(changed) >= {"files", "rules", "links", "routes", "nft", "list-unit-files", "list-units"}

        # backed up; no private key in what is written or said
        file = drill.folder / "mesh.yaml"
        file.write_text(f'{file.read_text()}secrets: {{recipients: ["{owner.to_public()}"]}}\n')
        backup = tmp_path / "house.backup"
        said = drill.run("backup", backup)
        private = first.run("wg", "show", "wg0", "private-key").stdout.decode().strip()
        assert private not in said
        assert private.encode() not in backup.read_bytes()

        # destroyed: as if nothing had ever been there
        said = drill.run("destroy", "--yes", "home")
        assert private not in said
        assert difference(empty, drill.traces()) == {}
        assert "nothing of the mesh home is there" in drill.run("destroy", "--yes", "home")
        assert confs(drill.folder) == before
        machines.close()

        # a second machine, which knows nothing; the friends' tunnels are as they were
        other = booted.Site(tmp_path / "second", site.stack, site.ground, site.links)
        other.folder.mkdir()
        with booted.hub(other) as second:
            drill.hub = second
            new = tmp_path / "new"
            said = drill.run("restore", backup, new, "--identity", identity, folder=tmp_path)
            assert private not in said
            assert second.run("stat", "-c", "%a", "/etc/wireguard/wg0.conf").stdout == b"600\n"
            assert second.run("systemctl", "is-active", "wg-quick@wg0", check=False).stdout == b"inactive\n"
            assert (new / "mesh.yaml").read_bytes() == file.read_bytes()
            drill.run("apply", "--yes", folder=new)
            assert confs(new) == before
            took = {name: reaches(friend) for name, friend in drill.friends.items()}
            print(f"seconds until they reached the second hub: {took}")
            assert second.run("wg", "show", "wg0", "private-key").stdout.decode().strip() == private
            drill.run("plan", folder=new)
