"""backup and restore on the operator's machine: byte for byte, for the right people only, and what is refused."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import stat
import subprocess
import tarfile
from pathlib import Path

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright import keys
from meshwright.backup import archive
from meshwright.backup.archive import Backup
from meshwright.cli import app
from meshwright.errors import MeshwrightError
from meshwright.io import age, files, sources

OWNER = pyrage.x25519.Identity.generate()
MESH = """version: 1
name: house   # a comment that stays
include: [friends/more.yaml]
hub: {node: hub, address: 192.168.20.20, interface: wg1, endpoint: "vpn.example.net:51820"}
network: {cidr: 10.8.0.0/24, hub: 10.8.0.1}
peers:
  ham: {address: 10.8.0.2, preshared_key: true}
"""
MORE = "peers:\n  bryce: {address: 10.8.0.3}   # café\n"


class Home:
    """A mesh folder with keys, and the command line in it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        (folder / "friends").mkdir(parents=True)
        (folder / "mesh.yaml").write_text(f'{MESH}secrets: {{recipients: ["{OWNER.to_public()}"]}}\n')
        (folder / "friends/more.yaml").write_text(MORE)
        for place, key in (
            ("keys/ham", keys.generate()),
            ("keys/bryce", keys.generate()),
            ("preshared/ham", keys.preshared()),
        ):
            path = folder / f".meshwright/{place}.key"
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text(f"{key.reveal()}\n")
            path.chmod(0o600)
        (folder / ".meshwright").chmod(0o700)
        self.identity = folder.parent / "identity"
        self.identity.write_text(f"# mine\n{OWNER}\n")
        self.identity.chmod(0o600)
        self.file = folder.parent / "house.backup"

    def run(self, *words: object) -> tuple[int, str, str]:
        code = app.run([*map(str, words)])
        said = self.capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    def backup(self, *words: object) -> tuple[int, str, str]:
        return self.run("backup", self.file, "--without-hub", "--file", self.folder / "mesh.yaml", *words)

    def restore(self, into: Path, *words: object) -> tuple[int, str, str]:
        return self.run("restore", self.file, into, "--identity", self.identity, *words)

    def stored(self, folder: Path | None = None) -> dict[str, bytes]:
        folder = folder or self.folder
        return {
            str(p.relative_to(folder)): p.read_bytes()
            for p in sorted(folder.rglob("*"))
            if p.is_file() and p.name != ".gitignore"
        }


@pytest.fixture
def home(tmp_path, capsys):
    return Home(tmp_path / "home", capsys)


def test_what_comes_back_is_what_was_there_byte_for_byte(home, tmp_path):
    code, said, err = home.backup()
    assert code == 0, err
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o600
    into = tmp_path / "new/house"
    code, told, err = home.restore(into)
    assert code == 0, err
    assert home.stored(into) == home.stored()
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in (into / ".meshwright").rglob("*.key"))
    assert stat.S_IMODE((into / ".meshwright").stat().st_mode) == 0o700
    secrets = [data.decode().strip() for path, data in home.stored().items() if path.endswith(".key")]
    sealed = home.file.read_bytes()
    assert len(secrets) == 3
    assert not any(key in text for key in secrets for text in (said, told, err))
    assert not any(word in sealed for word in (b"peers", b"meshwright", *(key.encode() for key in secrets)))


@pytest.mark.lab
def test_an_ssh_key_is_recipient_and_identity(home, tmp_path):
    made = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", made], check=True, timeout=20)
    text = f'{MESH}secrets: {{recipients: ["{made.with_suffix(".pub").read_text().strip()}"]}}\n'
    (home.folder / "mesh.yaml").write_text(text)
    assert home.backup()[0] == 0
    assert home.restore(tmp_path / "wrong")[0] == 1
    home.identity = made
    assert home.restore(tmp_path / "new")[0] == 0
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", made], check=True, timeout=20)
    code, _, err = home.restore(tmp_path / "third")
    assert code == 1
    assert "protected by a passphrase" in err
    assert "ssh-keygen -p" in err


def test_without_recipients_nothing_is_written_and_the_next_step_is_said(home):
    (home.folder / "mesh.yaml").write_text(MESH)
    code, _, err = home.backup()
    assert code == 1
    assert "recipients" in err
    assert "id_ed25519.pub" in err
    assert not home.file.exists()


def test_a_backup_that_is_there_is_not_replaced_without_consent(home):
    home.file.write_text("precious")
    assert home.backup()[0] == 1
    assert home.file.read_text() == "precious"
    assert home.backup("--force")[0] == 0


def test_a_readable_key_is_not_carried_on(home):
    (home.folder / ".meshwright/keys/ham.key").chmod(0o644)
    code, _, err = home.backup()
    assert code == 1
    assert "others can read this secret" in err


