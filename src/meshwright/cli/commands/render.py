"""render: the objects of the cluster as plain YAML, for Flux, Argo and kubectl; what Ansible needs for the hub."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshwright.cli.lazy import Command
from meshwright.cli.output import Output, clean

if TYPE_CHECKING:
    from meshwright.cli.world import World
    from meshwright.desired.facts import Facts
    from meshwright.desired.resource import Resource
    from meshwright.io.tree import State

DIFFERENT = 2


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; exit code 2 when a file is not as it should be.")
@click.option("--prune", is_flag=True, help="Remove files of this mesh that nothing belongs into any more.")
@click.option("--force", is_flag=True, help="Overwrite files that meshwright did not make, too.")
@click.option("--offline", is_flag=True, help="Do not ask the cluster; kubernetes.version must be in the file.")
@click.option("--kustomize", is_flag=True, help="Also write kustomization.yaml, for kubectl apply -k DIR.")
@click.pass_obj
def render(out: Output, /, folder: Path, offline: bool, kustomize: bool, **how: bool) -> int:
    """Write the objects of the cluster as YAML below DIR, at the paths of `files:`, and a playbook with its inventory.

    The same objects that `apply` makes. Files that meshwright did not make are left alone. A kustomization.yaml says
    what belongs into DIR and leaves everything else in it out, so it is written only with --kustomize; once it is
    there, it is kept right.
    """
    from meshwright.cli import world
    from meshwright.desired import documents
    from meshwright.io import tree

    where = world.world(out)
    mark = documents.mark(where.mesh.name)
    parts = _texts(out, where, offline)
    kustomized = kustomize or tree.ours(folder / documents.KUSTOMIZATION, mark)
    texts = _together(parts, _playbook(out, where, folder), _kustomization(parts, mark) if kustomized else {})
    states = tree.compare(folder, texts, mark)
    if how["check"]:
        return _checked(out, folder, states, list(parts))
    if not how["force"]:
        _refuse(folder, states)
    tree.write(folder, {path: text for path, text in texts.items() if states[path] != "unchanged"})
    gone = [path for path, state in states.items() if how["prune"] and state == "left over"]
    tree.remove(folder, gone)
    said = {path: "removed" if path in gone else state for path, state in states.items()}
    lines = [_listed(said), _counted(said)]
    if any(states[path] in ("new", "changed", "foreign") for path in parts):
        arguments = f"-k {shlex.quote(str(folder))}" if kustomized else _arguments(folder, parts)
        lines.append(f"for kubectl, all at once: kubectl apply --server-side {arguments}")
    if "left over" in said.values():
        out.note("what is left over belongs to nothing any more; --prune removes it")
    return out.result(_json(folder, said, list(parts)), "\n".join(lines))


def _texts(out: Output, where: World, offline: bool) -> dict[str, str]:
    """Path -> the text of a file of the cluster, in the order in which the files can be applied."""
    from meshwright.desired import documents, state
    from meshwright.spec import emit

    mesh = where.mesh
    if mesh.kubernetes is None:
        return {}
    wanted = _known(out, where, state.state(mesh, _facts(out, where, offline)))
    if shut := sorted(id.rpartition("/")[2] for id in wanted if id.startswith("kubernetes/quarantine/")):
        out.note(
            f"in quarantine: {', '.join(shut)}; their walls are in these files, but only `meshwright apply` ends what"
            " runs there and takes the bindings away that their owners made"
        )
    found = documents.documents(mesh, wanted.values())
    first = _first_line(documents.mark(mesh.name))
    return {path: first + emit.text(manifests) for path, manifests in found.items()}


def _known(out: Output, where: World, draft: Mapping[str, Resource]) -> dict[str, Resource]:
    """The objects with the keys that there are. What is secret, and what waits for a key, is not in them."""
    from meshwright.cli import byhand
    from meshwright.desired import documents, state
    from meshwright.plan.plan import unknowns

    for command in byhand.commands(where.mesh):
        out.note(f"not in these files, make it by hand: {command}")
    cluster = {id: resource for id, resource in draft.items() if resource.system == "kubernetes"}
    if not any(unknowns(resource.attrs) for resource in cluster.values()):
        return cluster
    found, missing = documents.ready(state.known(cluster, where.providers["files"].read({})))
    if missing:
        names = ", ".join(id.rpartition("/")[2] for id in missing)
        out.note(
            f"without a key so far: {names}; until `meshwright apply` makes it and you render again, they are unknown"
        )
    return found


def _playbook(out: Output, where: World, folder: Path) -> dict[str, str]:
    """The same of Ansible's files."""
    from meshwright.cli import meshfile
    from meshwright.desired import documents, playbook

    start = (folder / playbook.paths(where.mesh)[1]).resolve().parent
    file = os.path.relpath(meshfile.path(out).resolve(), start)
    first = _first_line(documents.mark(where.mesh.name))
    return {path: first + text for path, text in playbook.texts(where.mesh, file).items()}


