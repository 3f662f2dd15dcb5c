"""A hub over real SSH: who gets in and how, and what is said when he does not. Nothing secret is seen on the way."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import booted
from booted import HUB, PASSWORD
from meshwright.desired.resource import Resource
from meshwright.errors import HostError
from meshwright.io.host import Lost, remote
from meshwright.io.ssh import Ssh, control_folder
from meshwright.providers.hub import Hub

pytestmark = pytest.mark.booted
SHELLS = {"nologin": "sbin", "python3": "bin"}


def look(host: Ssh) -> list[str]:
    """One read; gives the kinds of what is there."""
    id = "hub/packages/hub"
    wanted = {id: Resource(id, {"nftables": ["nft"]})}
    return list(Hub(host, "wg1", "small_mesh").read(wanted))


@contextmanager
def kept(path: Path) -> Iterator[Path]:
    """Whatever the block does to a file, it is as before afterwards."""
    before = path.read_bytes() if path.exists() else None
    try:
        yield path
    finally:
        path.unlink() if before is None else path.write_bytes(before)


KILL = """
import contextlib, os
for pid in filter(str.isdigit, os.listdir("/proc")):
    with contextlib.suppress(OSError):
        if open(f"/proc/{pid}/comm").read() == "sshd\\n":
            os.kill(int(pid), 9)
"""


def cut(hub: booted.Hub) -> None:
    """Kill sshd and all its connections, and wait until systemd has started it again."""
    hub.run("python3", "-c", KILL)
    booted._until(lambda: not hub.run("systemctl", "is-active", "ssh", check=False).returncode, 20, "no sshd")


def logins(hub: booted.Hub) -> int:
    """How often somebody logged in since the machine booted: TCP connections, that is."""
    log = hub.run("journalctl", "-u", "ssh", "--no-pager", "-o", "cat").stdout.decode()
    return log.count("Accepted publickey")


@pytest.fixture(autouse=True)
def _own_connection(booted_hub: booted.Hub) -> Iterator[None]:
    booted_hub.hang_up()
    yield
    booted_hub.hang_up()


def test_calls_share_a_connection_and_fresh_shares_none(booted_hub: booted.Hub) -> None:
    before = logins(booted_hub)
    host = booted_hub.host()
    for _ in range(3):
        assert look(host) == ["hub/packages/hub"]
    assert logins(booted_hub) == before + 1
    other = host.fresh()
    assert other.run(["id", "-u"]).out == b"0\n"
    assert logins(booted_hub) == before + 2
    folder = control_folder()
    assert folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.glob(f"{other.socket}*")] == []


def test_users_who_become_root(booted_hub: booted.Hub) -> None:
    """root needs no sudo, keyless no password, admin his: once by sudo's own rules, once with its newer default."""
    assert booted_hub.host("root", become=True).run(["id", "-u"]).out == b"0\n"
    assert booted_hub.host("keyless", become=True).run(["id", "-u"]).out == b"0\n"
    assert booted_hub.host("keyless").run(["id", "-un"]).out == b"keyless\n"
    payload = bytes(range(256)) * 200
    with kept(booted_hub.root / "etc/sudoers.d/pty") as rules:
        for text in ("", "Defaults use_pty\n", "Defaults timestamp_timeout=0\n", "admin ALL=(ALL) NOPASSWD: ALL\n"):
            rules.write_text(text)
            for user, word in (("admin", PASSWORD), ("keyless", "needs none"), ("root", "needs none")):
                host = booted_hub.host(user, become=True, password=lambda word=word: word)
                assert host.run(["cat"], stdin=payload).out == payload, (text, user)
                assert look(host) == ["hub/packages/hub"]


