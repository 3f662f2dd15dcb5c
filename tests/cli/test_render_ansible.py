"""What `render` writes for Ansible: what the example holds, and what a file can say of the way to its hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from door import REFERENCE, Door

EXAMPLE = REFERENCE.parent / "ansible"
OFFLINE = REFERENCE.read_text().replace("kubernetes:\n", 'kubernetes:\n  version: "1.36"\n', 1)
INVENTORY, PLAYBOOK = "ansible/inventory/homelab", "ansible/playbooks/hamilton-wireguard.yml"


@pytest.fixture
def door(tmp_path: Path) -> Door:
    found = Door(tmp_path)
    found.mesh(OFFLINE)
    return found


def hub(door: Door, connection: str) -> dict[str, Any]:
    """What the inventory says of the hub."""
    door.mesh(OFFLINE.replace("  interface: wg1\n", f"  interface: wg1\n  connection: {connection}\n"))
    done = door("render", ".", "--offline")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load((door.folder / INVENTORY).read_text())
    return dict(found["hub_of_collective_mesh"]["hosts"]["k3s-server-1"])


def test_the_example_holds_what_render_writes_and_nothing_else(door: Door) -> None:
    assert door("render", ".", "--offline").returncode == 0
    made = {p.relative_to(door.folder / "ansible"): p for p in (door.folder / "ansible").rglob("*") if p.is_file()}
    kept = {p.relative_to(EXAMPLE): p for p in EXAMPLE.rglob("*") if p.is_file()}
    assert {name: p.read_text() for name, p in made.items()} == {name: p.read_text() for name, p in kept.items()}


def test_the_playbook_finds_the_mesh_file_wherever_it_stands(door: Door) -> None:
    assert door("render", "far/away", "--offline").returncode == 0
    (play,) = yaml.safe_load((door.folder / "far/away" / PLAYBOOK).read_text())
    file = play["roles"][0]["hub_mesh_file"].replace(
        "{{ playbook_dir }}", str((door.folder / "far/away" / PLAYBOOK).parent)
    )
    assert Path(file).resolve() == (door.folder / "mesh.yaml").resolve()


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ("{kind: local}", {"ansible_connection": "local", "ansible_become": False}),
        ("{kind: local, become: true}", {"ansible_connection": "local", "ansible_become": True}),
        ("{kind: ssh, host: hub.lan}", {"ansible_host": "hub.lan", "ansible_become": False}),
        (
            "{kind: ssh, user: op, port: 2222, become: true}",
            {"ansible_host": "192.168.20.20", "ansible_user": "op", "ansible_port": 2222, "ansible_become": True},
        ),
        (
            '{kind: ssh, user: "yes", host: "1e3"}',
            {"ansible_host": "1e3", "ansible_user": "yes", "ansible_become": False},
        ),
    ],
)
def test_the_inventory_says_how_the_file_reaches_the_hub(door: Door, connection: str, said: dict[str, Any]) -> None:
    assert hub(door, connection) == said


def test_an_inventory_that_ansible_would_not_read_is_refused(door: Door) -> None:
    door.mesh(OFFLINE + "  inventory: ansible/hosts.ini\n")
    done = door("render", ".", "--offline")
    assert done.returncode == 1
    assert "files.inventory: Ansible would not read ansible/hosts.ini as YAML" in done.stderr
    assert not (door.folder / "ansible").exists()


def test_a_folder_that_ansible_would_take_for_a_template_is_refused(door: Door) -> None:
    folder = door.folder / "{{ here }}"
    folder.mkdir()
    (folder / "mesh.yaml").write_text(OFFLINE)
    done = door("--file", "{{ here }}/mesh.yaml", "render", "out", "--offline")
    assert done.returncode == 1
    assert "for a template" in done.stderr
