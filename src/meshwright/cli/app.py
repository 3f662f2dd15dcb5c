"""The program `meshwright`: the list of commands, and the one place where errors become exit codes.

    0  done, or nothing to do        3  applied in part
    1  the user can mend it          4  the mesh is not what the file says
    2  changes are pending          70  our bug             130  interrupted

Nothing heavy is imported here: `--help`, completion and `version` run on every TAB and must stay quick.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from meshwright.cli.lazy import Entry, LazyGroup
from meshwright.cli.output import Output, PipeClosed, Settings, clean

BUG, INTERRUPTED, PIPE_CLOSED = 70, 130, 141
ROOM = "make room or mend the permissions, then run the command again"
MENDABLE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EMFILE", "ENFILE", "EIO", "EFBIG")
}
REPORT = "this is a bug of meshwright: report it with the lines above, the command and `meshwright version`"

COMMANDS = {
    "check": Entry("check:check", "Find every problem of the mesh file."),
    "show": Entry("check:show", "Show the resources that the mesh file stands for."),
    "schema": Entry("check:schema", "Print the JSON Schema of the mesh file."),
    "plan": Entry("change:plan", "Show what would change."),
    "apply": Entry("change:apply", "Change it: make the world what the file says."),
    "drift": Entry("change:drift", "Tell whether the world is still what the file says."),
    "render": Entry("render:render", "Write the objects of the cluster as plain YAML."),
    "verify": Entry("prove:verify", "Prove that the mesh is what the file says."),
    "audit": Entry("prove:audit", "Prove that nobody may do more in the cluster than the file says."),
    "status": Entry("status:status", "Show who is connected; --watch: live, --denied: what was dropped."),
    "doctor": Entry("doctor:doctor", "Find what is broken: scrape."),
    "import": Entry("adopt:adopt", "Make a mesh file of a hub that is there already; keys are kept."),
    "backup": Entry("backup:backup", "Everything of the mesh in one encrypted file."),
    "restore": Entry("backup:restore", "Put a backup back, the hub's key too."),
    "destroy": Entry("destroy:destroy", "Take the mesh away; data and files are kept."),
    "peer": Entry("peer:peer", "Friends: add, remove, disable, enable, rename, list, conf, qr."),
    "lab": Entry("lab:lab", "The mesh on this one machine: up, down, exec, status, verify."),
    "completion": Entry("about:completion", "Print the completion script of a shell."),
    "version": Entry("about:version", "Print the version."),
}


@click.group(cls=LazyGroup, entries=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Let friends into a homelab over WireGuard: one mesh file, and one loop that makes it true.

    check, plan, apply, verify. With --lab the same file against a copy of the mesh on this machine (`lab up`).
    """


def main() -> NoReturn:
    """The entry point of the installed program."""
    gc.disable()  # a short run leaves few cycles; looking for them is a third of a plan for 10 000 peers
    _three_streams()
    code = run(sys.argv[1:])
    if code == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # said again while we end, it would be another exit code
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Everything a user can meet is turned into words here."""
    out = Output(Settings(), wants_json(arguments))
    try:
        code = _command(out, arguments)
        sys.stdout.flush()
    except (PipeClosed, BrokenPipeError):
        # whoever read us went away, as `head` does: no complaint
        _silence()
        return PIPE_CLOSED
    except OSError as error:
        # what we had to say could not be said, not even as JSON
        with contextlib.suppress(OSError):
            out.note(f"error: the output could not be written: {error.strerror}\nnext: {ROOM}")
        _silence()
        return 1
    return code


def _command(out: Output, arguments: Sequence[str]) -> int:
    try:
        code = cli.main(list(arguments), prog_name="meshwright", standalone_mode=False, obj=out)
    except (PipeClosed, BrokenPipeError):
        raise
    except (KeyboardInterrupt, click.Abort) as stop:
        said = str(stop.__cause__ or stop) or "whatever was done is done: run the command again to go on"
        out.note(f"interrupted; {said}")
        return INTERRUPTED
    except click.ClickException as error:
        return _wrong_line(out, error)
    except Exception as error:  # noqa: BLE001 the one place that turns an error into an exit code
        return _failed(out, error)
    return code if isinstance(code, int) else 0


def _wrong_line(out: Output, error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        out.note(error.format_message())
        return 1
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "meshwright"
    return out.error(error.format_message(), f"see `{path} --help`", 1)


def _failed(out: Output, error: Exception) -> int:
    """An error that the user can mend, in his words; anything else is our bug and shows where."""
    from meshwright.errors import MeshwrightError

    if isinstance(error, MeshwrightError):
        return out.failure(error)
    if isinstance(error, OSError) and error.errno in MENDABLE:
        where = f"{error.filename}: " if error.filename else ""
        return out.error(clean(f"{where}{error.strerror}"), ROOM, 1)
    import traceback

    traceback.print_exception(error)
    return out.error(f"{type(error).__name__}: {error}", REPORT, BUG)


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON: errors found before it is parsed are to be JSON too."""
    pairs = itertools.pairwise(arguments)
    return "--output=json" in arguments or any(pair in (("--output", "json"), ("-o", "json")) for pair in pairs)


def _three_streams() -> None:
    """Whoever started us may have closed stdin, stdout or stderr: no file that we open may take their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _silence() -> None:
    """What is left in the buffers is thrown away: Python's flush at exit would complain once more."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(null, stream.fileno())
