"""Labs that are really up: what they leave behind, what a second `up` does, what probes and attempts see.

A machine that cannot hold a lab fails here, with the sentence that mends it: these tests are never skipped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from worlds import by_hand, processes, small

from meshwright import lab
from meshwright.errors import LabError
from meshwright.events import Checked
from meshwright.lab import Lab, attempts, matrix, state
from meshwright.spec.model import Mesh

pytestmark = pytest.mark.lab


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    found = tmp_path / "state" / "meshwright" / "small"
    yield found
    lab.down(found)


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def said(running: Lab, host: str, *argv: str) -> str:
    return running.host(host).run(argv, timeout=30).out.decode()


def test_up_and_down_leave_nothing(tmp_path: Path, folder: Path) -> None:
    before, real = mounts(), sorted(p.name for place in ("/etc", "/var/lib") for p in Path(place).iterdir())
    running = lab.up(small(tmp_path), folder)
    assert processes(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "state.json").stat().st_mode & 0o777 == 0o600
    running.host("hub").run(["sh", "-c", "echo ours > /etc/wireguard/x; echo ours > /etc/x; echo > /etc/sysctl.d/x"])
    assert running.host("hub").run(["touch", "/var/lib/meshwright/x"]).code == 0
    assert lab.down(folder)
    assert processes(folder) == []
    assert mounts() == before
    assert sorted(p.name for place in ("/etc", "/var/lib") for p in Path(place).iterdir()) == real
    assert [p.name for p in tmp_path.iterdir()] == ["mesh.yaml"]
    assert not lab.down(folder)


@pytest.mark.parametrize("lost", ["state.json", "."])
@pytest.mark.parametrize("again", [False, True])
def test_a_lab_whose_files_were_removed_by_hand_ends(tmp_path: Path, folder: Path, lost: str, again: bool) -> None:
    running = lab.up(small(tmp_path), folder)
    subprocess.run(["rm", "-r", (folder / lost).resolve()], check=True)
    if again:
        assert lab.up(small(tmp_path), folder).state.pid != running.state.pid
        assert not state.started(running.state.pid), "the old lab, which nobody knows of any more"
    assert lab.down(folder)
    assert processes(folder) == []
    assert not lab.down(folder)


def test_down_ends_daemons_that_hosts_started(tmp_path: Path, folder: Path) -> None:
    running = lab.up(small(tmp_path), folder)
    running.host("ann").run(["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &"])
    for _ in range(100):
        if any("sleep" in _name(pid) for pid in processes(folder)):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the daemon did not start")
    lab.down(folder)
    assert processes(folder) == []


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()


def test_a_second_up_changes_nothing(tmp_path: Path, folder: Path) -> None:
    mesh = small(tmp_path)
    first = lab.up(mesh, folder)
    seen: list[object] = []
    second = lab.up(mesh, folder, seen.append)
    assert second.state == first.state
    assert seen == []


def test_a_peer_comes_and_goes_and_nobody_else_notices(tmp_path: Path, folder: Path) -> None:
    first = lab.up(small(tmp_path), folder)
    three = small(
        tmp_path, peers="{new: {address: 10.100.2.3}, ann: {address: 10.100.2.1}, bob: {address: 10.100.2.2}}"
    )
    second = lab.up(three, folder)
    assert {h: p for h, p in second.state.hosts.items() if h in first.state.hosts} == dict(first.state.hosts)
    assert said(second, "new", "ping", "-c1", "-W2", second.public).count("1 received") == 1
    only = small(tmp_path, peers="{new: {address: 10.100.2.3}}", allow="[]")
    gone = [second.state.hosts[h] for h in ("ann", "ann.nat", "bob")]
    third = lab.up(only, folder)
    assert set(third.peers) == {"new"}
    assert third.state.hosts["new"] == second.state.hosts["new"]
    assert not any(state.started(pid) for pid in gone)
    assert "wan" in said(third, "inet", "ip", "-o", "link", "show", "p2")


def test_a_peer_that_went_may_come_again_and_addresses_may_be_swapped(tmp_path: Path, folder: Path) -> None:
    both = "{ann: {address: 10.100.2.1}, bob: {address: 10.100.2.2}}"
    lab.up(small(tmp_path, peers=both), folder)
    first = lab.up(small(tmp_path, peers="{ann: {address: 10.100.2.1}}"), folder)
    again = lab.up(small(tmp_path, peers=both), folder)
    assert set(again.hosts) - set(first.hosts) == {"bob", "bob.nat"}
    assert again.state.hosts["ann"] == first.state.hosts["ann"]
    swapped = lab.up(small(tmp_path, peers="{ann: {address: 10.100.2.2}, bob: {address: 10.100.2.1}}"), folder)
    assert said(swapped, "bob", "hostname").strip() == "bob"
    assert swapped.state.hosts["hub"] == first.state.hosts["hub"]


def test_a_friend_may_have_the_name_of_a_host_of_the_house(tmp_path: Path, folder: Path) -> None:
    names = ("gw", "gw-peer", "eth0", "all")
    peers = ", ".join(f"{name}: {{address: 10.100.2.{number}}}" for number, name in enumerate(names, 1))
    mesh = small(tmp_path, peers="{" + peers + "}", allow="[{from: peers, to: hub, ports: [icmp]}]")
    running = lab.up(mesh, folder)
    assert "wan0" in said(running, "gw", "ls", "/sys/class/net").split(), "the gateway, not the friend"
    assert running.peer("gw").name == "gw.peer"
    assert running.peer("gw-peer").name == "gw-peer"
    assert said(running, "gw.peer", "hostname").strip() == "gw.peer"
    running.peers_up(by_hand(running, mesh))
    assert [f for f in faults(matrix.run(running, mesh)) if "icmp" in f] == []


def test_a_changed_house_is_built_anew(tmp_path: Path, folder: Path) -> None:
    first = lab.up(small(tmp_path), folder)
    (folder / "secrets").mkdir()
    second = lab.up(small(tmp_path, hub="192.168.20.30"), folder)
    assert second.state.pid != first.state.pid
    assert not state.started(first.state.pid)
    assert "192.168.20.30/24" in said(second, "hub", "ip", "-br", "addr")
    assert (folder / "secrets").exists()  # keys survive


INTERRUPTED = """
import sys, os, signal
from pathlib import Path
from meshwright.lab import make, state
from meshwright.spec import load
step, how = sys.argv[3], int(sys.argv[4])
real = make.inside
def inside(pid, userns, program, kind, document):
    if kind == step:
        os.kill(os.getpid(), how)
    return real(pid, userns, program, kind, document)
