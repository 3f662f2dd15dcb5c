"""Which running flows have to end when a table changes. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..kernel.conntrack import Flow
from . import rights

EMPTY: dict[str, Any] = {"sources": {}, "inbound": []}


class Prefixes:
    """Finds the longest of some prefixes that holds an address, in time that does not grow with their number."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._known: dict[tuple[int, int], dict[int, str]] = {}
        for text in texts:
            network = ipaddress.ip_network(text)
            shift = network.max_prefixlen - network.prefixlen
            size = network.max_prefixlen // 8
            self._known.setdefault((size, shift), {})[int(network.network_address) >> shift] = text
        self._order = sorted(self._known, key=lambda entry: entry[1])

    def find(self, address: bytes) -> str | None:
        """The prefix that holds a packed address."""
        number = int.from_bytes(address, "big")
        for size, shift in self._order:
            if size == len(address):
                found = self._known[size, shift].get(number >> shift)
                if found is not None:
                    return found
        return None


def touching(prefixes: Iterable[str]) -> Callable[[Flow], bool]:
    """Flows from or to these prefixes, also where a translation hides them on one side."""
    known = Prefixes(prefixes)

    def judge(flow: Flow) -> bool:
        ends = (flow.original.source, flow.original.destination, flow.reply.source, flow.reply.destination)
        return any(known.find(address) is not None for address in ends)

    return judge


def refused(before: dict[str, Any], after: dict[str, Any] | None) -> Callable[[Flow], bool]:
    """Flows of a peer of either table that `after` would not let begin; None allows nothing."""
    stale = rights.stale(before, after or EMPTY)

    def judge(flow: Flow) -> bool:
        return stale(_seen(flow))

    return judge


def _seen(flow: Flow) -> rights.Flow:
    ports = flow.protocol in ("tcp", "udp")
    return rights.Flow(
        flow.original.source,
        flow.original.destination,
        flow.protocol,
        max(flow.original.port, 0) if ports else 0,
        flow.reply.source,
        max(flow.reply.source_port, 0) if ports else 0,
    )


def loses(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> bool:
    """Whether anything that `before` allows may not be allowed by `after`: then flows have to be judged."""
    if before is None:
        return False
    if after is None or not set(before["inbound"]) <= set(after["inbound"]):
        return True
    for prefix, right in before["sources"].items():
        other = after["sources"].get(prefix)
        if other is None or other["peer"] != right["peer"]:
            return True
        if other["allow"] != right["allow"] and not set(right["allow"]) <= set(other["allow"]):
            return True
    return False
