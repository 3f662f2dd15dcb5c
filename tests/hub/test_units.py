"""Units without systemd: the lines, relations and files that a namespace's services live by."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from meshwright.hubd.host import units
from meshwright.hubd.host.system import HubError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of units and one for vendor's units; `log` beside them is what the units' lines write to."""
    for name in ("etc", "lib"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(units, "FOLDERS", (str(tmp_path / "etc"), str(tmp_path / "lib")))
    monkeypatch.setattr(units, "RUNNING", str(tmp_path / "run"))
    monkeypatch.setattr(units, "booted", lambda: False)
    return tmp_path


def unit(folder: Path, name: str, head: str = "", service: str = "", where: str = "lib") -> None:
    place = folder / where / name
    place.parent.mkdir(exist_ok=True)
    word = name.partition(".")[0]
    say = f"/bin/sh -c 'echo $0 $1 >> {folder}/log' "
    lines = "" if service else "\n".join(f"Exec{k}={say}{k} {word}" for k in ("Start", "Reload", "Stop"))
    place.write_text(f"[Unit]\n{head}\n[Service]\nType=oneshot\nRemainAfterExit=yes\n{service or lines}\n")


def told(folder: Path) -> list[str]:
    log = folder / "log"
    text = log.read_text().split("\n")[:-1] if log.exists() else []
    log.unlink(missing_ok=True)
    return text


def test_start_twice_runs_once_and_stop_ends_it(folder: Path) -> None:
    unit(folder, "a.service")
    assert units.act("a", "start")["active"]
    units.act("a.service", "start")
    assert told(folder) == ["Start a"]
    assert not units.act("a", "stop")["active"]
    units.act("a", "stop")
    assert told(folder) == ["Stop a"]


def test_what_is_wanted_starts_before_when_it_says_so(folder: Path) -> None:
    unit(folder, "tunnel.service", "Wants=wall.service absent.service network.target\nAfter=wall.service")
    unit(folder, "wall.service")
    units.act("tunnel", "start")
    assert told(folder) == ["Start wall", "Start tunnel"]


def test_a_failing_want_is_no_reason_but_a_failing_requirement_is(folder: Path) -> None:
    unit(folder, "bad.service", service="ExecStart=/bin/false")
    unit(folder, "lazy.service", "Wants=bad.service\nAfter=bad.service")
    unit(folder, "strict.service", "Requires=bad.service\nAfter=bad.service")
    assert units.act("lazy", "start")["active"]
    with pytest.raises(HubError, match=r"bad.service: ExecStart: /bin/false"):
        units.act("strict", "start")
    assert not units.active("strict.service")
    assert told(folder) == ["Start lazy"]


def test_the_firewall_restarts_and_reloads_what_is_part_of_it(folder: Path) -> None:
    unit(folder, "nftables.service")
    unit(
        folder, "ours.service", "PartOf=nftables.service\nReloadPropagatedFrom=nftables.service\nAfter=nftables.service"
    )
    unit(folder, "asleep.service", "PartOf=nftables.service")
    unit(folder, "tunnel.service", "Wants=ours.service\nAfter=ours.service")
    for name in ("nftables", "tunnel"):
        units.act(name, "start")
    assert told(folder) == ["Start nftables", "Start ours", "Start tunnel"]
    units.act("nftables", "reload")
    assert told(folder) == ["Reload nftables", "Reload ours"]
    units.act("nftables", "restart")
    assert told(folder) == ["Stop ours", "Stop nftables", "Start nftables", "Start ours"]
    units.act("nftables", "stop")
    assert told(folder) == ["Stop ours", "Stop nftables"]
    assert units.active("tunnel.service")


def test_templates_drop_ins_specifiers_and_environment(folder: Path) -> None:
    place = folder / "lib" / "quick@.service"
    place.write_text(
        "# a comment\n[Service]\nType=oneshot\nRemainAfterExit=yes\nEnvironment=WORD=some 'OTHER=two words'\n"
        f"ExecStart=/bin/sh -c 'echo \"$$0\" $$1 >> {folder}/log' \\\n  %i ${{WORD}}\nExecStart=-/bin/false\n"
    )
    drop_in = folder / "etc" / "quick@wg1.service.d" / "10-first.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(f"[Service]\nExecStartPre=/bin/sh -c 'echo pre %n >> {folder}/log'\n")
    units.act("quick@wg1", "start")
    units.act("quick@wg2", "start")
    assert told(folder) == ["pre quick@wg1.service", "wg1 some", "wg2 some"]


def test_an_empty_assignment_forgets_and_the_admins_file_wins(folder: Path) -> None:
    unit(folder, "a.service")
    drop_in = folder / "etc" / "a.service.d" / "own.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(f"[Service]\nExecStart=\nExecStart=/bin/sh -c 'echo own >> {folder}/log'\n")
    units.act("a", "start")
    assert told(folder) == ["own"]
    unit(folder, "b.service")
    unit(folder, "b.service", service=f"ExecStart=/bin/sh -c 'echo etc >> {folder}/log'", where="etc")
    units.act("b", "start")
    assert told(folder) == ["etc"]


def test_a_failed_check_keeps_the_unit_down(folder: Path) -> None:
    unit(folder, "a.service", service="ExecStartPre=/bin/false\nExecStart=/bin/true")
    with pytest.raises(HubError, match="ExecStartPre"):
        units.act("a", "start")
    assert not units.active("a.service")


def test_enable_links_and_disable_takes_away(folder: Path) -> None:
    unit(folder, "a.service", service="ExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target")
    link = folder / "etc" / "multi-user.target.wants" / "a.service"
    assert units.act("a", "enable")["enabled"]
    assert link.resolve() == folder / "lib" / "a.service"
    assert not units.act("a", "disable")["enabled"]
    assert not link.is_symlink()


def test_a_masked_or_missing_unit_is_told(folder: Path) -> None:
    (folder / "etc" / "a.service").symlink_to("/dev/null")
    with pytest.raises(HubError, match=r"a.service is masked"):
        units.act("a", "start")
    with pytest.raises(HubError, match=r"no unit b.service"):
        units.act("b", "start")
    with pytest.raises(HubError, match="no such action"):
        units.act("../a", "start")


def daemon(folder: Path, script: str, kind: str = "notify") -> int:
    """A unit whose program stays -> its pid."""
    (folder / "lib" / "d.service").write_text(
        f"[Service]\nType={kind}\nExecStart=/bin/sh -c 'echo $$$$ > {folder}/pid; {script}'\n"
    )
    assert units.act("d", "start")["active"]
    end = time.monotonic() + 10
    while not (folder / "pid").exists() or not (folder / "pid").read_text():
        assert time.monotonic() < end
        time.sleep(0.01)
    return int((folder / "pid").read_text())


@pytest.mark.parametrize("kind", ["simple", "exec", "notify"])
def test_a_program_that_stays_is_started_once_and_asked_to_end(folder: Path, kind: str) -> None:
    pid = daemon(folder, f'trap "echo asked >> {folder}/log; exit" TERM; while :; do sleep 0.05; done', kind)
    units.act("d", "start")
    assert int((folder / "pid").read_text()) == pid
    assert not units.act("d", "stop")["active"]
    assert told(folder) == ["asked"]


def test_a_program_that_died_is_seen_and_started_again(folder: Path) -> None:
    pid = daemon(folder, "exec sleep 60")
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while units.active("d.service"):
        assert time.monotonic() < end
        time.sleep(0.01)
    (folder / "pid").unlink()
    assert daemon(folder, "exec sleep 60") != pid
    units.act("d", "stop")


def test_what_will_not_end_is_killed_with_what_it_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "PATIENCE", 0.1)
    pid = daemon(folder, 'trap "" TERM; sleep 61 & while :; do sleep 0.05; done')
    assert not units.act("d", "stop")["active"]
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_another_process_of_the_same_number_is_not_taken_for_it(folder: Path) -> None:
    pid = daemon(folder, "exec sleep 60")
    note = folder / "run" / "d.service"
    true, note_text = note.read_text(), f"{os.getpid()} 1"
    note.write_text(note_text)
    assert not units.active("d.service")
    units.stop("d.service")
    note.write_text(true)
    assert units.active("d.service")
    units.stop("d.service")
    assert not Path(f"/proc/{pid}/exe").exists()
