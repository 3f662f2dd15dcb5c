"""A folder of text files of which some are ours: what is new, changed or left over in it. Nobody else's is touched."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from meshwright.errors import MeshwrightError
from meshwright.io import files

State = Literal["new", "changed", "unchanged", "foreign", "left over"]
PUBLIC = 0o644


def compare(root: Path, texts: Mapping[str, str], mark: str) -> dict[str, State]:
    """Path -> what a file is beside what it should be, then the YAML files of ours that should not be there any more.

    Paths are relative to `root`. Ours is what begins with `mark`. MeshwrightError where a path leads out of the folder.
    """
    found: dict[str, State] = {name: _state(_inside(root, name), text.encode(), mark) for name, text in texts.items()}
    for name in sorted(_marked(root, mark)):
        found.setdefault(name, "left over")
    return found


def ours(path: Path, mark: str) -> bool:
    """Whether there is a plain file that begins with the mark."""
    return path.is_file() and not path.is_symlink() and _begins(path, mark)


def write(root: Path, texts: Mapping[str, str]) -> None:
    """Write each text whole, with the folders that it needs."""
    for name, text in texts.items():
        path = _inside(root, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(path, text.encode(), PUBLIC)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise _in_the_way(path, error) from None


def remove(root: Path, names: Iterable[str]) -> None:
    for name in names:
        _inside(root, name).unlink(missing_ok=True)


def _inside(root: Path, name: str) -> Path:
    """The path of a file below `root`. A link may lead to another folder of it, never out of it."""
    path, hint = root / name, "move it away, or give that part another path in `files:`"
    try:
        if not path.parent.resolve().is_relative_to(root.resolve()):
            raise MeshwrightError(f"{path}: leads out of {root}", "replace the symbolic link on the way by a folder")
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise MeshwrightError(
                f"{path}: not a plain file", "move it away, or give that part another path in `files:`"
            )
    except (ValueError, RuntimeError) as error:  # a NUL in the path; links that lead to each other
        raise MeshwrightError(f"{path}: {error}", hint) from None
    return path


def _state(path: Path, text: bytes, mark: str) -> State:
    try:
        there = path.read_bytes()
    except FileNotFoundError:
        return "new"
    except NotADirectoryError as error:
        raise _in_the_way(path, error) from None
    if there == text:
        return "unchanged"
    return "changed" if there.startswith(mark.encode()) else "foreign"


def _in_the_way(path: Path, error: OSError) -> MeshwrightError:
    return MeshwrightError(f"{path}: {error.strerror}", "give that part another path in `files:`")


def _marked(root: Path, mark: str) -> Iterator[str]:
    """Every YAML file below `root` that begins with the mark. Hidden folders and links are not followed."""
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if name.endswith((".yaml", ".yml")) and ours(path, mark):
                yield str(path.relative_to(root))


def _begins(path: Path, mark: str) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(mark.encode())) == mark.encode()
    except OSError:
        return False
