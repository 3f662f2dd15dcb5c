"""Encryption to people: age, with age's own keys and SSH keys. The only home of pyrage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyrage  # type: ignore[import-untyped]

from meshwright.errors import SecretsError
from meshwright.io import files, sources

HEADER = b"age-encryption.org/v1\n"
USUAL = ("id_ed25519", "id_rsa")


def encrypt(data: bytes, recipients: Sequence[str]) -> bytes:
    """What any one of the recipients can read, and nobody else."""
    return bytes(pyrage.encrypt(data, [_recipient(text) for text in recipients]))


def _recipient(text: str) -> Any:
    try:
        if text.startswith("age1"):
            return pyrage.x25519.Recipient.from_str(text)
        return pyrage.ssh.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise SecretsError(
            f"secrets.recipients: {text[:40]}... is not a key that can be encrypted to",
            "give an age public key (age1...), or an ssh-ed25519 or ssh-rsa public key",
        ) from None


def decrypt(data: bytes, path: Path, identity: Path | None) -> bytes:
    """The content of an encrypted file. `path` is for messages; without an identity the usual SSH keys are tried."""
    if not data.startswith(HEADER):
        raise SecretsError(f"{path}: not an encrypted backup", "give a file that `meshwright backup` wrote")
    found = {place: _identity(place) for place in ([identity] if identity else _usual())}
    locked = [place for place, identities in found.items() if not identities]
    try:
        return bytes(pyrage.decrypt(data, [each for identities in found.values() for each in identities]))
    except pyrage.DecryptError as error:
        if "No matching keys" not in str(error):
            raise SecretsError(f"{path}: damaged, or cut off: it cannot be decrypted", "take another backup") from None
    if locked:
        raise SecretsError(
            f"{locked[0]}: this key is protected by a passphrase, which cannot be asked for here",
            f"make a copy without one: cp {locked[0]} KEY; ssh-keygen -p -N '' -f KEY; name it with --identity KEY, and"
            " remove it afterwards",
        )
    raise SecretsError(
        f"{path}: not encrypted to this key",
        "name the private key of one of the mesh's secrets.recipients with --identity",
    )


def _usual() -> list[Path]:
    places = [place for name in USUAL if (place := Path.home() / ".ssh" / name).is_file()]
    if not places:
        raise SecretsError("there is no SSH key in ~/.ssh to open it with", "name the private key with --identity")
    return places


def _identity(path: Path) -> list[Any]:
    """All identities of a file: age's own, one a line, or one SSH private key; none when that has a passphrase."""
    data = sources.read(path)
    files.read_private(path.resolve())  # says so where others can read it
    words = [line.strip() for line in data.decode(errors="replace").splitlines()]
    own = [word for word in words if word.startswith("AGE-SECRET-KEY-")]
    try:
        if own:
            return [pyrage.x25519.Identity.from_str(word) for word in own]
        return [pyrage.ssh.Identity.from_buffer(data)]
    except pyrage.IdentityError as error:
        if "must be decrypted first" in str(error):
            return []
        raise SecretsError(
            f"{path}: neither an age identity nor an SSH private key", "name the private key with --identity"
        ) from None
