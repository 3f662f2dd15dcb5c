"""Names as people gave them become names of a mesh file: DNS labels, each once."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from meshwright.spec.policy import RESERVED

MOST = 50
SPELLED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "o", "æ": "ae", "å": "a", "ł": "l", "'": ""})


def labels(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """A label for each name, in order. Two names never become one: the later gets a number."""
    out: list[str] = []
    used = {*RESERVED, *taken}
    counts: dict[str, int] = {}  # how far each name got: thousands may have the same
    for number, name in enumerate(names, 1):
        base = label(name) or f"peer-{number}"
        found, count = base, counts.get(base, 1)
        while found in used:
            count += 1
            found = f"{base}-{count}"
        counts[base] = count
        used.add(found)
        out.append(found)
    return out


def label(name: str) -> str:
    """The nearest DNS label, "" when nothing of the name can be one."""
    spelled = name.lower().translate(SPELLED)
    plain = unicodedata.normalize("NFKD", spelled).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain)[: MOST + 1].strip("-")[:MOST].strip("-")
