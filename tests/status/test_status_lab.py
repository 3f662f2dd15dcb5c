"""status on a real mesh: who is online and who never was, a stranger, somebody missing, what was dropped, --watch."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from door import REFERENCE, Door

pytestmark = pytest.mark.lab
PLACE = "192.168.20.20:9586"
STRANGER = "c3RyYW5nZXJzdHJhbmdlcnN0cmFuZ2Vyc3RyYW5nZXI="


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    door = Door(tmp_path_factory.mktemp("status"))
    door.env["PATH"] += ":/usr/sbin:/sbin"
    door.env["MESHWRIGHT_LAB"] = "1"
    ours = "exporter: {kind: builtin, token: {file: there.is.none}}"
    text, count = re.subn(r"exporter: \{kind: mindflavor[^}]*\}", ours, REFERENCE.read_text())
    assert count == 1
    door.mesh(text)
    up = door("lab", "up")
    try:
        assert up.returncode == 0, up.stderr
        assert "no token of the exporter here: who reaches its port can read the metrics" in up.stdout
        yield door
    finally:
        door("lab", "down")


@pytest.fixture
def mended(lab):
    """The lab, and after the test it is again what the file says."""
    before = (lab.folder / "mesh.yaml").read_text()
    yield lab
    (lab.folder / "mesh.yaml").write_text(before)
    done = lab("apply", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr


def seen(lab, code=0):
    done = lab("status", "-o", "json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def rows(found):
    return {row["peer"]: row for row in found["peers"]}


def dial(lab, port, host="192.168.20.20"):
    return lab("lab", "exec", "jake", "timeout", "2", "bash", "-c", f"</dev/tcp/{host}/{port}")


def test_everybody_is_online(lab):
    found = seen(lab)
    assert {row["state"] for row in found["peers"]} == {"online"}
    assert (found["hub"]["up"], found["hub"]["firewall"], found["hub"]["online"]) == (True, "there", 4)
    for row in found["peers"]:
        assert 0 <= row["age"] <= 180
        assert row["received"] > 0
        assert ":" in row["endpoint"]
    keys = lab("lab", "exec", "hub", "wg", "show", "wg1", "peers").stdout.split()
    assert sorted(row["public_key"] for row in found["peers"]) == sorted(keys)


def test_the_exporters_page_says_the_same(lab):
    fetch = (
        "import urllib.request as u; print(u.urlopen('http://192.168.20.20:9586/metrics', timeout=10).read().decode())"
    )
    page = lab("lab", "exec", "hub", "python3", "-c", fetch).stdout
    found = seen(lab)
    assert found["hub"]["exporter"] == {"answers": True, "said": PLACE}
    for row in found["peers"]:
        line = rf'^wireguard_received_bytes_total{{.*public_key="{re.escape(row["public_key"])}".*}} (\d+)$'
        said = re.search(line, page, re.M)
        assert f'peer="{row["peer"]}"' in said[0]
        assert 0 < int(said[1]) <= row["received"]
        assert re.search(rf'^wireguard_peer_expected{{.*peer="{row["peer"]}".*}} 1$', page, re.M)


def test_an_exporter_that_hangs_is_told(lab):
    number = lab("lab", "exec", "hub", "pgrep", "-f", "hubd.pyz serve").stdout.split()[0]
    lab("lab", "exec", "hub", "kill", "-STOP", number)
    try:
        found = seen(lab, 4)
        assert found["hub"]["exporter"]["answers"] is False
        assert found["wrong"] == [
            f"the exporter does not answer, so Prometheus sees nothing: nothing answers at {PLACE}: timed out"
        ]
        assert {row["state"] for row in found["peers"]} == {"online"}, "status does not need it"
    finally:
        lab("lab", "exec", "hub", "kill", "-CONT", number)
    assert seen(lab)["hub"]["exporter"]["answers"] is True


def test_who_never_came_is_never_and_not_now(mended):
    path = mended.folder / "mesh.yaml"
    text = path.read_text()
    path.write_text(text.replace("\npeers:\n", "\npeers:\n  nora: {address: 10.100.2.9}\n", 1))
    assert path.read_text() != text
    lost = seen(mended, 4)
    assert (rows(lost)["nora"]["state"], lost["wrong"]) == ("missing", ["in the file, but not on the hub: nora"])
    assert mended("apply", "--yes").returncode == 0
    nora = rows(seen(mended))["nora"]
    assert (nora["state"], nora["handshake"], nora["age"], nora["received"]) == ("never", None, None, 0)
    assert re.search(r"^nora .* never +never ", mended("status").stdout, re.M)


def test_a_strangers_key_is_told(mended):
    before = seen(mended)
    mended("lab", "exec", "hub", "wg", "set", "wg1", "peer", STRANGER, "allowed-ips", "10.100.9.9/32")
    found = seen(mended, 4)
    assert (rows(found)["unknown"]["state"], rows(found)["unknown"]["public_key"]) == ("unknown key", STRANGER)
    assert rows(found)["unknown"]["addresses"] == ["10.100.9.9/32"]
    assert len(found["peers"]) == len(before["peers"]) + 1
    done = mended("status")
    assert "unknown c3RyYW5n…" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("next: ")


def test_who_was_taken_off_the_hub_is_missing(mended):
    key = rows(seen(mended))["steve"]["public_key"]
    mended("lab", "exec", "hub", "wg", "set", "wg1", "peer", key, "remove")
    found = seen(mended, 4)
    assert rows(found)["steve"]["state"] == "missing"
    assert found["wrong"] == ["in the file, but not on the hub: steve"]


def test_without_its_table_the_mesh_is_closed_and_said_to_be(mended):
    mended("lab", "exec", "hub", "nft", "delete", "table", "inet", "collective_mesh")
    found = seen(mended, 4)
    assert (found["hub"]["firewall"], found["hub"]["closed"]) == ("missing", True)
    mended("lab", "exec", "hub", "ip", "-6", "rule", "del", "priority", "10")
    assert seen(mended, 4)["hub"]["closed"] is False


def test_what_is_dropped_is_counted_and_what_passes_is_not(lab):
    before = rows(seen(lab))["jake"]
    assert dial(lab, 22).returncode != 0
    denied = rows(seen(lab))["jake"]
    assert denied["denied"] > before["denied"]
    assert denied["attempted"] > before["attempted"]
    assert re.search(r"^jake +10\.100\.2\.3 +\d+ +\d+ +\d+ %$", lab("status", "--denied").stdout, re.M)
    assert dial(lab, 6443).returncode != 124, "refused at once or answered, but not dropped"
    allowed = rows(seen(lab))["jake"]
    assert allowed["denied"] == denied["denied"]
    assert allowed["attempted"] > denied["attempted"]
    assert rows(seen(lab))["bryce"]["denied"] == 0


def test_it_is_drawn_until_somebody_ends_it(lab):
    ours, theirs = pty.openpty()
    env = {**lab.env, "TERM": "xterm", "COLUMNS": "70", "LINES": "20"}
    process = subprocess.Popen(
        lab.command("status", "--watch"), cwd=lab.folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    try:
        until = time.monotonic() + 60
        while said.count(b"Ctrl-C ends") < 2 and time.monotonic() < until:
            said += read(ours)
        assert said.count(b"Ctrl-C ends") >= 2, said
        process.send_signal(signal.SIGINT)
        while process.poll() is None and time.monotonic() < until:
            said += read(ours)
        assert process.wait(20) == 0
        while more := read(ours):
            said += more
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    last = said.rpartition(b"\x1b[?1049l")[2].decode()
    assert "4 of 4 devices online" in last, "the last table stays on the screen"
    assert "Traceback" not in said.decode()


def read(handle):
    if not select.select([handle], [], [], 0.5)[0]:
        return b""
    try:
        return os.read(handle, 65536)
    except OSError:
        return b""  # the other side is closed


def test_without_a_terminal_nothing_is_drawn(lab):
    done = lab("status", "--watch")
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs" in done.stderr or "terminal" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("next: ")
