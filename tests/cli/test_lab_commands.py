"""The commands of the lab, and every command with --lab, on the reference mesh."""

import json
import re
from pathlib import Path

import pytest

from door import Door
from meshwright.lab.state import started

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The reference mesh up in a lab, with a short name: the state directory is the test's own."""
    door = Door(tmp_path_factory.mktemp("lab"))
    door.env["PATH"] += ":/usr/sbin:/sbin"
    door.mesh()
    up = door("lab", "up")
    try:
        assert up.returncode == 0, up.stderr
        yield door
    finally:
        door("lab", "down")


def test_up_again_changes_nothing(lab):
    before = json.loads(lab("lab", "status", "-o", "json").stdout)
    again = json.loads(lab("lab", "up", "-o", "json").stdout)
    assert sorted(again["peers"]) == ["bryce", "hamilton", "jake", "steve"]
    after = json.loads(lab("lab", "status", "-o", "json").stdout)
    assert [h["name"] for h in before["hosts"]] == [h["name"] for h in after["hosts"]]
    assert lab("plan", "--lab").stdout.startswith("Nothing to do.")
    assert lab("drift", env={"MESHWRIGHT_LAB": "1"}).returncode == 0


def test_exec_passes_arguments_output_and_exit_code_through(lab):
    done = lab("lab", "exec", "jake", "--", "sh", "-c", "echo $0 $1; exit 7", "a b", "--output")
    assert (done.returncode, done.stdout) == (7, "a b --output\n")
    assert lab("lab", "exec", "jake", "ping", "-c", "1", "-W", "5", "10.100.0.1").returncode == 0
    unknown = lab("lab", "exec", "jak", "true")
    assert unknown.returncode == 1
    assert "did you mean jake" in unknown.stderr


def test_status_sees_who_is_connected(lab):
    lab("lab", "exec", "jake", "ping", "-c", "1", "-W", "5", "10.100.0.1")
    peers = {row["peer"]: row for row in json.loads(lab("status", "--lab", "-o", "json").stdout)["peers"]}
    assert set(peers) == {"bryce", "hamilton", "jake", "steve"}
    assert peers["jake"]["state"] == "online"
    assert re.search(r"^jake .* online .*ago .* [\d.]+:\d+ ", lab("status", "--lab").stdout, re.M)


def test_verify_proves_the_mesh_and_fails_when_the_table_is_altered(lab):
    done = lab("lab", "verify", "-o", "json")
    document = json.loads(done.stdout)
    assert done.returncode == 0, [row for row in document["checks"] if not row["ok"]]
    assert document["ok"] is True
    assert document["matrix"]["probes"] > 100
    some = [cell for row in document["matrix"]["rows"] for cell in row["cells"].values()]
    assert any(cell["observed"] for cell in some)
    assert any(len(cell["observed"]) < cell["probes"] for cell in some)

    hole = ["meta", "mark", "set", "mark", "or", "0x100000", "accept"]
    lab("lab", "exec", "hub", "nft", "insert", "rule", "inet", "collective_mesh", "from_peers", *hole)
    broken = lab("verify", "--lab")
    assert broken.returncode == 4
    assert re.search(r"^! jake -> nodes 22/tcp: expected deny", broken.stdout, re.M)
    assert re.search(r"^! .*22/tcp is denied but was answered", broken.stdout, re.M)
    assert broken.stderr.splitlines()[-1].startswith("next: ")
    assert lab("apply", "--lab", "--yes").returncode == 0
    assert lab("plan", "--lab").returncode == 0


def test_a_friend_who_is_removed_is_out(lab):
    before = (lab.folder / "mesh.yaml").read_text()
    assert lab("lab", "exec", "steve", "ping", "-c", "1", "-W", "5", "10.100.0.1").returncode == 0
    assert lab("peer", "remove", "steve").returncode == 0
    assert lab("apply", "--lab", "--yes").returncode == 0
    assert lab("lab", "exec", "steve", "ping", "-c", "1", "-W", "2", "10.100.0.1").returncode != 0
    (lab.folder / "mesh.yaml").write_text(before)
    assert lab("lab", "up").returncode == 0
    assert lab("lab", "exec", "steve", "ping", "-c", "2", "-W", "5", "10.100.0.1").returncode == 0


def test_no_secret_in_any_output(lab):
    state = next(Path(lab.env["HOME"]).glob(".local/state/meshwright/lab/*"))
    keys = [path.read_text().strip() for path in state.glob("secrets/*/*.key")]
    keys.append(lab("lab", "exec", "hub", "wg", "show", "wg1", "private-key").stdout.strip())
    assert len(keys) >= 5
    for command in (
        ["lab", "status"],
        ["status", "--lab"],
        ["show"],
        ["peer", "conf", "jake", "--lab"],
        ["plan", "--lab"],
    ):
        for output in ("text", "json"):
            done = lab(*command, "-o", output, "--verbose")
            assert done.returncode == 0, done.stderr
            assert not [key for key in keys if key in done.stdout + done.stderr], command


def test_a_mesh_may_be_called_like_a_word_of_nft(tmp_path):
    door = Door(tmp_path)
    door.env["PATH"] += ":/usr/sbin:/sbin"
    path = door.mesh()
    path.write_text(path.read_text().replace("name: collective-mesh", "name: table"))
    try:
        assert door("lab", "up").returncode == 0
        assert door("plan", "--lab").stdout.startswith("Nothing to do.")
        done = door("lab", "verify")
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        door("lab", "down")


def test_a_mesh_where_everybody_is_shut_out_is_proved_too(tmp_path):
    door = Door(tmp_path)
    door.env["PATH"] += ":/usr/sbin:/sbin"
    path = door.mesh()
    text = path.read_text().replace("{address: ", "{disabled: true, address: ")
    path.write_text("\n".join(line for line in text.split("\n") if "expect: allow" not in line))
    try:
        assert door("lab", "up").returncode == 0
        done = door("lab", "verify")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "none failed" in done.stdout
    finally:
        door("lab", "down")


def test_down_leaves_nothing(tmp_path):
    door = Door(tmp_path)
    door.env["PATH"] += ":/usr/sbin:/sbin"
    door.mesh()
    files = sorted(tmp_path.rglob("*"))
    assert door("lab", "up").returncode == 0
    before = json.loads(next(tmp_path.rglob("state.json")).read_text())
    assert alive(before["pid"]), "the test can see the lab's first process, below which all others are"
    down = door("lab", "down")
    assert (down.returncode, down.stdout) == (0, "The lab of collective-mesh is gone.\n")
    assert sorted(tmp_path.rglob("*")) == files
    assert not [pid for pid in (before["pid"], *before["hosts"].values()) if alive(pid)]


def alive(pid):
    """Whether a process runs: one that ended and waits to be collected does not."""
    return started(pid) != ""