@pytest.mark.parametrize(
    ("user", "password", "said", "hint"),
    [
        ("admin", None, "sudo wants a password of admin", "connection.become_password"),
        ("admin", "wrong", "sudo did not take the password of admin", "correct what"),
        ("nobody2", "any", "nobody2 may not use sudo", "nobody2 ALL=(ALL) ALL"),
    ],
)
def test_sudo_refuses_in_one_sentence(
    booted_hub: booted.Hub, user: str, password: str | None, said: str, hint: str
) -> None:
    host = booted_hub.host(user, become=True, password=(lambda: password) if password else None)
    with pytest.raises(HostError) as caught:
        look(host)
    assert caught.value.message == f"{HUB}: {said}"
    assert hint in caught.value.hint


def test_sudo_that_wants_a_terminal_and_sudo_that_is_not_there(booted_hub: booted.Hub) -> None:
    with kept(booted_hub.root / "etc/sudoers.d/tty") as rules:
        rules.write_text("Defaults requiretty\n")
        with pytest.raises(HostError, match="requiretty") as caught:
            look(booted_hub.host("keyless", become=True))
        assert "!requiretty" in caught.value.hint
    sudo = booted_hub.root / "usr/bin/sudo"
    sudo.rename(sudo.with_name("sudo.away"))
    try:
        with pytest.raises(HostError, match="there is no sudo, and keyless is not root"):
            look(booted_hub.host("keyless", become=True))
        assert look(booted_hub.host("root", become=True)), "root needs none"
    finally:
        sudo.with_name("sudo.away").rename(sudo)


def test_a_payload_never_becomes_a_password(booted_hub: booted.Hub) -> None:
    """A wrong password is one failed attempt, not three with lines of the payload as the second and third."""
    host = booted_hub.host("admin", become=True, password=lambda: "wrong")
    booted_hub.run("journalctl", "--rotate")
    with pytest.raises(HostError, match="did not take"):
        host.run(["cat"], stdin=b"first line\nsecond line\nthird line\n")
    log = booted_hub.run("journalctl", "--no-pager", "-o", "cat", "-n", "40").stdout.decode()
    assert "1 incorrect password attempt" in log
    assert "2 incorrect" not in log
    assert "3 incorrect" not in log


def test_shells_that_greet_and_shells_that_are_no_sh(booted_hub: booted.Hub) -> None:
    root = booted_hub.root
    shells = [name for name in ("fish", "tcsh", "zsh") if (root / f"usr/bin/{name}").exists()]
    with kept(root / "home/keyless/.bashrc") as bashrc, kept(root / "etc/passwd") as passwd:
        bashrc.write_text("echo Welcome; echo '{\"result\": {}}'; echo oh >&2\n")
        assert look(booted_hub.host("keyless", become=True)) == ["hub/packages/hub"]
        for shell in shells:
            text = passwd.read_text()
            passwd.write_text(text.replace("/home/keyless:/bin/bash", f"/home/keyless:/usr/bin/{shell}"))
            assert look(booted_hub.host("keyless", become=True)) == ["hub/packages/hub"], shell
            passwd.write_text(text)


def test_a_login_shell_that_takes_no_commands(booted_hub: booted.Hub) -> None:
    host = booted_hub.host("keyless", become=True)
    with kept(booted_hub.root / "home/keyless/.bashrc") as bashrc, kept(booted_hub.root / "etc/passwd") as passwd:
        bashrc.write_text("exit 0\n")
        with pytest.raises(HostError, match=r"no command can be run there: the login shell ended with code 0$"):
            look(host)
        bashrc.unlink()
        for shell, said in (("nologin", "not available"), ("python3", "SyntaxError")):
            text = passwd.read_text()
            passwd.write_text(text.replace("/home/keyless:/bin/bash", f"/home/keyless:/usr/{SHELLS[shell]}/{shell}"))
            with pytest.raises(HostError, match=f"no command can be run there: .* code 1 and said .*{said}"):
                look(host.fresh())  # sshd asks for the shell once a connection
            passwd.write_text(text)


