"""What `observability.exporter` points at: read by the operator's tool, tried out, and refused with the next step."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from meshwright import discover
from meshwright.desired.facts import Exporter
from meshwright.errors import SecretsError
from meshwright.io import exporter
from meshwright.spec import load
from meshwright.spec.model import Mesh

TOKEN = "0123456789abcdef-._~+/=="
MESH = """
version: 1
name: town-square
hub: {node: hub-1, address: 192.0.2.10, interface: wg7, endpoint: "192.0.2.10:51821"}
network: {cidr: [10.100.0.0/16], hub: [10.100.0.1], routes: {mesh: 10.100.0.0/16}}
peers: {ann: {address: 10.100.2.1}}
policy: {allow: []}
"""
NO_TLS = "observability: {exporter: {kind: builtin, token: {file: token}}}"
TLS = "observability: {exporter: {kind: builtin, tls: {certificate: c.pem, key: {file: c.key}MORE}}}"


def mesh(section: str) -> Mesh:
    return load.load_text(MESH + section + "\n").mesh


def put(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)


FOR = "subjectAltName=IP:192.0.2.10"


def certificate(folder: Path, name: str, *more: str, names: str = FOR) -> None:
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"]
    kind += ["-addext", names] if names else []
    openssl(folder, "req", "-x509", *kind, "-keyout", f"{name}.key", "-out", f"{name}.pem", *(more or ("-days", "2")))
    (folder / f"{name}.key").chmod(0o600)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates that take long to make: c, d (another one), and l, which c.d signed."""
    folder = tmp_path_factory.mktemp("made")
    certificate(folder, "c")
    certificate(folder, "d")
    certificate(folder, "nameless", names="")
    certificate(folder, "other", names="subjectAltName=IP:192.0.2.11,DNS:192.0.2.10")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=l", "-addext", FOR]
    openssl(folder, "req", *kind, "-keyout", "l.key", "-out", "l.csr")
    openssl(
        folder,
        "x509",
        "-req",
        "-copy_extensions",
        "copy",
        "-in",
        "l.csr",
        "-CA",
        "d.pem",
        "-CAkey",
        "d.key",
        "-days",
        "2",
        "-out",
        "l.pem",
    )
    openssl(
        folder,
        "x509",
        "-req",
        "-copy_extensions",
        "copy",
        "-in",
        "l.csr",
        "-CA",
        "d.pem",
        "-CAkey",
        "d.key",
        "-days",
        "-1",
        "-out",
        "old.pem",
    )
    openssl(folder, "ec", "-in", "c.key", "-aes128", "-passout", "pass:secret", "-out", "locked.key")
    return folder


def copied(made: Path, folder: Path, **names: str) -> None:
    for to, of in names.items():
        put(folder / to.replace("_", "."), (made / of).read_text())


def refused(folder: Path, section: str) -> SecretsError:
    with pytest.raises(SecretsError) as caught:
        discover.read(mesh(section), {}, folder=folder)
    error = caught.value
    assert error.hint
    assert "\n" not in error.message + error.hint
    return error


def test_the_token(tmp_path: Path) -> None:
    put(tmp_path / "token", TOKEN + "\n")
    assert discover.read(mesh(NO_TLS), {}, folder=tmp_path).exporter == Exporter(TOKEN)


def test_nobody_asks_for_it_without_need(tmp_path: Path) -> None:
    assert discover.read(mesh(NO_TLS), {}).exporter is None
    for section in ("", "observability: {exporter: {kind: mindflavor}}"):
        assert discover.read(mesh(section), {}, folder=tmp_path / "none").exporter is None


@pytest.mark.parametrize(
    ("text", "mode", "word"),
    [("x" * 15, 0o600, "too short"), ("has a space in it", 0o600, "other characters"), ("", 0o600, "empty"),
     ("a\nb", 0o600, "more than one line"), ("ä" * 20, 0o600, "other characters"), (TOKEN, 0o644, "chmod 600")],
)  # fmt: skip
def test_a_token_that_cannot_be_sent(tmp_path: Path, text: str, mode: int, word: str) -> None:
    put(tmp_path / "token", text, mode)
    error = refused(tmp_path, NO_TLS)
    assert error.message.startswith("observability.exporter.token: ")
    assert word in f"{error.message} {error.hint}"
    assert not text or text not in error.message + error.hint


