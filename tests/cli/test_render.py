"""`meshwright render DIR` on the disk: ours is written, what is not is left alone, nothing leaves the folder."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path

import pytest
import yaml

from door import REFERENCE, Door
from meshwright import keys as keys_of
from meshwright.keys import Secret

APPS = "kubernetes/apps"
HAM = f"{APPS}/ham/hamilton-rbac.yaml"
ALL = f"{APPS}/mesh-peers/collective-mesh.yaml"
OFFLINE = REFERENCE.read_text().replace("kubernetes:\n", 'kubernetes:\n  version: "1.36"\n', 1)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    found = Door(tmp_path)
    found.mesh(OFFLINE)
    return found


def render(door: Door, *arguments: str) -> dict[str, str]:
    """Runs `render out`, expects it to go well, and gives path -> state."""
    done = door("render", "out", "--offline", "-o", "json", *arguments)
    assert done.returncode == 0, done.stderr
    files: dict[str, str] = json.loads(done.stdout)["files"]
    return files


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_file_begins_with_who_made_it_and_loads(door: Door) -> None:
    for path in render(door):
        lines = (door.folder / "out" / path).read_text().splitlines()
        assert lines[0] == (
            "# Made by meshwright for the mesh collective-mesh: edit the mesh file and render again, not this file."
        )
        assert lines[1] == "---"
        assert not any(line != line.rstrip() for line in lines)


def test_a_second_run_touches_nothing(door: Door) -> None:
    assert set(render(door).values()) == {"new"}
    before = {path: (door.folder / "out" / path).stat().st_mtime_ns for path in tree(door.folder / "out")}
    assert set(render(door).values()) == {"unchanged"}
    assert {path: (door.folder / "out" / path).stat().st_mtime_ns for path in before} == before


def test_two_runs_make_the_same_bytes(door: Door) -> None:
    render(door)
    assert door("render", "other", "--offline", env={"PYTHONHASHSEED": "7"}).returncode == 0
    assert tree(door.folder / "out") == tree(door.folder / "other")


def test_a_change_of_the_mesh_changes_the_files_it_is_about(door: Door) -> None:
    render(door)
    door.mesh(OFFLINE.replace("namespace: ham}", "namespace: ham, tenant: {quota: {pods: 7}}}"))
    assert {path for path, state in render(door).items() if state == "changed"} == {HAM}
    assert 'pods: "7"' in (door.folder / "out" / HAM).read_text()


def test_check_writes_nothing_and_says_what_differs(door: Door) -> None:
    done = door("render", "out", "--offline", "--check")
    assert done.returncode == 2
    assert not (door.folder / "out").exists()
    render(door)
    assert door("render", "out", "--offline", "--check").returncode == 0
    (door.folder / "out" / HAM).write_text((door.folder / "out" / HAM).read_text() + "# by hand\n")
    done = door("render", "out", "--offline", "--check", "-o", "json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["files"][HAM] == "changed"
    assert "by hand" in (door.folder / "out" / HAM).read_text()


def test_what_belongs_to_nothing_any_more_is_told_and_goes_only_when_asked(door: Door) -> None:
    render(door)
    (door.folder / "out/.git").mkdir()
    hidden = door.folder / "out/.git/copy.yaml"
    hidden.write_bytes((door.folder / "out" / HAM).read_bytes())
    stranger = door.folder / "out/kubernetes/own.yaml"
    stranger.write_text("# Made by hand\n")
    other = door.folder / "out/kubernetes/other.yaml"
    other.write_text("# Made by meshwright for the mesh collective-mesh-2: another one\n")
    door.mesh(re.sub(r"(?m)^  tenant: .*\n", "", OFFLINE))
    done = door("render", "out", "--offline")
    assert f"left over  {HAM}" in done.stdout
    assert "--prune" in done.stderr
    assert (door.folder / "out" / HAM).exists()
    assert door("render", "out", "--offline", "--check").returncode == 2
    assert render(door, "--prune")[HAM] == "removed"
    assert not (door.folder / "out" / HAM).exists()
    assert stranger.exists()
    assert other.exists(), "another mesh's"
    assert hidden.exists()
    assert door("render", "out", "--offline", "--check").returncode == 0


def test_a_file_that_is_not_ours_stops_everything(door: Door) -> None:
    path = door.folder / "out" / ALL
    path.parent.mkdir(parents=True)
    path.write_text("apiVersion: v1\n")
    done = door("render", "out", "--offline")
    assert done.returncode == 1
    assert f"left alone: out/{ALL}" in done.stderr
    assert tree(door.folder / "out") == {ALL: b"apiVersion: v1\n"}
    assert door("render", "out", "--offline", "--check").returncode == 2
    assert render(door, "--force")[ALL] == "foreign"
    assert path.read_text().startswith("# Made by meshwright")


def test_a_kustomization_only_when_it_is_asked_for_and_then_kept_right(door: Door) -> None:
    path = door.folder / "out/kustomization.yaml"
    assert "kustomization.yaml" not in render(door)
    assert render(door, "--kustomize")["kustomization.yaml"] == "new"
    done = door("render", "out", "--offline", "-o", "json")
    document = json.loads(done.stdout)
    assert document["files"]["kustomization.yaml"] == "unchanged"
    assert yaml.safe_load(path.read_text())["resources"] == document["order"], "in the order in which it can be made"
    assert "kustomization.yaml" not in document["order"], "it is no object"
    door.mesh(re.sub(r"(?m)^  tenant: .*\n", "", OFFLINE))
    states = render(door, "--prune")
    assert (states["kustomization.yaml"], states[HAM]) == ("changed", "removed")
    assert HAM not in path.read_text()
    path.write_text(path.read_text().replace(ALL, "own.yaml"))
    assert door("render", "out", "--offline", "--check").returncode == 2


def test_somebodys_own_kustomization_is_left_alone(door: Door) -> None:
    path = door.folder / "out/kustomization.yaml"
    path.parent.mkdir()
    path.write_text("resources: [own.yaml]\n")
    assert "kustomization.yaml" not in render(door)
    done = door("render", "out", "--offline", "--kustomize")
    assert done.returncode == 1
    assert "left alone: out/kustomization.yaml" in done.stderr
    assert path.read_text() == "resources: [own.yaml]\n"


def test_objects_cannot_be_where_the_kustomization_is(door: Door) -> None:
    door.mesh(OFFLINE + "  access: ./kustomization.yaml\n")
    done = door("render", "out", "--offline", "--kustomize")
    assert done.returncode == 1
    assert "two parts of the mesh are written to kustomization.yaml" in done.stderr


def test_a_link_that_leads_out_of_the_folder_is_refused(door: Door) -> None:
    outside = door.folder / "outside"
    outside.mkdir()
    (door.folder / "out/kubernetes").mkdir(parents=True)
    (door.folder / "out/kubernetes/apps").symlink_to(outside)
    done = door("render", "out", "--offline")
    assert done.returncode == 1
    assert "leads out of out" in done.stderr
    assert not list(outside.iterdir())


def test_a_link_in_place_of_a_file_is_refused(door: Door) -> None:
    target = door.folder / "out/real.yaml"
    path = door.folder / "out" / HAM
    path.parent.mkdir(parents=True)
    target.write_text("x: 1\n")
    path.symlink_to(target)
    done = door("render", "out", "--offline", "--force")
    assert done.returncode == 1
    assert "not a plain file" in done.stderr
    assert target.read_text() == "x: 1\n"


def test_the_folder_itself_may_be_a_link(door: Door) -> None:
    (door.folder / "real").mkdir()
    (door.folder / "out").symlink_to("real")
    render(door)
    assert (door.folder / "real" / HAM).exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda out: (out / HAM).mkdir(parents=True), "not a plain file"),
        (lambda out: (out.mkdir(), (out / "kubernetes").write_text("")), "Not a directory"),
        (lambda out: out.write_text(""), "Not a directory"),
        (lambda out: (out.mkdir(), (out / "kubernetes").symlink_to("kubernetes")), "kubernetes"),
        (lambda out: ((out / HAM).parent.mkdir(parents=True), os.mkfifo(out / HAM)), "not a plain file"),
    ],
    ids=["folder", "file-on-the-way", "file-as-folder", "link-to-itself", "pipe"],
)
def test_whatever_stands_in_the_way_is_one_clear_error(door: Door, make, said) -> None:  # type: ignore[no-untyped-def]
    make(door.folder / "out")
    done = door("render", "out", "--offline")
    assert done.returncode == 1, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("next: ")


def test_a_path_with_a_nul_in_it_is_an_error(door: Door) -> None:
    door.mesh(OFFLINE + '  access: "a\\0b.yaml"\n')
    done = door("render", "out", "--offline")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_the_version_must_be_known(door: Door) -> None:
    door.mesh(REFERENCE.read_text())
    done = door("render", "out", "--offline")
    assert done.returncode == 1
    assert 'kubernetes: {version: "1.36"}' in done.stderr
    assert not (door.folder / "out").exists()


def test_without_the_cluster_it_says_what_it_could_not_look_at(door: Door) -> None:
    for arguments in (["--offline"], []):
        done = door("render", "out", *arguments)
        assert done.returncode == 0, done.stderr
        assert "a namespace whose peer is out is not in these files" in done.stderr


def test_without_a_kubernetes_section_there_are_only_ansibles_files(door: Door) -> None:
    door.mesh((REFERENCE.parents[1] / "minimal/mesh.yaml").read_text())
    assert list(render(door)) == ["ansible/inventory/homelab", "ansible/playbooks/mesh-wireguard.yml"]


def test_keys_that_are_there_get_their_names_and_the_others_are_told(door: Door) -> None:
    keys = door.folder / ".meshwright/keys"
    keys.mkdir(parents=True)
    for folder in (keys, keys.parent):
        folder.chmod(0o700)
    key = keys / "jake.key"
    key.touch(0o600)
    key.write_text(f"{base64.b64encode(bytes(range(32))).decode()}\n")
    done = door("render", "out", "--offline")
    assert done.returncode == 0, done.stderr
    assert "without a key so far: bryce, hamilton, steve" in done.stderr.replace("\n", " ")
    text = (door.folder / "out" / APPS / "monitoring/wireguard-exporter.yaml").read_text()
    named = [rule for each in yaml.safe_load_all(text) for end in (each.get("spec") or {}).get("endpoints", ())
             for rule in end["metricRelabelings"] if rule.get("targetLabel") == "__tmp_whose"]  # fmt: skip
    public = keys_of.public(Secret(key.read_text().strip()))
    assert [(rule["regex"], rule["replacement"]) for rule in named] == [(public.replace("+", r"\+"), "jake")]


def test_what_is_secret_is_made_by_hand(door: Door) -> None:
    watch = "observability:\n  exporter: {kind: builtin, token: {file: exporter.token}}\n"
    door.mesh(re.sub(r"(?ms)^observability:\n.*?(?=^\S)", watch, OFFLINE))
    done = door("render", "out", "--offline")
    assert done.returncode == 0, done.stderr
    assert "kubectl create secret generic meshwright-collective-mesh-exporter -n monitoring" in done.stderr
    assert "kind: Secret" not in (door.folder / "out" / APPS / "monitoring/wireguard-exporter.yaml").read_text()
