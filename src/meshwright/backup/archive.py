"""The form of a backup inside its encryption: a plain tar file, so that age and tar alone can open one. Pure.

meshwright-backup.json   the manifest, always first: {"format", "mesh", "file", "secrets", "hub", "made", "version"}
files/PATH               the mesh file and what it includes, from its folder
secrets/PATH             the directory of secrets
hub/interface.conf       the hub's conf as it was, private key and all; hub/table.json the table that it had saved
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from meshwright.errors import MeshwrightError

FORMAT = 1
MANIFEST = "meshwright-backup.json"
MOST = 512 * 1024 * 1024
OVERHEAD = MOST // 1000  # of encryption: 16 bytes for each 64 KiB, and a line for each recipient
NAME, PATH = 240, 2000  # bytes: room is left for a temporary name, and for the folder that it goes to
FOREIGN = "this is no backup of meshwright"
DAMAGED = "this backup is damaged"
ANOTHER = "take another backup"
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Backup:
    """Everything of one mesh. file, secrets: paths from the folder of the mesh file. hub: the hub's own files, by name
    in the archive; none where the hub was left out. Never shown: repr names no content."""

    mesh: str
    file: str
    secrets: str
    made: str
    version: str
    files: Files = field(default_factory=dict, repr=False)
    keys: Files = field(default_factory=dict, repr=False)
    hub: Files = field(default_factory=dict, repr=False)


def pack(backup: Backup) -> bytes:
    """The tar file: same backup, same bytes."""
    manifest = {
        "format": FORMAT,
        "mesh": backup.mesh,
        "file": backup.file,
        "secrets": backup.secrets,
        "hub": sorted(backup.hub),
        "made": backup.made,
        "version": backup.version,
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, MANIFEST, json.dumps(manifest, indent=2).encode())
        for kind, files in (("files", backup.files), ("secrets", backup.keys), ("hub", backup.hub)):
            for path in sorted(files):
                _add(tar, f"{kind}/{path}", files[path])
    return out.getvalue()


def packed(backup: Backup) -> bytes:
    """The tar file, tried: it comes back as it was. MeshwrightError where a restore would not take it."""
    data = pack(backup)
    if len(data) > MOST - OVERHEAD:
        raise MeshwrightError(
            f"the backup would be larger than {MOST >> 20} MB",
            "look into the directory of secrets: is more in it than keys?",
        )
    if unpack(data) != backup:
        raise MeshwrightError("the backup would not come back as it is", "look at the names of the files of the mesh")
    return data


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    tar.addfile(member, io.BytesIO(data))


def unpack(data: bytes) -> Backup:
    """MeshwrightError for what is none of ours, newer than this tool, damaged, or would leave its folder."""
    files = dict(_members(data))
    manifest = _manifest(files.pop(MANIFEST, None))
    parts: dict[str, dict[str, bytes]] = {"files": {}, "secrets": {}, "hub": {}}
    for name, content in files.items():
        kind, _, path = name.partition("/")
        if kind not in parts or not inside(path):
            raise MeshwrightError(f"{DAMAGED}, or made to do harm: it holds a file outside of its folders", ANOTHER)
        parts[kind][path] = content
    if sorted(parts["hub"]) != manifest["hub"] or manifest["file"] not in parts["files"]:
        raise MeshwrightError(f"{DAMAGED}: a part of it is missing", ANOTHER)
    named = {key: manifest[key] for key in ("mesh", "file", "secrets", "made", "version")}
    found = Backup(**named, files=parts["files"], keys=parts["secrets"], hub=parts["hub"])
    _check_layout(found)
    return found


def layout(backup: Backup) -> dict[str, bytes]:
    """Every file of the folder that it comes from, by its path there."""
    return {**backup.files, **{f"{backup.secrets}/{path}": data for path, data in backup.keys.items()}}


def _check_layout(backup: Backup) -> None:
    """Nothing is both a file and a folder, or twice something else."""
    files = layout(backup)
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents}
    twice = any(files[path] != data for path, data in backup.files.items())
    if twice or not folders.isdisjoint(files) or backup.secrets in files:
        raise MeshwrightError(f"{DAMAGED}, or made to do harm: two of its files are in each other's place", ANOTHER)


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                content = file.read() if file else b""
                if file is None or member.name in seen or len(content) != member.size:
                    raise MeshwrightError(f"{DAMAGED}: it holds something that is no plain file", ANOTHER)
                seen.add(member.name)
                yield member.name, content
    except (tarfile.TarError, EOFError, ValueError, OSError):
        raise MeshwrightError(FOREIGN if not seen else DAMAGED, ANOTHER) from None


def _manifest(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("format"), int):
        raise MeshwrightError(FOREIGN, "give a file that `meshwright backup` wrote")
    if found["format"] > FORMAT:
        raise MeshwrightError(
            f"this backup has format {found['format']}, made by meshwright {str(found.get('version'))[:40]}; this one"
            f" reads up to {FORMAT}",
            "use that meshwright, or a later one",
        )
    texts = all(isinstance(found.get(key), str) for key in ("mesh", "file", "secrets", "made", "version"))
    if not texts or not isinstance(found.get("hub"), list) or not (inside(found["file"]) and inside(found["secrets"])):
        raise MeshwrightError(f"{DAMAGED}: its list of contents is not as it should be", ANOTHER)
    return found


def inside(path: str) -> bool:
    """Whether a path stays below the folder that it starts from, is written in one way only, and can be made there.
    Nothing of git's own: its settings are programs that the next `git` runs."""
    if str(PurePosixPath(path)) != path or path.startswith("/") or "\0" in path or "\\" in path:
        return False
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return len(name) <= PATH and all(
        part not in (b".", b"..", b".git") and len(part) <= NAME for part in name.split(b"/")
    )
