"""The WireGuard codecs: literal transcripts, and what is rendered reads back the same."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwright.hubd.kernel import wg

PRIVATE = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
KEYS = [
    "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
    "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=",
    "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=",
]
# the example of wg(8), with what wg-quick(8) adds, and an admin's own lines
EXAMPLE = f"""# kept: a header
[Interface]
PrivateKey = {PRIVATE}
ListenPort = 51820
address = 10.192.122.1/24, 10.10.0.1/16
PostUp = nft -f /etc/own.nft
# kept: why
DNS = 10.0.0.53

[Peer]
PublicKey = {KEYS[0]}
Endpoint = 192.95.5.67:1234
AllowedIPs = 10.192.122.3/32, 10.192.124.1/24 # a comment

# kept: over the next peer
[peer]
# meshwright: bjorn-phone
PublicKey={KEYS[1]}
Endpoint = [2607:5300:60:6b0::c05f:543]:2468
AllowedIPs = 10.192.122.4/32
AllowedIPs = 192.168.0.0/16, fd00::1
PersistentKeepalive = 25

[Peer]
PublicKey = {KEYS[2]}
PresharedKey = {KEYS[1]}
"""


def test_the_manuals_example() -> None:
    conf = wg.parse_conf(EXAMPLE)
    assert conf == wg.Conf(
        private_key=PRIVATE,
        listen=51820,
        addresses=("10.10.0.1/16", "10.192.122.1/24"),
        head=("# kept: a header",),
        extra=("PostUp = nft -f /etc/own.nft", "# kept: why", "DNS = 10.0.0.53"),
        peers={
            KEYS[0]: wg.Block("", ("10.192.122.3/32", "10.192.124.0/24"), "", ("Endpoint = 192.95.5.67:1234",)),
            KEYS[1]: wg.Block(
                "bjorn-phone",
                ("10.192.122.4/32", "192.168.0.0/16", "fd00::1/128"),
                "",
                (
                    "# kept: over the next peer",
                    "Endpoint = [2607:5300:60:6b0::c05f:543]:2468",
                    "PersistentKeepalive = 25",
                ),
            ),
            KEYS[2]: wg.Block("", (), KEYS[1], ()),
        },
    )
    assert wg.parse_conf(wg.render_conf(conf)) == conf


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("[Interface]\nListenPort = many", "[Interface]: ListenPort is not a number"),
        ("[Interface]\nPrivateKey = short", "[Interface]: the private key is not a key"),
        ("[Interface]\nAddress = here", "[Interface]: Address is not an address"),
        ("[Interface]\nnonsense", "line 2: not a key and a value"),
        ("[Strange]\nkey = value", "line 1: unknown section"),
        ("[Peer]\nAllowedIPs = 10.0.0.1/32", "[Peer]: a block without a public key"),
        (f"[Peer]\nPublicKey = {KEYS[0]}\nAllowedIPs = all", f"[Peer] {KEYS[0]}: AllowedIPs are not networks"),
        ("PrivateKey = x", "line 1: not a key and a value"),
        ("[Interface]\nPostUpp = true", "line 2: no key of [Interface]"),
        ("[Interface]\nFwMark = red", "line 2: not a value of its key"),
        (f"[Peer]\nPublicKey = {KEYS[0]}\nDNS = 192.0.2.1", "line 3: no key of [Peer]"),
        (f"[Peer]\nPublicKey = {KEYS[0]}\nEndpoint = 2001:db8::1", "line 3: not a value of its key"),
        (f"[Peer]\nPublicKey = {KEYS[0]}\nPersistentKeepalive = often", "line 3: not a value of its key"),
        (f"[Peer]\nPublicKey = {KEYS[0]}\nPresharedKey = AAAA", f"[Peer] {KEYS[0]}: PresharedKey is not a key"),
    ],
)
def test_what_cannot_be_used_is_told(line: str, sentence: str) -> None:
    assert wg.parse_conf(line).strange == (sentence,)


def test_what_wg_would_refuse_is_not_written_again() -> None:
    text = f"[Interface]\nPrivateKey = {PRIVATE}\nPostUp = true\nfoo = bar\n[Foo]\nbar = 1\n[Peer]\nPublicKey = AAAA\n"
    assert wg.render_conf(wg.parse_conf(text)) == f"[Interface]\nPrivateKey = {PRIVATE}\nPostUp = true\n"


def test_no_conf_without_a_private_key() -> None:
    with pytest.raises(ValueError, match="private key"):
        wg.render_conf(wg.Conf(listen=1))


def test_a_dump_of_the_kernel() -> None:
    text = (
        f"{PRIVATE}\t{KEYS[2]}\t51820\toff\n"
        f"{KEYS[0]}\t(none)\t192.95.5.67:1234\t10.192.124.0/24,10.192.122.3/32\t1700000000\t10\t20\t25\n"
        f"{KEYS[1]}\t{KEYS[0]}\t(none)\t(none)\t0\t0\t0\toff\n"
    )
    assert wg.parse_dump(text) == wg.Device(
        PRIVATE,
        51820,
        {
            KEYS[0]: wg.Peer(
                ("10.192.122.3/32", "10.192.124.0/24"), "", "192.95.5.67:1234", 1700000000, 10, 20, keepalive=25
            ),
            KEYS[1]: wg.Peer((), KEYS[0]),
        },
    )


def test_an_answer_of_the_control_socket() -> None:
    one, other = (base64.b64decode(key).hex() for key in KEYS[:2])
    answer = (
        f"private_key={base64.b64decode(PRIVATE).hex()}\nlisten_port=12912\nfwmark=1\n"
        f"public_key={one}\npreshared_key={other}\nprotocol_version=1\nendpoint=[abcd:23::33]:51820\n"
        "last_handshake_time_sec=1700000001\nlast_handshake_time_nsec=5\ntx_bytes=38333\nrx_bytes=2224\n"
        "persistent_keepalive_interval=111\nallowed_ip=192.168.4.4/32\nallowed_ip=10.0.0.0/8\n"
        f"public_key={other}\npreshared_key={wg.NO_KEY}\nprotocol_version=1\nerrno=0\n\n"
    )
    assert wg.parse_uapi(answer.encode()) == wg.Device(
        PRIVATE,
        12912,
        {
            KEYS[0]: wg.Peer(
                ("10.0.0.0/8", "192.168.4.4/32"), KEYS[1], "[abcd:23::33]:51820", 1700000001, 2224, 38333, keepalive=111
            ),
            KEYS[1]: wg.Peer(),
        },
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" 10.1.2.3/32", ("10.1.2.3/32",)),
        ("10.1.2.3", ("10.1.2.3/32",)),
        ("10.1.2.3/24,10.1.2.0/24", ("10.1.2.0/24",)),
        ("FD00:0::1/128, ::/0,", ("::/0", "fd00::1/128")),
        ("fd00::1:5/32", ("fd00::/32",)),
    ],
)
def test_prefixes_are_written_in_one_way(text: str, expected: tuple[str, ...]) -> None:
    assert wg.prefixes(text.split(",")) == expected


@pytest.mark.parametrize(
    "text", ["010.1.2.3/32", "10.1.2/32", "10.1.2.3.4/32", "10.1.2.256/32", "10.1.2.3\0/32", "١0.1.2.3/32", "/32"]
)
def test_what_is_no_prefix_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        wg.prefixes([text])


def test_a_change_mentions_nothing_that_stays() -> None:
    before = wg.Device(PRIVATE, 1, {KEYS[0]: wg.Peer(("10.0.0.1/32",)), KEYS[1]: wg.Peer(("10.0.0.2/32",))})
    after = wg.Device(PRIVATE, 1, {KEYS[0]: wg.Peer(("10.0.0.1/32",), endpoint="1.2.3.4:5"), KEYS[2]: wg.Peer()})
    text = wg.render_uapi(wg.update(before, after)).decode()
    gone, new = (base64.b64decode(key).hex() for key in (KEYS[1], KEYS[2]))
    assert text == f"set=1\npublic_key={gone}\nremove=true\npublic_key={new}\nreplace_allowed_ips=true\n\n"
    assert wg.update(before, before) == wg.Update()


def test_a_new_preshared_key_leaves_the_allowed_ips_alone() -> None:
    before = wg.Device(PRIVATE, 1, {KEYS[0]: wg.Peer(("10.0.0.1/32",), KEYS[1])})
    after = wg.Device(PRIVATE, 1, {KEYS[0]: wg.Peer(("10.0.0.1/32",))})
    assert wg.update(before, after).peers == {KEYS[0]: (None, "")}
    assert b"allowed" not in wg.render_uapi(wg.update(before, after))
    # wg addconf replaces allowed IPs by what stands in the block, so there they must stand
    text = wg.render_addconf(wg.update(before, after), after).decode()
    assert text == f"[Peer]\nPublicKey = {KEYS[0]}\nPresharedKey = {'A' * 43}=\nAllowedIPs = 10.0.0.1/32\n"


keys = st.binary(min_size=32, max_size=32).filter(any).map(lambda raw: base64.b64encode(raw).decode())
networks = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), st.tuples(st.ip_addresses(v=6), st.integers(0, 128))
).map(lambda pair: f"{pair[0]}/{pair[1]}")
prefixes = st.lists(networks, max_size=4).map(wg.prefixes)
maybe = st.one_of(st.just(""), keys)
line = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=20).map(str.strip)
comment = line.map(lambda text: f"# {text}".strip()).filter(lambda text: not wg.LABEL.match(text))
of_hub = st.sampled_from(["Table = off", "PostUp = a = b # c", "FwMark = 0x10"])
of_peer = st.sampled_from(["Endpoint = 192.0.2.1:51820", "PersistentKeepalive = 25"])
labels = st.one_of(st.just(""), st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True))
blocks = st.builds(wg.Block, labels, prefixes, maybe, st.lists(st.one_of(comment, of_peer), max_size=3).map(tuple))
confs = st.builds(
    wg.Conf,
    private_key=keys,
    listen=st.integers(0, 65535),
    addresses=st.lists(networks, max_size=2, unique=True).map(lambda a: tuple(sorted(a))),
    mtu=st.integers(0, 9000),
    peers=st.dictionaries(keys, blocks, max_size=4),
    head=st.lists(comment, max_size=2).map(tuple),
    extra=st.lists(st.one_of(comment, of_hub), max_size=3).map(tuple),
    strange=st.just(()),
)
peers = st.tuples(prefixes, maybe).map(lambda pair: wg.Peer(*pair))
devices = st.builds(wg.Device, keys, st.integers(1, 65535), st.dictionaries(keys, peers, max_size=4))


@given(confs)
def test_a_rendered_conf_reads_back_the_same(conf: wg.Conf) -> None:
    assert wg.parse_conf(wg.render_conf(conf)) == conf


@given(devices)
def test_a_rendered_device_reads_back_the_same(device: wg.Device) -> None:
    assert wg.parse_uapi(wg.render_uapi(wg.update(wg.Device(), device))) == device


@given(devices, devices)
def test_an_update_turns_one_device_into_the_other(before: wg.Device, after: wg.Device) -> None:
    todo = wg.update(before, after)
    peers = {key: peer for key, peer in before.peers.items() if key not in todo.remove}
    for key, (allowed, shared) in todo.peers.items():
        old = peers.get(key, wg.Peer())
        peers[key] = old._replace(
            allowed_ips=old.allowed_ips if allowed is None else allowed,
            preshared_key=old.preshared_key if shared is None else shared,
        )
    assert peers == after.peers


@given(st.text(max_size=400))
def test_no_text_breaks_the_reader(text: str) -> None:
    wg.parse_conf(text)


@given(confs, st.text(max_size=40), st.integers(0, 600))
def test_no_edit_breaks_the_reader_or_shows_a_key(conf: wg.Conf, noise: str, place: int) -> None:
    text = wg.render_conf(conf)
    found = wg.parse_conf(text[:place] + noise + text[place:])
    assert not any(conf.private_key in sentence for sentence in found.strange)