make.inside = inside
if step == "start":
    make.state.write = lambda *_: os.kill(os.getpid(), how)
make.up(load.load(Path(sys.argv[1])).mesh, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("step", ["start", "hosts", "links", "configure"])
def test_an_interrupted_up_is_cleared_by_the_next_command(
    tmp_path: Path, folder: Path, step: str, how: signal.Signals
) -> None:
    small(tmp_path)
    argv = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "mesh.yaml"), str(folder), step, str(int(how))]
    done = subprocess.run(argv, timeout=60, check=False, capture_output=True)
    assert done.returncode != 0
    if how == signal.SIGINT:
        assert not folder.exists()
        _gone(folder)
        return
    with pytest.raises(LabError, match=r"not up|half built"):
        lab.open(folder)
    if step == "start":  # nobody wrote it down: it must end by itself
        _gone(folder)
    assert lab.up(small(tmp_path), folder).hosts
    lab.down(folder)
    assert processes(folder) == []


def _gone(folder: Path) -> None:
    for _ in range(100):
        if not processes(folder):
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {processes(folder)}")


def test_a_pid_of_somebody_else_is_never_killed(tmp_path: Path, folder: Path) -> None:
    running = lab.up(small(tmp_path), folder)
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        try:
            from dataclasses import replace

            state.write(folder, replace(running.state, pid=bystander.pid))
            with pytest.raises(LabError, match="not up"):
                lab.open(folder)
            state.write(folder, replace(running.state, pid=bystander.pid, started=state.started(bystander.pid)))
            lab.down(folder)
            assert bystander.poll() is None
        finally:
            bystander.kill()
            # `down` has found and ended the lab itself, by its own marks
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.state.pid, signal.SIGKILL)
    _gone(folder)


def test_two_at_once(tmp_path: Path, folder: Path) -> None:
    with state.locked(folder, create=True), pytest.raises(LabError, match="another command"):
        lab.up(small(tmp_path), folder)


def test_two_labs_beside_each_other(tmp_path: Path, folder: Path) -> None:
    mesh, other = small(tmp_path), folder.with_name("other")
    one = lab.up(mesh, folder)
    two = lab.up(mesh, other)
    try:
        assert said(one, "ann", "getent", "hosts", "home.example.net").startswith("203.0.113.2")
        assert lab.down(folder)
        assert said(two, "ann", "getent", "hosts", "home.example.net").startswith("203.0.113.2")
    finally:
        lab.down(other)


