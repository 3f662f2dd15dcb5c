"""Whatever is imported: a mesh file that passes check, or one clear error; never a traceback, a hang or a lost peer."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright import adopt, keys
from meshwright.adopt import conf
from meshwright.adopt.meshfile import Answers, write
from meshwright.adopt.names import label, labels
from meshwright.cli import app
from meshwright.errors import MeshwrightError
from meshwright.io import sources
from meshwright.keys import Secret
from meshwright.spec import load

ANSWERS = Answers("home", "hub", "wg0", ip_address("192.168.20.20"), "vpn.example.net:51820")
PRIVATE = base64.b64encode(hashlib.sha256(b"hub").digest()).decode()
PUBLIC = keys.public(Secret(PRIVATE))
GOOD = f"[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.8.0.1/24\n"


def key(number: int) -> str:
    return base64.b64encode(hashlib.sha256(str(number).encode()).digest()).decode()


def peer(number: int, allowed: str, above: str = "") -> str:
    return f"\n{above}\n[Peer]\nPublicKey = {key(number)}\nAllowedIPs = {allowed}\n"


FAULTS = {
    "nothing": ("", "empty"),
    "binary": ("\x00\x01\x02", "not a file of text"),
    "latin-1": (b"# caf\xe9\n", "not a file of text"),
    "prose": ("dear hub,\nlet me in\n", "line 1: not a section"),
    "no interface": (peer(1, "10.8.0.2/32"), "no [Interface]"),
    "other section": (f"{GOOD}[Unit]\n", "line 4: neither [Interface] nor [Peer]"),
    "short key": (f"{GOOD}[Peer]\nPublicKey = AAAA\n", "line 5: publickey is not a key: 3 bytes"),
    "short preshared key": (f"{GOOD}{peer(1, '10.8.0.2/32')}PresharedKey = QUJD\n", "presharedkey is not a key"),
    "no key": (f"{GOOD}[Peer]\nAllowedIPs = 10.8.0.2/32\n", "line 4: a [Peer] without a PublicKey"),
    "same key": (f"{GOOD}{peer(1, '10.8.0.2/32')}{peer(1, '10.8.0.3/32')}", "the same public key as in line"),
    "own key": (f"{GOOD}[Peer]\nPublicKey = {PUBLIC}\nAllowedIPs = 10.8.0.2/32\n", "the hub's own key"),
    "same address": (f"{GOOD}{peer(1, '10.8.0.2/32', '# ham')}{peer(2, '10.8.0.2')}", "belongs to ham and to"),
    "no network": (f"{GOOD}{peer(1, '10.8.0.256/32')}", "AllowedIPs are not networks"),
    "port": (f"{GOOD}ListenPort = 99999\n", "listenport is not a number up to 65535"),
    "address": (GOOD.replace("10.8.0.1/24", "10.8.0.1/33"), "Address are not networks"),
    "wg show": (f"interface: wg0\n  public key: {PUBLIC}\n", "what `wg show` prints"),
    "full": (GOOD.replace("/24", "/30") + "".join(peer(n, f"172.16.{n}.0/24") for n in range(3)), "none is free"),
    "half json": ('{"server": ', "not valid JSON"),
    "deep json": ('{"a":' * 100_000, "not valid JSON"),
    "other json": ('{"version": 3}', "without the `server` and `clients`"),
    "json key": ('{"server": {"privateKey": 7, "address": "10.8.0.1"}, "clients": {}}', "privateKey is not a key"),
    "database": (b"SQLite format 3\x00" + bytes(100), "wg-easy 15 and later"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_source_gets_one_clear_error(name):
    data, said = FAULTS[name]
    with pytest.raises(MeshwrightError) as found:
        write(adopt.read("wg0.conf", data if isinstance(data, bytes) else data.encode()), ANSWERS)
    assert said in found.value.message
    assert found.value.hint
    assert PRIVATE not in f"{found.value.message}{found.value.hint}"


@pytest.mark.parametrize("comment", [f"# begin x{' ' * 2_000_000}y", f"# user = a{' ' * 2_000_000}b"])
def test_an_endless_comment_is_no_name_and_takes_no_time(comment):
    assert conf.called(("# bryce", comment)) == "bryce"


def test_one_name_of_all_is_numbered_in_no_time():
    assert labels(["ham"] * 100_000)[-1] == "ham-100000"


def test_without_its_fault_such_a_source_is_imported():
    assert load.load_text(write(adopt.read("wg0.conf", f"{GOOD}{peer(1, '10.8.0.2/32')}".encode()), ANSWERS).text)


def test_a_backup_with_a_foreign_public_key_is_refused():
    client = {"name": "x", "address": "10.8.0.2", "privateKey": PRIVATE, "publicKey": key(1), "enabled": True}
    text = json.dumps({"server": {"privateKey": PRIVATE, "address": "10.8.0.1"}, "clients": {"1": client}})
    with pytest.raises(MeshwrightError, match="publicKey does not belong to privateKey"):
        adopt.read("wg0.json", text.encode())


@pytest.mark.parametrize("enabled", ["false", 0, None])
def test_whoever_was_shut_out_is_never_let_in_by_another_spelling(enabled):
    client = {"name": "x", "address": "10.8.0.2", "privateKey": key(1), "enabled": enabled}
    text = json.dumps({"server": {"privateKey": PRIVATE, "address": "10.8.0.1"}, "clients": {"1": client}})
    with pytest.raises(MeshwrightError, match="client 1: enabled is neither true nor false"):
        adopt.read("wg0.json", text.encode())


LINES = st.sampled_from(
    ["[Interface]", "[Peer]", "PublicKey = ", f"PublicKey = {key(1)}", f"PrivateKey = {PRIVATE}", "MTU =", "=", "[",
     "Address = 10.8.0.1/24", "AllowedIPs = 0.0.0.0/0, ::/0", "AllowedIPs = 10.8.0.2/32", "#", "### begin x ###"]
)  # fmt: skip


@settings(max_examples=150)
@given(
    st.one_of(st.binary(max_size=200), st.lists(st.one_of(LINES, st.text(max_size=20))).map("\n".join).map(str.encode))
)
def test_any_bytes_are_a_mesh_or_one_error(data):
    try:
        text = write(adopt.read("wg0.conf", data), ANSWERS).text
    except MeshwrightError:
        return
    load.load_text(text)


ODD = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.just(PRIVATE), st.just("10.8.0.2"))
FIELDS = st.sampled_from(["name", "address", "privateKey", "publicKey", "preSharedKey", "enabled", "expiredAt"])
CLIENTS = st.one_of(ODD, st.dictionaries(st.text(max_size=4), st.one_of(ODD, st.dictionaries(FIELDS, ODD)), max_size=4))


@settings(max_examples=150)
@given(st.fixed_dictionaries({"server": st.dictionaries(FIELDS, ODD), "clients": CLIENTS}))
def test_any_backup_of_wg_easy_is_a_mesh_or_one_error(found):
    found["server"] = {"privateKey": PRIVATE, "address": "10.8.0.1", **found["server"]}
    try:
        text = write(adopt.read("wg0.json", json.dumps(found).encode()), ANSWERS).text
    except MeshwrightError:
        return
    load.load_text(text)


PATHS = st.sampled_from(["wg0.conf", "configs/a.conf", "configs/clients.txt", "keys/a_priv", "configs/../b.conf", "x"])


@settings(max_examples=150)
@given(st.dictionaries(PATHS, st.lists(st.one_of(LINES, st.text(max_size=20)), min_size=1).map("\n".join)))
def test_any_folder_is_a_mesh_or_one_error(files):
    found = {"wg0.conf": f"{GOOD}{peer(1, '10.8.0.2/32')}", **files}
    try:
        text = write(adopt.read_folder("pi", {path: text.encode() for path, text in found.items()}), ANSWERS).text
    except MeshwrightError:
        return
    load.load_text(text)


NET = st.builds(lambda n, length: ip_network((n, length), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32))
NEAR = st.builds(lambda n: ip_network((int(ip_address("10.8.0.0")) + n, 32)), st.integers(0, 300))
CALLED = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)
HUBS = st.lists(st.tuples(CALLED, st.lists(st.one_of(NEAR, NET), max_size=3)), max_size=12)


@settings(max_examples=150)
@given(HUBS)
def test_whatever_the_allowed_ips_every_peer_and_every_prefix_is_kept_or_named(peers):
    """A hub that wg takes: each peer is in the file with his key, each prefix in the file or in the notes."""
    seen: set[object] = set()
    text, told = GOOD, []
    for number, (name, nets) in enumerate(peers):
        own = [net for net in dict.fromkeys(nets) if net not in seen]
        seen.update(own)
        told.append((key(number), own))
        text += peer(number, ", ".join(map(str, own)), f"# {name.replace('#', '')}")
    adopted = write(adopt.read("wg0.conf", text.encode()), ANSWERS)
    mesh = load.load_text(adopted.text).mesh
    devices = {device.public_key: device for device in mesh.devices}
    assert list(devices) == [public for public, _ in told]
    for public, own in told:
        device = devices[public]
        kept = {str(ip_network(a)) for a in device.addresses} | {str(n) for n in device.lan}
        notes = "\n".join(note for note in adopted.notes if note.startswith(f"{device.label}:"))
        assert all(str(net) in kept or str(net) in notes for net in own)


@given(st.lists(st.text(max_size=80)))
def test_names_become_labels_each_once(names):
    found = labels(names, ["net-1"])
    assert len(set(found)) == len(names)
    assert all(label(name) == name and len(name) <= 63 for name in found)
    assert not {"peers", "hub", "any", "net-1"} & set(found)


def test_names_that_climb_stay_names():
    assert labels(["../x", "../../etc/passwd", "x", "-", "ÄÖ"]) == ["x", "etc-passwd", "x-2", "peer-4", "aeoe"]


def test_a_key_in_a_comment_or_a_hook_is_shown_nowhere():
    secret = key(77)
    text = f"{GOOD}PostUp = wg set %i private-key <(echo {secret})\n{peer(1, '10.8.0.2/32', f'# name: {secret}')}"
    adopted = write(adopt.read("wg0.conf", text.encode()), ANSWERS)
    assert not any(secret in said or secret.lower()[:20] in said for said in (adopted.text, repr(adopted)))
    assert "PostUp = wg set %i private-key <(echo (key))" in adopted.text


def test_what_wg_prints_comes_by_stdin_and_json_goes_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = f"[Interface]\nListenPort = 51820\nPrivateKey = {PRIVATE}\n{peer(1, '10.8.0.2/32')}"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code, said = imports(capsys, "-", "--network", "10.8.0.1/24", "--output", "json")
    assert code == 0, said.err
    found = json.loads(said.out)
    assert (found["source"], found["public_key"]) == ("the output of wg showconf", PUBLIC)
    assert [(p["label"], p["address"], p["private_key"]) for p in found["peers"]] == [("peer-1", ["10.8.0.2"], False)]
    assert PRIVATE not in said.out + said.err


def test_a_name_that_no_terminal_could_print_is_shown_as_one_that_it_can(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    client = {"name": "\ud800\x1b[2J", "address": "10.8.0.2", "privateKey": key(1), "enabled": True}
    text = json.dumps({"server": {"privateKey": PRIVATE, "address": "10.8.0.1"}, "clients": {"\udfff": client}})
    (tmp_path / "wg0.json").write_text(text)
    for output in ("text", "json"):
        code, said = imports(capsys, "wg0.json", "--force", "--output", output)
        assert code == 0, said.err
        assert "\x1b" not in said.out
    assert "called ??[2J" in (tmp_path / "mesh.yaml").read_text()


def pivpn(folder):
    (folder / "configs").mkdir(parents=True)
    (folder / "keys").mkdir()
    (folder / "wg0.conf").write_text(f"{GOOD}{peer(1, '10.8.0.2/32')}")
    return folder


def imports(capsys, *words):
    code = app.run(["import", *map(str, words), "--endpoint", "vpn.example.net:51820", "--address", "192.168.20.20"])
    return code, capsys.readouterr()


def test_links_and_pipes_in_a_folder_are_not_followed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = pivpn(tmp_path / "pi")
    (folder / "configs/loop.conf").symlink_to("loop.conf")
    (folder / "configs/all").symlink_to("..")
    (folder / "configs/secret.conf").symlink_to("/etc/shadow")
    os.mkfifo(folder / "keys/pipe")
    (folder / "more.conf").symlink_to("wg0.conf")
    code, said = imports(capsys, folder)
    assert code == 0, said.err
    assert (tmp_path / "mesh.yaml").exists()


@pytest.mark.parametrize("what", ["loop", "nowhere", "two", "none", "huge"])
def test_a_folder_or_file_that_cannot_be_used_says_why(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = pivpn(tmp_path / "pi")
    if what == "loop":
        folder = tmp_path / "l"
        folder.symlink_to("l")
    elif what == "nowhere":
        folder = tmp_path / "nowhere"
    elif what == "two":
        (folder / "wg1.conf").write_text(GOOD)
    elif what == "none":
        (folder / "wg0.conf").unlink()
    else:
        (folder / "wg0.conf").write_bytes(b"#" * (17 << 20))
    code, said = imports(capsys, folder)
    assert code == 1
    assert said.err.startswith("error: ")
    assert "next: " in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "mesh.yaml").exists()


@pytest.mark.parametrize("source", ["/proc/self/mem", "-"])
def test_a_source_that_opens_but_cannot_be_read_says_so(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with Path("/proc/self/mem").open() as odd:
        monkeypatch.setattr("sys.stdin", odd)
        code, said = imports(capsys, source)
    assert code == 1
    assert "cannot be read: Input/output error\nnext: give a plain file" in said.err


@pytest.mark.parametrize(("into", "said"), [
    (".", ". is a folder"),
    ("nowhere/mesh.yaml", "nowhere: there is no such folder"),
    ("x" * 256, f"{'x' * 256}: cannot be written: File name too long"),
])  # fmt: skip
def test_where_no_mesh_file_can_be_written_the_place_is_named(into, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wg0.conf").write_text(f"{GOOD}{peer(1, '10.8.0.2/32')}")
    code, told = imports(capsys, "wg0.conf", "--force", "--into", into)
    assert code == 1
    assert told.err.startswith(f"error: {said}\nnext: ")


def test_a_pivpn_of_ten_thousands_is_read_whole(tmp_path):
    folder = pivpn(tmp_path / "pi")
    for number in range(21_000):
        (folder / f"keys/{number}_priv").touch()
    assert len(sources.folder(folder, ("keys",))) == 21_001


def test_nothing_is_overwritten_without_consent_and_no_other_key_ever(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wg0.conf").write_text(f"{GOOD}{peer(1, '10.8.0.2/32', '# ham')}PresharedKey = {key(9)}\n")
    (tmp_path / "mesh.yaml").write_text("mine\n")
    code, said = imports(capsys, "wg0.conf")
    assert (code, (tmp_path / "mesh.yaml").read_text()) == (1, "mine\n")
    assert "--force" in said.err
    assert not (tmp_path / ".meshwright").exists()
    assert imports(capsys, "wg0.conf", "--force")[0] == 0
    kept = tmp_path / ".meshwright/preshared/ham.key"
    assert kept.read_text() == f"{key(9)}\n"
    kept.write_text(f"{key(8)}\n")
    code, said = imports(capsys, "wg0.conf", "--force")
    assert code == 1
    assert "holds another key" in said.err
    assert kept.read_text() == f"{key(8)}\n"


def test_what_is_missing_is_named_at_once_and_never_asked_without_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wg0.conf").write_text(GOOD.replace("Address", "#Address"))
    assert app.run(["import", "wg0.conf"]) == 1
    said = capsys.readouterr().err
    assert all(option in said for option in ("--endpoint", "--address", "--network"))
