"""Builds hosts and links inside a running lab. Started in the lab's own namespaces, one JSON document on stdin.

    python -I -S -c BOOT build hosts|links|lines|configure|ports|remove

hosts:     [{"name", "files": {name in /etc: text}}]               -> {"pids": {name: pid outside}}
links:     [{"a": pid, "a_name", "a_mac", "b": pid, "b_name", "b_mac", "master"}] -> {}   master: bridge on b's side, ""
lines:     [{"name", "pid", "ip": [...]}]                          -> {}
configure: [{"name", "pid", "ip": [...], "sysctl": {...}, "nft", "names": {name: [address]}, "dns": [address],
             "upstream", "ports": [[kind, port]]}]                             -> {}
ports:     [{"name", "pid", "ports"}]                              -> {}
remove:    [pid, ...]: ends every process in the network namespaces of these  -> {}
Any failure gives {"error": sentence} and code 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import holder, kernel

WORKERS = 4


def main(arguments: list[str]) -> int:
    steps: dict[str, Callable[[Any], dict[str, Any]]] = {
        "hosts": hosts,
        "links": links,
        "lines": lines,
        "configure": configure,
        "ports": ports,
        "remove": remove,
    }
    try:
        answer = steps[arguments[0]](json.load(sys.stdin))
    except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
        print(json.dumps({"error": str(error)}))
        return 1
    print(json.dumps(answer))
    return 0


def hosts(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"pids": {item["name"]: _spawn(item["name"], item["files"]) for item in items}}


def _spawn(name: str, files: dict[str, str]) -> int:
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        _hold(name, files, writing)
    os.close(writing)
    with open(reading) as pipe:  # noqa: PTH123
        answer = pipe.read()
    if not answer.isdigit():
        raise RuntimeError(f"{name}: {answer or 'its process died'}")
    return int(answer)


def _hold(name: str, files: dict[str, str], pipe: int) -> None:
    """The child: never returns."""
    try:
        os.setsid()
        os.umask(0o022)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until holder.run listens to it
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        outer = holder.isolate(name, files)
        os.write(pipe, str(outer).encode())
        os.close(pipe)
        holder.run(name)
    except BaseException as error:  # noqa: BLE001 a forked child must not run its parent's code
        with contextlib.suppress(OSError):
            os.write(pipe, f"{error}".encode())
    os._exit(1)


def links(items: list[dict[str, Any]]) -> dict[str, Any]:
    batch = [
        f"link add name {x['a_name']} netns /proc/{x['a']}/ns/net {_address(x['a_mac'])} type veth "
        f"peer name {x['b_name']} netns /proc/{x['b']}/ns/net {_address(x['b_mac'])}"
        for x in items
    ]
    _feed(["ip", "-batch", "-"], "\n".join(batch), "links")
    ports_of: dict[int, list[tuple[str, str]]] = {}
    for x in items:
        if x["master"]:
            ports_of.setdefault(x["b"], []).append((x["b_name"], x["master"]))
    _each([{"name": "switch", "pid": pid, "plugs": plugs} for pid, plugs in ports_of.items()], _plug)
    return {}


def _address(mac: str) -> str:
    return f"address {mac}" if mac else ""


def lines(items: list[dict[str, Any]]) -> dict[str, Any]:
    _each(items, _addresses)
    return {}


def _plug(item: dict[str, Any]) -> None:
    """Make the links ports of their bridges; a bridge that is not there yet comes first."""
    missing = sorted({bridge for _, bridge in item["plugs"] if not Path("/sys/class/net", bridge).exists()})
    batch = [line for b in missing for line in (f"link add {b} type bridge mcast_snooping 0", f"link set {b} up")]
    batch += [f"link set {name} master {bridge} up" for name, bridge in item["plugs"]]
    _addresses({"ip": batch})


def configure(items: list[dict[str, Any]]) -> dict[str, Any]:
    _each(items, _configure)
    return {}


def ports(items: list[dict[str, Any]]) -> dict[str, Any]:
    _each(items, _ports)
    return {}


def _configure(item: dict[str, Any]) -> None:
    for name, value in item["sysctl"].items():
        path = Path("/proc/sys", name)
        if path.exists():  # br_netfilter and IPv6 may be absent
            path.write_text(value)
    _addresses(item)
    if item["nft"]:
        _feed(["nft", "-f", "-"], item["nft"], "nft")
    _ports(item)
    if item["dns"]:
        _dns(item)


def _addresses(item: dict[str, Any]) -> None:
    if item["ip"]:
        _feed(["ip", "-batch", "-"], "\n".join(item["ip"]), "ip")


def _ports(item: dict[str, Any]) -> None:
    Path(holder.SPEC).write_text(json.dumps(item["ports"]))
    os.kill(item["inner"], signal.SIGHUP)


def _dns(item: dict[str, Any]) -> None:
    """A real DNS server. --no-daemon where it could not change its user: a user namespace may have one user only."""
    single = Path("/proc/self/setgroups").read_text().strip() == "deny"
    lines = [f"{address} {name}" for name, addresses in item["names"].items() for address in addresses]
    Path("/run/names").write_text("\n".join(lines) + "\n")
    argv = ["dnsmasq", *(["--no-daemon"] if single else ["--keep-in-foreground", "--user=root", "--log-facility=-"])]
    argv += ["--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--pid-file="]
    argv += ["--addn-hosts=/run/names", "--local-ttl=5", *(f"--listen-address={a}" for a in item["dns"])]
    argv += [f"--server={item['upstream']}"] if item["upstream"] else []
    with open("/run/dnsmasq.log", "wb") as log:  # noqa: PTH123
        server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    for _ in range(100):
        if server.poll() is not None:
            raise RuntimeError(f"dnsmasq: {Path('/run/dnsmasq.log').read_text().strip()[-200:]}")
        if all(_bound(a) for a in item["dns"]):
            break
        time.sleep(0.05)
    Path("/run/dnsmasq.pid").write_text(str(server.pid))


def _bound(address: str) -> bool:
    """Whether somebody has UDP port 53 of the address. It only looks: a bind of its own could be in the way."""
    kind, family = ("udp6", socket.AF_INET6) if ":" in address else ("udp", socket.AF_INET)
    packed = socket.inet_pton(family, address)
    words = [packed[n : n + 4] for n in range(0, len(packed), 4)]
    own = "".join((word[::-1] if sys.byteorder == "little" else word).hex().upper() for word in words)
    rows = Path("/proc/net", kind).read_text().splitlines()[1:]
    return any(row.split()[1] == f"{own}:0035" for row in rows)


def _feed(argv: list[str], text: str, what: str) -> None:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        lines = text.splitlines()
        number = done.stderr.rpartition("Command failed -:")[2].strip()
        culprit = f" ({lines[int(number) - 1]})" if number.isdigit() and int(number) <= len(lines) else ""
        raise RuntimeError(f"{what}: {done.stderr.strip()[:400]}{culprit}")


def _each(items: list[dict[str, Any]], action: Callable[[dict[str, Any]], None]) -> None:
    """The action inside each item's host, a few hosts at a time; the first failure is raised when all have ended."""
    running: dict[int, tuple[str, int]] = {}
    failures: list[str] = []
    for item in items:
        if len(running) >= WORKERS:
            _collect(running, failures)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _inside(item, action, writing)
        os.close(writing)
        running[pid] = (item["name"], reading)
    while running:
        _collect(running, failures)
    if failures:
        raise RuntimeError(failures[0])


