"""The command of R21 over real ssh into a hub with real systemd: what it does, foretells, leaves alone and keeps quiet.

The tests of this file share one hub and follow each other: each leaves the hub as the file says.
"""

from __future__ import annotations

import re
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playing import Ansible, Run

import booted
from meshwright.io.host import Namespace

pytestmark = pytest.mark.booted

PEERS = ["bryce", "hamilton", "jake", "steve"]
HOST = "k3s-server-1"
VAULT_PASSWORD = "of the vault"


@pytest.fixture(scope="module")
def whole(ansible: Ansible) -> str:
    return ansible.mesh.read_text()


@pytest.fixture
def up(ansible: Ansible, whole: str) -> None:
    """The hub is as the mesh file of the beginning says, whatever the test before has left."""
    if ansible.mesh.read_text() != whole or not ansible.confs.exists():
        ansible.mesh.write_text(whole)
        done = ansible("-e", "hub_force=test")
        assert done.code == 0, done.out


def add(ansible: Ansible, peer: str) -> None:
    """One line more under `peers:`."""
    ansible.edit(lambda text: text.replace("policy:  ", f"  {peer}\n\npolicy:  ", 1))


@pytest.fixture
def vault(ansible: Ansible) -> Iterator[list[str]]:
    """Arguments that give the become password of `admin`, out of a vault."""
    folder = ansible.folder.parent / "vault"
    folder.mkdir()
    (folder / "password").write_text(VAULT_PASSWORD)
    (folder / "vars.yml").write_text(f"ansible_become_password: {booted.PASSWORD}\n")
    words = ["--vault-password-file", str(folder / "password")]
    vault = str(Path(sys.executable).parent / "ansible-vault")
    booted.run(["env", f"HOME={folder}", vault, "encrypt", str(folder / "vars.yml"), *words])
    assert "ANSIBLE_VAULT" in (folder / "vars.yml").read_text()
    yield [*words, "-e", f"@{folder}/vars.yml"]
    shutil.rmtree(folder)


def untouched(ansible: Ansible, hub: booted.Hub, *run: str) -> Run:
    """A run that must fail, or do nothing, although the file wants a change, and that leaves everything as it is."""
    before, text = state(ansible, hub), ansible.mesh.read_text()
    add(ansible, "nobody: {address: 10.100.2.200}")
    done = ansible.play(*run)
    ansible.mesh.write_text(text)
    assert state(ansible, hub) == before
    return done


STATE = "{ wg show wg1 allowed-ips; wg show wg1 preshared-keys; } | sort; cat /etc/wireguard/*; nft -s list ruleset"


def state(ansible: Ansible, hub: booted.Hub) -> list[object]:
    folders = (ansible.folder / ".meshwright", ansible.confs)
    files = {str(p): p.stat().st_mtime_ns for folder in folders for p in folder.rglob("*") if p.is_file()}
    return [files, hub.run("sh", "-c", STATE).stdout.decode()]


def unchanged(done: Run) -> None:
    assert done.code == 0, done.out
    assert "changed=0" in done.out
    assert done.result["changed"] is False
    assert done.changes == []


def test_what_is_in_the_way_is_told_and_stops_a_run(ansible: Ansible, booted_hub: booted.Hub) -> None:
    program = "import socket,time; s=socket.socket(type=2); s.bind(('', 51821)); time.sleep(999)"
    booted_hub.run("systemd-run", "--unit=thief", "/usr/bin/python3", "-c", program)
    check = ansible("--check")
    assert check.code == 0, check.out
    assert "[WARNING]: hub: UDP port: 51821 is taken by python3" in " ".join(check.out.split())
    done = ansible()
    booted_hub.run("systemctl", "stop", "thief")
    assert done.code == 2
    assert "this plan is for a hub with a fault: " in done.said
    assert not ansible.confs.exists()
    assert not (ansible.folder / ".meshwright").exists()


def test_check_foretells_the_first_run_and_writes_nothing(ansible: Ansible, booted_hub: booted.Hub) -> None:
    said = ansible.meshwright("plan", "--only", "files", "--only", "hub")
    check = ansible("--check", "--diff")
    assert check.code == 0, check.out
    assert "changed=1" in check.out
    assert not ansible.confs.exists()
    assert not (ansible.folder / ".meshwright").exists()
    assert booted_hub.run("ip", "link", "show", "wg1", check=False).returncode == 1
    assert booted_hub.run("ls", "/etc/wireguard").stdout == b""
    assert said in check.out, "--diff is what `meshwright plan` says"
    real = ansible()
    assert real.code == 0, real.out
    assert "changed=1" in real.out
    assert (real.changes, real.result["digest"]) == (check.changes, check.result["digest"])
    assert {f"files/client/{peer}" for peer in PEERS} < set(real.changes)


