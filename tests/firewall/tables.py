"""Hypothesis strategies for tables in plain data: small address pools, so that intervals touch, split and swallow."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from meshwright.hubd.firewall import nft, rights
from meshwright.hubd.firewall.rights import Right

WORDS = ["collective_mesh", "ip", "ip6", "inet", "table", "counter", "fwd", "map", "set", "list", "m9lives", "a" * 63]
TOP = {4: 2**32 - 1, 6: 2**128 - 1}
BASES = {
    4: [0, int(ip_address("10.42.0.0")), int(ip_address("192.168.20.0")), TOP[4] - 15],
    6: [0, int(ip_address("fd00:42::")), int(ip_address("fd77::")), TOP[6] - 15],
}


@st.composite
def spans(draw):
    version = draw(st.sampled_from([4, 6]))
    if draw(st.integers(0, 9)) == 0:
        return version, 0, TOP[version]
    base = draw(st.sampled_from(BASES[version]))
    ends = sorted(base + draw(st.integers(0, 15)) for _ in range(2))
    return version, *ends


services = st.one_of(
    st.just((0, rights.OTHER)),
    st.just((rights.ICMP, rights.ICMP)),
    st.just((0, rights.PORTS - 1)),
    st.just((rights.PORTS, rights.ICMP - 1)),
    st.builds(
        lambda offset, a, b: (offset + min(a, b), offset + max(a, b)),
        st.sampled_from([0, rights.PORTS]),
        st.integers(1, 12) | st.just(65535),
        st.integers(1, 12) | st.just(65535),
    ),
)
some_rights = st.builds(lambda span, service: Right(*span, *service), spans() | st.just((0, 0, 0)) | spans(), services)
allow = st.lists(some_rights, max_size=5).map(rights.texts)
explicit = st.lists(st.builds(lambda span, service: Right(*span, *service), spans(), services), max_size=3)
HOSTS = [f"10.100.2.{i}/32" for i in range(1, 9)] + [f"fd77::{i:x}/128" for i in range(1, 9)] + ["::1:5/128"]
LANS = ["198.51.100.0/24", "198.51.100.0/25", "198.51.101.0/24", "198.51.100.128/25", "fd01::/64", "fd01:0:0:1::/64"]
LANS += ["0.0.0.0/1", "128.0.0.0/1", "fd01::/63"]
LABELS = ["astrid", "bjorn-phone", "x" * 63 + "-" + "y" * 63]


@st.composite
def sources(draw):
    roles = draw(st.lists(allow, min_size=1, max_size=3))
    prefixes = draw(st.lists(st.sampled_from(HOSTS), unique=True, max_size=8))
    lans = []
    for lan in draw(st.lists(st.sampled_from(LANS), unique=True, max_size=4)):
        if not any(
            ip_network(lan).version == ip_network(o).version and ip_network(lan).overlaps(ip_network(o)) for o in lans
        ):
            lans.append(lan)
    one = st.fixed_dictionaries({"peer": st.sampled_from(LABELS), "allow": st.sampled_from(roles)})
    return {prefix: draw(one) for prefix in [*prefixes, *lans]}


@st.composite
def inbound(draw):
    out = []
    taken = []
    for version, low, high in draw(st.lists(spans(), max_size=3)):
        if any(v == version and low <= last and first <= high for v, first, last in taken):
            continue
        taken.append((version, low, high))
        source = rights.render_span(version, low, high)
        found = [r for r in draw(explicit) if r.version == version]
        out += [f"{source} -> {text}" for text in rights.texts(found)]
    return sorted(out, key=nft.inbound_order)


prefixes = st.lists(
    st.sampled_from(["192.168.20.0/24", "10.0.0.0/9", "172.16.0.1/32", "fd05::/64", "0.0.0.0/5"]), unique=True
)
tables = st.builds(
    lambda interface, mark, hub, masquerade, sources, inbound: {
        "name": "collective_mesh",
        "interface": interface,
        "mark": 1 << mark,
        "format": nft.FORMAT,
        "hub": sorted(hub, key=rights.parse_span),
        "masquerade": sorted(masquerade, key=rights.parse_span),
        "sources": sources,
        "inbound": inbound,
    },
    st.sampled_from(["wg1", "wg1", "wg1", "mesh", "lo*", "br-mesh.7"]),
    st.sampled_from([20, 20, 0, 31]),
    st.lists(st.sampled_from(["10.100.0.1/32", "fd77::1/128"]), unique=True),
    prefixes,
    sources(),
    inbound(),
)
