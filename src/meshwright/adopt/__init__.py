"""Hubs that something else made: what their files say, and the mesh file that says the same. Pure.

What a mesh file cannot say becomes a note, never silence.
"""

from __future__ import annotations

from collections.abc import Mapping

from meshwright.adopt import conf, easy, pivpn
from meshwright.adopt.source import Source
from meshwright.errors import MeshwrightError

SQLITE = b"SQLite format 3\0"
KINDS = "give a wg-quick file, what `wg showconf` prints, wg-easy's wg0.json, or the folder of a PiVPN"


def read(name: str, data: bytes) -> Source:
    """A single file, whatever kind it is of. `name` is what it is called, for messages and the interface."""
    if data.startswith(SQLITE):
        raise MeshwrightError(
            f"{name}: a database, as wg-easy 15 and later keep it, cannot be read",
            "give the wg0.conf that wg-easy writes beside it: names, keys and preshared keys are in it; the private"
            " keys of the devices stay on the devices",
        )
    text = decoded(name, data)
    if text.lstrip().startswith("{"):
        return easy.read(name, text)
    return conf.read(name, text)


def read_folder(name: str, files: Mapping[str, bytes], interface: str = "") -> Source:
    """The folder of a PiVPN, or any folder with one wg-quick file: path in it -> content."""
    texts = {path: decoded(f"{name}/{path}", data) for path, data in files.items()}
    return pivpn.read(name, texts, interface)


def decoded(name: str, data: bytes) -> str:
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise MeshwrightError(f"{name}: not a file of text", KINDS)
    if not text.strip():
        raise MeshwrightError(f"{name}: empty", KINDS)
    return text