def test_an_include_outside_of_the_folder_is_refused(home):
    (home.folder.parent / "out.yaml").write_text("peers: {}\n")
    text = (home.folder / "mesh.yaml").read_text().replace("friends/more.yaml", "../out.yaml")
    (home.folder / "mesh.yaml").write_text(text)
    code, _, err = home.backup()
    assert code == 1
    assert "outside of the mesh file's folder" in err


def test_the_wrong_key_is_told_and_nothing_is_written(home, tmp_path):
    home.backup()
    home.identity.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    code, _, err = home.restore(tmp_path / "new")
    assert code == 1
    assert "not encrypted to this key" in err
    assert not (tmp_path / "new").exists()


def test_a_folder_in_use_is_left_alone_without_consent_but_a_restore_may_go_on(home, tmp_path):
    home.backup()
    into = tmp_path / "new"
    into.mkdir()
    (into / "mesh.yaml").write_text("mine")
    code, _, err = home.restore(into)
    assert (code, (into / "mesh.yaml").read_text()) == (1, "mine")
    assert "mesh.yaml is there already" in err
    assert home.restore(into, "--force")[0] == 0
    (into / ".meshwright/keys/ham.key").unlink()  # as if it had been interrupted
    assert home.restore(into)[0] == 0
    assert home.stored(into) == home.stored()


def test_a_link_in_the_way_leads_nowhere(home, tmp_path):
    home.backup()
    into, out = tmp_path / "new", tmp_path / "out"
    into.mkdir()
    out.mkdir()
    (into / ".meshwright").symlink_to(out)
    code, _, err = home.restore(into, "--force")
    assert code == 1
    assert "is a link" in err
    assert not list(out.iterdir())


@pytest.mark.parametrize(("change", "said"), [
    (lambda data: b"", "not an encrypted backup"),
    (lambda data: b"hello\n", "not an encrypted backup"),
    (lambda data: data[:-7], "damaged, or cut off"),
    (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "damaged, or cut off"),
    (lambda data: age.encrypt(b"a letter", [str(OWNER.to_public())]), "no backup of meshwright"),
])  # fmt: skip
def test_a_damaged_or_foreign_file_is_refused(home, tmp_path, change, said):
    home.backup()
    home.file.write_bytes(change(home.file.read_bytes()))
    code, _, err = home.restore(tmp_path / "new")
    assert code == 1
    assert said in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("target", "said"), [
    ("nowhere/x.age", "nowhere: there is no such folder"),
    ("mesh.yaml/x.age", "mesh.yaml: there is no such folder"),
    (".", ". is a folder"),
    ("/", "/ is a folder"),
    ("-", "a backup goes into a file, not to stdout"),
    ("pipe", "pipe is no plain file"),
    ("x" * 256, f"{'x' * 256}: cannot be written: File name too long"),
])  # fmt: skip
def test_where_no_backup_can_be_written_the_place_is_named(home, monkeypatch, target, said):
    monkeypatch.chdir(home.folder)
    os.mkfifo("pipe")
    for words in ((), ("--force",)):
        code, _, err = home.run("backup", target, "--without-hub", *words)
        assert code == 1, err
        assert err.startswith(f"error: {said}\nnext: "), err
    assert sorted(path.name for path in home.folder.iterdir()) == [".meshwright", "friends", "mesh.yaml", "pipe"]


@pytest.mark.parametrize("into", ["identity", "identity/x", "x" * 300])
@pytest.mark.parametrize("words", [(), ("--force",)])
def test_where_no_folder_can_be_the_place_is_named(home, monkeypatch, into, words):
    monkeypatch.chdir(home.folder.parent)
    home.backup()
    code, _, err = home.restore(Path(into), *words)
    assert code == 1, err
    assert err.startswith(f"error: {into}")
    assert "\nnext: name an" in err


@pytest.mark.parametrize(("made", "said"), [
    (lambda path: path.write_bytes(b"\xd2\x00"), "neither an age identity nor an SSH private key"),
    (lambda path: path.mkdir(), "not a plain file"),
    (lambda path: path.symlink_to("/proc/self/mem"), "cannot be read: Input/output error"),
    (lambda path: None, "cannot be read: No such file"),
])  # fmt: skip
def test_an_identity_that_is_none_says_so(home, tmp_path, made, said):
    home.backup()
    home.identity = tmp_path / "odd"
    made(home.identity)
    if home.identity.is_file() and not home.identity.is_symlink():
        home.identity.chmod(0o600)
    code, _, err = home.restore(tmp_path / "new")
    assert code == 1
    assert err.startswith(f"error: {home.identity}: {said}"), err


