"""Everything about a machine that an apply could change, as text lines, to compare before and after."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

FILES = """
import hashlib, os, stat, sys
def walk(top):
    for folder, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(folder, name)
            found = os.lstat(path)
            what = os.readlink(path) if stat.S_ISLNK(found.st_mode) else ""
            if stat.S_ISREG(found.st_mode) and not path.startswith("/run/"):
                what = hashlib.sha256(open(path, "rb").read()).hexdigest()
            if not stat.S_ISSOCK(found.st_mode):
                print(path, oct(found.st_mode), what)
for top in sys.argv[1:]:
    walk(top)
"""
VOLATILE = (
    "/run/systemd/",
    "/run/user/",
    "/run/log/",
    "/run/sudo",
    "/run/udev",
    "/run/dbus",
    "/run/mount",
    "/run/motd",
)
Run = Callable[..., bytes]


def seen(run: Run, systemd: bool) -> dict[str, list[str]]:
    """run(*argv) -> stdout, on the machine. What changes by itself (ids of links, journal, pids) is left out."""
    files = run("/usr/bin/python3", "-c", FILES, "/etc", "/var/lib/meshwright", "/run").decode().splitlines()
    out = {
        "files": sorted(line for line in files if not line.startswith(VOLATILE)),
        "rules": [line for flag in ("-4", "-6") for line in run("ip", flag, "rule", "show").decode().splitlines()],
        "links": sorted(link["ifname"] for link in _json(run("ip", "-j", "link", "show"))),
        "routes": sorted(
            str(route) for flag in ("-4", "-6") for route in _json(run("ip", "-j", flag, "route", "show"))
        ),
        "nft": run("nft", "list", "ruleset").decode().splitlines(),
    }
    if systemd:
        for words in (("list-unit-files",), ("list-units", "--all", "--type=service,timer,socket")):
            lines = run("systemctl", *words, "--no-legend", "--plain", "--no-pager").decode().splitlines()
            out[words[0]] = sorted(" ".join(line.split()[:4]) for line in lines)
    return out


def _json(data: bytes) -> list[dict[str, Any]]:
    return json.loads(data or b"[]")


def difference(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, list[str]]:
    """What is more (+) or less (-) than before."""
    out = {}
    for part, was in before.items():
        now = after[part]
        changed = [f"- {line}" for line in was if line not in set(now)]
        changed += [f"+ {line}" for line in now if line not in set(was)]
        if changed:
            out[part] = changed
    return out
