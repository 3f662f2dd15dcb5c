"""Can this machine hold a lab? Every way in which it cannot has one sentence that mends it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from meshwright.errors import HostError, LabError
from meshwright.io import process
from meshwright.lab import entry

PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "wg": "wireguard-tools",
    "wg-quick": "wireguard-tools",
    "nsenter": "util-linux",
    "dnsmasq": "dnsmasq-base",
    "ping": "iputils-ping",
}
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
SPARE = 16
# what inside/trial.py reports -> what it means, what to do
SENTENCES = {
    "userns": (
        "this user may not make namespaces (user namespaces are switched off)",
        "run it as root, or switch them on: "
        "sudo sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000",
    ),
    "apparmor": (
        "this user may not make namespaces (AppArmor restricts them)",
        "run it as root, or allow it: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    "proc": (
        "a fresh /proc cannot be mounted here (parts of /proc are masked, as in a container)",
        "start the container with its /proc unmasked "
        "(docker: --security-opt systempaths=unconfined; podman: --security-opt unmask=ALL)",
    ),
    "sys": (
        "a fresh /sys cannot be mounted here (parts of /sys are masked, as in a container)",
        "start the container with its /sys unmasked (docker: --privileged; podman: --security-opt unmask=ALL)",
    ),
    "tmpfs": ("a tmpfs cannot be mounted here", "start the container with --privileged, or run on the machine itself"),
    "veth": ("this kernel has no veth or bridge devices", "load them: sudo modprobe -a veth bridge"),
    "nft": ("nftables does not work here", "load it: sudo modprobe -a nf_tables nft_chain_nat nft_masq"),
    "tun-missing": ("/dev/net/tun is missing and there is no WireGuard in the kernel", "load it: sudo modprobe tun"),
    "tun-closed": (
        "/dev/net/tun is closed to this user and there is no WireGuard in the kernel",
        "open it: sudo chmod 0666 /dev/net/tun",
    ),
    "wireguard-go": (
        "there is no WireGuard in the kernel and wireguard-go is not installed",
        "install it: sudo apt install wireguard-go",
    ),
}


def check(tunnels: int) -> bool:
    """Whether the lab needs a user namespace of its own. LabError names what is missing and mends it."""
    _tools()
    modes = ["rootless"] if os.geteuid() else ["root", "rootless"]
    faults: list[str] = []
    for mode in modes:
        fault = _trial(mode)
        if not fault:
            _watches(tunnels)  # after the trial, which loads the kernel's WireGuard where there is one
            return mode == "rootless"
        faults.append(fault)
    chosen = faults[0] if faults[0] != "userns" else faults[-1]
    raise LabError(*_sentence(chosen))


def _sentence(fault: str) -> tuple[str, str]:
    if fault == "userns" and _restricted():
        fault = "apparmor"
    known = SENTENCES.get(fault)
    return known or (
        f"this machine cannot hold a lab: {fault}",
        "run it as root on the machine itself, not in a container",
    )


def _restricted() -> bool:
    try:
        return Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").read_text().strip() == "1"
    except OSError:
        return False


def _tools() -> None:
    path = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"
    missing = [tool for tool in PACKAGES if not shutil.which(tool, path=path)]
    if missing:
        packages = " ".join(sorted({PACKAGES[t] for t in missing}))
        raise LabError(f"not installed: {', '.join(missing)}", f"install it: sudo apt install {packages}")


def _watches(tunnels: int) -> None:
    """wireguard-go takes one inotify instance per tunnel, and a user has 128 of them on most systems."""
    limit = int(INSTANCES.read_text())
    if tunnels + SPARE <= limit or Path("/sys/module/wireguard").exists():
        return
    raise LabError(
        f"{tunnels} tunnels by wireguard-go need more inotify instances than a user may have here ({limit})",
        f"allow more: sudo sysctl -w fs.inotify.max_user_instances={2 * tunnels + SPARE}",
    )


def _trial(mode: str) -> str:
    """Try everything once, in namespaces that end at once. Gives the first thing that did not work, "" when all did."""
    try:
        done = process.run(entry.command("trial", mode), timeout=60)
    except HostError as error:
        return error.message
    try:
        return str(json.loads(done.out)["fault"])
    except (ValueError, KeyError, TypeError):
        return (done.err.strip().splitlines() or [f"the trial ended with code {done.code}"])[-1]
