"""verify, audit: what the mesh does, seen from outside the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from meshwright.cli.lazy import Command
from meshwright.cli.output import Output

if TYPE_CHECKING:
    from meshwright.events import Checked
    from meshwright.lab.matrix import Matrix

WIDEST = 12


@click.command(cls=Command)
@click.pass_obj
def verify(out: Output) -> int:
    """Prove that the mesh is what the file says. Exit code 4 when it is not.

    Reads everything again, which must leave nothing to do; puts every policy test to the hub's table, as nft lists it;
    audits the cluster.
    With --lab it also sends real packets from every friend, and tries to get around the policy.
    """
    return prove(out, packets=out.settings.lab)


@click.command(cls=Command)
@click.pass_obj
def audit(out: Output) -> int:
    """Prove that in the cluster everybody may do what the file says, and nothing else. Exit code 4 when it is not so.

    Asks the API server what each friend and the deployer may do; looks at every role and binding, at endless tokens,
    open Services and host names claimed twice. Part of verify; the hub is not asked.
    """
    from meshwright import flow
    from meshwright.cli import world
    from meshwright.errors import MeshwrightError

    where = world.world(out)
    if "kubernetes" not in where.providers:
        hint = (
            "start it with `lab up --kubernetes`" if where.mesh.kubernetes else "add a `kubernetes` section to the file"
        )
        raise MeshwrightError("there is no cluster to audit", hint)
    with out.progress() as tell:
        view = flow.look(where.mesh, where.providers, where.places, tell, ["kubernetes"])
        checks = flow.audit(view, where.places, where.providers, tell)
    return _report(out, where.mesh.name, checks, None)


def prove(out: Output, packets: bool) -> int:
    """`verify`, and with packets `lab verify`, on the house or on the lab."""
    from meshwright import flow
    from meshwright.cli import world

    where = world.world(out)
    matrix = None
    with out.progress() as tell:
        view = flow.look(where.mesh, where.providers, where.places, tell)
        checks = flow.verify(view, where.places, where.providers, tell)
        if packets:
            from meshwright.lab import attempts
            from meshwright.lab import matrix as probing

            lab = world.running(where.mesh.name)
            services = view.facts.services
            matrix = probing.run(lab, where.mesh, tell, services=services)
            checks += attempts.run(lab, where.mesh, tell, services=services)
    return _report(out, where.mesh.name, checks, matrix)


def _report(out: Output, name: str, checks: Sequence[Checked], matrix: Matrix | None) -> int:
    from meshwright.errors import VerifyFailed

    failed = [check for check in checks if not check.ok]
    bad = len(failed) + (len(_faults(matrix)) if matrix else 0)
    lines = [_line(check) for check in checks]
    if matrix:
        lines += ["", *_matrix(matrix), ""]
    total = f"{len(checks)} checks" + (f", {matrix.probes} probes with real packets" if matrix else "")
    lines.append(f"{name}: {total}, {bad or 'none'} failed")
    data: dict[str, Any] = {"mesh": name, "ok": not bad, "checks": [asdict(check) for check in checks]}
    if matrix:
        data["matrix"] = asdict(matrix)
    if not bad:
        return out.result(data, "\n".join(lines))
    hint = next(
        (check.hint for check in failed if check.hint), "see the lines that begin with !, then `meshwright plan`"
    )
    return out.result(data, out.marked("\n".join(lines)), VerifyFailed(f"{bad} things are not as the file says", hint))


def _line(check: Checked) -> str:
    if check.ok:
        return f"ok {check.name}: {check.observed}"
    return f"! {check.name}: expected {check.expected}, saw {check.observed}"


def _matrix(matrix: Matrix) -> list[str]:
    """How many probes passed, per destination and source; what differs from the policy is marked and told below."""
    from meshwright.cli.columns import columns

    lines = []
    if len(matrix.columns) <= WIDEST:
        cells = [
            (f"{row.name} {row.address}", *(_cell(row.cells.get(source)) for source in matrix.columns))
            for row in matrix.rows
        ]
        lines = columns([("PASSED OF SENT", *matrix.columns), *cells]).split("\n")
    else:
        lines = [f"{len(matrix.rows)} destinations from {len(matrix.columns)} sources"]
    lines += [f"not probed: {text}" for text in matrix.unanswered]
    return [*lines, *([matrix.sampled] if matrix.sampled else []), *_faults(matrix)]


def _cell(cell: Any) -> str:
    return "-" if cell is None else f"{'' if cell.ok else '! '}{len(cell.observed)}/{cell.probes}"


def _faults(matrix: Matrix) -> list[str]:
    found = [
        f"! {source} -> {row.name} ({row.address}): {fault}"
        for row in matrix.rows
        for source, cell in row.cells.items()
        for fault in cell.faults
    ]
    return found + [f"! {text}" for text in matrix.unproved]