def test_the_second_run_changes_nothing_and_the_command_line_has_nothing_left(ansible: Ansible, up: None) -> None:
    unchanged(ansible("--diff"))
    assert ansible.meshwright("plan", "--only", "files", "--only", "hub").startswith("Nothing to do")
    ansible.edit(lambda text: text.replace("  jake:     {", "  jake:     {disabled: true, "))
    ansible.meshwright("apply", "--yes", "--only", "files", "--only", "hub")
    unchanged(ansible())
    ansible.edit(lambda text: text.replace("{disabled: true, ", "{"))
    again = ansible()
    assert "hub/peer/jake" in again.changes
    assert ansible.meshwright("plan", "--only", "files", "--only", "hub").startswith("Nothing to do")


def test_each_conf_is_private_and_out_of_git(ansible: Ansible, up: None) -> None:
    assert sorted(path.stem for path in ansible.confs.glob("*.conf")) == PEERS
    assert {stat.S_IMODE(path.stat().st_mode) for path in ansible.confs.iterdir()} == {0o600}
    assert stat.S_IMODE(ansible.confs.stat().st_mode) == 0o700
    assert "\n*\n" in (ansible.confs / ".gitignore").read_text()


@contextmanager
def connected(ansible: Ansible, hub: booted.Hub, name: str, address: str) -> Iterator[Namespace]:
    """A friend's own machine, with the .conf that he was given."""
    host = hub.site.host(name, address)
    host.put("/etc/wireguard/wg0.conf", (ansible.confs / f"{name}.conf").read_bytes(), 0o600)
    done = host.run(["wg-quick", "up", "wg0"])
    assert done.code == 0, done.err
    try:
        assert host.run(["ping", "-c", "1", "-W", "5", "10.100.0.1"]).code == 0, "the tunnel"
        yield host
    finally:
        host.run(["wg-quick", "down", "wg0"])


@contextmanager
def pinged(host: Namespace) -> Iterator[None]:
    """Not one of the pings that are sent through the tunnel in the meantime may be lost."""
    host.run(["sh", "-c", "ping -i 0.02 -W 5 10.100.0.1 >/run/pings 2>&1 & echo $! >/run/ping"])
    time.sleep(0.2)
    yield
    host.run(["sh", "-c", "sleep 0.2; kill -INT $(cat /run/ping); sleep 0.2"])
    said = host.run(["cat", "/run/pings"]).out.decode()
    found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    assert found, said
    sent, received = map(int, found.groups())
    print(f"{host.name}: {received} of {sent} pings")
    assert received == sent > 20


def test_friends_stay_connected_through_a_run_and_a_friend_more(
    ansible: Ansible, booted_hub: booted.Hub, up: None
) -> None:
    with (
        connected(ansible, booted_hub, "bryce", "192.0.2.21") as bryce,
        connected(ansible, booted_hub, "steve", "192.0.2.22") as steve,
    ):
        with pinged(bryce), pinged(steve):
            unchanged(ansible())
        confs = {path.name: path.read_bytes() for path in ansible.confs.iterdir()}
        add(ansible, "anna: {address: 10.100.2.5}")
        check = ansible("--check")
        with pinged(bryce), pinged(steve):
            real = ansible("--diff", "-vvvv", env={"ANSIBLE_PIPELINING": "1"})
        assert real.code == 0, real.out
        assert real.changes == check.changes
        assert set(real.changes) - {"hub/inbound/collective_mesh"} == {
            "files/key/anna", "files/client/anna", "hub/peer/anna", "hub/rights/10.100.2.5/32"
        }  # fmt: skip
        assert {name: (ansible.confs / name).read_bytes() for name in confs} == confs
        with connected(ansible, booted_hub, "anna", "192.0.2.23"):
            pass
    unchanged(ansible(env={"ANSIBLE_PIPELINING": "1"}))


def test_a_change_is_confirmed_over_a_connection_of_its_own(ansible: Ansible, booted_hub: booted.Hub, up: None) -> None:
    """The connection that Ansible keeps open would also go on where nobody could make a new one any more."""

    def accepted() -> int:
        return booted_hub.run("journalctl", "-u", "ssh", "-o", "cat").stdout.count(b"Accepted publickey")

    unchanged(ansible())
    before = accepted()
    unchanged(ansible())
    assert accepted() == before, "Ansible's own connection is kept"
    add(ansible, "olga: {address: 10.100.2.9}")
    added = ansible("-vvvv")
    assert "hub/peer/olga" in added.changes, added.out
    assert accepted() == before + 1
    assert added.out.count("-o ControlMaster=no -o ControlPath=none") == 1
    armed = booted_hub.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "*.timer").stdout.decode()
    assert "rollback" not in armed


