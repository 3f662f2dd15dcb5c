"""The exporter as a resource: what a plan says of it, what comes to the hub, and what never leaves it."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwright import keys
from meshwright.desired import exporter as wanted
from meshwright.desired.facts import Exporter, Facts, Program
from meshwright.desired.hubd import build
from meshwright.desired.monitoring import series
from meshwright.desired.resource import Resource, Unknown, fill
from meshwright.hubd.host import place
from meshwright.hubd.metrics import exporter, sample
from meshwright.hubd.service.metrics import Settings
from meshwright.plan import plan, text
from meshwright.providers.hub import SECRETS
from meshwright.spec import load
from meshwright.spec.rules import watch

ID, UNIT = "hub/exporter/town_square", "hub/unit/etc/systemd/system/meshwright-hubd-town_square.service"
SOCKET = UNIT.replace(".service", ".socket")
KEY = "6TTEUVdTc4YgMD2rYHYQ8Yh5NS4XyO0yNKR3lLxvHkA="
NOW = datetime(2027, 1, 1, tzinfo=UTC)
MESH = """
version: 1
name: town-square
hub: {node: hub-1, address: 192.0.2.10, interface: wg7, endpoint: "192.0.2.10:51821"}
network: {cidr: [10.100.0.0/16], hub: [10.100.0.1], routes: {mesh: 10.100.0.0/16}}
peers:
  ann: {address: 10.100.2.1, public_key: 6TTEUVdTc4YgMD2rYHYQ8Yh5NS4XyO0yNKR3lLxvHkA=}
  bob: {always_on: true, devices: {phone: {address: 10.100.2.2}, old: {address: 10.100.2.3, disabled: true}}}
  MORE
