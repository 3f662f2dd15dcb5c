"""Edits of the mesh file: what they change, and that nothing else changes."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshwright.errors import ConflictError, MeshwrightError, SpecError
from meshwright.spec import edit
from meshwright.spec.load import load

TESTS = Path(__file__).parent.parent
REFERENCE = (TESTS.parent / "examples/homelab/mesh.yaml").read_text()
FULL = (TESTS / "data/mesh-full.yaml").read_text()
MINIMAL = (TESTS.parent / "examples/minimal/mesh.yaml").read_text()


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    path = tmp_path / "mesh.yaml"
    path.write_text(REFERENCE)
    return path


def changed(before: str, path: Path) -> list[str]:
    """The lines that differ, with their sign."""
    old, new = before.split("\n"), path.read_bytes().decode().split("\n")
    return [f"-{line}" for line in old if line not in new] + [f"+{line}" for line in new if line not in old]


def test_added_peer_stands_below_the_others_in_their_column(mesh: Path) -> None:
    done = edit.add_peer(mesh, "nora", namespace="nora", groups=["gamers"])
    assert changed(REFERENCE, mesh) == ["+  nora:     {address: 10.100.2.5, namespace: nora, groups: [gamers]}"]
    assert done.touched == ("peers.nora",)
    assert done.loaded.mesh.peers["nora"].namespace == "nora"


def test_next_address_is_never_one_in_use(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(FULL)
    edit.add_peer(path, "dora")
    # carl is disabled and keeps his address; each family gets one
    assert [str(a) for a in load(path).mesh.peers["dora"].address or ()] == ["10.77.3.2", "fd77::1:2"]


def test_full_network_has_no_next_address(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(MINIMAL.replace("10.100.0.0/16", "10.100.1.0/29").replace("10.100.0.1", "10.100.1.6"))
    assert [str(a) for a in edit.next_addresses(load(path).mesh)] == ["10.100.1.3"]
    for name in ("c", "d", "e"):
        edit.add_peer(path, name)
    with pytest.raises(MeshwrightError, match=r"no address of network\.cidr is free"):
        edit.add_peer(path, "f")


def test_removed_peer_leaves_every_rule_and_test(mesh: Path) -> None:
    named = [r.path for r in edit.references(load(mesh).mesh, "steve")]
    assert named == ["policy.tests[1].to", "policy.tests[2].from"]
    done = edit.remove_peer(mesh, "steve")
    assert changed(REFERENCE, mesh) == [
        "-  steve:    {address: 10.100.2.4, namespace: steve}",
        "-    - {from: bryce, to: steve, port: 22/tcp, expect: deny}",
        "-    - {from: steve, to: services, port: 53/udp, expect: allow}",
    ]
    assert set(done.touched) == {"policy.tests[1]", "policy.tests[2]", "peers.steve"}


def test_last_member_takes_the_rules_of_his_group_with_him(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(FULL)
    edit.remove_peer(path, "astrid")
    said = path.read_text()
    assert "gamers, to: gamers" not in said
    assert "astrid" not in re.sub("#.*", "", said)
    assert len(load(path).mesh.policy.allow) == 3


def test_lan_that_nobody_has_any_more_goes_from_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(FULL)
    edit.remove_peer(path, "bjorn")
    assert "bjorn" not in re.sub("#.*", "", path.read_text())
    assert "# a site: networks behind it" not in path.read_text()


def test_removing_from_a_list_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(MINIMAL.replace("from: peers", "from: [alice, bob]"))
    edit.remove_peer(path, "alice")
    assert "from: [bob]" in path.read_text()


def test_file_of_a_tenant_goes_with_him(mesh: Path) -> None:
    edit.remove_peer(mesh, "hamilton")
    assert "  tenant: {}\n" in mesh.read_text()
    assert load(mesh).mesh.files.tenant == {}


def test_last_peer_leaves_an_empty_section(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(MINIMAL)
    edit.remove_peer(path, "alice")
    edit.remove_peer(path, "bob")
    assert "peers: {}\n" in path.read_text()
    edit.add_peer(path, "carol", "10.100.1.9")
    assert load(path).mesh.peers["carol"]


@pytest.mark.parametrize("reference", ["astrid", "bjorn", "bjorn/phone", "bjorn/router"])
def test_disable_and_enable_give_the_same_text(tmp_path: Path, reference: str) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(FULL)
    done = edit.set_disabled(path, reference, True)
    off = [d.reference for d in done.loaded.mesh.devices if d.disabled]
    expected = {"bjorn": ["bjorn/router", "bjorn/phone"]}.get(reference, [reference])
    assert sorted(off) == sorted([*expected, "carl"])
    edit.set_disabled(path, reference, False)
    assert path.read_text() == FULL


def test_enabled_peer_loses_the_word(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(FULL)
    edit.set_disabled(path, "carl", False)
    assert changed(FULL, path) == ["-    disabled: true                      # kept in the file, out of everything"]


def test_device_of_a_disabled_peer_cannot_be_enabled_alone(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(FULL)
    edit.set_disabled(path, "bjorn", True)
    with pytest.raises(MeshwrightError, match="himself is disabled"):
        edit.set_disabled(path, "bjorn/phone", False)


def test_rename_reaches_every_place(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(FULL.replace("tenant: {}  ", "tenant: {bjorn: kubernetes/apps/b.yaml}"))
    done = edit.rename_peer(path, "bjorn", "bjarne")
    assert done.touched == ("peers.bjorn", "policy.allow[5].to[0]", "policy.tests[0].from", "files.tenant.bjorn")
    mesh = load(path).mesh
    assert mesh.peers["bjarne"].namespace == "bjorn"
    assert mesh.policy.allow[5].to == ("bjarne.lan",)
    assert mesh.policy.tests[0].from_ == "bjarne/phone"
    assert mesh.files.tenant == {"bjarne": "kubernetes/apps/b.yaml"}


def test_rename_keeps_the_column(mesh: Path) -> None:
    edit.rename_peer(mesh, "jake", "jo")
    assert "  jo:       {address: 10.100.2.3, namespace: jake}\n" in mesh.read_text()
    edit.rename_peer(mesh, "jo", "jake")
    assert mesh.read_text() == REFERENCE


def test_unknown_peer_is_told_with_the_nearest(mesh: Path) -> None:
    with pytest.raises(MeshwrightError) as caught:
        edit.remove_peer(mesh, "stefe")
    assert "steve" in caught.value.hint


def test_edit_with_errors_writes_nothing(mesh: Path) -> None:
    with pytest.raises(SpecError, match="the address of jake too"):
        edit.add_peer(mesh, "nora", "10.100.2.3")
    assert mesh.read_text() == REFERENCE
    assert os.listdir(mesh.parent) == ["mesh.yaml"]


def test_ends_of_lines_comments_and_a_missing_last_end_survive(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    text = "\ufeff" + MINIMAL.replace("bob: {address: 10.100.1.2}", "bob: {address: 10.100.1.2}  # Bob\n  # between")
    text = text.rstrip("\n").replace("\n", "\r\n")
    path.write_bytes(text.encode())
    edit.add_peer(path, "carol")
    assert "  # between\r\n" in path.read_bytes().decode()
    assert "# Bob\r\n  carol: {address: 10.100.1.3}\r\n" in path.read_bytes().decode()
    edit.remove_peer(path, "carol")
    assert path.read_bytes().decode() == text


def test_mode_and_link_are_kept(mesh: Path) -> None:
    mesh.chmod(0o640)
    link = mesh.with_name("link.yaml")
    link.symlink_to("mesh.yaml")
    edit.add_peer(link, "nora")
    assert link.is_symlink()
    assert "nora" in mesh.read_text()
    assert stat.S_IMODE(mesh.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have a file that belongs to somebody else")
def test_owner_is_kept(mesh: Path) -> None:
    os.chown(mesh, 1234, 1235)
    edit.add_peer(mesh, "nora")
    assert (mesh.stat().st_uid, mesh.stat().st_gid) == (1234, 1235)


def test_a_place_is_never_cut_out_of_a_newer_text(mesh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else puts a rule in front while we edit: the rule with our number is another one by then."""
    newer = REFERENCE.replace("  allow:\n", "  allow:\n    - {from: hamilton, to: hub, ports: [22/tcp]}\n")
    holder = edit._Files.holder

    def meanwhile(files: edit._Files, peer: str) -> str:
        mesh.write_text(newer)
        return holder(files, peer)

    monkeypatch.setattr(edit._Files, "holder", meanwhile)
    with pytest.raises(ConflictError, match="changed meanwhile"):
        edit.remove_peer(mesh, "jake")
    assert mesh.read_text() == newer


