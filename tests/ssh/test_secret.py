"""Where a password comes from: an environment variable, a file, a program. Never shown, also not when it is no good."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from meshwright.errors import SecretsError
from meshwright.io import secret
from meshwright.spec.model import FromCommand, FromEnvironment, FromFile

PASSWORD = "correct horse"


def test_each_source_gives_the_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MW_SUDO", PASSWORD)
    (tmp_path / "sudo").write_text(f"{PASSWORD}\n")
    (tmp_path / "sudo").chmod(0o600)
    program = [sys.executable, "-c", "print(open('sudo').read(), end='')"]  # it runs in the mesh file's folder
    for source in (FromEnvironment(env="MW_SUDO"), FromFile(file="sudo"), FromCommand(command=tuple(program))):
        assert secret.read(source, tmp_path, "hub.connection.become_password") == PASSWORD


@pytest.mark.parametrize("text", ["", "\n", f"{PASSWORD}\nsecond line\n", f"{PASSWORD}\0", f"a\x1b{PASSWORD}"])
def test_what_is_not_one_line_is_refused_and_not_shown(text: str, tmp_path: Path) -> None:
    (tmp_path / "sudo").write_text(text)
    (tmp_path / "sudo").chmod(0o600)
    with pytest.raises(SecretsError, match=r"here: .* empty or more than one line") as caught:
        secret.read(FromFile(file="sudo"), tmp_path, "here")
    assert PASSWORD not in caught.value.message + caught.value.hint


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sudo").write_text(PASSWORD)
    (tmp_path / "sudo").chmod(0o640)
    with pytest.raises(SecretsError, match="others can read") as caught:
        secret.read(FromFile(file="sudo"), tmp_path, "here")
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (FromEnvironment(env="MW_NOT_SET"), "MW_NOT_SET is not set"),
        (FromFile(file="missing"), "cannot be read: No such file"),
        (FromCommand(command=("/no/such/program",)), "is not installed"),
        (FromCommand(command=(sys.executable, "-c", f"import sys; sys.exit({PASSWORD!r})")), "ended with code 1"),
        (FromCommand(command=(sys.executable, "-c", "import sys; sys.stdout.buffer.write(b'\\xff')")), "no text"),
    ],
)
def test_a_source_that_fails_is_named(
    source: FromEnvironment | FromFile | FromCommand, said: str, tmp_path: Path
) -> None:
    with pytest.raises(SecretsError, match=said) as caught:
        secret.read(source, tmp_path, "gateway.connection.become_password")
    assert caught.value.message.startswith("gateway.connection.become_password: ")
    assert caught.value.hint
    assert PASSWORD not in caught.value.message + caught.value.hint


def test_a_program_that_waits_for_an_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret, "TIMEOUT", 0.2)
    source = FromCommand(command=(sys.executable, "-c", "import time; time.sleep(20)"))
    with pytest.raises(SecretsError, match=r"^here: .* printed nothing within 0\.2 s") as caught:
        secret.read(source, tmp_path, "here")
    assert "by hand" in caught.value.hint
