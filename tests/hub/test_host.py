"""The way to a host: framed answers, errors in one line, nothing of the payload in them."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from small import key

from meshwright.errors import HostError
from meshwright.io.host import Host, Local, Namespace, public, remote
from meshwright.io.process import Done

SECRET = key("secret")


@dataclass(frozen=True)
class Told:
    """A host that answers with what it was given."""

    done: Done
    name: str = "told"
    python: str = "python3"

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        return self.done

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Noisy:
    """This machine behind a login script that greets before and after."""

    name: str = "noisy"
    python: str = sys.executable

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        done = Local().run(argv, stdin=stdin, timeout=timeout)
        return replace(done, out=b'Welcome! {"result": {}}\n' + done.out + b"Bye.\n")

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("host", [Local(), Noisy()], ids=["plain", "noisy"])
def test_an_answer_comes_home_whole(host: Host, tmp_path: Path) -> None:
    place = tmp_path / "new" / "file"
    assert remote(host, "put", {"path": str(place), "data": "AAEC", "mode": 0o640}) == {}
    assert place.read_bytes() == b"\x00\x01\x02"
    assert stat.S_IMODE(place.stat().st_mode) == 0o640
    assert [entry.name for entry in place.parent.iterdir()] == ["file"]


def test_a_put_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(HostError, match="folder"):
        Local().put(str(tmp_path / "folder"), b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("operation", "payload"),
    [("put", {"path": 3, "data": SECRET, "mode": SECRET}), ("write", {"interface": SECRET}), (SECRET, {})],
)
def test_an_error_says_where_and_nothing_of_the_payload(operation: str, payload: dict[str, object]) -> None:
    with pytest.raises(HostError) as caught:
        remote(Local(name="the hub"), operation, payload)
    assert caught.value.message.startswith("the hub: ")
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert SECRET not in caught.value.message + caught.value.hint


def test_what_never_reached_us_is_told_by_its_last_line() -> None:
    done = Done(1, b"nothing of ours", f"Traceback (most recent call last):\n  boom\nValueError: {SECRET}\n")
    with pytest.raises(HostError, match=r"^told: read: ValueError: \(key\)$"):
        remote(Told(done), "read", {})
    with pytest.raises(HostError, match="ended with code 137 and said nothing"):
        remote(Told(Done(137, b"", "")), "read", {})


def test_a_host_without_python_is_told_what_to_install() -> None:
    with pytest.raises(HostError, match="is not installed"):
        remote(Local(python="/no/such/python"), "read", {})
    with pytest.raises(HostError) as caught:
        remote(Told(Done(127, b"", "sh: 1: python3: not found")), "read", {})
    assert caught.value.hint == "install python3 (3.9 or newer) on that machine"


def test_keys_are_taken_out_of_any_text() -> None:
    raw = "ab" * 32
    assert public(f"a {SECRET} b {raw} c /etc/wireguard/wg1.conf") == "a (key) b (key) c /etc/wireguard/wg1.conf"


def test_the_way_into_a_namespace() -> None:
    plain = ["nsenter", "-t", "7", "-n", "-m", "-u", "-p", "--", "true"]
    assert Namespace(7).enter(["true"]) == plain
    assert Namespace(7, userns=True).enter(["true"]) == [*plain[:7], "-U", "--preserve-credentials", *plain[7:]]


def test_hubd_runs_where_only_an_old_python_and_its_library_are() -> None:
    """No import beyond the standard library: seen from a Python that has nothing else."""
    source = Path(__import__("meshwright").__path__[0])
    script = (
        f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + ['{source}']; import hubd.agent"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
