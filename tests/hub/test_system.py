"""The hub's edges: files, folders and locks, whatever the umask and whoever was there before."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshwright.hubd.host import system, units
from meshwright.hubd.host.place import Place
from meshwright.hubd.service import memory, tunnel


@pytest.fixture
def lax() -> Iterator[None]:
    """A umask that leaves everything open to everybody."""
    old = os.umask(0)
    yield
    os.umask(old)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("lax")
def test_no_umask_opens_what_is_made(tmp_path: Path) -> None:
    system.write_file(str(tmp_path / "a/b/secret"), b"x", 0o600)
    system.make_folder(str(tmp_path / "c/d"), 0o700)
    modes = [mode(tmp_path / name) for name in ("a", "a/b", "a/b/secret", "c", "c/d")]
    assert modes == [0o755, 0o755, 0o600, 0o755, 0o700]


def test_no_umask_closes_what_systemd_has_to_read(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        system.write_file(str(tmp_path / "x.service.d/x.conf"), b"x", 0o644)
    finally:
        os.umask(old)
    assert mode(tmp_path / "x.service.d") == 0o755


def test_folders_of_others_are_left_as_they_are(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    system.write_file(str(tmp_path / "file"), b"x", 0o600)
    assert mode(tmp_path) == 0o770
    assert not system.in_others_hands(str(tmp_path / "file"))


def test_a_file_that_others_can_write_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert not system.in_others_hands(str(file))
    file.touch()
    file.chmod(0o664)
    assert f"can write {file}" in system.in_others_hands(str(file))


@pytest.mark.usefixtures("lax")
def test_nobody_else_can_ever_open_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also before anything is done to it after its making."""
    lock = tmp_path / "lock"
    with monkeypatch.context() as later:
        later.setattr(os, "chmod", lambda *_: None)
        with system.lock(str(lock), 0):
            assert mode(lock) == 0o600


def test_a_lock_that_others_could_open_is_replaced(tmp_path: Path) -> None:
    """Whoever opened it while he could holds the old one for good."""
    lock = tmp_path / "lock"
    lock.touch()
    lock.chmod(0o644)
    with lock.open() as theirs:
        assert system._grab(theirs.fileno())
        with system.lock(str(lock), 0):
            assert mode(lock) == 0o600


def test_a_link_or_a_pipe_is_no_lock(tmp_path: Path) -> None:
    victim, lock = tmp_path / "victim", tmp_path / "lock"
    victim.write_text("whole")
    lock.symlink_to(victim)
    with system.lock(str(lock), 0):
        assert not lock.is_symlink()
    lock.unlink()
    os.mkfifo(lock, 0o600)
    with system.lock(str(lock), 0):
        assert lock.is_file()
    lock.unlink()
    lock.mkdir()
    with pytest.raises(system.HubError, match="lock: Is a directory"), system.lock(str(lock), 0):
        pass
    assert victim.read_text() == "whole"


def test_a_lock_that_was_taken_away_meanwhile_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    real = system._grab
    taken = []

    def grab(descriptor: int) -> bool:
        if not taken:
            taken.append(lock.unlink())
        return real(descriptor)

    monkeypatch.setattr(system, "_grab", grab)
    with system.lock(str(lock), 0):
        assert lock.is_file()


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, said in ((pipe, "is no file"), (tmp_path, "is a folder, not a file")):
        with pytest.raises(system.HubError, match=said) as failed:
            system.read_file(str(path))
        assert str(path) in str(failed.value)
        assert "move it away" in failed.value.hint
    masked = tmp_path / "x.service"
    masked.symlink_to(os.devnull)
    assert system.read_file(str(masked)) == b""


def test_the_service_goes_on_without_a_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Place, "memory", property(lambda _: str(tmp_path)))
    here = tunnel.Tunnel("wg7", "town_square", said.append)
    assert (here.memory, len(said)) == ({}, 1)
    assert f"{tmp_path} is a folder" in said[0]
    here.memory = {"k": memory.Entry("192.0.2.1:1", 1)}
    here.save()
    here.save()
    assert len(said) == 1


def test_a_masked_unit_is_to_be_unmasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "systemctl"
    tool.write_text(
        "#!/bin/sh\necho 'Failed to restart wg-quick@wg0.service: Unit wg-quick@wg0.service is masked.' >&2\nexit 1\n"
    )
    tool.chmod(0o755)
    monkeypatch.setattr(system, "PATH", f"{tmp_path}:{system.PATH}")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(system.HubError, match=r"wg-quick@wg0\.service is masked") as failed:
        units._systemctl("wg-quick@wg0.service", "restart")
    assert "systemctl unmask wg-quick@wg0.service" in failed.value.hint
