"""Somebody else's hands: on the conf, on the interface, on keys; and two who apply at once."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from booted import SLOW
from stage import ADDRESS, CONF, INTERFACE, TABLE, Stage

pytestmark = pytest.mark.booted
STRANGER = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="
PEER = f"\n[Peer]\nPublicKey = {STRANGER}\nAllowedIPs = 10.100.9.9/32\n"
HUBD = f"meshwright-hubd-{TABLE}.service"


def conf(here: Stage) -> Path:
    return here.hub.root / CONF.lstrip("/")


def test_the_conf_is_edited(here: Stage) -> None:
    """Whatever becomes of it, the plan names it, the mesh goes on, and apply writes it as it was."""
    place = conf(here)
    before = place.read_text()
    (one,) = {"carl", "dora"} - here.disabled
    last = f"AllowedIPs = {ADDRESS[one]}/32"
    edits: dict[str, tuple[str, str]] = {
        before + PEER: (f"- hub/peer/{STRANGER}", "saved.allowed_ips: 10.100.9.9/32"),
        before.replace(last, "AllowedIPs = 10.100.2.3/32, 192.0.2.0/24"): (f"~ hub/peer/{one}", "192.0.2.0/24"),
        re.sub(f"(?<={one}\nPublicKey = ).*", STRANGER, before): (f"~ hub/peer/{one}", f"{STRANGER} -> "),
        "": ("~ hub/interface/wg1", 'saved.public_key: "" -> '),
        "\x00\x01]][[\n[Peer]\nPublicKey = x\n" * 50: ("~ hub/interface/wg1", 'saved.public_key: "" -> '),
    }
    for text, said in edits.items():
        assert text != before
        place.write_text(text)
        done = here.apply()
        assert done.code == 0, done
        assert all(words in done.out for words in said), done
        assert place.read_text() == before
    here.alive()
    with here.fault():
        place.unlink()
    with here.fault():
        place.chmod(0o644)
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.read_text() == before


def test_a_foreign_line_stays(here: Stage) -> None:
    mine = "[Interface]\n# mine\nPostUp = true\n"
    conf(here).write_text(conf(here).read_text().replace("[Interface]\n", mine))
    with here.fault():
        pass
    text = conf(here).read_text()
    assert "# mine\nPostUp = true\n" in text
    conf(here).write_text(text.replace("# mine\nPostUp = true\n", ""))
    here.settled()


def test_the_interface_is_deleted(here: Stage) -> None:
    """The service brings it back. Without the service apply does."""
    here.hub.run("ip", "link", "delete", INTERFACE)
    print(f"without an answer after the interface was deleted: {here.alive():.2f} s")
    here.settled()
    with here.fault(quiet=True):
        here.hub.run("systemctl", "stop", HUBD)
        here.hub.run("ip", "link", "delete", INTERFACE)
        plan = here.run("plan")
        assert plan.code == 2, plan
        assert "~ hub/interface/wg1" in plan.out
    assert here.hub.run("systemctl", "is-active", HUBD).stdout == b"active\n"


def test_a_key_of_a_peer_is_deleted(here: Stage) -> None:
    """The plan says that the peer gets another one; nothing happens before somebody applies it."""
    (key,) = here.folder.rglob("bert.key")
    kept = key.rename(key.with_suffix(".away"))
    plan = here.run("plan")
    assert plan.code == 2, plan
    assert "+ files/key/bert" in plan.out
    assert re.search(r"~ hub/peer/bert  public_key: \S+ -> \(known after apply\)", plan.out), plan
    kept.rename(key)
    here.settled()


def test_the_key_of_the_hub_is_deleted(here: Stage) -> None:
    """A new one would cut everybody off: it is made only with --force, and never for a hub that is pinned."""
    text = conf(here).read_text()
    found = here.run("plan", "--output", "json")
    here.hub.run("systemctl", "stop", HUBD)
    here.hub.run("ip", "link", "delete", INTERFACE)
    conf(here).unlink()
    here.apply().refused(1, f"makes a new key for hub/interface/{INTERFACE}", "--force")
    public = re.findall("PublicKey = (.*)", here.conf("anna").read_text())[0]
    here.pin = public
    here.apply().refused(1, f"the private key that belongs to {public[:6]}", "put it back from a backup")
    here.pin = ""
    conf(here).touch(0o600)
    conf(here).write_text(text)
    here.converge()
    here.alive(60)
    assert found.code == 0, found


def test_two_apply_at_once(here: Stage, tmp_path: Path) -> None:
    """The second waits for the first, and finds that all is done, or is told whom it waited for."""
    other = replace(here, folder=tmp_path / "other")
    with here.fault():
        here.write()
        shutil.copytree(here.folder, other.folder, ignore=shutil.ignore_patterns("*.ping"))
        with here.held("nft", '"delete"') as reached:
            first = here.start("apply", "--yes")
            reached()
            second, third = here.start("apply", "--yes"), other.start("apply", "--yes")
            time.sleep(2 * SLOW)
        one, two, three = (here.end(run) for run in (first, second, third))
        assert one.code == 0, one
        for done in (two, three):
            if done.code:
                done.refused(1, "has not been confirmed yet", "wait until then, then plan again")
            else:
                assert "hub/" not in done.out, done  # the other operator's own .conf files are his to write


def test_the_conf_holds_what_wireguard_refuses(here: Stage) -> None:
    """With one such line the tunnel would not start again: the plan tells it, and apply writes the file without it."""
    place = conf(here)
    before = place.read_text()
    broken = {
        "\n[Peer]\nPublicKey = AAAA\nAllowedIPs = 10.66.0.99/32\n": "[Peer]: a block without a public key",
        "\n[Foo]\nbar = 1\n": "unknown section",
        "junk line\n": "not a key and a value",
    }
    for text, said in broken.items():
        place.write_text(before + text)
        done = here.apply()
        assert done.code == 0, done
        assert f"~ hub/interface/{INTERFACE}" in done.out, done
        assert said in done.out, done
        assert place.read_text() == before
    here.hub.run("systemctl", "restart", f"wg-quick@{INTERFACE}")
    here.alive()
    here.settled()


def test_what_root_may_write_stays_roots(here: Stage) -> None:
    """A umask that opens everything, and folders that it has opened before."""
    rc = here.hub.root / "root/.bashrc"
    drop_in = here.hub.root / f"etc/systemd/system/wg-quick@{INTERFACE}.service.d"
    ours = [here.hub.root / name for name in ("etc/meshwright", "var/lib/meshwright", f"var/lib/meshwright/{TABLE}")]
    rc.write_text("umask 000\n")
    shutil.rmtree(drop_in)
    for folder in ours:
        folder.chmod(0o777)
    plan = here.run("plan")
    for path in ("/etc/meshwright", "/var/lib/meshwright"):
        assert f"others than root can write {path}; see whether they did" in plan.out, plan
    here.converge()
    assert [oct(folder.stat().st_mode & 0o777) for folder in (drop_in, *ours)] == ["0o755"] * 4
    drop_in.chmod(0o777)
    here.converge()
    assert drop_in.stat().st_mode & 0o777 == 0o755
    rc.unlink()


def test_the_login_is_not_root(here: Stage) -> None:
    me = replace(here, connection=here.hub.connection("nobody2", become="false"))
    me.write()
    me.run("plan").refused(1, "you are nobody2 there, not root", "become: true")
    here.write()


def test_the_unit_is_masked(here: Stage) -> None:
    name = f"wg-quick@{INTERFACE}.service"
    here.hub.run("systemctl", "disable", name)
    here.hub.run("systemctl", "mask", name)
    here.apply().refused(1, f"{name} is masked", f"systemctl unmask {name}")
    here.expire()
    here.hub.run("systemctl", "unmask", name)
    here.converge()


def test_a_folder_stands_where_a_file_should(here: Stage) -> None:
    for path in (CONF, f"/var/lib/meshwright/{TABLE}/hubd.pyz", f"/etc/systemd/system/{HUBD}"):
        here.hub.run("mv", path, f"{path}.away")
        here.hub.run("mkdir", path)
        here.run("plan").refused(1, f"{path} is a folder, not a file", "move it away")
        here.hub.run("rmdir", path)
        here.hub.run("mv", f"{path}.away", path)
    here.settled()
    memory = f"/var/lib/meshwright/{TABLE}/memory/endpoints.json"
    for make in ("mkdir", "mkfifo"):
        here.hub.run(
            "sh", "-ec", f"rm -rf {memory}; {make} {memory}; systemctl restart {HUBD}; systemctl is-active {HUBD}"
        )
    log = here.hub.run("journalctl", "-u", HUBD, "-o", "cat").stdout.decode()
    assert "goes on without a memory on disk" in log
    here.hub.run("sh", "-ec", f"rm -rf {memory}; systemctl restart {HUBD}")
