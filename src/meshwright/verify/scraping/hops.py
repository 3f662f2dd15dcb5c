"""What is said of the way from a Service or a Pod to Prometheus: one hop after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from meshwright.desired.monitoring.tenants import PORT, SCRAPE
from meshwright.desired.resource import Resource
from meshwright.spec.boxes import Span

Json = Any
State = Literal["ok", "failed", "unknown", "warned"]
LABEL, VALUE = next(iter(SCRAPE.items()))


@dataclass(frozen=True, slots=True)
class Hop:
    """One thing that has to be so. failed: it is not, so nothing is scraped. unknown: it could not be looked at."""

    name: str
    state: State
    what: str
    next: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """From one object to Prometheus. kind: as in kubectl, "" where there is no such object."""

    kind: str
    name: str
    hops: tuple[Hop, ...]

    @property
    def broken(self) -> Hop | None:
        return next((hop for hop in self.hops if hop.state == "failed"), None)


@dataclass(frozen=True)
class World:
    """What the mesh file wants, as far as scraping is about it.

    out: namespaces of peers that are disabled or expired. wanted: our monitors of the namespace, by kind. pods: the
    network of pods, where the file knows it. namespace, release: of `observability`, "" where the file has none.
    """

    mesh: str
    tenants: Mapping[str, str]
    out: Mapping[str, str]
    wanted: Mapping[str, Resource]
    namespace: str
    pods: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What the API server has, by the plural of its kind: the objects, or in a word why nobody could look: "forbidden",
    "missing" (it has no such kind).
    """

    parts: Mapping[str, list[Json] | str]

    def of(self, kind: str) -> list[Json]:
        found = self.parts.get(kind, "missing")
        return [] if isinstance(found, str) else found

    def blind(self, *kinds: str) -> str:
        """Why one of these kinds could not be looked at, "" where all could."""
        for kind in kinds:
            found = self.parts.get(kind, "missing")
            if isinstance(found, str):
                return f"{kind} could not be looked at: {WORDS.get(found, found)}"
        return ""

    def named(self, kind: str, namespace: str, name: str) -> Json | None:
        return next((each for each in self.of(kind) if place(each) == (namespace, name)), None)


WORDS = {"forbidden": "you may not list them", "missing": "the cluster has no such kind"}


def place(object: Json) -> tuple[str, str]:
    meta = object["metadata"]
    return meta.get("namespace", ""), meta["name"]


def labels(object: Json) -> Mapping[str, str]:
    found: Mapping[str, str] = object["metadata"].get("labels") or {}
    return found


def some(words: Iterable[object], most: int = 5) -> str:
    every = list(dict.fromkeys(map(str, words)))
    return ", ".join([*every[:most], *([f"and {len(every) - most} more"] if len(every) > most else [])])


__all__ = ["LABEL", "PORT", "VALUE", "Hop", "Json", "Seen", "State", "Way", "World", "labels", "place", "some"]
