"""WireGuard keys: 32 bytes of Curve25519, written as 44 characters of base64 (wg(8), "configuration file format").

The only home of the curve. A private key travels inside Secret, whose repr never shows it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os


class Secret:
    """A text that must not be shown: repr and str hide it, comparing takes constant time, `reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is never pickled")


def fault(text: str) -> str | None:
    """Why this is not a usable WireGuard key, or None. Works for public, private and preshared keys."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return "not base64"
    if len(raw) != 32:
        return f"{len(raw)} bytes instead of 32"
    if base64.b64encode(raw).decode() != text:
        return "not in canonical base64"
    return "all zero" if raw == bytes(32) else None


def generate() -> Secret:
    """A new private key, clamped as wg genkey does (RFC 7748, section 5)."""
    raw = bytearray(os.urandom(32))
    raw[0] &= 248
    raw[31] = (raw[31] & 127) | 64
    return Secret(base64.b64encode(bytes(raw)).decode())


def preshared() -> Secret:
    """A new preshared key: 32 random bytes, as wg genpsk."""
    return Secret(base64.b64encode(os.urandom(32)).decode())


def public(private: Secret) -> str:
    """The public key that belongs to a private key (X25519 of the base point, RFC 7748, section 6.1)."""
    from nacl.bindings import crypto_scalarmult_base

    return base64.b64encode(crypto_scalarmult_base(base64.b64decode(private.reveal()))).decode()