def test_the_machines_own_secrets_and_units_stay_out(tmp_path: Path, folder: Path) -> None:
    running = lab.up(small(tmp_path), folder)
    for path in ("/etc/wireguard", "/etc/meshwright", "/etc/systemd/system", "/etc/sysctl.d", "/run/wireguard"):
        assert said(running, "hub", "ls", "-A", path) == ""
    for path in ("/etc/wireguard", "/etc/meshwright", "/etc/systemd/system", "/etc/sysctl.d", "/run"):
        assert said(running, "hub", "stat", "-f", "-c", "%T", path).strip() == "tmpfs"
    assert said(running, "hub", "stat", "-c", "%a", "/etc/wireguard").strip() == "700"
    assert said(running, "hub", "cat", "/proc/sys/kernel/hostname").strip() == "hub"
    assert "eth0" in said(running, "hub", "ls", "/sys/class/net")
    bridge = running.host("gw").run(["cat", "/proc/sys/net/bridge/bridge-nf-call-iptables"])
    assert bridge.out.strip() in (b"0", b"")


def test_an_unknown_host_gets_the_nearest_names(tmp_path: Path, folder: Path) -> None:
    running = lab.up(small(tmp_path), folder)
    with pytest.raises(LabError) as caught:
        running.host("an")
    assert "ann" in caught.value.hint


def faults(found: matrix.Matrix) -> list[str]:
    return [*found.unproved, *(f for row in found.rows for cell in row.cells.values() for f in cell.faults)]


@pytest.fixture
def tunnels(tmp_path: Path, folder: Path) -> tuple[Lab, Mesh]:
    mesh = small(tmp_path)
    running = lab.up(mesh, folder)
    running.peers_up(by_hand(running, mesh))
    return running, mesh


def test_what_is_denied_fails_and_what_is_allowed_passes(tunnels: tuple[Lab, Mesh]) -> None:
    running, mesh = tunnels
    found = matrix.run(running, mesh)
    assert faults(found) == []
    cells = {row.name: row.cells for row in found.rows}
    assert cells["node2"]["ann"].observed == ("443/tcp", "icmp")
    assert cells["bob"]["ann"].observed == ()
    assert cells["internet"]["ann"].observed
    assert {s.name: s.handshake > 0 for s in running.status() if s.peer} == {"ann": True, "bob": True}


def test_without_a_table_the_matrix_is_red(tunnels: tuple[Lab, Mesh]) -> None:
    running, mesh = tunnels
    running.host("hub").run(["nft", "delete", "chain", "inet", mesh.table, "from_peers"])
    assert any("22/tcp is denied but was answered" in f for f in faults(matrix.run(running, mesh)))


def test_a_denial_that_nobody_could_break_is_no_proof(tunnels: tuple[Lab, Mesh]) -> None:
    running, mesh = tunnels
    running.host("node2").run(["sh", "-c", "echo '[]' > /run/responder.json"])
    os.kill(running.state.hosts["node2"], signal.SIGHUP)
    assert any("nothing answers there" in f for f in faults(matrix.run(running, mesh)))


def test_attempts_fail_with_the_table_and_leave_the_peer_as_it_was(tunnels: tuple[Lab, Mesh]) -> None:
    running, mesh = tunnels
    look = ["sh", "-c", "ip addr; ip route; ip -6 route; wg show all allowed-ips"]
    before = running.host("ann").run(look).out
    found = attempts.run(running, mesh)
    assert [c for c in found if not c.ok] == []
    assert len(found) >= 12
    assert running.host("ann").run(look).out == before


def test_attempts_succeed_without_the_table(tunnels: tuple[Lab, Mesh]) -> None:
    running, mesh = tunnels
    running.host("hub").run(["nft", "delete", "chain", "inet", mesh.table, "from_peers"])
    bad: list[Checked] = [c for c in attempts.run(running, mesh) if not c.ok]
    assert any("widens" in c.name for c in bad)
    assert any("22/tcp" in c.name for c in bad)
    # cryptokey routing holds without any table
    assert not any("sends as" in c.name for c in bad)


def test_a_conf_with_dns_works_without_the_machines_resolvconf(tunnels: tuple[Lab, Mesh]) -> None:
    running, _ = tunnels
    clients = running.directory / "clients"
    file = clients / "ann.conf"
    file.write_text(file.read_text().replace("[Peer]", "DNS = 10.43.0.10\n[Peer]", 1))
    running.peers_up(clients)
    assert said(running, "ann", "cat", "/etc/resolv.conf").strip() == "nameserver 10.43.0.10"
    assert said(running, "ann", "cat", "/etc/wireguard/ann.conf") == file.read_text()
    running.peer_down("ann")
    assert "nameserver 203.0.113.1" in said(running, "ann", "cat", "/etc/resolv.conf")
