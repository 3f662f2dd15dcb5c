"""Our page and that of exporter 3.6.6, of one live device: the same names, labels and values."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import watchers

from meshwright import keys
from meshwright.io.host import Namespace
from meshwright.providers.hub import Hub
from moment import IF, must, taken
from support import machine

pytestmark = pytest.mark.lab

SERIES = re.compile(r"^(\w+)\{(.*)\} (\d+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
OURS_ONLY = {"peer", "device"}
Series = dict[tuple[str, frozenset[tuple[str, str]]], int]


@contextmanager
def daemon(host: Namespace, *argv: str) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(host.enter(["env", "WG_PROCESS_FOREGROUND=1", *argv]), stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log)  # fmt: skip
        try:
            yield
        finally:
            process.kill()
            process.wait(10)


def series(page: str) -> Series:
    """What moved and was heard; without our own labels."""
    found = {}
    for name, labels, value in SERIES.findall(page):
        if "public_key=" in labels and name not in ("wireguard_peer_expected", "wireguard_peer_next_key"):
            held = frozenset(pair for pair in LABEL.findall(labels) if pair[0] not in OURS_ONLY)
            found[name, held] = int(value)
    return found


def conf(hub: keys.Secret, allowed: list[str]) -> bytes:
    peers = []
    for number, prefixes in enumerate(allowed):
        key = base64.b64encode(bytes([number, *[0xFB] * 31])).decode()  # with + and / in it
        peers.append(f"[Peer]\nPublicKey = {key}\n" + (f"AllowedIPs = {prefixes}\n" if prefixes else ""))
    return f"[Interface]\nPrivateKey = {hub.reveal()}\nListenPort = 51821\n{''.join(peers)}".encode()


def test_exporter_366_says_the_same() -> None:
    exporter = watchers.exporter()
    if not exporter.exists():
        assert os.environ.get("CI") != "true", "exporter 3.6.6 is missing: script/observed builds it"
        pytest.skip("NOT COMPARED WITH EXPORTER 3.6.6, which is not here. Next: script/observed")
    hub, bjorn = keys.generate(), keys.generate()
    allowed = ["10.100.2.1/32", "10.100.2.2/32,10.7.0.0/24,fd00:0:0::1/128", "", "0.0.0.0/0,::/0"]
    page = "for i in $(seq 100); do curl -sf -m 5 http://127.0.0.1:9586/metrics && exit; sleep 0.1; done; exit 1"
    with machine("hub") as host, machine("spoke") as spoke, daemon(host, "wireguard-go", "-f", IF), \
            daemon(spoke, "wireguard-go", "-f", IF):  # fmt: skip
        ends = [
            "ip",
            "link",
            "add",
            "h0",
            "netns",
            str(host.pid),
            "type",
            "veth",
            "peer",
            "s0",
            "netns",
            str(spoke.pid),
        ]
        subprocess.run(ends, check=True, timeout=30)
        for each, end in ((host, "192.0.2.1/24 dev h0"), (spoke, "192.0.2.2/24 dev s0")):
            must(each, f"ip addr add {end}; ip link set {end.split()[-1]} up")
            must(each, f"for i in $(seq 200); do [ -S /run/wireguard/{IF}.sock ] && exit; sleep 0.05; done; exit 1")
        must(host, f"wg setconf {IF} /dev/stdin; ip addr add 10.100.0.1/16 dev {IF}; ip link set {IF} up",
             stdin=conf(hub, allowed))  # fmt: skip
        must(host, f"wg set {IF} peer {keys.public(bjorn)} allowed-ips 10.100.3.1/32")
        must(spoke, f"wg setconf {IF} /dev/stdin; ip addr add 10.100.3.1/16 dev {IF}; ip link set {IF} up",
             stdin=f"[Interface]\nPrivateKey = {bjorn.reveal()}\n[Peer]\nPublicKey = {keys.public(hub)}\n"
                   "AllowedIPs = 10.100.0.0/16\nEndpoint = 192.0.2.1:51821\n".encode())  # fmt: skip
        must(spoke, "ping -q -c 2 -i 0.2 -W 5 10.100.0.1")
        with daemon(host, str(exporter), "-i", IF, "-l", "127.0.0.1", "-p", "9586"):
            end = time.monotonic() + 60
            while True:  # until nothing moved meanwhile
                before, ours, after = must(host, page), taken(host, {}).page, must(host, page)
                if before == after or time.monotonic() > end:
                    break
            # as `status` sees it
            there = {"address": "127.0.0.1", "port": 9586, "tls": False}
            hub_said = [Hub(host, IF, "town").sample(1, {}, {**there, "own": own}) for own in (True, False)]
    assert [said["exporter"]["answers"] for said in hub_said] == [False, True], hub_said
    theirs, mine = series(before), series(ours)
    assert len(theirs) == 3 * 5
    assert {value for (name, _), value in theirs.items() if "handshake" in name} > {0}
    never = {key for key, value in theirs.items() if "handshake" in key[0] and value == 0}
    assert mine == {key: value for key, value in theirs.items() if key not in never}  # never is not 1970 with us
    assert any(dict(labels)["allowed_ips"] == "(none)" for _, labels in mine)
    types = [line for line in before.splitlines() if line.startswith("# TYPE")]
    assert len(types) == 3
    assert set(types) <= set(ours.splitlines())
