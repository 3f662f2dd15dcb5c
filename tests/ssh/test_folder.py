"""Where the sockets of shared connections lie: in a folder of the user alone, or nowhere."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshwright.io import ssh
from meshwright.io.ssh import LONGEST, Ssh, control_folder


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An XDG_RUNTIME_DIR with a path that is short enough."""
    folder = Path(tempfile.mkdtemp(prefix="mw", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_it_is_made_for_the_user_alone_and_mended(runtime: Path) -> None:
    for mode in (None, 0o755, 0o777):
        if mode:
            (runtime / "meshwright").chmod(mode)
        assert control_folder() == runtime / "meshwright"
        assert stat.S_IMODE((runtime / "meshwright").stat().st_mode) == 0o700


def test_a_link_a_file_and_somebody_elses_folder_are_not_used(runtime: Path) -> None:
    place = runtime / "meshwright"
    (runtime / "elsewhere").mkdir()
    place.symlink_to(runtime / "elsewhere")
    assert control_folder() != place
    place.unlink()
    place.touch()
    assert control_folder() != place
    place.unlink()
    if os.geteuid() == 0:
        place.mkdir()
        os.chown(place, 65534, 65534)
        assert control_folder() != place


def test_a_path_too_long_for_a_socket_is_not_used(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = runtime / ("d" * LONGEST)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    found = control_folder()
    assert found is None or len(str(found)) < LONGEST - 48
    assert not (deep / "meshwright").exists()


@pytest.fixture
def no_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    """/tmp/meshwright-UID is somebody else's."""
    own = ssh._own
    monkeypatch.setattr(ssh, "_own", lambda folder, uid: folder.parent != Path("/tmp") and own(folder, uid))


@pytest.mark.parametrize("name", ["a b", "50%", "a$b", 'a"b', "a#b"])
def test_a_path_that_ssh_would_read_as_something_else_is_not_used(
    name: str, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runtime / name).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / name))
    assert control_folder() == Path(f"/tmp/meshwright-{os.getuid()}")
    assert not (runtime / name / "meshwright").exists()


def test_the_cache_folder_is_made_in_a_home_that_has_none(
    runtime: Path, no_tmp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(runtime))
    assert control_folder() == runtime / ".cache/meshwright"
    assert stat.S_IMODE((runtime / ".cache").stat().st_mode) == 0o700
    if os.geteuid() == 0:
        (other := runtime / "anna").mkdir()
        os.chown(other, 65534, 65534)
        monkeypatch.setenv("HOME", str(other))
        assert control_folder() is None
        assert list(other.iterdir()) == []


def test_a_user_without_a_home_needs_none(runtime: Path, no_tmp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # pathlib asks passwd for this one
    assert control_folder() is None, "nothing is 54321's"
    monkeypatch.undo()
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert control_folder() == runtime / "meshwright"


def test_without_a_folder_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "control_folder", lambda: None)
    assert "ControlPath=none" in Ssh("hub-1")._words("share")


def test_the_words_of_ssh_keep_the_users_own_config(runtime: Path) -> None:
    """Nothing about host keys, keys, jump hosts; no other config; and fresh shares no socket with anybody."""
    host = Ssh("hub-1", "anna", 2222)
    words = host._words("share")
    assert words[-1] == "--"
    assert not {"-F", "-i", "-J", "-A", "-X"} & set(words)
    for option in ("StrictHostKeyChecking", "UserKnownHostsFile", "IdentityFile", "ProxyJump", "BatchMode"):
        assert option not in " ".join(words)
    fresh = host.fresh()._words("share")
    assert "ControlMaster=no" in fresh
    sockets = {word for word in (*words, *fresh) if word.startswith("ControlPath=")}
    assert len(sockets) == 2