def _kustomization(parts: Iterable[str], mark: str) -> dict[str, str]:
    from meshwright.desired import documents
    from meshwright.spec import emit

    return {documents.KUSTOMIZATION: _first_line(mark) + emit.text([documents.kustomization(parts)])}


def _together(*parts: Mapping[str, str]) -> dict[str, str]:
    from meshwright.errors import MeshwrightError

    found = Counter(path for each in parts for path in each)
    if twice := [path for path, count in found.items() if count > 1]:
        raise MeshwrightError(
            f"two parts of the mesh are written to {twice[0]}", "give one of them another path in `files:`"
        )
    return {path: text for each in parts for path, text in each.items()}


def _first_line(mark: str) -> str:
    return f"{mark} edit the mesh file and render again, not this file.\n"


def _facts(out: Output, where: World, offline: bool) -> Facts:
    """The facts with what the cluster tells, or without it where the file says enough."""
    from meshwright import discover
    from meshwright.errors import ClusterError, MeshwrightError

    mesh, services, why = where.mesh, where.places.services, "--offline"
    if where.places.cluster and not offline:
        try:
            return discover.read(mesh, services, where.places.cluster)
        except ClusterError as error:
            why = error.message
    assert mesh.kubernetes
    if mesh.kubernetes.version is None:
        raise MeshwrightError(
            f"the version of Kubernetes, to which Pod Security is pinned, is not known: {why}",
            'write it into the file, as kubernetes: {version: "1.36"}, or let the cluster be asked',
        )
    out.note(
        f"the cluster was not asked ({why}): a namespace whose peer is out is not in these files. Where Flux or Argo"
        " prunes, it would be deleted with its data"
    )
    return discover.read(mesh, services)


def _refuse(folder: Path, states: Mapping[str, State]) -> None:
    from meshwright.errors import ConflictError

    foreign = [str(folder / path) for path, state in states.items() if state == "foreign"]
    if foreign:
        raise ConflictError(
            f"not made by meshwright for this mesh, so left alone: {', '.join(foreign)}",
            "move it away, give that part another path in `files:`, or overwrite it with --force",
        )


def _checked(out: Output, folder: Path, states: Mapping[str, State], order: list[str]) -> int:
    different = [path for path, state in states.items() if state != "unchanged"]
    last = f"{len(different)} of {len(states)} files are not as they should be" if different else "every file is right"
    out.result({**_json(folder, states, order), "different": bool(different)}, f"{_listed(states)}\n{last}")
    return DIFFERENT if different else 0


def _json(folder: Path, said: Mapping[str, str], order: list[str]) -> dict[str, object]:
    return {"directory": str(folder), "files": said, "order": order}


def _listed(said: Mapping[str, str]) -> str:
    from meshwright.cli.columns import columns

    return columns([(state, clean(path)) for path, state in said.items()])


def _counted(said: Mapping[str, str]) -> str:
    counts = Counter(said.values())
    return f"{len(said)} files: {', '.join(f'{count} {state}' for state, count in counts.items())}"


def _arguments(folder: Path, paths: Iterable[str]) -> str:
    return " ".join(f"-f {shlex.quote(str(folder / path))}" for path in paths)