def _collect(running: dict[int, tuple[str, int]], failures: list[str]) -> None:
    pid, status = os.wait()
    if pid not in running:
        return
    name, reading = running.pop(pid)
    with open(reading, errors="replace") as pipe:  # noqa: PTH123
        os.set_blocking(reading, False)
        words = pipe.read()
    if status:
        failures.append(f"{name}: {words or 'its process died'}")


def _inside(item: dict[str, Any], action: Callable[[dict[str, Any]], None], pipe: int) -> None:
    """The child: never returns."""
    try:
        item["inner"] = _inner(item["pid"])
        base = f"/proc/{item['pid']}/ns"
        for kind, flag in (("net", kernel.NEWNET), ("uts", kernel.NEWUTS), ("mnt", kernel.NEWNS)):
            kernel.setns(f"{base}/{kind}", flag)
        action(item)
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 a forked child must not run its parent's code
        with contextlib.suppress(OSError):
            os.write(pipe, f"{error}"[:2000].encode())
    os._exit(1)


def _inner(pid: int) -> int:
    """The pid inside the lab of a process that the world outside calls `pid`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    raise RuntimeError(f"process {pid} has no NSpid")


def remove(pids: list[int]) -> dict[str, Any]:
    ours = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116
    doomed = {net for pid in pids if (net := _space(pid, "net"))}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _space(int(entry.name), "pid") == ours:
            number = int(entry.name)
            if _space(number, "net") in doomed:
                with contextlib.suppress(OSError):
                    os.kill(_inner(number), signal.SIGKILL)
    return {}


def _space(pid: int, kind: str) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino  # noqa: PTH116
    except OSError:
        return 0
