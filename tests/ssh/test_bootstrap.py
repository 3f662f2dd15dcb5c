"""What is missing on the hub is planned and installed, by a shell script, on recorded systems with a fake dnf and apt.

The programs that the script starts stand in a folder of their own, first on the PATH: they write down how they were
called and answer as told.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshwright.desired.packages import PROGRAMS
from meshwright.desired.resource import Resource
from meshwright.errors import HostError
from meshwright.io.host import Host
from meshwright.io.process import Done
from meshwright.plan import plan
from meshwright.plan.plan import Change
from meshwright.providers import bootstrap

HERE = Path(__file__).parent
ID = "hub/packages/hub-1"
FEW = {"python3": ["python3"], "iproute2": ["ip"]}


@dataclass(frozen=True)
class Bare:
    """A machine that has a shell, some programs and an os-release; what is started is written to `log`."""

    folder: Path
    name: str = "hub-1"
    python: str = "python3"

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        release = str(self.folder / "os-release").encode()
        script = stdin.replace(b"/etc/os-release", release).replace(b"PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin;", b"")
        done = subprocess.run(
            [shutil.which("sh") or "sh", *argv[1:]],
            input=script, capture_output=True, timeout=timeout,
            env={"PATH": f"{self.folder}/bin"},
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr.decode())

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        raise NotImplementedError

    def fresh(self) -> Host | None:
        return None

    def program(self, name: str, does: str = "") -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $@" >>{self.folder}/log\n{does}\n')
        path.chmod(0o755)

    @property
    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()


def bare(folder: Path, system: str) -> Bare:
    """A recorded system of tests/ssh/systems with what is there of coreutils that the script may use."""
    here = Bare(folder)
    shutil.copy(HERE / "systems" / system, folder / "os-release")
    (folder / "bin").mkdir()
    for name in ("sleep", "cat", "chmod"):
        (folder / "bin" / name).symlink_to(shutil.which(name) or name)
    return here


def change(before: dict[str, list[str]] | None) -> Change:
    return Change(ID, before, PROGRAMS)


def makes(here: Bare, *programs: str) -> str:
    """Shell: these programs are there afterwards."""
    return "\n".join(f"echo '#!/bin/sh' >{here.folder}/bin/{p}; chmod +x {here.folder}/bin/{p}" for p in programs)


@pytest.mark.parametrize("system", ["fedora-42", "rhel-9", "rocky-9", "centos-stream-10", "almalinux-8"])
def test_fedora_and_its_relatives_by_dnf_and_its_names(system: str, tmp_path: Path) -> None:
    here = bare(tmp_path, system)
    here.program("dnf", makes(here, "conntrack", "nft", "wg", "wg-quick"))
    result = bootstrap.install(here, change(FEW))
    assert (result.ok, result.attrs) == (True, PROGRAMS), result
    assert here.log == ["dnf -q -y install conntrack-tools nftables wireguard-tools"]


@pytest.mark.parametrize("system", ["debian-12", "ubuntu-24.04", "raspbian-12", "linuxmint-22"])
def test_debian_and_its_relatives_by_apt_get(system: str, tmp_path: Path) -> None:
    here = bare(tmp_path, system)
    here.program(
        "apt-get",
        f'test "$DEBIAN_FRONTEND" = noninteractive || exit 9\n{makes(here, "conntrack", "nft", "wg", "wg-quick")}',
    )
    result = bootstrap.install(here, change(FEW))
    assert (result.ok, result.attrs) == (True, PROGRAMS), result
    update, install = here.log
    assert update.endswith(" update")
    assert "DPkg::Lock::Timeout" in install
    assert install.endswith("--no-install-recommends install conntrack nftables wireguard-tools")


def test_an_update_that_fails_is_no_end_where_the_packages_can_be_had(tmp_path: Path) -> None:
    here = bare(tmp_path, "debian-12")
    made = makes(here, "conntrack", "nft", "wg", "wg-quick")
    here.program("apt-get", f'case "$*" in *update) echo "E: broken repository" >&2; exit 100;; esac\n{made}')
    assert bootstrap.install(here, change(FEW)).ok


@pytest.mark.parametrize("system", ["arch", "alpine-3.22", "nixos-25.05", "opensuse-15.6"])
def test_any_other_system_is_told_what_to_install(system: str, tmp_path: Path) -> None:
    here = bare(tmp_path, system)
    result = bootstrap.install(here, change(FEW))
    assert not result.ok
    assert result.why.startswith("hub-1: nothing can be installed by meshwright on ")
    assert "conntrack nftables wireguard-tools" in result.hint


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            "E: Failed to fetch http://deb/x.deb  Temporary failure resolving 'deb.debian.org'",
            "mirror cannot be reached",
        ),
        ("Errors during downloading metadata for repository 'baseos':\n  - Curl error (6)", "mirror cannot be reached"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7", "another program"),
        ("E: Unable to locate package wireguard-tools", "do not have all of them"),
        ("Error: Unable to find a match: wireguard-tools", "do not have all of them"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.\nNo space left on device", "disk is full"),
        ("E: dpkg was interrupted, you must manually run 'dpkg --configure -a'", "interrupted"),
        ("E: Unmet dependencies. Try 'apt --fix-broken install' with no packages.", "unmet dependencies"),
        ("W: a warning\nE: something new", "E: something new"),
        ("", "said nothing"),
    ],
)
def test_what_the_package_manager_says_becomes_one_sentence(said: str, why: str, tmp_path: Path) -> None:
    here = bare(tmp_path, "debian-12")
    (tmp_path / "said").write_text(said)
    here.program("apt-get", f'case "$*" in *update) exit 0;; esac\ncat {tmp_path}/said >&2; exit 100')
    result = bootstrap.install(here, change(FEW))
    assert not result.ok
    assert result.why.startswith("hub-1: conntrack nftables wireguard-tools could not be installed: ")
    assert why in result.why
    assert "\n" not in result.why + result.hint
    assert result.hint


def test_a_script_that_breaks_off_does_nothing(tmp_path: Path) -> None:
    """What arrives only in part, because the connection broke, is not run in part."""
    here = bare(tmp_path, "debian-12")
    here.program("apt-get")
    whole = bootstrap._INSTALL.encode()
    for end in range(0, len(whole) - len(b'install "$@" </dev/null\n'), 40):
        here.run(["sh", "-s", "nftables"], stdin=whole[:end])
    assert not (tmp_path / "log").exists()


def test_a_hub_without_python_is_planned(tmp_path: Path) -> None:
    here = bare(tmp_path, "debian-12")
    for program in ("ip", "nft"):
        here.program(program)
    conf = tmp_path / "wg1.conf"
    asked = {ID: PROGRAMS}
    fresh = bootstrap.look(here, asked, [str(conf)])
    there = {"nftables": ["nft"], "iproute2": ["ip"]}
    assert fresh["resources"] == {ID: there}
    assert not fresh["used"]
    wanted = {ID: Resource(ID, PROGRAMS), "hub/table/t": Resource("hub/table/t", {"live": {}})}
    todo = plan.make(wanted, bootstrap.blind(fresh, wanted))
    assert [(c.id, c.verb) for c in todo.changes] == [(ID, "update"), ("hub/table/t", "create")]
    conf.touch()
    had = bootstrap.look(here, asked, [str(conf)])
    todo = plan.make(wanted, bootstrap.blind(had, wanted))
    assert [c.id for c in todo.changes] == [ID]
    assert [why.kind for why in todo.blocked.values()] == ["waits"]
    assert "python3" in todo.blocked["hub/table/t"].why
    assert os.listdir(tmp_path)


def test_not_even_a_shell(tmp_path: Path) -> None:
    class Broken(Bare):
        def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
            return Done(127, b"", "sh: not found")

    with pytest.raises(HostError, match="not even a shell"):
        bootstrap.look(Broken(tmp_path), {ID: PROGRAMS}, [])


def test_packages_prove_nothing_about_a_mesh() -> None:
    """A hub that was made anew has them as well: the guard still sees that it reads empty."""
    there = {
        ID: Resource(ID, PROGRAMS),
        "gateway/forward/m": Resource("gateway/forward/m", {"live": {}}, after=("hub/interface/wg1",)),
    }
    wanted = {**there, "hub/interface/wg1": Resource("hub/interface/wg1", {"live": {}})}
    assert plan.make(wanted, there).guard == ("hub reads empty while gateway shows that this mesh was applied",)