def test_a_user_who_becomes_root_by_a_vaulted_password(ansible: Ansible, up: None, vault: list[str]) -> None:
    unchanged(ansible("-u", "admin", *vault))
    add(ansible, "kim: {address: 10.100.2.6}")
    added = ansible("-u", "admin", "-vvvv", "--diff", *vault, env={"ANSIBLE_PIPELINING": "1"})
    assert "files/client/kim" in added.changes, added.out
    unchanged(ansible("-u", "keyless"))


def test_su_cannot_take_stdin_so_a_file_is_used_and_gone(
    ansible: Ansible, booted_hub: booted.Hub, up: None, vault: list[str]
) -> None:
    booted_hub.run("chpasswd", stdin=f"root:{booted.PASSWORD}\n".encode())
    add(ansible, "lee: {address: 10.100.2.7, preshared_key: true}")
    added = ansible("-u", "admin", "-vvvv", "-e", "ansible_become_method=su", *vault)
    assert "hub/peer/lee" in added.changes, added.out
    assert "PUT " in added.out
    assert booted_hub.run("sh", "-c", "find /home/admin/.ansible/tmp -mindepth 1").stdout == b""
    unchanged(ansible())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-u", "admin", "-e", "ansible_become_password=wrong"], "Incorrect sudo password. Next: correct the become"),
        (["-u", "admin"], "Missing sudo password. Next: correct the become password"),
        (["-u", "nobody2"], "Missing sudo password"),
        (
            ["-u", "admin", "-e", "ansible_become=false"],
            "acts there as admin, and only root can manage the hub. Next: ",
        ),
        (
            ["-e", "ansible_become_user=nobody2"],
            "acts there as nobody2, and only root can manage the hub. Next: let it",
        ),
        (["-e", "ansible_port=1"], "Next: see that `ansible k3s-server-1 -m ping` works with the same inventory"),
    ],
    ids=["wrong-password", "no-password", "no-sudo", "no-become", "become-user", "no-connection"],
)
def test_who_is_not_root_there_gets_one_sentence(
    ansible: Ansible, booted_hub: booted.Hub, up: None, words: list[str], said: str
) -> None:
    done = untouched(ansible, booted_hub, "-i", "inventory/homelab", "playbooks/hamilton-wireguard.yml", *words)
    assert done.code in (2, 4), done.out
    assert said in done.said
    assert done.said.startswith(f"{HOST}: ")
    assert done.said.count("Next: ") == 1
    assert done.result.get("unreachable", False) is ("ansible_port=1" in words)


def test_a_limit_without_the_hub_does_nothing_at_all(ansible: Ansible, booted_hub: booted.Hub, up: None) -> None:
    command = ["-i", "inventory/homelab", "playbooks/hamilton-wireguard.yml", "--limit"]
    for limit in ("localhost", f"all:!{HOST}"):
        done = untouched(ansible, booted_hub, *command, limit)
        assert done.result == {}
    unchanged(ansible("--limit", HOST))


INVENTORY = """\
hub_of_collective_mesh:
  hosts:
    {first}: {{ansible_host: {address}}}
    {second}: {{ansible_host: 192.0.2.77}}
"""


def test_two_hosts_are_an_error_before_anything_is_touched(ansible: Ansible, booted_hub: booted.Hub, up: None) -> None:
    inventory = ansible.folder.parent / "two"
    inventory.write_text(INVENTORY.format(first=HOST, second="other", address=booted.HUB))
    done = untouched(ansible, booted_hub, "-i", str(inventory), "playbooks/hamilton-wireguard.yml", "--forks", "1")
    assert done.code == 2, done.out
    assert done.said.startswith("a mesh has one hub, and this play has 2 hosts: k3s-server-1, other. Next: ")
    assert done.out.count("failed=1") == 2
    unchanged(ansible.play("-i", str(inventory), "playbooks/hamilton-wireguard.yml", "--limit", HOST))
    done = untouched(ansible, booted_hub, "-i", str(inventory), "playbooks/hamilton-wireguard.yml", "--limit", "other")
    assert "other is not the hub of" in done.said
    assert "that is k3s-server-1 (192.0.2.10)" in done.said