def test_an_identity_may_be_a_link_to_a_private_file(home, tmp_path):
    home.backup()
    place, home.identity = home.identity, tmp_path / "link"
    home.identity.symlink_to(place)
    assert home.restore(tmp_path / "new")[0] == 0
    place.chmod(0o644)
    code, _, err = home.restore(tmp_path / "other")
    assert code == 1
    assert "others can read this secret" in err


def test_a_folder_is_no_backup(home, tmp_path):
    code, _, err = home.run("restore", tmp_path, tmp_path / "new")
    assert code == 1
    assert err.startswith(f"error: {tmp_path}: not a plain file\nnext: ")


def test_what_stands_in_the_way_as_another_kind_is_named(home, tmp_path):
    home.backup()
    for number, way in enumerate((".meshwright", "mesh.yaml")):
        into = tmp_path / f"new{number}"
        (into / "mesh.yaml").mkdir(parents=True)
        if way == ".meshwright":
            (into / way).write_text("mine")
        code, _, err = home.restore(into, "--force")
        assert code == 1, err
        assert err.startswith(f"error: {into / way}: cannot be written: ")


def test_a_backup_of_tens_of_thousands_of_keys_is_read_again(home, tmp_path):
    (home.folder / ".meshwright/keys/large.key").write_bytes(os.urandom(sources.LIMIT))
    (home.folder / ".meshwright/keys/large.key").chmod(0o600)
    assert home.backup()[0] == 0
    assert home.file.stat().st_size > sources.LIMIT
    code, _, err = home.restore(tmp_path / "new")
    assert code == 0, err
    assert home.stored(tmp_path / "new") == home.stored()


@pytest.mark.parametrize("name", ["x" * 250, "a\\b", ".git"])
def test_what_could_not_come_back_is_not_taken(home, name):
    path = home.folder / ".meshwright" / name
    path.touch(mode=0o600)
    code, _, err = home.backup()
    assert code == 1
    assert "rename it" in err
    assert not home.file.exists()


def test_a_backup_that_would_be_too_large_is_not_written(home, monkeypatch):
    monkeypatch.setattr(archive, "MOST", 4096)
    code, _, err = home.backup()
    assert code == 1
    assert "would be larger than" in err
    assert not home.file.exists()


@pytest.mark.parametrize("writes", range(7))
def test_a_restore_goes_on_wherever_it_was_interrupted(home, tmp_path, monkeypatch, writes):
    home.backup()
    into, write, left = tmp_path / "new", files.write, iter(range(writes))

    def full(path: Path, data: bytes, mode: int = 0o600) -> None:
        if next(left, None) is None:
            (path.parent / f".{path.name}.abcd_123").write_bytes(data[:3])  # as if it had been killed
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data, mode)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", full)
        code, _, err = home.restore(into)
    assert code == (1 if writes < 6 else 0), err
    assert writes == 6 or re.match(r"error: /.*/new/\S+: No space left on device\nnext: make room", err), err
    code, _, err = home.restore(into)
    assert code == 0, err
    assert home.stored(into) == home.stored()


def test_a_key_of_another_day_is_not_written_over_without_consent(home, tmp_path):
    home.backup()
    into = tmp_path / "new"
    assert home.restore(into)[0] == 0
    key = into / ".meshwright/keys/ham.key"
    key.write_text("new")
    code, _, err = home.restore(into)
    assert (code, key.read_text()) == (1, "new")
    assert f"{key} is there already" in err
    assert home.restore(into, "--force")[0] == 0
    assert home.stored(into) == home.stored()


def test_keys_alone_of_somebody_else_are_no_restore_to_go_on_with(home, tmp_path):
    home.backup()
    into = tmp_path / "new"
    (into / ".meshwright/keys").mkdir(parents=True)
    (into / ".meshwright/keys/eve.key").write_text("x")
    code, _, err = home.restore(into)
    assert code == 1
    assert "is not empty (.meshwright/keys/eve.key)" in err


def sealed(home, **more):
    (data,) = (more.pop("data", b"x"),)
    home.file.write_bytes(age.encrypt(tar(manifest(**more), ("files/mesh.yaml", data)), [str(OWNER.to_public())]))


def test_a_manifest_moves_no_cursor(home, tmp_path):
    sealed(home, mesh="a\x1b]0;b\x07", made="\x1b[2J\x9b1m", data=MESH.replace("include", "#include").encode())
    code, said, err = home.restore(tmp_path / "new")
    assert code == 0, err
    assert "a\\x1b]0;b\\x07 as it was at \\x1b[2J\\x9b1m" in said
    assert all(c.isprintable() or c == "\n" for c in said + err)


