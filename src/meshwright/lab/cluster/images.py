"""Container images made here, of programs that this machine has: a lab has no registry (OCI image format 1.1)."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshwright.errors import LabError
from meshwright.io import process

PAUSE = "meshwright.lab/pause:1"
BUSYBOX = "meshwright.lab/busybox:1"
NOBODY = "65534"
# process 1 of a pod has to end when it is told to, and must not leave zombies of its siblings
WAIT = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_INDEX, _MANIFEST, _CONFIG = (f"application/vnd.oci.image.{kind}.v1+json" for kind in ("index", "manifest", "config"))
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_ACCOUNTS = {
    "etc/passwd": b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}


@dataclass(frozen=True, slots=True)
class Image:
    """files: path in the image -> file of this machine or its bytes; all are executable for everybody.
    links: path -> where it leads. The image runs `entrypoint` and `command` as nobody; a pod's args replace `command`.
    """

    name: str
    command: Sequence[str]
    files: Mapping[str, Path | bytes]
    links: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()


def node() -> list[Image]:
    """What every node needs: the pod's first process, and a shell with its usual programs."""
    path = shutil.which("busybox")
    if not path:
        raise LabError("not installed: busybox", "install it: sudo apt install busybox-static")
    files: dict[str, Path | bytes] = {**_ACCOUNTS, "bin/busybox": Path(path), **libraries(path)}
    names = process.run([path, "--list"], timeout=30).out.decode().split()
    links = {f"bin/{name}": "busybox" for name in names if name != "busybox"}
    return [
        Image(PAUSE, ["/bin/sh", "-c", WAIT], files, links),
        Image(BUSYBOX, ["/bin/sleep", "2147483647"], files, links),
    ]


def libraries(program: str) -> dict[str, Path]:
    """The shared libraries of a program, where it looks for them; none of one that is linked statically."""
    done = process.run(["ldd", program], timeout=30)
    words = (line.split() for line in done.out.decode().splitlines())
    found = (next((w for w in reversed(line) if w.startswith("/")), "") for line in words)
    return {path.lstrip("/"): Path(path).resolve() for path in found if path} if done.code == 0 else {}


def write(target: Path, images: Sequence[Image]) -> None:
    """One archive for `ctr images import`. The same images give the same bytes."""
    blobs: dict[str, bytes] = {}
    manifests = [_manifest(image, blobs) for image in images]
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}
    with tarfile.open(target, "w") as archive:
        for name, data in {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": _json(index),
            **blobs,
        }.items():
            _add(archive, name, data, 0o644)


def _manifest(image: Image, blobs: dict[str, bytes]) -> dict[str, Any]:
    """The image as an entry of the index; its parts are added to `blobs`."""
    layer = _layer(image)
    run = {"Cmd": list(image.command), "User": NOBODY, "Env": ["PATH=/bin:/usr/bin"]}
    if image.entrypoint:
        run["Entrypoint"] = list(image.entrypoint)
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _blob(blobs, _CONFIG, _json(config)),
        "layers": [_blob(blobs, _LAYER, layer)],
    }
    whole = _blob(blobs, _MANIFEST, _json(manifest))
    return {**whole, "annotations": {"io.containerd.image.name": image.name}}


def _layer(image: Image) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for folder in _folders([*image.files, *image.links]):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            layer.addfile(entry)
        for path, what in sorted(image.files.items()):
            _add(layer, path, what if isinstance(what, bytes) else what.read_bytes(), 0o755)
        for path, leads in sorted(image.links.items()):
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, leads
            layer.addfile(entry)
    return buffer.getvalue()


def _folders(paths: Sequence[str]) -> Iterator[str]:
    """Every folder above the paths, outer ones first, and those that a container expects."""
    parents = {str(p) for path in paths for p in Path(path).parents if str(p) != "."}
    yield from sorted(parents | {"dev", "proc", "sys", "tmp"})


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def _blob(blobs: dict[str, bytes], kind: str, data: bytes) -> dict[str, Any]:
    digest = _digest(data)
    blobs[f"blobs/sha256/{digest.removeprefix('sha256:')}"] = data
    return {"mediaType": kind, "digest": digest, "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
