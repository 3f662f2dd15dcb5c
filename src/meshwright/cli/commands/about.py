"""version, completion."""

from __future__ import annotations

import click

from meshwright import __version__
from meshwright.cli.lazy import Command
from meshwright.cli.output import Output


@click.command(cls=Command)
@click.pass_obj
def version(out: Output) -> int:
    """Print the version."""
    return out.result({"version": __version__}, f"meshwright {__version__}")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print the completion script of a shell.

    bash: eval "$(meshwright completion bash)" in ~/.bashrc.
    zsh: the same with zsh in ~/.zshrc.
    fish: meshwright completion fish > ~/.config/fish/completions/meshwright.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found
    script = found(ctx.find_root().command, {}, "meshwright", "_MESHWRIGHT_COMPLETE").source()
    out = ctx.find_object(Output)
    assert out
    return out.result({"shell": shell, "script": script}, script)
