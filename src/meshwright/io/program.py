"""The program that stays on the hub: hubd's modules in one file that Python runs, the same bytes for the same modules.

In front of the zip stand two lines of text, which say what it is and which format it has. Nothing is compressed: two
machines' zlib need not agree.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
import zlib
from functools import cache

from meshwright.desired.facts import Program
from meshwright.hubd import FORMAT
from meshwright.io.host import modules

HEAD = f"#!/usr/bin/python3 -I\n# meshwright hubd, format {FORMAT}\n"
START = "import sys\n\nfrom hubd.__main__ import main\n\nsys.exit(main(sys.argv[1:]))\n"


@cache
def build() -> bytes:
    """The whole file."""
    out = io.BytesIO()
    out.write(HEAD.encode())
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path, text in sorted(modules().items()):
            archive.writestr(_entry(f"hubd/{path}"), text)
        archive.writestr(_entry("__main__.py"), START)
    return out.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    return entry


@cache
def facts() -> Program:
    """What a plan has to know of it."""
    return Program(FORMAT, hashlib.sha256(build()).hexdigest())


def packed() -> str:
    """The file as it travels: compressed, in base64."""
    return base64.b64encode(zlib.compress(build())).decode()
