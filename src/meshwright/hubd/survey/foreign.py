"""Other people's packet filters, as raw facts: rules that could drop, flowtables, programs on links. Reads only.

Where a service proxy keeps ten thousand rules they are in chains of type nat, which are left alone; what is listed is
counted, and what was left out is named.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..host import system

Json = Any
HOOKS = ("prerouting", "input", "forward", "postrouting")
WHOLE = 300  # chains: a table of more is not listed as a whole
CHAINS = 40  # that are listed one by one, at most
RULES = 3000  # that are sent home, at most
FAMILIES = ("inet", "ip", "ip6")
NAMES = {"ip": "ip_tables_names", "ip6": "ip6_tables_names"}
TABLES = {"ip": "iptables", "ip6": "ip6tables"}


def filters(payload: Mapping[str, Any]) -> dict[str, Json]:
    """{"chains": base chains that filter, "rules": {"family table chain": [expression]}, "iptables": {family: [line]},
    "flowtables": [...], "left": [what was not listed]}. Our own table is left out."""
    out: dict[str, Json] = {"chains": [], "rules": {}, "iptables": {}, "flowtables": [], "left": []}
    if shutil.which("nft", path=system.PATH):
        _tables(payload["table"], out)
    else:
        out["left"].append("tables of nft, which is not installed")
        for family in TABLES:
            _iptables(family, "nft", out)
    for family in TABLES:
        if b"filter" in (system.read_file(f"/proc/net/{NAMES[family]}") or b""):
            _iptables(family, "legacy", out)
    return out


def _tables(ours: str, out: dict[str, Json]) -> None:
    """Add what nft knows."""
    chains = [item["chain"] for item in _nft({"list": {"chains": None}}) if "chain" in item]
    chains = [c for c in chains if (c.get("family"), c.get("table")) != ("inet", ours)]
    base = [c for c in chains if c.get("hook") in HOOKS and c.get("type") != "nat" and c.get("family") in FAMILIES]
    sizes = Counter((chain["family"], chain["table"]) for chain in chains)
    out["chains"] = base
    out["flowtables"] = [item["flowtable"] for item in _nft({"list": {"flowtables": None}}) if "flowtable" in item]
    for family, table in dict.fromkeys((c["family"], c["table"]) for c in base):
        if table != "filter" or not _iptables(family, "nft", out):
            starts = [c["name"] for c in base if (c["family"], c["table"]) == (family, table)]
            _rules(family, table, starts if sizes[family, table] > WHOLE else None, out)


def _nft(command: Json, *flags: str) -> list[Json]:
    done = system.run(["nft", "-j", *flags, "-f", "-"], stdin=json.dumps({"nftables": [command]}).encode())
    found: list[Json] = json.loads(done)["nftables"] if done.strip() else []
    return found


def _rules(family: str, table: str, starts: list[str] | None, out: dict[str, Json]) -> None:
    """Add the rules of a table; of a big one (`starts`: its base chains) only of the chains that these lead to."""
    place = {"family": family, "table": table}
    if starts is None:
        whole = {"list": {"table": {"family": family, "name": table}}}
        _take(_nft(whole, "-t"), out)
        return
    waiting, seen = list(starts), set(starts)
    while waiting and len(seen) <= CHAINS:
        name = waiting.pop(0)
        found = _nft({"list": {"chain": {**place, "name": name}}}, "-t")
        _take(found, out)
        for target in sorted(_targets(found) - seen):
            seen.add(target)
            waiting.append(target)
    out["left"] += [f"{family} {table} {name}" for name in waiting]


def _take(objects: Iterable[Json], out: dict[str, Json]) -> None:
    held = sum(len(rules) for rules in out["rules"].values())
    for rule in (item["rule"] for item in objects if "rule" in item):
        key = f"{rule['family']} {rule['table']} {rule['chain']}"
        if held < RULES:
            out["rules"].setdefault(key, []).append(rule.get("expr", []))
            held += 1
        elif key not in out["left"]:
            out["left"].append(key)


def _targets(tree: Any) -> set[str]:
    """Names of the chains that the rules jump to, verdict maps included."""
    if isinstance(tree, dict):
        own = {tree[word]["target"] for word in ("jump", "goto") if isinstance(tree.get(word), dict)}
        return own.union(*map(_targets, tree.values()))
    return set().union(*map(_targets, tree)) if isinstance(tree, list) else set()


def _iptables(family: str, kind: str, out: dict[str, Json]) -> bool:
    """Add the table `filter` in the words of iptables-save(8); False where that program is not there."""
    name = family if kind == "nft" else f"{family} legacy"
    try:
        done = system.attempt([f"{TABLES[family]}-{kind}-save", "-t", "filter"])
    except (KeyError, system.HubError):
        return False
    if done.code:
        return False
    lines = [line for line in done.out.decode(errors="replace").splitlines() if line[:1] in ":-"]
    if len(lines) > RULES:
        out["left"].append(f"{len(lines) - RULES} lines of {TABLES[family]} ({kind})")
    out["iptables"][name] = lines[:RULES]
    return True


# bpf(2) by number: x86-64 and arm64; elsewhere nothing is asked
_BPF = {"x86_64": 321, "aarch64": 280}
_QUERY, _PLACES = 16, {"tcx ingress": 46, "tcx egress": 47, "netkit primary": 54, "netkit peer": 55}


class _Question(ctypes.Structure):
    """The part of `union bpf_attr` that BPF_PROG_QUERY reads and writes; linux/bpf.h."""

    _fields_ = [
        ("ifindex", ctypes.c_uint32), ("attach_type", ctypes.c_uint32), ("query_flags", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32), ("prog_ids", ctypes.c_uint64), ("count", ctypes.c_uint32),
        ("padding", ctypes.c_uint32 * 27),
    ]  # fmt: skip


def attached(payload: Mapping[str, Any]) -> dict[str, Json]:
    """Programs that meet packets before or after our hooks: {"links": {link: [what]}, "cilium": bool}.

    The classifiers of tc are asked of our interface and of the links with a default route.
    """
    found: dict[str, list[str]] = {}
    names = {name: index for index, name in socket.if_nameindex()}
    for name, index in names.items():
        if what := _queried(index):
            found[name] = what
    for name in [name for name in names if name in {payload["interface"], *_uplinks()}]:
        for side in ("ingress", "egress"):
            text = system.attempt(["tc", "filter", "show", "dev", name, side]).out.decode(errors="replace")
            if " bpf " in text or "mirred" in text or "redirect" in text.lower():
                found.setdefault(name, []).append(f"tc {side}")
    traces = ("/sys/fs/bpf/cilium", "/sys/fs/bpf/tc/globals", "/var/run/cilium/cilium.sock")
    return {"links": found, "cilium": any(n.startswith("cilium_") for n in names) or any(map(os.path.exists, traces))}


def _uplinks() -> set[str]:
    text = (system.read_file("/proc/net/route") or b"").decode(errors="replace")
    rows = [line.split() for line in text.splitlines()[1:]]
    return {row[0] for row in rows if len(row) > 7 and row[1] == row[7] == "00000000"}


def _queried(link: int) -> list[str]:
    number = _BPF.get(os.uname().machine)
    if number is None:
        return []
    library = ctypes.CDLL(None, use_errno=True)
    out = []
    for place, kind in _PLACES.items():
        question = _Question(ifindex=link, attach_type=kind)
        code = library.syscall(number, _QUERY, ctypes.byref(question), ctypes.sizeof(question))
        if code == 0 and question.count:
            out.append(place)
    return out
