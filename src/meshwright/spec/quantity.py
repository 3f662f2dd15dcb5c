"""Amounts as Kubernetes writes them: 500m, 4, 8Gi. Pure."""

from __future__ import annotations

import re

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_NANO = 10**9
MOST = 2**63 - 1
_form = re.compile(
    r"([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))([eE][+-]?[0-9]{1,2}|[KMGTPE]i|[numkMGTPE]?)", re.ASCII
).fullmatch


def nano(text: str) -> int:
    """The amount in billionths of its unit, what lies below them rounded up. ValueError when it is none."""
    return _read(text)[0]


def canonical(text: str) -> str:
    """The shortest form of the amount, as the API server gives it back: 0.5 is 500m, 1024Mi is 1Gi, 1000 is 1k.

    ValueError when it is no amount.
    """
    amount, suffix = _read(text)
    if amount == 0:
        return "0"
    if suffix in _BINARY and amount % (1024 * _NANO) == 0:
        return _binary(amount // _NANO)
    exponent = -9
    most = 99 if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix not in _BINARY else 18
    while amount % 1000 == 0 and exponent < most:
        amount, exponent = amount // 1000, exponent + 3
    if most == 18:
        return f"{amount}{_SUFFIX[exponent]}"
    return f"{amount}e{exponent}" if exponent else str(amount)


def _binary(amount: int) -> str:
    power = 0
    while amount % 1024 == 0 and power < len(_BINARY):
        amount, power = amount // 1024, power + 1
    return f"{amount}{_BINARY[power - 1]}"


def _read(text: str) -> tuple[int, str]:
    """The amount in billionths, and the suffix it was written with."""
    found = _form(text)
    if not found:
        raise ValueError(f"{text[:40]!r} is not a quantity")
    sign, whole, behind, only, suffix = found.groups()
    digits, places = (whole or "") + (behind or only or ""), len(behind or only or "")
    numerator, denominator = int(digits) * _NANO, 10**places
    if suffix in _BINARY:
        numerator *= 1024 ** (_BINARY.index(suffix) + 1)
    elif (power := _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])) >= 0:
        numerator *= 10**power
    else:
        denominator *= 10**-power
    amount = -(-numerator // denominator)
    if suffix in _BINARY:
        amount = min(amount, MOST * _NANO)
    return -amount if sign == "-" else amount, suffix
