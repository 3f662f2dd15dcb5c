"""Whatever stands at the path, the answer is one clear error, in bounded memory and CPU time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from meshwright.errors import SpecError
from meshwright.spec.load import load

SRC = Path(__file__).parents[2] / "src"
MEMORY = 200 << 20

# Limits are set after the imports: what is measured is the reading. RLIMIT_CPU is the backstop against a hang.
CHILD = """
import json, resource, sys, time
from meshwright.errors import SpecError
from meshwright.spec.load import load
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + {memory}, size + {memory}))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
spent = time.process_time()
try:
    load(sys.argv[1])
    said = []
except SpecError as error:
    said = [[p.line, p.column, p.text] for p in error.problems]
    str(error)
print(json.dumps([said, len(said), time.process_time() - spent]))
"""


def limited(path: Path) -> list[list[object]]:
    """The problems of a file, read by a process that may use 200 MB more than it has after its imports."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(memory=MEMORY), str(path)],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    problems, count, seconds = json.loads(done.stdout)
    print(f"{count} problems, {seconds:.2f} s of CPU")
    assert count, "an error is expected"
    result: list[list[object]] = problems
    return result


HEAD = (SRC.parent / "examples/minimal/mesh.yaml").read_bytes()
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "100 MB": (lambda: b"a: b # c\n" * 11_000_000, "larger than 16 MB"),
    "nesting bomb of lists": (lambda: b"a: " + b"[" * 1_000_000, "nested deeper"),
    "nesting bomb of mappings": (lambda: b"{a: " * 1_000_000, "nested deeper"),
    "nesting bomb of blocks": (lambda: b"".join(b" " * n + b"a:\n" for n in range(3000)), "nested deeper"),
    "nesting bomb of dashes": (lambda: b"- " * 1_000_000, "nested deeper"),
    "nesting bomb of questions": (lambda: b"? " * 1_000_000, "a key must be text"),
    "billion laughs": (
        lambda: b"a: &a [x]\n" + b"".join(b"k%d: &k%d [*a, *a, *a]\n" % (n, n) for n in range(1000)),
        "anchors",
    ),
    "NUL bytes": (lambda: b"\0" * 10_000_000, "a NUL byte"),
    "only one line": (lambda: b"a" * 15_000_000, "keys with values"),
    "key of 1 MB": (lambda: HEAD + b"k" * 1_000_000 + b": 1\n", ""),
    "short keys after a long one": (lambda: HEAD + b'? "' + b"k" * 1_000_000 + b'"\n: 1\n', "unknown key"),
    "number of 10^6 digits": (lambda: HEAD + b"extra: " + b"9" * 1_000_000 + b"\n", "too many digits"),
    "hexadecimal number of 10^6 digits": (lambda: HEAD + b"extra: 0x" + b"9" * 1_000_000 + b"\n", "too many digits"),
    "8 million items": (lambda: b"a: [" + b"1," * 7_500_000 + b"]", "more than 60000 entries"),
    "50 000 unknown keys": (lambda: HEAD + b"".join(b"k%d: 1\n" % n for n in range(50_000)), "unknown key"),
    "4 times 50 000 wrong items": (
        lambda: (
            HEAD.split(b"policy")[0]
            + b"policy: {allow: [%s], tests: [%s]}\nservices: {a: [%s]}\ninclude: [%s]" % ((b"1," * 50_000,) * 4)
        ),
        "keys with values",
    ),
    "many lists": (lambda: b"a:\n" + b"- [1,1,1,1,1,1,1,1,1]\n" * 50_000, "more than 220000 values"),
    "50 000 wrong rules": (lambda: HEAD.split(b"policy")[0] + b"policy:\n  allow: [" + b"1," * 50_000 + b"]", "keys"),
    "50 000 tags": (lambda: HEAD + b"x: [" + b"!t 1," * 50_000 + b"]", "tags"),
    "100 000 duplicates": (lambda: HEAD + b"version: 1\n" * 100_000, "is here twice"),
    "tabs": (lambda: b"\t" * 1_000_000 + b"a: 1", "tab"),
    "quotes left open": (lambda: HEAD + b'x: "' + b"a\n" * 1_000_000, "this is not YAML"),
    "half of a character": (lambda: HEAD + b"# \xc3", "not UTF-8"),
    "10 MB of comments": (lambda: b"#\n" * 5_000_000, "empty"),
    "block text": (lambda: b"|\n" + b" a\n" * 4_000_000, "keys with values"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_gets_one_clear_error(name: str, tmp_path: Path) -> None:
    make, text = HOSTILE[name]
    path = tmp_path / "mesh.yaml"
    path.write_bytes(make())
    problems = limited(path)
    assert any(text in str(problem[2]) for problem in problems), problems


def refusal(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load(path)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0].text


def test_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "mesh.yaml") == "there is no such file"


def test_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "this is a directory, not a file"


def test_pipe_without_a_writer_does_not_hold_us_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mesh.yaml")
    assert refusal(tmp_path / "mesh.yaml") == "this is a pipe, not a file"


def test_device() -> None:
    assert refusal(Path("/dev/zero")) == "this is a device, not a file"


def test_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        assert refusal(Path("s")) == "this is a socket or device, not a file"


def test_links_that_lead_to_each_other(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert refusal(tmp_path / "a") == "symbolic links that lead to each other"


def test_file_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    assert refusal(tmp_path / "a" / "mesh.yaml") == "a part of the path is not a directory"


def test_name_too_long(tmp_path: Path) -> None:
    assert refusal(tmp_path / ("a" * 5000)) == "the path is too long"


def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_bytes(HEAD)
    path.chmod(0)
    if os.geteuid():
        assert refusal(path) == "no permission to read this file"
        return
    # root may read everything: a child that is nobody looks instead
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    tmp_path.chmod(0o755)
    code = f"""
import os
from meshwright.errors import SpecError
from meshwright.spec.load import load
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    load({str(path)!r})
except SpecError as error:
    print(error.problems[0].text)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "no permission to read this file\n", done.stderr


def test_secrets_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_bytes(HEAD)
    (tmp_path / ".meshwright").mkdir(mode=0o700)
    assert load(path).mesh.name == "friends"
    (tmp_path / ".meshwright").chmod(0o750)
    assert refusal(path) == "others can look into .meshwright"
