"""The way that a kernel device is written, by wg(8) alone, with the real program on a real device.

This machine's kernel may have no WireGuard, so the device is wireguard-go's; wg(8) speaks to either. The control socket
is asked afterwards what really arrived.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import meshwright
from meshwright.io.host import Namespace

pytestmark = pytest.mark.lab
STEPS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from meshwright.hubd.kernel import device, wg

def by_tool(before, after):
    device.SOCKETS = "/nowhere"
    device.change("wg1", before, after)
    seen = device.read("wg1").device
    device.SOCKETS = "/var/run/wireguard"
    told = device.read("wg1").device
    return seen, told

def plain(found):
    return {key: [sorted(p.allowed_ips), p.preshared_key] for key, p in found.peers.items()}

ada, ben, eve = (device.public_key(device.new_key()) for _ in range(3))
shared = device.new_key()
empty = device.read("wg1").device
peer = lambda *allowed, psk="": wg.Peer(allowed_ips=tuple(allowed), preshared_key=psk)
worlds = [
    {ada: peer("10.9.0.2/32", "fd09::2/128", psk=shared), ben: peer("10.9.0.3/32")},
    {ada: peer("10.9.0.3/32"), ben: peer("10.9.0.2/32", "198.51.100.0/24", psk=shared)},
    {ben: peer("10.9.0.2/32"), eve: peer("10.9.0.3/32")},
    {},
]
out, before = [], empty
for peers in worlds:
    after = before._replace(peers=peers, listen=40000 + len(out))
    seen, told = by_tool(before, after)
    out.append([plain(after), plain(seen), plain(told), [after.listen, seen.listen, told.listen]])
    before = told
fresh = device.new_key()
seen, told = by_tool(before, before._replace(private_key=fresh))
out.append([fresh == seen.private_key == told.private_key])
print(json.dumps(out))
"""


def test_wg_alone_brings_a_device_where_it_should_be(hub_host: Namespace) -> None:
    made = hub_host.run(["sh", "-c", "umask 077; wireguard-go wg1 2>/dev/null || ip link add wg1 type wireguard"])
    assert made.code == 0, made.err
    source = str(Path(meshwright.__file__).parents[1])
    done = hub_host.run([hub_host.python, "-c", STEPS, source], timeout=60)
    assert done.code == 0, done.err
    *worlds, key = json.loads(done.out)
    assert len(worlds) == 4
    for wanted, seen, told, ports in worlds:
        assert seen == told == wanted
        assert len(set(ports)) == 1
    assert key == [True]
