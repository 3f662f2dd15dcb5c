"""The mesh is closed when our table is missing: a routing rule that only a packet which the table marked gets past.

The rule: `ip rule add iif IF fwmark 0/MASK prohibit`, for IPv4 and IPv6; ip-rule(8). Kernel settings beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..host import system

FLAGS = {"inet": "-4", "inet6": "-6"}
PRIORITY = "10"  # right behind the table `local`, before any rule that could route the packet


def read(interface: str, mark: int, keys: Iterable[str]) -> dict[str, Any] | None:
    """{"rules": ["inet", ...], "sysctl": {key: value}}; None when there is no rule at all."""
    rules = [family for family in FLAGS if any(_is_ours(rule, interface, mark) for rule in _rules(family))]
    return {"rules": rules, "sysctl": {key: sysctl(key) for key in keys}} if rules else None


def _rules(family: str) -> list[dict[str, Any]]:
    done = system.attempt(["ip", "-j", FLAGS[family], "rule", "show"])
    found: list[dict[str, Any]] = json.loads(done.out or b"[]") if not done.code else []
    return found


def _is_like_ours(rule: Mapping[str, Any], interface: str) -> bool:
    # a rule with one more selector ("not", a protocol, a destination) refuses less: it is no substitute, nor ours
    return (
        # iif_detached: the interface is not there at the moment, the rule waits for it
        rule.keys() <= {"priority", "src", "iif", "iif_detached", "fwmark", "fwmask", "action"}
        and rule.get("src", "all") == "all"
        and rule.get("iif") == interface
        and rule.get("action") == "prohibit"
        and "fwmark" in rule
    )


def _is_ours(rule: Mapping[str, Any], interface: str, mark: int) -> bool:
    # mark 0: nobody knows it any more (the table is gone and not wanted), so every such rule is ours to remove
    return (
        _is_like_ours(rule, interface)
        and int(rule["fwmark"], 0) == 0
        and (not mark or int(rule.get("fwmask", "0xffffffff"), 0) == mark)
        and str(rule["priority"]) == PRIORITY  # behind the table `main` it would refuse nothing
    )


def sysctl(key: str) -> str:
    """The value of a kernel setting, "" when this kernel has none of that name."""
    return (system.read_file(_place(key)) or b"").decode().strip()


def _place(key: str) -> str:
    return "/proc/sys/" + key.replace("/", "\0").replace(".", "/").replace("\0", ".")


def write(interface: str, mark: int, wanted: Mapping[str, Any]) -> None:
    """Add the rules that are missing, before those with another mask go; set what is set otherwise."""
    for family, flag in FLAGS.items():
        rules = _rules(family)
        if family in wanted["rules"] and not any(_is_ours(rule, interface, mark) for rule in rules):
            selector = ["iif", interface, "fwmark", f"0/{mark:#x}"]
            system.run(["ip", flag, "rule", "add", "priority", PRIORITY, *selector, "prohibit"])
        for rule in rules:
            stays = family in wanted["rules"] and _is_ours(rule, interface, mark)
            if _is_like_ours(rule, interface) and not stays:
                _drop(flag, interface, rule)
    settle(wanted["sysctl"])


def settle(values: Mapping[str, str]) -> None:
    """Set the kernel settings that are set otherwise."""
    for key, value in values.items():
        if sysctl(key) != value:
            _set(key, value)


def remove(interface: str) -> None:
    """Take the rules away. Kernel settings stay: others may live by them."""
    for family, flag in FLAGS.items():
        for rule in _rules(family):
            if _is_like_ours(rule, interface):
                _drop(flag, interface, rule)


def _drop(flag: str, interface: str, rule: Mapping[str, Any]) -> None:
    mask = rule.get("fwmask", "0xffffffff")
    selector = ["iif", interface, "fwmark", f"{rule['fwmark']}/{mask}"]
    system.run(["ip", flag, "rule", "delete", "priority", str(rule["priority"]), *selector, "prohibit"])


def _set(key: str, value: str) -> None:
    try:
        with open(_place(key), "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        raise system.HubError(
            f"the kernel setting {key} cannot be set to {value}: {error.strerror}", "set it by hand on the hub"
        ) from None