def test_a_token_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused(tmp_path, NO_TLS).message


@pytest.mark.lab  # openssl makes the certificates
def test_a_certificate_is_its_own_authority(made: Path, tmp_path: Path) -> None:
    copied(made, tmp_path, c_pem="c.pem", c_key="c.key")
    found = discover.read(mesh(TLS.replace("MORE", "")), {}, folder=tmp_path).exporter
    text = (made / "c.pem").read_text()
    assert found == Exporter("", text, (made / "c.key").read_text(), text)


@pytest.mark.lab  # openssl makes the certificates
def test_one_that_another_signed_needs_the_other(made: Path, tmp_path: Path) -> None:
    copied(made, tmp_path, c_pem="l.pem", c_key="l.key", d_pem="d.pem", x_pem="c.pem")
    found = exporter.read(mesh(TLS.replace("MORE", ", ca: d.pem")), tmp_path)
    assert found
    assert found.ca == (made / "d.pem").read_text()
    error = refused(tmp_path, TLS.replace("MORE", ", ca: x.pem"))
    assert error.message.startswith("observability.exporter.tls.ca: scrapers will refuse the certificate")


Spoil = Callable[[Path, Path], None]


def another_key(made: Path, folder: Path) -> None:
    copied(made, folder, c_key="d.key")


def no_pem(_: Path, folder: Path) -> None:
    put(folder / "c.pem", "not a certificate")


def half(made: Path, folder: Path) -> None:
    put(folder / "c.pem", (made / "c.pem").read_text()[:200] + "\n-----END CERTIFICATE-----\n")


def half_a_key(made: Path, folder: Path) -> None:
    put(folder / "c.key", (made / "c.key").read_text()[:60] + "\n-----END PRIVATE KEY-----\n")


def no_key(_: Path, folder: Path) -> None:
    put(folder / "c.key", "hunter2")


def expired(made: Path, folder: Path) -> None:
    copied(made, folder, c_pem="old.pem", c_key="l.key")


def nameless(made: Path, folder: Path) -> None:
    copied(made, folder, c_pem="nameless.pem", c_key="nameless.key")


def for_another(made: Path, folder: Path) -> None:
    copied(made, folder, c_pem="other.pem", c_key="other.key")


def locked(made: Path, folder: Path) -> None:
    copied(made, folder, c_key="locked.key")


def key_inside(made: Path, folder: Path) -> None:
    put(folder / "c.pem", (made / "c.key").read_text() + (made / "c.pem").read_text())


def readable(_: Path, folder: Path) -> None:
    (folder / "c.key").chmod(0o644)


def gone(_: Path, folder: Path) -> None:
    (folder / "c.pem").unlink()


def binary(_: Path, folder: Path) -> None:
    (folder / "c.pem").write_bytes(b"\x30\x82\xff\x00")


@pytest.mark.lab  # openssl makes the certificates
@pytest.mark.parametrize(
    ("spoil", "place", "word"),
    [(another_key, "tls", "does not belong to the certificate"), (no_pem, "tls.certificate", "no certificate in PEM"),
     (half, "tls", ""), (half_a_key, "tls", ""), (no_key, "tls.key", "no private key in PEM"),
     (expired, "tls.certificate", "expired"), (nameless, "tls.certificate", "not for 192.0.2.10"),
     (for_another, "tls.certificate", "not for 192.0.2.10"), (locked, "tls", "the key is encrypted"),
     (key_inside, "tls.certificate", "holds a private key too"), (readable, "tls.key", "others can read"),
     (gone, "tls.certificate", "No such file"), (binary, "tls.certificate", "not a text")],
    ids=lambda it: it.__name__ if callable(it) else "",
)  # fmt: skip
def test_what_scrapers_would_turn_away_from(made: Path, tmp_path: Path, spoil: Spoil, place: str, word: str) -> None:
    copied(made, tmp_path, c_pem="c.pem", c_key="c.key")
    spoil(made, tmp_path)
    error = refused(tmp_path, TLS.replace("MORE", ""))
    print(f"\n{error.message}; {error.hint}")
    assert error.message.startswith(f"observability.exporter.{place}: ")
    assert word in error.message
    secrets = [line for line in (made / "c.key").read_text().splitlines() if not line.startswith("-")]
    assert not [line for line in [*secrets, "hunter2"] if line in error.message + error.hint]
