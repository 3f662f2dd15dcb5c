"""check, show, schema: what needs the file only."""

from __future__ import annotations

import click

from meshwright.cli.lazy import Command
from meshwright.cli.output import Output


@click.command(cls=Command)
@click.pass_obj
def check(out: Output) -> int:
    """Find every problem of the mesh file, its policy tests included. Reads nothing else."""
    from meshwright.cli import meshfile
    from meshwright.cli.output import problem_json
    from meshwright.verify import wayback

    loaded = meshfile.loaded(out)
    mesh, warnings = loaded.mesh, loaded.warnings
    data = {
        "file": str(meshfile.path(out)),
        "mesh": mesh.name,
        "peers": len(mesh.peers),
        "devices": len(mesh.devices),
        "tests": len(mesh.policy.tests),
        "warnings": [problem_json(warning) for warning in warnings],
        "return_path": {"choice": mesh.network.return_path, "costs": wayback.costs(mesh)},
    }
    back = [f"return path {mesh.network.return_path}: {costs}"] if (costs := wayback.costs(mesh)) else []
    counts = f"{len(mesh.peers)} peers, {len(mesh.devices)} devices, {len(mesh.policy.tests)} policy tests hold"
    last = f"{data['file']}: {counts}, {len(warnings)} warning{'' if len(warnings) == 1 else 's'}"
    return out.result(data, "\n".join([*(warning.render() for warning in warnings), *back, last]))


@click.command(cls=Command)
@click.argument("prefix", default="")
@click.pass_obj
def show(out: Output, prefix: str) -> int:
    """Show the resources that the mesh file stands for, those whose id begins with PREFIX. Secrets are hidden."""
    from meshwright import discover
    from meshwright.cli import meshfile
    from meshwright.desired import state
    from meshwright.errors import MeshwrightError
    from meshwright.plan import text

    mesh = meshfile.mesh(out)
    everything = state.state(mesh, discover.read(mesh, {}))
    chosen = {id: everything[id] for id in sorted(everything) if id.startswith(prefix)}
    if not chosen:
        kinds = sorted({"/".join(id.split("/")[:2]) for id in everything})
        raise MeshwrightError(f"no resource begins with {prefix}", f"there are {', '.join(kinds)}")
    data = {"resources": {id: text.masked(r.attrs, r.secret) for id, r in chosen.items()}}
    return out.result(data, "\n".join(text.described(resource) for resource in chosen.values()))


@click.command(cls=Command)
@click.pass_obj
def schema(out: Output) -> int:
    """Print the JSON Schema of the mesh file, for editors."""
    import json

    from meshwright.spec.schema import json_schema

    document = json_schema()
    return out.result(document, json.dumps(document, indent=2))
