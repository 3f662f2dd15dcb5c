"""A hub that runs by hand, its peers talking: imported, planned and applied, and nobody notices. Real packets."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from meshwright import flow
from meshwright.cli import app
from meshwright.events import silent
from meshwright.flow import View
from meshwright.io.host import Host, Namespace, service
from meshwright.plan import text
from meshwright.providers import table
from meshwright.providers.table import Places
from meshwright.spec import load
from support import machine

pytestmark = pytest.mark.lab


def sh(host: Host, script: str) -> str:
    done = host.run(["sh", "-c", script], timeout=30)
    assert done.code == 0, (script, done.err)
    return done.out.decode().strip()


class House:
    """A hub with wg0 as people set it up: a conf with PostUp, comments and no word of ours; two peers, dialled in."""

    def __init__(self, stack: ExitStack) -> None:
        self.hub, self.ham, self.bryce = (stack.enter_context(machine(name)) for name in ("hub", "ham", "bryce"))
        self.shared = sh(self.hub, "wg genpsk")
        self._wire(self.ham, "ham", "10.9.1.1/30", "10.9.1.2/30")
        self._wire(self.bryce, "bryce", "10.9.2.1/30", "10.9.2.2/30")
        self.keys = keys = {host.name: self._key(host) for host in (self.hub, self.ham, self.bryce)}
        self.hub.put("/etc/wireguard/wg0.conf", self._conf(keys).encode(), 0o600)
        service(self.hub, "wg-quick@wg0", "enable")
        service(self.hub, "wg-quick@wg0", "start")
        for host, own, gate, shared in (
            (self.ham, "10.8.0.2", "10.9.1.1", self.shared),
            (self.bryce, "10.8.0.3", "10.9.2.1", ""),
        ):
            self._dial(host, own, gate, shared, keys["hub"][1])

    def _wire(self, other: Namespace, name: str, here: str, there: str) -> None:
        spots = [f"/proc/{host.pid}/ns/net" for host in (self.hub, other)]
        argv = ["ip", "link", "add", name, "netns", spots[0], "type", "veth", "peer", "name", "up0", "netns", spots[1]]
        subprocess.run(argv, check=True, timeout=10)
        for host, link, address in ((self.hub, name, here), (other, "up0", there)):
            sh(host, f"ip address add {address} dev {link}; ip link set {link} up")

    def _key(self, host: Namespace) -> tuple[str, str]:
        private = sh(host, "wg genkey")
        return private, sh(host, f"echo {private} | wg pubkey")

    def _conf(self, keys: dict[str, tuple[str, str]]) -> str:
        return (
            f"[Interface]\nPrivateKey = {keys['hub'][0]}\nAddress = 10.8.0.1/24\nListenPort = 51820\n"
            "PostUp = sysctl -q -w net.ipv4.ip_forward=1\n\n"
            f"# Ham's phone\n[Peer]\nPublicKey = {keys['ham'][1]}\nPresharedKey = {self.shared}\n"
            f"AllowedIPs = 10.8.0.2/32\n\n"
            f"[Peer]\n# bryce\nPublicKey = {keys['bryce'][1]}\nAllowedIPs = 10.8.0.3/32, 192.168.77.0/24\n"
        )

    def _dial(self, host: Namespace, own: str, gate: str, shared: str, hub: str) -> None:
        preshared = "preshared-key /run/shared" if shared else ""
        sh(host, f"""
            umask 077; echo '{self.keys[host.name][0]}' >/run/key; echo '{shared}' >/run/shared
            wireguard-go wg0 >/dev/null 2>&1
            wg set wg0 private-key /run/key peer '{hub}' {preshared} endpoint {gate}:51820 \\
                allowed-ips 10.8.0.0/24 persistent-keepalive 1
            ip address add {own}/24 dev wg0; ip link set wg0 up""")  # fmt: skip
        end = time.monotonic() + 30
        while host.run(["ping", "-c1", "-W1", "10.8.0.1"]).code:
            assert time.monotonic() < end

    def handshakes(self) -> dict[str, int]:
        lines = (line.split() for line in sh(self.hub, "wg show wg0 latest-handshakes").splitlines())
        return {key: int(when) for key, when in lines}


@pytest.fixture
def house() -> Iterator[House]:
    with ExitStack() as stack:
        yield House(stack)


@contextmanager
def pinging(folder: Path, host: Namespace, *targets: str) -> Iterator[dict[str, int]]:
    """Pings a hundred times a second while the block runs -> afterwards, how many were lost by target."""
    lost: dict[str, int] = {}
    running = []
    for target in targets:
        place = folder / f"{host.name}-{target}"
        with place.open("wb") as log:
            argv = host.enter(["ping", "-i", "0.01", "-W", "2", target])
            running.append((target, place, subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)))
    try:
        yield lost
        time.sleep(0.5)
    finally:
        for target, place, process in running:
            process.kill()
            process.wait(10)
            seen = [int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", place.read_text())]
            assert len(seen) > 10, place.read_text()[-300:]
            lost[target] = max(seen) - len(seen)


def look(house: House, folder: Path) -> tuple[View, Places]:
    mesh = load.load(folder / "mesh.yaml").mesh
    places = Places(house.hub, None, folder / ".meshwright", folder / "clients", {})
    return flow.look(mesh, table.providers(mesh, places), places, silent), places


def test_the_first_plan_shows_only_what_meshwright_adds_and_its_apply_disturbs_nobody(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "wg0.conf"
    source.write_text(sh(house.hub, "cat /etc/wireguard/wg0.conf"))
    words = ["import", str(source), "--into", str(tmp_path / "mesh.yaml"), "--local"]
    assert app.run([*words, "--endpoint", "vpn.example.net:51820", "--address", "192.168.20.20"]) == 0
    view, places = look(house, tmp_path)
    assert view.mesh.hub.public_key == house.keys["hub"][1]
    assert [d.label for d in view.mesh.devices] == ["hams-phone", "bryce"]

    changes = {change.id: change for change in view.todo.changes}
    assert not view.todo.guard
    assert not [id for id, change in changes.items() if change.verb == "delete"]
    assert not [id for id in changes if id.startswith(("files/key/", "files/preshared/"))]
    touched = {id: [field.path for field in change.fields] for id, change in changes.items() if change.verb == "update"}
    assert touched == {
        "hub/interface/wg0": [("saved", "mtu")],
        "hub/peer/hams-phone": [("saved", "strange")],
        "hub/peer/bryce": [("saved", "strange")],
    }
    assert "the conf does not say its name" in text.text(view.todo)
    handshakes = house.handshakes()
    assert all(handshakes.values())

    with pinging(tmp_path, house.ham, "10.8.0.1", "10.8.0.3") as lost:
        results = flow.apply(view.todo, table.providers(view.mesh, places), silent)
    assert not [result for result in results if not result.ok]
    assert lost == {"10.8.0.1": 0, "10.8.0.3": 0}
    # a peer that was made anew would have none
    assert {key: when >= handshakes[key] for key, when in house.handshakes().items()} == dict.fromkeys(handshakes, True)
    conf = sh(house.hub, "cat /etc/wireguard/wg0.conf")
    assert "# meshwright: hams-phone" in conf
    assert "PostUp = sysctl" in conf
    assert all(text in conf for text in (house.keys["hub"][0], house.shared))
    assert not look(house, tmp_path)[0].todo.changes
