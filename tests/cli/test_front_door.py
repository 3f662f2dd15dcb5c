"""What holds for every command: start-up, errors, exit codes, pipes, terminals."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from meshwright.cli import app

HEAVY = ("pydantic", "yaml", "rich", "nacl", "segno", "meshwright.providers", "meshwright.spec", "subprocess")
PRINT_HEAVY = f"""
import atexit, sys
atexit.register(lambda: print("HEAVY", [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr))
from meshwright.cli.app import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["--help"], {}),
        (["plan", "--help"], {}),
        (["peer", "--help"], {}),
        (["version"], {}),
        (["bogus"], {}),
        ([], {"_MESHWRIGHT_COMPLETE": "bash_complete", "COMP_WORDS": "meshwright p", "COMP_CWORD": "1"}),
        ([], {"_MESHWRIGHT_COMPLETE": "bash_complete", "COMP_WORDS": "meshwright peer conf ", "COMP_CWORD": "3"}),
    ],
)
def test_what_runs_on_every_tab_imports_nothing_heavy(door, arguments, env):
    door.mesh()
    done = subprocess.run(
        [sys.executable, "-c", PRINT_HEAVY, *arguments],
        cwd=door.folder,
        env={**door.env, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "HEAVY []" in done.stderr
    assert done.stdout or done.returncode == 1


def test_check_does_import_what_it_needs(door):
    """The twin of the test above: it can see a heavy import."""
    door.mesh()
    done = subprocess.run(
        [sys.executable, "-c", PRINT_HEAVY, "check"],
        cwd=door.folder,
        env=door.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "'pydantic'" in done.stderr


OTHERS = ("meshwright.providers.kubernetes", "meshwright.verify", "meshwright.lab", "asyncio")


def test_a_plan_imports_nothing_that_only_verify_and_the_lab_need(door):
    """As far as it gets where there is no cluster. Of what is looked for, it needs the first."""
    door.mesh()
    done = subprocess.run(
        [sys.executable, "-c", PRINT_HEAVY.replace(repr(HEAVY), repr(OTHERS)), "plan", "--only", "kubernetes"],
        cwd=door.folder,
        env={**door.env, "KUBECONFIG": str(door.folder / "none")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "no kubeconfig found" in done.stderr
    assert f"HEAVY {[OTHERS[0]]}" in done.stderr


def test_help_lists_every_command(door):
    done = door("--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in app.COMMANDS)


@pytest.mark.parametrize("name", app.COMMANDS)
def test_every_command_has_help_that_agrees_with_its_line(door, name):
    done = door(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "--output" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["bogus"], ["plan", "--bogus"], ["peer", "conf"], ["--output", "xml", "plan"], ["completion", "tcsh"], []],
)
def test_a_wrong_command_line_is_exit_code_1_and_says_what_to_do(door, arguments):
    done = door(*arguments)
    assert done.returncode == 1
    assert not done.stdout
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("next: ") or not arguments


def test_a_mistyped_command_is_guessed(door):
    assert "did you mean plan?" in door("pln").stderr


def test_errors_are_json_where_json_was_asked_for(door):
    for arguments in (["bogus", "--output", "json"], ["-o", "json", "plan"], ["--output=json", "check"]):
        done = door(*arguments)
        error = json.loads(done.stdout)["error"]
        assert done.returncode == error["exit_code"] == 1
        assert error["message"]
        assert error["hint"]


def test_without_a_mesh_file_it_says_how_to_name_one(door):
    done = door("plan")
    assert done.returncode == 1
    assert done.stderr == (
        "error: there is no mesh.yaml in this folder\nnext: name the file with --file, or set MESHWRIGHT_FILE\n"
    )


def test_options_stand_before_or_after_the_command(door):
    door.mesh(name="other.yaml")
    for arguments in (
        ["--file", "other.yaml", "check"],
        ["check", "--file", "other.yaml"],
        ["check", "-f", "other.yaml"],
    ):
        assert door(*arguments).returncode == 0
    assert door("check", env={"MESHWRIGHT_FILE": "other.yaml"}).returncode == 0


@pytest.mark.parametrize("name", ["check", "show", "schema", "version", "plan", "status"])
def test_every_command_takes_the_same_options(door, name):
    done = door(name, "--help")
    assert all(option in done.stdout for option in ("--file", "--output", "--lab", "--verbose"))


def test_options_may_stand_before_the_command_of_a_group(door):
    door.mesh(name="other.yaml")
    done = door("peer", "--output", "json", "-f", "other.yaml", "--lab", "list")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["devices"]) == 4


def test_what_is_written_wins_over_the_environment(door):
    door.mesh(name="other.yaml")
    for arguments in (["--file", "other.yaml", "check"], ["check", "--file", "other.yaml"]):
        assert door(*arguments, env={"MESHWRIGHT_FILE": "missing.yaml"}).returncode == 0


def test_a_bug_is_exit_code_70_with_traceback_and_a_line_on_reporting(door):
    (door.folder / "sitecustomize.py").write_text("")
    broken = "import meshwright.cli.commands.about as a; a.__version__ = property; "
    program = f"{broken}from meshwright.cli.app import run; import sys; a.version.callback = None; "
    program += "import click; a.version.invoke = lambda ctx: 1 / 0; sys.exit(run(['version']))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=door.folder, env=door.env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 70
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == f"next: {app.REPORT}"


def test_a_closed_pipe_is_no_complaint(door):
    done = subprocess.run(
        ["bash", "-c", '"$@" | true; echo "${PIPESTATUS[0]}"', "-", *door.command("schema")],
        env={**door.env, "PYTHONUNBUFFERED": "1"},
        cwd=door.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", str(app.PIPE_CLOSED))


def shell(door, line, *arguments):
    """Run the program within a line of bash, where it is "$@"."""
    return subprocess.run(
        ["bash", "-c", line, "-", *door.command(*arguments)],
        cwd=door.folder,
        env=door.env,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("line", ['"$@" >&-', '"$@" <&-', '"$@" 2>&-', '"$@" <&- >&- 2>&-'])
def test_a_stream_that_is_closed_is_no_bug(door, line):
    door.mesh()
    done = shell(door, line, "check")
    assert done.returncode == 0
    assert done.stderr == ""
    assert shell(door, line, "bogus").returncode == 1
    assert "Traceback" not in shell(door, line, "apply", "--lab").stderr


@pytest.mark.parametrize("arguments", [["schema"], ["check", "-o", "json"], ["--help"], ["bogus", "-o", "json"]])
def test_output_that_cannot_be_written_is_an_error_and_no_bug(door, arguments):
    door.mesh()
    done = shell(door, '"$@" > /dev/full', *arguments)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert all(line.startswith(("error: ", "next: ")) for line in done.stderr.splitlines())
    assert shell(door, '"$@" > /dev/full 2>&1', *arguments).returncode == 1


def test_errors_into_a_closed_pipe_are_no_complaint(door):
    door.mesh("version: 1\n" * 100)
    done = shell(door, 'exec 3>&2; "$@" 2>&1 3>&- | head -1', "check")
    assert done.stderr == ""
    assert done.stdout.startswith("mesh.yaml:1:1")


@pytest.mark.parametrize("arguments", [["add", "zoe"], ["remove", "jake"], ["rename", "jake", "jack"]])
def test_a_disk_without_room_is_an_error_and_leaves_the_file(door, arguments):
    path = door.mesh()
    before = path.read_bytes()
    done = shell(door, 'ulimit -f 0; "$@"', "peer", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: mesh.yaml cannot be written: File too large\nnext: make room")
    assert path.read_bytes() == before
    assert sorted(p.name for p in door.folder.iterdir()) == ["home", "mesh.yaml"]


def test_ctrl_c_is_exit_code_130_with_one_line(door):
    os.mkfifo(door.folder / "slow")
    program = (
        "import meshwright.cli.commands.about as a, time; a.version.invoke = lambda ctx: (print('on', flush=True), "
    )
    program += "time.sleep(60)); from meshwright.cli.app import run; import sys; sys.exit(run(['version']))"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=door.folder,
        env=door.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "on\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert len(err.split("\n")) <= 3, "click ends the line of ^C, we say one line"
    assert err.strip().startswith("interrupted")
    assert "Traceback" not in err


def on_terminal(door, *arguments, env=None):
    """The output of the program when all its streams are one terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        door.command(*arguments),
        cwd=door.folder,
        env={**door.env, "TERM": "xterm-256color", **(env or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert process.wait(30) is not None
    return seen.decode()


def test_no_escape_sequences_outside_a_terminal_or_with_no_color(door):
    door.mesh()
    assert "\x1b" not in door("show").stdout
    assert "\x1b" not in on_terminal(door, "show", env={"NO_COLOR": "1"})
