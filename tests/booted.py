"""A hub with real systemd and sshd, and peers beside it: systemd-nspawn on network namespaces. Root only.

One segment 192.0.2.0/24 (a bridge in a namespace of its own, where the operator stands too, at .1) joins the hub (.10)
and the peers. The hub's file system is a layer over this machine's, in memory, without its units, keys and secrets.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshwright.io.host import Namespace
from meshwright.io.ssh import Ssh, control_folder
from support import machine

OPERATOR, HUB = "192.0.2.1", "192.0.2.10"
PASSWORD = "correct horse"  # of the user `admin`, for sudo
USERS = {"admin": "ALL=(ALL) ALL", "keyless": "ALL=(ALL) NOPASSWD: ALL", "nobody2": ""}
PYTHON = "/usr/bin/python3"
# Under cgroup v2 each boot gets a group of its own: what an earlier one left behind cannot be entered again.
OWN_GROUP = 'if [ -e /sys/fs/cgroup/cgroup.procs ]; then mkdir "$0" && echo $$ >"$0/cgroup.procs"; fi; exec "$@"'
UNWANTED = ("systemd-logind", "getty@tty1", "console-getty", "systemd-resolved", "systemd-networkd", "nftables")
SLOW = 20 if os.environ.get("MESHWRIGHT_IN_VM") else 1
"""How many times slower than usual this machine is, for time limits."""
RESTART = 133  # what nspawn ends with when the machine inside asks for a reboot


def run(
    argv: Sequence[str], *, check: bool = True, stdin: bytes = b"", timeout: float = 60 * SLOW
) -> subprocess.CompletedProcess[bytes]:
    """A program with its output; a failure shows what it said."""
    done = subprocess.run(list(argv), input=stdin, capture_output=True, timeout=timeout)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(argv)}: {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}")
    return done


@dataclass
class Site:
    """The segment. `peer` adds a host to it; what it holds ends with it."""

    folder: Path
    stack: ExitStack
    ground: Namespace
    links: int = 0

    def host(self, name: str, address: str) -> Namespace:
        """A further machine on the segment, in namespaces: `wg-quick up` in it is a friend's own."""
        holder = self.stack.enter_context(machine(name))
        self.wire(holder.pid, address)
        return holder

    def wire(self, pid: int, address: str) -> str:
        """Give the namespace of `pid` an interface eth0 on the segment -> the name of its other end."""
        self.links += 1
        near = f"to{self.links}"
        # a machine keeps its hardware address over a reboot: others know it
        far = f"eth0 address 02:00:{':'.join(f'{int(part):02x}' for part in address.split('.'))}"
        for words in (
            f"link add {near} netns /proc/{self.ground.pid}/ns/net type veth peer name {far} netns /proc/{pid}/ns/net",
            f"-n /proc/{self.ground.pid}/ns/net link set {near} master br0 up",
        ):
            self._ip(words)
        for words in (f"address add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            run(["nsenter", "-t", str(pid), "-n", "ip", *words.split()])
        return near

    def _ip(self, words: str) -> None:
        if words.startswith("-n "):
            _, place, rest = words.split(" ", 2)
            run(["nsenter", f"--net={place}", "ip", *rest.split()])
        else:
            run(["ip", *words.split()])


@dataclass
class Hub:
    """The booted machine. `ssh` is the argument list up to the command; `config` a file for `ssh -F`, alias `hub`."""

    site: Site
    root: Path
    holder: subprocess.Popen[bytes] | None = None
    machine: subprocess.Popen[bytes] | None = None
    boots: int = 0
    cable: str = ""
    extra: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.site.folder / "ssh_config"

    @property
    def key(self) -> Path:
        return self.site.folder / "id"

    @property
    def ssh(self) -> list[str]:
        return ["ssh", "-F", str(self.config), "hub"]

    @property
    def group(self) -> Path:
        return Path(f"/sys/fs/cgroup/hub-{os.getpid()}-{self.boots}")

    def host(self, user: str = "root", **more: Any) -> Ssh:
        """This hub as a Host over SSH; more: as Ssh takes it (become, password, ...)."""
        return Ssh(HUB, user=user, config=self.config, **more)

    @property
    def environment(self) -> dict[str, str]:
        """What lets the program find this hub where a mesh file says `connection`: below, or leaves it out."""
        return {"MESHWRIGHT_SSH_CONFIG": str(self.config)}

    def connection(self, user: str = "root", **more: str) -> str:
        """The value of `hub.connection` that leads here, together with `environment`; more: further keys as YAML."""
        keys = {"kind": "ssh", "host": HUB, "user": user, "become": "false" if user == "root" else "true", **more}
        return "{" + ", ".join(f"{key}: {value}" for key, value in keys.items()) + "}"

    def hang_up(self) -> None:
        """End the shared connections of Ssh to this hub: after a crash they would wait for it."""
        for socket in (control_folder() or Path("/nonexistent")).glob(f"{self.host().socket}*"):
            run(["ssh", "-S", str(socket), "-O", "exit", HUB], check=False)

    @property
    def init(self) -> int:
        """The pid, seen from here, of the machine's systemd."""
        assert self.machine
        children = Path(f"/proc/{self.machine.pid}/task/{self.machine.pid}/children").read_text().split()
        return int(children[0])

    def run(
        self, *argv: str, check: bool = True, stdin: bytes = b"", timeout: float = 60 * SLOW
    ) -> subprocess.CompletedProcess[bytes]:
        """A program inside, not by ssh."""
        inside = ["nsenter", "-t", str(self.init), "-n", "-m", "-u", "-p", "-i", "--", *argv]
        return run(inside, check=check, stdin=stdin, timeout=timeout)

    def start(self) -> None:
        """Power on: new network namespace, so nothing in the kernel outlives a reboot. Back when sshd answers."""
        self.boots += 1
        self.holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "-n", "sleep", "infinity"], stdin=subprocess.DEVNULL
        )
        mine = os.readlink("/proc/self/ns/net")
        _until(
            lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != mine and _is_sleep(self.holder.pid),
            10,
            "namespace",
        )
        self.cable = self.site.wire(self.holder.pid, HUB)
        with (self.site.folder / "console.log").open("ab") as log:
            self.machine = subprocess.Popen(
                ["sh", "-c", OWN_GROUP, str(self.group),
                 # whoever kills the tests ends the machine, too
                 "setpriv", "--pdeathsig", "TERM",
                 "systemd-nspawn", "-q", "-D", str(self.root), "--boot", f"--machine=hub-{os.getpid()}",
                 f"--network-namespace-path=/proc/{self.holder.pid}/ns/net", "--register=no", "--keep-unit",
                 "--bind=/dev/net/tun", "--capability=CAP_NET_ADMIN", "--resolv-conf=off", "--timezone=off",
                 *self.extra,
                 "systemd.unit=multi-user.target"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"},
            )  # fmt: skip
        _until(self.up, 60 * SLOW, f"sshd did not answer; {self.site.folder}/console.log")

    def up(self) -> bool:
        """Whether root can log in by ssh."""
        assert self.machine
        assert self.machine.poll() is None, (self.site.folder / "console.log").read_text()[-2000:]
        return run([*self.ssh, "true"], check=False).returncode == 0

    def reboot(self) -> None:
        """An orderly reboot, as `systemctl reboot` does it."""
        self.run("systemctl", "reboot", check=False)
        assert self.machine
        assert self.machine.wait(60 * SLOW) in (0, RESTART)
        self._unplug()
        self.start()

    def crash(self) -> None:
        """Power off without warning."""
        if self.machine and self.machine.poll() is None:
            os.kill(self.init, signal.SIGKILL)
            self.machine.wait(20 * SLOW)
        self._unplug()

    def _unplug(self) -> None:
        self.hang_up()
        if self.holder:
            # a process inside may keep the old network namespace, which must not answer for the address any more
            self.site.ground.run(["ip", "link", "delete", self.cable])
            self.holder.kill()
            self.holder.wait(10)
            self.holder = None
        for folder, _, _ in os.walk(self.group, topdown=False):
            with suppress(OSError):  # a process that is not quite gone: the group is empty and harmless
                Path(folder).rmdir()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of the machine, also while it is off."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)


def _is_sleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() == "sleep"


def _until(true: object, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        if time.monotonic() > end:
            raise AssertionError(what)
        time.sleep(0.05)


@contextmanager
def site(folder: Path | None = None) -> Iterator[Site]:
    """A segment with nobody on it but the operator."""
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mw-site-")))
        ground = stack.enter_context(machine("segment"))
        for words in ("link add br0 type bridge", f"address add {OPERATOR}/24 dev br0", "link set br0 up"):
            ground.run(["ip", *words.split()])
        yield Site(place, stack, ground)


@contextmanager
def hub(at: Site, *, boot: bool = True) -> Iterator[Hub]:
    """The hub of a site. Not booted, its file system can be changed first."""
    layer = at.folder / "layer"
    layer.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(layer)])
    try:
        root = _layer(layer)
        here = Hub(at, root)
        _furnish(here)
        try:
            if boot:
                here.start()
            yield here
        finally:
            here.crash()
            run(["umount", "-R", str(root)], check=False)
    finally:
        run(["umount", "-l", str(layer)], check=False)


