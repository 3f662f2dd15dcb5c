"""The commands that need the file only: check, show, schema, and a friend's life in it."""

import json

import pytest
import yaml

REFERENCE_CHECK = (
    "return path masquerade: hosts in nodes see the hub instead of the friend: their logs and firewalls cannot tell"
    " friends apart, and they cannot call one\n"
    "mesh.yaml: 4 peers, 4 devices, 3 policy tests hold, 0 warnings\n"
)


def peers(door):
    return yaml.safe_load((door.folder / "mesh.yaml").read_text())["peers"]


def test_check_says_what_it_looked_at(door):
    door.mesh()
    done = door("check")
    assert (done.returncode, done.stdout, done.stderr) == (0, REFERENCE_CHECK, "")
    assert json.loads(door("check", "-o", "json").stdout)["tests"] == 3


def test_check_names_every_problem_with_its_place_and_ends_with_the_next_step(door):
    door.mesh(door.mesh().read_text().replace("10.100.2.2", "10.200.2.2").replace("10.100.2.3", "10.100.2.1"))
    done = door("check")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "mesh.yaml:23:" in done.stderr
    assert "mesh.yaml:24:" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("next: ")
    error = json.loads(door("check", "-o", "json").stdout)["error"]
    assert error["exit_code"] == 1
    assert [p["line"] for p in error["problems"] if p["severity"] == "error"] == [23, 24]


@pytest.mark.parametrize("command", [["plan"], ["show"], ["peer", "list"], ["apply", "--yes"], ["--lab", "status"]])
def test_no_command_goes_on_with_a_broken_file(door, command):
    door.mesh("version: 2\n")
    done = door(*command)
    assert done.returncode == 1
    assert "mesh.yaml:1:10" in done.stderr


def test_show_is_filtered_by_the_beginning_of_ids(door):
    door.mesh()
    everything = json.loads(door("show", "-o", "json").stdout)["resources"]
    rights = json.loads(door("show", "hub/rights", "-o", "json").stdout)["resources"]
    assert rights == {id: attrs for id, attrs in everything.items() if id.startswith("hub/rights/")}
    assert len(rights) == 4
    assert door("show", "hub/rights/10.100.2.1").stdout.startswith("hub/rights/10.100.2.1/32\n    allow: ")
    nothing = door("show", "bogus")
    assert nothing.returncode == 1
    assert "hub/rights" in nothing.stderr


def test_schema_is_json_in_both_modes(door):
    assert json.loads(door("schema").stdout) == json.loads(door("schema", "-o", "json").stdout)
    assert "peers" in json.loads(door("schema").stdout)["properties"]


def test_a_friend_comes_is_renamed_disabled_enabled_and_goes(door):
    path = door.mesh()
    before = path.read_text()
    added = door("peer", "add", "alice", "--namespace", "alice", "--group", "family")
    assert added.returncode == 0, added.stderr
    assert peers(door)["alice"] == {"address": "10.100.2.5", "namespace": "alice", "groups": ["family"]}
    assert "10.100.2.5" in added.stdout
    assert "next: `meshwright plan`" in added.stdout

    renamed = json.loads(door("peer", "rename", "alice", "alba", "-o", "json").stdout)
    assert renamed["touched"] == ["peers.alice"]
    disabled = door("peer", "disable", "alba")
    assert disabled.returncode == 0
    assert "apply puts the namespace alice into quarantine" in disabled.stdout
    states = {d["label"]: d["state"] for d in json.loads(door("peer", "list", "-o", "json").stdout)["devices"]}
    assert states["alba"] == "disabled"
    assert states["jake"] == "active"
    enabled = door("peer", "enable", "alba")
    assert "apply takes the namespace alice out of quarantine" in enabled.stdout
    again = door("peer", "enable", "alba")
    assert again.returncode == 0
    assert "nothing was changed" in again.stdout
    removed = door("peer", "remove", "alba")
    assert removed.returncode == 0
    assert (
        "apply puts the namespace alice into quarantine: nothing runs or is allowed there, data is kept"
        in removed.stdout
    )
    assert path.read_text() == before, "comments and all"


def test_removing_a_friend_shows_the_tests_that_named_him(door):
    door.mesh()
    done = door("peer", "remove", "jake")
    assert "  changed policy.tests[0]" in done.stdout
    assert "jake" not in (door.folder / "mesh.yaml").read_text()


@pytest.mark.parametrize(
    "command",
    [
        ["add", "jake"],
        ["add", "Not-A-Label"],
        ["add", "alice", "--address", "192.0.2.1"],
        ["add", "alice", "--address", "10.100.2.1"],
        ["add", "alice", "--public-key", "AAAA"],
        ["add", "alice", "--expires", "soon"],
        ["remove", "nobody"],
        ["disable", "nobody"],
        ["enable", "jake/phone"],
        ["rename", "jake", "bryce"],
        ["rename", "jake", "peers"],
    ],
)
def test_a_refused_edit_leaves_the_file_alone(door, command):
    path = door.mesh()
    before = path.read_text()
    done = door("peer", *command)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("next: ")
    assert path.read_text() == before


def test_a_public_key_of_his_own(door):
    key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
    door.mesh()
    assert (
        door("peer", "add", "alice", "--public-key", key, "--preshared-key", "--expires", "2099-01-31").returncode == 0
    )
    assert peers(door)["alice"]["public_key"] == key
    assert peers(door)["alice"]["preshared_key"] is True


def test_the_house_over_ssh_is_refused_in_words(door):
    door.mesh()
    done = door("plan")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("next: ")


def test_without_a_lab_every_command_of_it_says_how_to_start_one(door):
    door.mesh()
    for command in (["--lab", "plan"], ["lab", "status"], ["lab", "exec", "jake", "true"], ["plan"]):
        done = door(*command, env={"MESHWRIGHT_LAB": "1"})
        assert done.returncode == 1
        assert done.stderr == "error: the lab is not up\nnext: start it: meshwright lab up\n", command


def test_taking_down_no_lab_is_fine_even_with_a_broken_file(door):
    door.mesh("name: home\nversion: what\n")
    done = door("lab", "down")
    assert (done.returncode, done.stdout) == (0, "There was no lab.\n")
