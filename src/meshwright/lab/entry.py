"""How the programs of lab/inside are started: the bare interpreter, no site packages, only that folder on its path."""

from __future__ import annotations

import sys
from pathlib import Path

from meshwright.lab.state import MARK

_FOLDER = str(Path(__file__).parent)
_BOOT = (
    "import sys;sys.path.insert(0,sys.argv[1]);import importlib;"
    "sys.exit(importlib.import_module('inside.'+sys.argv[2]).main(sys.argv[3:]))"
)


def command(program: str, *arguments: str) -> list[str]:
    """The argument list that runs `main(arguments)` of lab/inside/PROGRAM.py."""
    return [sys.executable, "-I", "-S", "-B", "-c", _BOOT, _FOLDER, program, *arguments]


def marked(program: str, *arguments: str) -> list[str]:
    """The same, recognisable in a process list as ours."""
    return [*command(program, *arguments), MARK]
