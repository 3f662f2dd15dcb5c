"""plan, apply, drift, status, peer conf and qr, against a real hub: this machine, made of namespaces."""

import json
import re
import subprocess

import pytest

from door import Door
from meshwright.io.host import Namespace

pytestmark = pytest.mark.lab

MESH = """\
version: 1
name: home
hub: {node: srv, address: 192.168.30.10, interface: wg0, endpoint: "vpn.example.net:51820", connection: {kind: local}}
network:
  cidr: 10.66.0.0/24
  hub: 10.66.0.1
  routes: {lan: 192.168.30.0/24}
peers:
  alice: {address: 10.66.0.2, preshared_key: true}
  bob: {address: 10.66.0.3}
policy:
  allow: [{from: peers, to: lan, ports: [443/tcp, icmp]}]
"""


class Inside(Door):
    """The program, run on the hub itself."""

    def __init__(self, folder, host: Namespace) -> None:
        super().__init__(folder)
        self.host = host
        self.env["PATH"] += ":/usr/sbin:/sbin"

    def command(self, *arguments):
        cd = ["sh", "-c", f'cd {self.folder} && exec "$@"', "sh"]
        return self.host.enter([*cd, *super().command(*arguments)])

    def run(self, *argv):
        done = subprocess.run(self.host.enter(argv), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def digest(self):
        return json.loads(self("plan", "-o", "json").stdout)["digest"]


@pytest.fixture
def inside(tmp_path, hub_host):
    door = Inside(tmp_path, hub_host)
    door.mesh(MESH)
    return door


def secrets(folder):
    """Every private and preshared key on this machine, as text."""
    found = [path.read_text().strip() for path in folder.glob(".meshwright/*/*.key")]
    assert len(found) == 3
    return found


def test_the_life_of_a_mesh(inside):
    first = inside("plan")
    assert first.returncode == 2
    assert re.search(r"^\d+ to create, 0 to update, 0 to delete\. digest [0-9a-f]{12}$", first.stdout, re.M)

    refused = inside("apply")
    assert refused.returncode == 1
    assert "no terminal to ask on" in refused.stderr
    assert inside.digest() in first.stdout, "a refused apply changes nothing"

    wrong = inside("apply", "0123456789ab")
    assert wrong.returncode == 1
    assert "run `meshwright plan` again" in wrong.stderr

    done = inside("apply", inside.digest(), "--output", "json")
    assert done.returncode == 0, done.stderr
    assert all(result["ok"] for result in json.loads(done.stdout)["results"])

    assert inside("plan").returncode == 0
    assert inside("plan").stdout.startswith("Nothing to do.")
    assert inside("apply").returncode == 0, "nothing to do needs no approval"
    assert inside("drift").stdout == "no drift\n"
    assert len(inside.run("wg", "show", "wg0", "peers").split()) == 2

    inside.run("nft", "delete", "table", "inet", "home")
    drifted = inside("drift")
    assert drifted.returncode == 2
    assert "hub/table/home" in drifted.stdout
    mended = inside("apply", "--yes")
    assert mended.returncode == 0, mended.stderr
    assert inside("drift").returncode == 0


def test_only_one_system(inside):
    done = inside("apply", "--yes", "--only", "hub", "--force", "a test")
    unknown = inside("plan", "--only", "cluster")
    assert unknown.returncode == 1
    assert "systems here are files, hub" in unknown.stderr
    files = json.loads(inside("plan", "--only", "files", "-o", "json").stdout)
    assert {change["id"].split("/")[0] for change in files["changes"]} == {"files"}
    assert done.returncode in (1, 3), "the hub's peers need the keys, which are files"


def test_a_plan_that_destroys_much_needs_a_reason(inside):
    inside("apply", "--yes")
    inside.mesh(re.sub(r"  (alice|bob):.*\n", "", MESH).replace("peers:\n", "peers: {}\n"))
    refused = inside("apply", "--yes")
    assert refused.returncode == 1
    assert "--force" in refused.stderr.splitlines()[-1]
    assert len(inside.run("wg", "show", "wg0", "peers").split()) == 2
    forced = inside("apply", "--yes", "--force", "everybody left")
    assert forced.returncode == 0, forced.stderr
    assert inside.run("wg", "show", "wg0", "peers") == ""


def test_what_was_written_in_part_is_exit_code_3(inside):
    """The hub cannot write its conf; the keys on this side were made all the same. Mended, it goes on from there."""
    inside.run("mount", "-o", "remount,bind,ro", "/etc/wireguard")
    done = inside("apply", "--yes", "-o", "json")
    document = json.loads(done.stdout)
    ok = {result["id"] for result in document["results"] if result["ok"]}
    assert done.returncode == document["error"]["exit_code"] == 3, done.stdout
    assert {"files/key/alice", "files/key/bob"} <= ok
    assert not any(id.startswith("hub/peer/") for id in ok)
    in_words = inside("apply", "--yes")
    assert re.search(r"^! hub/peer/alice: ", in_words.stdout, re.M)
    assert in_words.stderr.splitlines()[-1].startswith("next: ")
    inside.run("mount", "-o", "remount,bind,rw", "/etc/wireguard")
    mended = inside("apply", "--yes")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert inside("drift").returncode == 0


def test_no_command_shows_a_secret(inside):
    outputs = [inside("plan"), inside("apply", "--yes", "--verbose")]
    keys = secrets(inside.folder)
    (inside.folder / ".meshwright/preshared/alice.key").chmod(0o600)
    inside.run("wg", "set", "wg0", "peer", inside.run("wg", "show", "wg0", "peers").split()[0], "remove")
    for output in ("text", "json"):
        for command in (
            ["plan"], ["drift"], ["show"], ["status"], ["check"], ["peer", "list"], ["peer", "conf", "alice"],
            ["peer", "qr", "alice"], ["peer", "conf", "nobody"], ["apply"], ["apply", "--yes", "--verbose"],
        ):  # fmt: skip
            outputs.append(inside(*command, "-o", output))
    for done in outputs:
        for key in [*keys, inside.run("wg", "show", "wg0", "private-key").strip()]:
            assert key not in done.stdout + done.stderr, done.args
    shown = inside("peer", "conf", "alice", "--show").stdout
    assert sum(key in shown for key in keys) == 2, "the test can see a key: this is where they are"


def test_a_friend_gets_his_conf(inside):
    before = inside("peer", "conf", "alice")
    assert before.returncode == 1
    assert "run `meshwright apply`" in before.stderr
    inside("apply", "--yes")
    path = inside.folder / "ansible/.wg-output/alice.conf"
    assert inside("peer", "conf", "alice").stdout == f"{path}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert inside("peer", "conf", "alice", "--show").stdout.strip() == path.read_text().strip()
    refused = inside("peer", "qr", "alice")
    assert refused.returncode == 1
    assert not refused.stdout
    assert "\u2588" in inside("peer", "qr", "alice", "--show").stdout
    assert "names are alice" in inside("peer", "conf", "alic").stderr


def test_status_names_every_device(inside):
    empty = inside("status", "-o", "json")
    assert (empty.returncode, json.loads(empty.stdout)["hub"]["firewall"]) == (4, "missing")
    inside("apply", "--yes")
    done = inside("status")
    lines = done.stdout.splitlines()
    assert lines[0] == "hub       wg0 is up, 0 of 2 devices online"
    assert [line.split()[0] for line in lines[5:7]] == ["alice", "bob"]
    assert all(line.split()[2:4] == ["never", "never"] for line in lines[5:7])
