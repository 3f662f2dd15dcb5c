"""A machine that cannot hold a lab gets the one sentence that mends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from meshwright.errors import LabError
from meshwright.lab import entry, preflight


def test_every_fault_has_a_next_step() -> None:
    for fault in [*preflight.SENTENCES, "something new"]:
        text, hint = preflight._sentence(fault)
        assert text
        assert hint


def test_missing_tools_name_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool, path: None if tool in ("nft", "dnsmasq") else f"/bin/{tool}")
    with pytest.raises(LabError, match="not installed: nft, dnsmasq") as caught:
        preflight.check(4)
    assert caught.value.hint == "install it: sudo apt install dnsmasq-base nftables"


def test_too_many_tunnels_for_inotify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "limit"
    file.write_text("128\n")
    monkeypatch.setattr(preflight, "INSTANCES", file)
    preflight._watches(100)
    if not Path("/sys/module/wireguard").exists():
        with pytest.raises(LabError, match="201 tunnels") as caught:
            preflight._watches(201)
        assert "max_user_instances=418" in caught.value.hint


def trial(setup: str, mode: str) -> str:
    """The trial inside namespaces that `setup` has spoilt."""
    argv = ["unshare", "-m", "--propagation", "private", "--", "sh", "-ec", f'{setup}\nexec "$@"', "sh"]
    done = subprocess.run([*argv, *entry.command("trial", mode)], capture_output=True, timeout=60, check=False)
    return str(json.loads(done.stdout)["fault"])


@pytest.mark.lab
@pytest.mark.skipif(os.geteuid() != 0, reason="spoiling a machine needs root")
@pytest.mark.parametrize(
    ("setup", "mode", "fault"),
    [
        ("true", "root", ""),
        ("mount -t tmpfs none /proc/driver", "rootless", "proc"),
        ("mount -t tmpfs none /sys/firmware", "rootless", "sys"),
        ("mount -t tmpfs none /dev; mknod /dev/null c 1 3", "root", "tun-missing"),
        ("echo 0 > /proc/sys/user/max_net_namespaces", "root", "userns"),
    ],
)
def test_trial(setup: str, mode: str, fault: str) -> None:
    if "sys/user" in setup:  # the limit of a user namespace of its own, so that the machine's stays
        argv = ["unshare", "-Urm", "--", "sh", "-ec", f'{setup}\nexec "$@"', "sh", *entry.command("trial", mode)]
        done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
        assert json.loads(done.stdout)["fault"] == fault
        return
    if fault == "tun-missing" and Path("/sys/module/wireguard").exists():
        pytest.skip("the kernel has WireGuard: no tun is needed")
    assert trial(setup, mode) == fault


@pytest.mark.lab
def test_this_machine_holds_a_lab() -> None:
    assert preflight.check(4) == (os.geteuid() != 0)
    assert sys.platform == "linux"