def test_device_is_disabled_by_its_label_too(mesh: Path) -> None:
    mesh.write_text(FULL)
    edited = edit.set_disabled(mesh, "bjorn-phone", True)
    assert [d.label for d in edited.loaded.mesh.devices if d.disabled] == ["carl", "bjorn-phone"]
    edit.set_disabled(mesh, "bjorn-phone", False)
    assert mesh.read_text() == FULL


def test_a_refused_edit_says_that_nothing_was_written(mesh: Path) -> None:
    with pytest.raises(SpecError) as caught:
        edit.add_peer(mesh, "nora", "10.0.0.1")
    assert caught.value.hint == "this is what the edit would make of it; nothing was written"
    assert mesh.read_text() == REFERENCE


def test_edit_of_somebody_else_is_not_lost(mesh: Path) -> None:
    files = edit._Files(mesh)
    files.change(files.main, ("peers", "jake"), lambda text: text.without(("policy", "tests")))
    mesh.write_text(REFERENCE + "# mine\n")
    with pytest.raises(ConflictError, match="changed meanwhile"):
        files.write()
    assert mesh.read_text() == REFERENCE + "# mine\n"
    assert os.listdir(mesh.parent) == ["mesh.yaml"]


def test_peer_of_an_included_file_is_removed_there(tmp_path: Path) -> None:
    path, other = tmp_path / "mesh.yaml", tmp_path / "friends.yaml"
    path.write_text(MINIMAL.replace("name: friends", "name: friends\ninclude: [friends.yaml]"))
    other.write_text("# theirs\npeers:\n  dora: {address: 10.100.5.1}\n  emil: {address: 10.100.5.2}\n")
    done = edit.remove_peer(path, "dora")
    assert other.read_text() == "# theirs\npeers:\n  emil: {address: 10.100.5.2}\n"
    assert done.files == (str(other),)


LABELS = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(name=LABELS, text=st.sampled_from([REFERENCE, FULL, MINIMAL]), groups=st.lists(LABELS, max_size=2, unique=True))
def test_add_then_remove_gives_the_same_text(tmp_path: Path, name: str, text: str, groups: list[str]) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(text)
    try:
        edit.add_peer(path, name, groups=groups)
    except MeshwrightError:
        assert path.read_text() == text
        return
    assert path.read_text() != text
    edit.remove_peer(path, name)
    assert path.read_text() == text
