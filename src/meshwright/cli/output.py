"""What a command says and where: results on stdout, progress and errors on stderr, or one JSON document on stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from meshwright.errors import MeshwrightError, Problem
    from meshwright.events import Event, Tell

COLOURS = {"+": "green", "-": "red", "~": "yellow", "!": "red"}


class PipeClosed(Exception):
    """Whoever read our output went away. Not an OSError, which click would turn into an exit code of its own."""


class Settings:
    """The options that every command takes, before its name or after."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.output = ""
        self.lab = False
        self.verbose = False
        self.full = False


class Output:
    """The way out of one run of the program. Holds no secret: whoever hands it a value has masked it."""

    def __init__(self, settings: Settings, json: bool) -> None:
        self.settings = settings
        self.json = json
        self._hidden: Callable[[], AbstractContextManager[None]] = nullcontext

    def secret(self, question: str) -> str:
        """What somebody types on the terminal, unseen."""
        typed: str = click.prompt(question, prompt_suffix="", hide_input=True, err=True, default="", show_default=False)
        return typed

    def lend(self) -> AbstractContextManager[None]:
        """The terminal is the block's own: progress is not drawn meanwhile."""
        return self._hidden()

    def result(self, data: Mapping[str, Any], text: str, error: MeshwrightError | None = None) -> int:
        """Print what a command found, and the error it ends with, if any. Returns the exit code."""
        if self.json:
            _write_json({**data, **({"error": _as_json(error)} if error else {})})
            return error.exit_code if error else 0
        self.say(text)
        return self.failure(error) if error else 0

    def say(self, text: str) -> None:
        """A part of the result, for people."""
        if text and not self.json:
            _write(text)

    def marked(self, text: str) -> str:
        """Lines that begin with a mark of the plan (+ - ~ !), coloured on a terminal."""
        if self.json or not colourful(sys.stdout):
            return text
        return "\n".join(
            click.style(line, fg=colour) if (colour := _colour(line)) else line for line in text.split("\n")
        )

    def note(self, text: str) -> None:
        """One line beside the result; never part of it."""
        click.echo(text, err=True)

    def failure(self, error: MeshwrightError) -> int:
        if self.json:
            _write_json({"error": _as_json(error)})
        else:
            # problems of the file say themselves what they are, each with its place
            message = clean(error.message)
            click.echo(message if hasattr(error, "problems") else f"error: {message}", err=True)
            click.echo(f"next: {clean(_hint(error))}", err=True)
        return error.exit_code

    def error(self, message: str, hint: str, code: int) -> int:
        """An error that is no MeshwrightError: a wrong command line, or a bug."""
        if self.json:
            _write_json({"error": {"message": message, "hint": hint, "exit_code": code}})
        else:
            click.echo(f"error: {message}\nnext: {hint}", err=True)
        return code

    @contextmanager
    def progress(self) -> Iterator[Tell]:
        """A listener for the block: drawn on a terminal, plain lines elsewhere. Always on stderr."""
        if colourful(sys.stderr) and not self.settings.verbose:
            from meshwright.cli.render import drawn

            with drawn() as (tell, hidden):
                self._hidden = hidden
                try:
                    yield tell
                finally:
                    self._hidden = nullcontext
        else:
            yield self._tell

    def _tell(self, event: Event) -> None:
        from meshwright.cli.lines import event_line

        line = event_line(event, self.settings.verbose)
        if line:
            self.note(line)


def _colour(line: str) -> str | None:
    mark = line.lstrip()[:2]
    if mark[1:] != " " or mark[0] not in COLOURS:
        return None
    return "red" if "  HOSTILE" in line else COLOURS[mark[0]]


def colourful(stream: IO[str]) -> bool:
    """Whether colours and drawings belong on this stream: a terminal, and no NO_COLOR (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _write_json(document: Mapping[str, Any]) -> None:
    import json

    _write(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def _write(text: str) -> None:
    try:
        click.echo(text)
    except BrokenPipeError:
        raise PipeClosed from None


def clean(text: str) -> str:
    """Lines that cannot move a terminal's cursor: an error may quote what a host or a file said."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _as_json(error: MeshwrightError) -> dict[str, Any]:
    from meshwright.errors import SpecError

    out: dict[str, Any] = {"message": error.message, "hint": _hint(error), "exit_code": error.exit_code}
    if isinstance(error, SpecError):
        count = sum(problem.severity == "error" for problem in error.problems)
        out["message"] = f"{count} problem{'' if count == 1 else 's'} in the mesh file"
        out["problems"] = [problem_json(problem) for problem in error.problems]
    return out


def problem_json(problem: Problem) -> dict[str, Any]:
    from dataclasses import asdict

    return {key: value for key, value in asdict(problem).items() if key != "source"}


def _hint(error: MeshwrightError) -> str:
    in_file = hasattr(error, "problems")
    return error.hint or ("correct the file, then run `meshwright check`" if in_file else "mend that and try again")
