"""Commands that are imported when they run, not when they are listed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from meshwright.cli.output import Output

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Entry(NamedTuple):
    """Where a command lives, as "module:attribute" in cli/commands, and its line in the list of commands."""

    where: str
    help: str


class LazyGroup(click.Group):
    """A group that knows its commands by name and help line only."""

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._entries = entries

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *_OPTIONS]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.where.partition(":")
        command = getattr(import_module(f"meshwright.cli.commands.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self._entries and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]}{_meant(args[0], self._entries)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self._entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        own = [CompletionItem(n, help=e.help) for n, e in self._entries.items() if n.startswith(incomplete)]
        return own + click.Command.shell_complete(self, ctx, incomplete)


def _meant(word: str, names: Mapping[str, Entry]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, names, 1)
    return f"; did you mean {close[0]}?" if close else ""


def into_settings(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Options may stand before a command's name or after it: what was written wins over the environment."""
    out = ctx.find_object(Output)
    if not out or not param.name or value is None or value is False:
        return
    if ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE or not getattr(out.settings, param.name):
        setattr(out.settings, param.name, value)
    out.json = out.settings.output == "json"


def _option(*names: str, **attributes: Any) -> click.Option:
    return click.Option(names, expose_value=False, callback=into_settings, **attributes)


_FILE = _option(
    "--file",
    "-f",
    type=click.Path(path_type=Path, readable=False),  # spec says it better
    envvar="MESHWRIGHT_FILE",
    help="The mesh file. [default: mesh.yaml in this folder; MESHWRIGHT_FILE]",
)
_OUTPUT = _option(
    "--output", "-o", type=click.Choice(["text", "json"]), help="How to print. JSON is one document on stdout."
)
_VERBOSE = _option("--verbose", "-v", is_flag=True, help="Tell every step, on stderr.")
_LAB = _option(
    "--lab", is_flag=True, envvar="MESHWRIGHT_LAB", help="Act on the running lab, not on the house. [MESHWRIGHT_LAB]"
)

_OPTIONS = (_FILE, _OUTPUT, _VERBOSE, _LAB)


class Command(click.Command):
    """A command with the options that all have."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *_OPTIONS]


class Group(click.Group):
    """A group of such commands; the options may stand before the command's name too."""

    command_class = Command

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *_OPTIONS]