def test_a_restored_file_that_is_no_mesh_file_is_told(home, tmp_path):
    sealed(home, data=b"\x00\xff\x1b[2J", version="9.9")
    code, said, err = home.restore(tmp_path / "new", "--without-hub")
    assert (code, said) == (1, "")
    assert "next: the folder is restored, and no more: correct the file" in err
    assert "9.9" in err
    assert (tmp_path / "new/mesh.yaml").exists()


GOOD = Backup(
    "house", "mesh.yaml", ".meshwright", "2026-11-23T00:00:00+00:00", "0", {"mesh.yaml": b"x"}, {"keys/a.key": b"y"}
)


def tar(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = (
                len(data),
                kind if name != archive.MANIFEST else tarfile.REGTYPE,
                "/etc/passwd",
            )
            file.addfile(member, io.BytesIO(data))
    return out.getvalue()


def manifest(**more: object) -> tuple[str, bytes]:
    said = {
        "format": 1,
        "mesh": "house",
        "file": "mesh.yaml",
        "secrets": ".meshwright",
        "hub": [],
        "made": "",
        "version": "9",
    }
    return archive.MANIFEST, json.dumps({**said, **more}).encode()


ODD = [
    "../evil",
    "/etc/evil",
    "a/../../evil",
    "..",
    ".",
    "",
    "..\\evil",
    "a//b",
    "./a",
    "a/",
    "x" * 241,
    "x/" * 1100,
    ".git/config",
    "a/.git",
]


@pytest.mark.parametrize("path", ODD)
def test_no_path_leaves_its_folder(path):
    assert not archive.inside(path)
    for kind in ("files", "secrets"):
        with pytest.raises(MeshwrightError):
            archive.unpack(tar(manifest(), ("files/mesh.yaml", b"x"), (f"{kind}/{path}", b"x")))
    for key in ("file", "secrets"):
        with pytest.raises(MeshwrightError):
            archive.unpack(tar(manifest(**{key: path}), ("files/mesh.yaml", b"x"), (f"files/{path}", b"x")))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE])
def test_only_plain_files_are_taken(kind):
    with pytest.raises(MeshwrightError, match="no plain file"):
        archive.unpack(tar(manifest(), ("files/mesh.yaml", b""), kind=kind))


def test_a_newer_format_and_a_missing_part_are_named():
    with pytest.raises(MeshwrightError, match="format 2, made by meshwright 9"):
        archive.unpack(tar(manifest(format=2), ("files/mesh.yaml", b"x")))
    with pytest.raises(MeshwrightError, match="a part of it is missing"):
        archive.unpack(tar(manifest(hub=["interface.conf"]), ("files/mesh.yaml", b"x")))
    with pytest.raises(MeshwrightError, match="a part of it is missing"):
        archive.unpack(tar(manifest()))
    assert archive.unpack(tar(manifest(), ("files/mesh.yaml", b"x"))).files == {"mesh.yaml": b"x"}


@pytest.mark.parametrize(("said", "path"), [
    ({}, "files/mesh.yaml/x"),
    ({"secrets": "mesh.yaml"}, "secrets/a.key"),
    ({"secrets": "mesh.yaml/a"}, "secrets/a.key"),
    ({"secrets": "mesh.yaml"}, "files/a.yaml"),
    ({"secrets": "a"}, "files/a"),
    ({"file": "a/mesh.yaml", "secrets": "a"}, "secrets/mesh.yaml"),
])  # fmt: skip
def test_no_file_is_in_anothers_place(said, path):
    members = [("files/mesh.yaml", b"x"), ("files/a/mesh.yaml", b"y"), (path, b"z")]
    with pytest.raises(MeshwrightError, match="in each other's place"):
        archive.unpack(tar(manifest(**said), *[m for m in members if m[0] != "files/a/mesh.yaml" or "file" in said]))


def test_a_name_that_no_disk_can_hold_is_refused():
    with pytest.raises(MeshwrightError, match="list of contents"):
        archive.unpack(tar(manifest(secrets="\ud800"), ("files/mesh.yaml", b"x")))


def test_packing_is_the_inverse_of_unpacking():
    assert archive.unpack(archive.pack(GOOD)) == GOOD
    assert archive.pack(GOOD) == archive.pack(GOOD)


@settings(max_examples=200)
@given(st.integers(0, len(archive.pack(GOOD)) - 1), st.integers(0, 255), st.booleans())
def test_whatever_is_decrypted_is_a_backup_or_one_error(place, byte, cut):
    data = bytearray(archive.pack(GOOD))
    data[place] = byte
    try:
        found = archive.unpack(bytes(data[:place] if cut else data))
    except MeshwrightError:
        return
    assert all(archive.inside(path) for path in (*found.files, *found.keys, found.file, found.secrets))
