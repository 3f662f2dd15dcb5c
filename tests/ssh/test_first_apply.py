"""The whole way by the real program over SSH: a hub on which hardly anything is installed becomes the hub of a mesh.

apt-get is real; what it installs are this machine's own packages, packed again into a repository on the hub.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import booted
from booted import HUB, PASSWORD

pytestmark = pytest.mark.booted
ROOT = Path(__file__).parents[2]
GONE = ("conntrack", "nftables", "wireguard-tools", "python3", "python3-minimal")
MESH = """version: 1
name: first
hub: {{node: hub-1, address: {hub}, interface: wg1, endpoint: "{hub}:51821", connection: {connection}}}
network: {{cidr: 10.100.0.0/16, hub: 10.100.0.1, routes: {{lan: 192.168.30.0/24}}}}
peers:
  anna: {{address: 10.100.1.1}}
  bert: {{address: 10.100.1.2}}
policy:
  allow: [{{from: peers, to: lan, ports: [443/tcp, icmp]}}]
"""


class Operator:
    """Runs `meshwright ...` in a folder of his own, by the ssh config of the hub."""

    def __init__(self, folder: Path, hub: booted.Hub) -> None:
        self.folder, self.hub = folder, hub
        self.write("keyless")

    def write(self, user: str, **more: str) -> None:
        text = MESH.format(hub=HUB, connection=self.hub.connection(user, **more))
        (self.folder / "mesh.yaml").write_text(text)

    def __call__(self, *words: str, code: int = 0, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "meshwright", *words],
            cwd=self.folder, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **self.hub.environment, **env},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


def pack(name: str, place: Path) -> str:
    """The installed package `name` as a .deb in `place`; gives its paragraph of the index."""
    tree = place / name
    fields = booted.run(["dpkg-query", "-s", name]).stdout.decode()
    control = "".join(
        line for line in fields.splitlines(True) if not line.startswith(("Status:", "Conffiles:", " /etc/"))
    )
    for path in map(Path, booted.run(["dpkg", "-L", name]).stdout.decode().split("\n")):
        if path.is_absolute() and not path.is_dir():
            copy = tree / str(path).lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy, follow_symlinks=False)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(control)
    deb = place / f"{name}.deb"
    booted.run(["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", str(tree), str(deb)])
    shutil.rmtree(tree)
    data = deb.read_bytes()
    sums = f"Filename: ./{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    return control.rstrip("\n") + f"\n{sums}\n"


@pytest.fixture(scope="module")
def operator(booted_hub: booted.Hub, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    root = booted_hub.root
    repository = root / "srv/repository"
    repository.mkdir(parents=True)
    (repository / "Packages").write_text("".join(pack(name, repository) for name in GONE))
    for old in [*(root / "etc/apt/sources.list.d").glob("*"), root / "etc/apt/sources.list"]:
        old.unlink(missing_ok=True)
    return Operator(tmp_path_factory.mktemp("operator"), booted_hub)


def sources(hub: booted.Hub, *lines: str) -> None:
    hub.write("/etc/apt/sources.list", "".join(f"{line}\n" for line in lines))


def remove(hub: booted.Hub, *names: str) -> None:
    hub.run("apt-get", "-q", "-y", "remove", *names, timeout=200)


LOCAL = "deb [trusted=yes] file:/srv/repository ./"


def test_from_nothing_to_a_mesh(operator: Operator, booted_hub: booted.Hub) -> None:
    hub = booted_hub
    remove(hub, *GONE)
    assert not (hub.root / "usr/bin/python3").is_symlink()
    text = operator("plan", code=2)
    assert "  python3: (absent) -> python3\n" in text
    assert "  wireguard-tools: (absent) -> wg, wg-quick\n" in text
    assert "iproute2" not in text, "that one is there"
    sources(hub, "deb [trusted=yes] http://127.0.0.1:9/debian stable main")
    text = operator("apply", "--yes", code=3)
    assert "could not be installed: its package mirror cannot be reached" in text
    assert "Traceback" not in text
    sources(hub, LOCAL)
    assert "Applied" in operator("apply", "--yes")
    assert "Nothing to do" in operator("plan")
    assert hub.run("systemctl", "is-enabled", "wg-quick@wg1").stdout == b"enabled\n"
    assert "none failed" in operator("verify")
    assert "anna" in operator("status")


def test_each_way_to_the_password(operator: Operator, tmp_path: Path) -> None:
    (operator.folder / "sudo").write_text(PASSWORD + "\n")
    (operator.folder / "sudo").chmod(0o600)
    for source in ("{env: MW_SUDO}", "{file: sudo}", f"{{command: [printf, '%s', '{PASSWORD}']}}"):
        operator.write("admin", become_password=source)
        assert "Nothing to do" in operator("plan", MW_SUDO=PASSWORD)
    operator.write("admin", become_password="{env: MW_SUDO}")
    text = operator("plan", code=1, MW_SUDO="wrong")
    assert "sudo did not take the password of admin" in text
    assert "MW_SUDO is not set" in operator("plan", code=1)
    operator.write("admin")
    assert "sudo wants a password of admin" in operator("plan", code=1)
    operator.write("keyless")


def test_what_is_lost_later_is_installed_again_and_the_mesh_stays(operator: Operator, booted_hub: booted.Hub) -> None:
    hub = booted_hub
    saved = hub.run("cat", "/etc/wireguard/wg1.conf").stdout
    remove(hub, "nftables", "wireguard-tools")
    text = operator("plan", code=2)
    assert "the hub cannot be read without nft, wg" in text
    assert "0 to create, 1 to update, 0 to delete" in text
    assert hub.run("ip", "-br", "link", "show", "wg1").returncode == 0
    assert hub.run("cat", "/etc/wireguard/wg1.conf").stdout == saved
    assert "Applied 1 change" in operator("apply", "--yes")
    operator("apply", "--yes")
    assert "Nothing to do" in operator("plan")
    assert hub.run("cat", "/etc/wireguard/wg1.conf").stdout == saved
    remove(hub, "conntrack")
    text = operator("plan", code=2)
    assert "0 to create, 1 to update, 0 to delete" in text
    assert "waiting" not in text, "the rest can be read without it"