def _layer(layer: Path) -> Path:
    for name in ("up", "work", "root"):
        (layer / name).mkdir()
    root = layer / "root"
    options = f"lowerdir=/,upperdir={layer}/up,workdir={layer}/work"
    run(["mount", "-t", "overlay", "overlay", "-o", options, str(root)])
    return root


def _furnish(here: Hub) -> None:
    root, folder = here.root, here.site.folder
    units = root / "etc/systemd/system"
    for old in [
        *units.glob("*.wants"),
        *units.glob("*.requires"),
        root / "etc/meshwright",
        root / "var/lib/meshwright",
    ]:
        shutil.rmtree(old, ignore_errors=True)
    for old in [
        *(root / "etc/wireguard").glob("*"),
        *(root / "etc/ssh").glob("ssh_host_*"),
        *(root / "etc/sysctl.d").glob("*"),
    ]:
        old.unlink()
    # what this machine's root starts with every shell (a version manager takes a fifth of a second) is not the hub's
    for old in (root / "root").glob(".*rc"), (root / "root").glob(".*profile"), (root / "root").glob(".ssh/*"):
        for path in old:
            path.unlink()
    for name in UNWANTED:
        (units / f"{name}.service").unlink(missing_ok=True)
        if name != "nftables":
            (units / f"{name}.service").symlink_to("/dev/null")
    wants = units / "multi-user.target.wants"
    wants.mkdir()
    (wants / "ssh.service").symlink_to("/lib/systemd/system/ssh.service")
    here.write("/etc/fstab", "")
    here.write("/etc/machine-id", "")
    here.write("/etc/hostname", "hub-1\n")
    here.write("/etc/hosts", "127.0.0.1 localhost hub-1\n")
    here.write("/etc/nftables.conf", "#!/usr/sbin/nft -f\nflush ruleset\n", 0o755)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / "etc/ssh/ssh_host_ed25519_key")])
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(here.key)])
    here.write("/etc/ssh/keys", here.key.with_suffix(".pub").read_text())
    here.write(
        "/etc/ssh/sshd_config.d/here.conf",
        "HostKey /etc/ssh/ssh_host_ed25519_key\nAuthorizedKeysFile /etc/ssh/keys\nStrictModes no\nUseDNS no\n",
    )
    for user, rights in USERS.items():
        run(["chroot", str(root), "useradd", "-m", "-s", "/bin/bash", user])
        if rights:
            here.write(f"/etc/sudoers.d/{user}", f"{user} {rights}\n", 0o440)
    run(["chroot", str(root), "chpasswd"], stdin=f"admin:{PASSWORD}\n".encode())
    _ssh_config(here, folder)


def _ssh_config(here: Hub, folder: Path) -> None:
    pipe = f"{sys.executable} -I -S {Path(__file__).parent / 'pipe.py'}"
    public = (here.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"{HUB} {' '.join(public)}\n")
    (folder / "ssh_config").write_text(
        f"Host hub {HUB}\n  HostName {HUB}\n  User root\n  IdentityFile {here.key}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n  ConnectTimeout 10\n"
        f"  ProxyCommand nsenter -t {here.site.ground.pid} -n {pipe} %h %p\n"
    )