def test_a_config_for_other_kinds_of_calls_does_not_spoil_ours(booted_hub: booted.Hub, tmp_path: Path) -> None:
    """What sends ssh to the background, without a command or without stdin; with and without a shared connection."""
    for number, option in enumerate(("StdinNull yes", "ForkAfterAuthentication yes", "SessionType none")):
        config = variant(booted_hub, tmp_path, f"s{number}", lambda text, option=option: f"{text}  {option}\n")
        for alone in ("", "apart"):
            host = Ssh(HUB, "root", config=config, alone=alone)
            assert look(host) == ["hub/packages/hub"], option
        booted.run(["ssh", "-F", str(config), *host._words("ask")[4:-1], "-O", "exit", HUB], check=False)


def variant(hub: booted.Hub, folder: Path, name: str, change: Callable[[str], str]) -> Path:
    """An ssh config that differs from the hub's own."""
    place = folder / name
    place.write_text(change(hub.config.read_text()))
    return place


def refused(hub: booted.Hub, config: Path, host: str = HUB, **more: Any) -> HostError:
    with pytest.raises(HostError) as caught:
        Ssh(host, "root", config=config, **more).run(["true"])
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def test_every_way_not_to_get_in(booted_hub: booted.Hub, tmp_path: Path) -> None:
    known = booted_hub.site.folder / "known_hosts"
    (tmp_path / "none").touch()
    keys = {"other": tmp_path / "other", "stranger": tmp_path / "stranger"}
    for key in keys.values():
        booted.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    public = keys["other"].with_suffix(".pub").read_text().split()[:2]
    (tmp_path / "changed").write_text(f"{HUB} {' '.join(public)}\n")

    def hosts(file: str) -> Callable[[str], str]:
        return lambda text: text.replace(str(known), str(tmp_path / file))

    error = refused(booted_hub, variant(booted_hub, tmp_path, "a", hosts("none")))
    assert "its host key is not known on this machine yet" in error.message
    error = refused(booted_hub, variant(booted_hub, tmp_path, "b", hosts("changed")))
    assert f"not the one in line 1 of {tmp_path}/changed" in error.message
    assert "ssh-keygen -lf" in error.hint
    stranger = variant(booted_hub, tmp_path, "c", lambda t: t.replace(str(booted_hub.key), str(keys["stranger"])))
    assert f"{HUB} does not let root in by publickey" in refused(booted_hub, stranger).message
    direct = variant(booted_hub, tmp_path, "d", lambda t: t.split("  ProxyCommand")[0])
    nobody = refused(booted_hub, direct, "127.0.0.1", port=9)
    assert nobody.message == "127.0.0.1: 127.0.0.1 refuses connections to port 9"
    assert "nobody knows an address" in refused(booted_hub, direct, "no-such-host.invalid").message
    assert (
        "Bad configuration option"
        in refused(booted_hub, variant(booted_hub, tmp_path, "e", lambda t: t + "  Nonsense yes\n")).message
    )


