"""Ansible's files: an inventory with the hub, and the playbook that sets it up by our collection. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from meshwright.errors import MeshwrightError
from meshwright.spec.emit import word
from meshwright.spec.model import Connection, Mesh

YAML = ("", ".yaml", ".yml")


def paths(mesh: Mesh) -> tuple[str, str]:
    """Inventory and playbook, from the folder that `render` writes to."""
    names = (name.replace("{name}", mesh.name) for name in (mesh.files.inventory, mesh.files.playbook))
    inventory, playbook = map(posixpath.normpath, names)
    return inventory, playbook


def texts(mesh: Mesh, file: str) -> dict[str, str]:
    """Path -> text. file: the mesh file as seen from the playbook's folder."""
    inventory, playbook = paths(mesh)
    if posixpath.splitext(inventory)[1] not in YAML:
        raise MeshwrightError(
            f"files.inventory: Ansible would not read {inventory} as YAML",
            "give it a path that ends with .yaml or .yml, or that has no ending",
        )
    if any(mark in file for mark in ("{{", "{%", "{#")):
        raise MeshwrightError(f"Ansible would take {file} for a template", "give the folder another name")
    return {inventory: _inventory(mesh), playbook: _playbook(mesh, file)}


def group(mesh: Mesh) -> str:
    """The inventory group that the hub is in."""
    return f"hub_of_{mesh.table}"


def _inventory(mesh: Mesh) -> str:
    said = "\n".join(f"      {name}: {value}" for name, value in _variables(mesh).items())
    return f"---\n{group(mesh)}:\n  hosts:\n    {word(mesh.hub.node)}:\n{said}\n"


def _variables(mesh: Mesh) -> Mapping[str, str]:
    """How Ansible reaches the hub: as `hub.connection` says, in Ansible's words."""
    way = mesh.hub.connection or Connection(kind="ssh", become=True)
    out = {"ansible_become": "true" if way.become else "false"}
    if way.kind == "local":
        return {"ansible_connection": "local", **out}
    found = {"ansible_host": word(way.host or str(mesh.hub.address))}
    if way.port:
        found["ansible_port"] = str(way.port)
    if way.user:
        found["ansible_user"] = word(way.user)
    return {**found, **out}


def _playbook(mesh: Mesh, file: str) -> str:
    inventory, playbook = paths(mesh)
    base = posixpath.commonpath([posixpath.dirname(inventory), posixpath.dirname(playbook)])
    command = " ".join(
        ["ansible-playbook", "-i", posixpath.relpath(inventory, base or "."), posixpath.relpath(playbook, base or ".")]
    )
    where = f"In the folder {base}" if base else "Here"
    return (
        "---\n"
        f"# {where}: {command}\n"
        "# It needs the collection meshwright.mesh, and meshwright in the Python that runs Ansible.\n"
        f"- name: Set up the WireGuard hub of {mesh.name} and write the .conf files of its peers\n"
        f"  hosts: {group(mesh)}\n"
        "  gather_facts: false\n"
        "  roles:\n"
        "    - role: meshwright.mesh.hub\n"
        f"      hub_mesh_file: {word('{{ playbook_dir }}/' + file)}\n"
    )