policy: {allow: []}
"""
OURS = "observability: {exporter: {kind: builtin, token: {file: t}}}\n"
TOLD = Exporter("a-token-that-nobody-guesses")


def resources(more: str = OURS, told: Exporter | None = TOLD, friends: str = "") -> dict[str, Resource]:
    mesh = load.load_text(MESH.replace("MORE", friends) + more, now=NOW).mesh
    return {r.id: r for r in build(mesh, Facts(NOW, program=Program(1, "0" * 64), exporter=told))}


def saved(**how: object) -> dict[str, object]:
    found: dict[str, object] = resources(**how)[ID].attrs["saved"]  # type: ignore[arg-type]
    return found


def test_only_our_own_exporter_has_one_and_only_where_the_file_wants_it() -> None:
    for more in ("", "observability: {exporter: {kind: mindflavor}}\n"):
        found = resources(more)
        assert not {ID, SOCKET} & found.keys()
        assert "Sockets" not in found[UNIT].attrs["text"]
    assert {ID, SOCKET} < resources().keys()


def test_what_it_serves_by() -> None:
    assert saved() == {
        "format": exporter.FORMAT,
        "address": "192.0.2.10",
        "port": 9586,
        "mode": "0600",
        "token_sha256": sha256(TOLD.token.encode()).hexdigest(),
        "certificate": "",
        "key": "",
        "peers": {
            "ann": {"public_key": KEY},
            "bob/phone": {"public_key": Unknown("files/key/bob-phone", "public_key"), "always_on": True},
        },
    }


def test_where_nobody_asked_for_the_secrets_the_hub_knows_them_best() -> None:
    found = saved(told=None)
    assert found["token_sha256"] == Unknown(ID, "token_sha256")
    assert (found["certificate"], found["key"]) == ("", "")
    assert fill(found, {ID: {"saved": {"token_sha256": "abc"}}})["token_sha256"] == "abc"


def test_an_address_and_a_port_of_its_own() -> None:
    section = 'observability: {exporter: {kind: builtin, address: "fd00::5", port: 9999}}\n'
    assert "ListenStream=[fd00::5]:9999\n" in resources(section)[SOCKET].attrs["text"]
    assert "ListenStream=192.0.2.10:9586\n" in resources()[SOCKET].attrs["text"]


def test_the_service_may_not_do_more_for_it() -> None:
    without, with_it = (resources(more)[UNIT].attrs["text"].splitlines() for more in ("", OURS))
    assert [line for line in with_it if line not in without] == ["Sockets=meshwright-hubd-town_square.socket"]
    assert [line for line in without if line not in with_it] == []
    assert "RestrictAddressFamilies=AF_UNIX AF_NETLINK" in with_it
    assert "IPAddressDeny=any" in with_it


def test_it_is_where_the_hub_looks_for_it_and_waits_for_the_service() -> None:
    where = place.Place("wg7", "town_square")
    assert f"hub/unit{where.socket}" == SOCKET
    assert set(resources()[ID].after) == {UNIT, SOCKET}
    assert resources()[SOCKET].after == (UNIT,)
    assert wanted.FORMAT == exporter.FORMAT
    assert wanted.SECRET == SECRETS["exporter"] == resources()[ID].secret


def test_a_friend_more_is_one_line_of_the_plan_and_touches_no_unit() -> None:
    before = resources()
    other = keys.public(keys.generate())
    after = resources(friends=f"cid: {{address: 10.100.2.9, public_key: {other}}}")
    todo = plan.make(after, before)
    assert [change.id for change in todo.changes] == [ID]
    assert text.text(todo).splitlines()[0] == f"~ {ID}  saved.peers.cid.public_key: (absent) -> {other}"


def test_the_plan_of_a_new_one_waits_for_the_keys_of_friends() -> None:
    change = next(c for c in plan.make(resources(), {}).changes if c.id == ID)
    assert set(change.after) == {UNIT, SOCKET}
    files = {
        "files/key/bob-phone": Resource("files/key/bob-phone", {"public_key": Unknown("files/key/bob-phone", "x")})
    }
    change = next(c for c in plan.make({**resources(), **files}, {}).changes if c.id == ID)
    assert "files/key/bob-phone" in change.after


pem = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=30, max_size=60).map(
    lambda text: f"~{text}"
)


@given(pem, pem, pem, pem)
def test_no_rendering_has_token_or_key(token: str, other: str, key: str, new_key: str) -> None:
    sides = [resources(told=Exporter(t, "certificate", k, "ca")) for t, k in ((token, key), (other, new_key))]
    hidden = {token, other, key, new_key} | {sha256(t.encode()).hexdigest() for t in (token, other)}
    for todo in (plan.make(sides[0], {}), plan.make(sides[1], sides[0]), plan.make({}, sides[0])):
        said = [text.text(todo), json.dumps(text.as_json(todo))]
        said += [text.described(side[ID]) for side in sides]
        said += [json.dumps(text.masked(side[ID].attrs, side[ID].secret)) for side in sides]
        assert not [word for word in hidden for each in said if word in each]
    assert not [word for word in (token, key) if word in repr(Exporter(token, "certificate", key, "ca"))]


# -- the file on the hub


def filled() -> dict[str, object]:
    return fill(saved(), {"files/key/bob-phone": {"public_key": KEY}})  # type: ignore[no-any-return]


def test_what_was_written_is_read_again_and_is_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "exporter.json"
    exporter.write(str(path), filled())
    assert exporter.read(str(path)) == filled()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    assert (exporter.read(str(path)) or {})["mode"] == "0640"
    assert exporter.read(str(tmp_path / "none")) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"format": true}', b'{"format": 1}', b'{"format": 1, "port": 70000}', b"[" * 100_000,
     b'{"format": 1, "address": "x", "port": 1, "token_sha256": "", "certificate": "", "key": "", "peers": {"a": 1}}',
     b'{"format": 1, "address": "x", "port": 1, "token_sha256": null, "certificate": "", "key": "", "peers": {}}'],
)  # fmt: skip
def test_what_is_no_settings_is_drift_and_serves_nobody(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "exporter.json"
    path.write_bytes(content)
    assert "not what apply wrote" in (exporter.read(str(path)) or {})["strange"]
    assert Settings(str(path)).now() is None


def test_a_newer_format_is_shown_as_such_and_serves_nobody(tmp_path: Path) -> None:
    path = tmp_path / "exporter.json"
    path.write_text('{"format": 7, "what": "ever"}')
    assert (exporter.read(str(path)) or {})["format"] == 7
    assert Settings(str(path)).now() is None


def test_settings_are_read_again_when_they_were_written_again(tmp_path: Path) -> None:
    path = tmp_path / "exporter.json"
    file = Settings(str(path))
    assert file.now() is None
    exporter.write(str(path), filled())
    first = file.now()
    assert first
    assert file.now() is first
    exporter.write(str(path), {**filled(), "port": 1234})
    assert (file.now() or {})["port"] == 1234
    path.unlink()
    assert file.now() is None


def test_one_word_for_a_stranger() -> None:
    assert watch._UNKNOWN == series.UNKNOWN == sample.UNKNOWN
