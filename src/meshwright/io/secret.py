"""Secrets that the mesh file only points at: an environment variable, a file, a program that prints it."""

from __future__ import annotations

import os
from pathlib import Path

from meshwright.errors import HostError, SecretsError
from meshwright.io import process
from meshwright.spec.model import FromCommand, FromEnvironment, FromFile

Source = FromEnvironment | FromFile | FromCommand

TIMEOUT = 60.0


def read(source: Source, folder: Path, where: str) -> str:
    """The secret: one line. SecretsError when it cannot be had; never holds it. where: its key in the mesh file.

    folder: where relative paths begin and the program runs.
    """
    line = lines(source, folder, where).removesuffix("\n").removesuffix("\r")
    if not line or not line.isprintable():
        raise SecretsError(f"{where}: what it names is empty or more than one line", "put the password there alone")
    return line


def lines(source: Source, folder: Path, where: str) -> str:
    """As read, for what may have more lines than one, like a key in PEM."""
    if isinstance(source, FromEnvironment):
        return _variable(source.env, where)
    if isinstance(source, FromFile):
        return _file(folder / source.file, where)
    return _printed(source.command, folder, where)


def _variable(name: str, where: str) -> str:
    if name not in os.environ:
        raise SecretsError(f"{where}: the environment variable {name} is not set", f"set {name} and run it again")
    return os.environ[name]


def _file(path: Path, where: str) -> str:
    try:
        if path.stat().st_mode & 0o077:
            raise SecretsError(f"{where}: others can read {path}", f"chmod 600 {path}")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a text"
        raise SecretsError(f"{where}: {path} cannot be read: {why}", "put the secret there, mode 0600") from None


def _printed(argv: tuple[str, ...], folder: Path, where: str) -> str:
    try:
        done = process.run(argv, timeout=TIMEOUT, folder=folder)
        text = done.out.decode()
    except process.Overdue:
        why = f"{where}: {argv[0]} printed nothing within {TIMEOUT:g} s"
        raise SecretsError(why, "run it by hand: it has to end by itself, and nobody can answer it here") from None
    except HostError as error:
        raise SecretsError(f"{where}: {error.message}", error.hint) from None
    except ValueError:
        raise SecretsError(f"{where}: {argv[0]} printed no text", "run it by hand") from None
    if done.code:
        raise SecretsError(f"{where}: {argv[0]} ended with code {done.code}", "run it by hand to see why")
    return text