def test_what_deletes_much_needs_a_reason(ansible: Ansible, booted_hub: booted.Hub, up: None) -> None:
    ansible.edit(lambda text: re.sub(r"(?m)^ *(jake|steve|hamilton): +\{address.*\n", "", text))
    ansible.edit(lambda text: re.sub(r"(?m)^.*(from: jake|from: steve|to: steve|tenant: \{hamilton).*\n", "", text))
    ansible.edit(lambda text: re.sub(r"(?m)^  tests:.*\n", "", text))
    before = state(ansible, booted_hub)
    check = ansible("--check", "--diff")
    assert check.code == 0, check.out
    assert "it needs --force and a reason" in check.out
    done = ansible()
    assert done.code == 2
    assert done.said.startswith("this plan deletes ")
    assert done.said.endswith("Next: if that is meant, set force to the reason")
    assert state(ansible, booted_hub) == before
    done = ansible("-e", "hub_force='all of them moved away'")
    assert done.changes == check.changes, done.out
    assert [path.stem for path in ansible.confs.glob("*.conf")] == ["bryce"]


def test_what_was_written_of_a_plan_is_named_and_the_next_run_goes_on(ansible: Ansible, up: None) -> None:
    foreign = ansible.confs / "mia.conf"
    foreign.write_text("[Interface]\n")
    foreign.chmod(0o600)
    add(ansible, "mia: {address: 10.100.2.8}")
    done = ansible()
    assert done.code == 2
    assert done.result["changed"] is True
    assert re.match(
        r"1 of \d+ changes could not be written: files/client/mia: .* is there already and not ours", done.said
    )
    assert "hub/peer/mia" in done.changes
    assert "files/client/mia" not in done.changes
    foreign.unlink()
    done = ansible()
    assert done.changes == ["files/client/mia"], done.out


def test_a_digest_holds_the_plan_to_what_was_looked_at(ansible: Ansible, booted_hub: booted.Hub, up: None) -> None:
    done = untouched(
        ansible,
        booted_hub,
        "-i",
        "inventory/homelab",
        "playbooks/hamilton-wireguard.yml",
        "-e",
        "hub_digest=0123456789ab",
    )
    assert "not 0123456789ab: the file or the world changed since it was reviewed" in done.said


def test_verify_tells_what_is_not_as_the_file_says(ansible: Ansible, booted_hub: booted.Hub, up: None) -> None:
    command = [
        "-i",
        "inventory/homelab",
        "meshwright.mesh.verify",
        "-e",
        f"hub_hosts={HOST} hub_mesh_file=../mesh.yaml",
    ]
    good = ansible.play(*command)
    assert good.code == 0, good.out
    assert {check["name"] for check in good.result["checks"]} >= {
        "hub is as the file says",
        "files is as the file says",
    }
    # with somebody there who is heard again: a change of the table is rolled back when no active peer is
    with connected(ansible, booted_hub, "bryce", "192.0.2.24"):
        booted_hub.run("nft", "delete", "table", "inet", "collective_mesh")
        bad = ansible.play(*command)
        assert bad.code == 2
        assert "hub is as the file says: expected nothing to do, saw differs: " in bad.said
        mended = ansible("-e", "hub_verify=true")
    assert mended.code == 0, mended.out
    assert mended.changes
    assert all(check["ok"] for check in mended.result["checks"])


def test_a_mesh_file_with_a_fault_is_named_with_its_place(
    ansible: Ansible, booted_hub: booted.Hub, whole: str, up: None
) -> None:
    ansible.edit(lambda text: text.replace("10.100.2.3", "10.200.2.3"))
    before = state(ansible, booted_hub)
    done = ansible()
    ansible.mesh.write_text(whole)
    assert done.code == 2
    assert re.search(r"mesh\.yaml:\d+:\d+ peers\.jake\.address: ", done.said)
    assert state(ansible, booted_hub) == before
    done = ansible("-e", "hub_mesh_file=/nowhere.yaml")
    assert "/nowhere.yaml" in done.said


def test_nothing_that_was_printed_holds_a_secret(ansible: Ansible, booted_hub: booted.Hub, up: None) -> None:
    """The last of this file: what all runs printed, some with -vvvv, is searched for every key there is or was."""
    printed = "\n".join(ansible.runs)
    assert "ESTABLISH SSH CONNECTION" in printed
    assert "EXEC ssh" in printed
    on_hub = booted_hub.run("sh", "-c", "wg show wg1 private-key; wg show wg1 preshared-keys | cut -f2").stdout.decode()
    secrets = {*ansible.secrets().values(), *on_hub.split(), booted.PASSWORD, VAULT_PASSWORD} - {"(none)"}
    assert len(secrets) > len(PEERS) + 3
    assert [secret for secret in secrets if secret in printed] == []