def test_a_jump_host_of_the_users_config_is_gone_through(booted_hub: booted.Hub, tmp_path: Path) -> None:
    """The hub is its own jump host: 127.0.0.1 seen from there. A jump host that is down is named."""
    public = (booted_hub.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    (tmp_path / "hosts").write_text(f"{HUB},127.0.0.1 {' '.join(public)}\n")
    own = booted_hub.config.read_text().replace(str(booted_hub.site.folder / "known_hosts"), str(tmp_path / "hosts"))
    plain = "".join(line for line in own.splitlines(True) if "Proxy" not in line and "HostName" not in line)
    behind = plain.replace(f"Host hub {HUB}", "Host inner") + "  HostName 127.0.0.1\n"
    config = tmp_path / "config"
    config.write_text(f"{own}\n{behind}  ProxyCommand ssh -F {config} -W %h:%p {HUB}\n")
    before = logins(booted_hub)
    assert look(Ssh("inner", "root", config=config)) == ["hub/packages/hub"]
    assert logins(booted_hub) == before + 2
    config.write_text(f"{own}\n{behind}  Port 9\n  ProxyCommand ssh -F {config} -W %h:%p {HUB}\n")
    assert "the jump host cannot connect to it: Connection refused" in refused(booted_hub, config, "inner").message
    config.write_text(f"{own}\n{behind}  ProxyCommand ssh -F {config} -p 9 -W %h:%p 127.0.0.1\nHost 127.0.0.1\n")
    error = refused(booted_hub, config, "inner", alone="anew")
    assert error.message == "inner: 127.0.0.1 refuses connections to port 9"


def test_a_stale_socket_and_a_folder_open_to_others_are_no_trouble(booted_hub: booted.Hub) -> None:
    host = booted_hub.host()
    look(host)
    folder = control_folder()
    assert folder
    (socket,) = folder.glob(f"{host.socket}*")
    pid = booted.run(["ssh", "-S", str(socket), "-O", "check", HUB]).stderr.decode().split("pid=")[1].split(")")[0]
    folder.chmod(0o755)
    os.kill(int(pid), 9)
    booted._until(lambda: not Path(f"/proc/{pid}").exists(), 10, "the master goes on")
    assert socket.exists()
    assert look(host) == ["hub/packages/hub"]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_connection_that_died_meanwhile_is_made_anew(booted_hub: booted.Hub) -> None:
    host = booted_hub.host()
    look(host)
    cut(booted_hub)
    assert look(host) == ["hub/packages/hub"]


@pytest.mark.parametrize("operation", ["read", "batch"])
def test_cut_in_the_middle(booted_hub: booted.Hub, operation: str) -> None:
    """A read that is cut is run again by its user; of anything else nobody knows how far it came, and that is said."""
    host = booted_hub.host(alone="cut" + operation)
    slow = "import time; time.sleep(30)"
    errors: list[HostError] = []

    def call() -> None:
        try:
            if operation == "read":
                host.run(["python3", "-c", slow])
            else:
                remote(host, "batch", {"steps": [["service", {"name": "slow.service", "action": "start"}]]})
        except HostError as error:
            errors.append(error)

    booted_hub.write("/etc/systemd/system/slow.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep 30\n")
    thread = threading.Thread(target=call)
    thread.start()
    started = "time.sleep" if operation == "read" else "/bin/sleep 30"
    booted._until(lambda: not booted_hub.run("pgrep", "-f", started, check=False).returncode, 20, "it did not start")
    cut(booted_hub)
    thread.join(20)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [Lost]
    assert "the connection was lost" in errors[0].message
    assert ("what was done there is not known" in errors[0].message) == (operation != "read")
    if operation != "read":
        assert "meshwright plan" in errors[0].hint


def test_no_secret_in_any_argument_list_or_log(booted_hub: booted.Hub) -> None:
    """Looked at from outside and inside during calls: neither the password nor anything of the payload."""
    secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0czA="
    host = booted_hub.host("admin", become=True, password=lambda: PASSWORD)
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    seen.add(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"))
                    seen.add(Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace"))
                except OSError:
                    continue
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        for _ in range(4):
            remote(host, "put", {"path": "/run/secret", "data": secret, "mode": 0o600})
            host.run(["sh", "-c", "sleep 0.1; cat >/dev/null"], stdin=secret.encode())
        with pytest.raises(HostError) as caught:
            remote(host, "put", {"path": "/proc/nothing", "data": secret, "mode": 0o600})
    finally:
        stop.set()
        thread.join()
    assert any("sudo\0-S" in text for text in seen), "the watch saw nothing of it"
    assert any("import sys,json" in text for text in seen)
    log = booted_hub.run("journalctl", "--no-pager", "-o", "cat").stdout.decode()
    assert "COMMAND=" in log
    for place in (*seen, log, caught.value.message + caught.value.hint):
        assert PASSWORD not in place
        assert secret not in place


ASK = """
import sys
from pathlib import Path
import click
from meshwright.cli.output import Output, Settings
from meshwright.io.ssh import Ssh
host = Ssh(sys.argv[1], sys.argv[2], become=True, config=Path(sys.argv[3]), terminal=Output(Settings(), False))
print("as", host.run(["id", "-un"]).out.decode().strip(), host.run(["id", "-u"]).out.decode().strip())
"""


def typed(argv: list[str], answers: list[tuple[str, str]]) -> str:
    """Run a program on a terminal of its own and answer what it asks; gives all that was on the screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(argv[0], argv)
    screen, todo, done = "", list(answers), 0
    end = time.monotonic() + 40
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            screen += os.read(terminal, 4096).decode(errors="replace")
        except OSError:
            break
        if todo and (place := screen.find(todo[0][0], done)) >= 0:
            done = place + 1
            time.sleep(0.2)  # what is typed before the echo is off is thrown away
            os.write(terminal, f"{todo.pop(0)[1]}\n".encode())
    else:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)
    assert not todo, screen
    return screen


def test_on_a_terminal_a_password_is_asked_for_once_and_a_host_key_too(booted_hub: booted.Hub, tmp_path: Path) -> None:
    ask = [sys.executable, "-c", ASK, HUB]
    config = booted_hub.config
    screen = typed([*ask, "admin", str(config)], [("Password of admin for sudo", PASSWORD)])
    assert "as root 0" in screen
    assert screen.count("Password of") == 1
    assert PASSWORD not in screen
    screen = typed([*ask, "admin", str(config)], [("Password of", "wrong"), ("Password of", PASSWORD)])
    assert "as root 0" in screen
    hosts = tmp_path / "hosts"
    hosts.touch()
    new = variant(
        booted_hub, tmp_path, "new", lambda t: t.replace(str(booted_hub.site.folder / "known_hosts"), str(hosts))
    )
    screen = typed([*ask, "keyless", str(new)], [("fingerprint", "no")])
    assert "its host key is not known on this machine yet" in screen
    assert hosts.read_text() == ""
    screen = typed([*ask, "keyless", str(new)], [("fingerprint", "yes")])
    assert "as root 0" in screen
    assert HUB in hosts.read_text()


def test_a_key_with_a_passphrase(booted_hub: booted.Hub, tmp_path: Path) -> None:
    key = tmp_path / "locked"
    booted.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "open sesame", "-f", str(key)])
    with kept(booted_hub.root / "etc/ssh/keys") as keys:
        keys.write_text(keys.read_text() + key.with_suffix(".pub").read_text())
        config = variant(booted_hub, tmp_path, "locked.conf", lambda t: t.replace(str(booted_hub.key), str(key)))
        assert "does not let root in" in refused(booted_hub, config).message
        ask = [sys.executable, "-c", ASK, HUB, "keyless", str(config)]
        screen = typed(ask, [("Enter passphrase", "open sesame")])
        assert "as root 0" in screen
        assert screen.count("Enter passphrase") == 1


def test_the_second_writer_waits_and_is_told_who_writes(booted_hub: booted.Hub) -> None:
    host = booted_hub.host()
    holder = subprocess.Popen(
        ["nsenter", "-t", str(booted_hub.init), "-m", "-p", "sh", "-c", "umask 077; exec flock "
         "/run/meshwright-wg1.lock sh -c 'echo anna@laptop, pid 7 >/run/meshwright-wg1.lock; exec sleep 4'"],
    )  # fmt: skip
    booted._until(
        lambda: b"anna" in booted_hub.run("cat", "/run/meshwright-wg1.lock", check=False).stdout, 10, "no lock"
    )
    payload = {"interface": "wg1", "table": "small_mesh", "changes": [], "who": "bert@desk"}
    with pytest.raises(HostError, match="anna@laptop, pid 7"):
        remote(host, "write", {**payload, "patience": 0.2})
    assert remote(host, "write", payload) == {"results": []}, "it waits for its turn"
    assert holder.wait(10) == 0
    assert b"bert@desk, pid " in booted_hub.run("cat", "/run/meshwright-wg1.lock").stdout
