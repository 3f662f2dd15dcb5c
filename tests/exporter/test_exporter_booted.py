"""The exporter on a hub with real systemd, read from a host of its LAN."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

import booted
from meshwright import keys
from meshwright.desired.facts import Exporter, Facts
from meshwright.desired.resource import Resource
from meshwright.desired.state import known, state
from meshwright.events import silent
from meshwright.io import program
from meshwright.io.host import Host, Namespace
from meshwright.plan import plan
from meshwright.plan.plan import Plan
from meshwright.providers.base import Result
from meshwright.providers.hub import Hub
from meshwright.spec import load

pytestmark = pytest.mark.booted

INTERFACE, TABLE = "wg1", "town"
SERVICE, SOCKET = f"meshwright-hubd-{TABLE}.service", f"meshwright-hubd-{TABLE}.socket"
SETTINGS = f"/var/lib/meshwright/{TABLE}/exporter.json"
ID, UNIT = f"hub/exporter/{TABLE}", f"hub/unit/etc/systemd/system/{SERVICE}"
TOKEN = "a-token-that-nobody-guesses"
TOLD = Exporter(TOKEN)
KEYS = [keys.public(keys.generate()) for _ in range(3)]
MESH = """
version: 1
name: town
hub: {node: hub-1, address: 192.0.2.10, interface: wg1, endpoint: "192.0.2.10:51821"}
network: {cidr: [10.100.0.0/16], hub: [10.100.0.1], routes: {mesh: 10.100.0.0/16}}
policy: {allow: [{from: peers, to: hub, ports: [icmp]}]}
"""


def sh(host: Host, script: str, timeout: float = 60) -> str:
    done = host.run(["sh", "-c", script], timeout=timeout)
    assert done.code == 0, (host.name, script, done.out, done.err)
    return done.out.decode()


@dataclass
class Street:
    """A booted hub and a host on its LAN. port, told: of the exporter; watched: whether there is one."""

    machine: booted.Hub
    lan: Namespace
    friends: int = 1
    port: int = 9586
    told: Exporter = TOLD
    watched: bool = True

    @property
    def hub(self) -> Namespace:
        return Namespace(self.machine.init, name="hub", python=booted.PYTHON)

    def wanted(self) -> dict[str, Resource]:
        people = [f"  p{n}: {{address: 10.100.2.{n + 1}, public_key: {KEYS[n]}}}" for n in range(self.friends)]
        tls = ", tls: {certificate: c, key: {file: k}}" if self.told.key else ""
        section = f"kind: builtin, port: {self.port}, token: {{file: t}}{tls}"
        watch = f"observability: {{exporter: {{{section}}}}}\n" if self.watched else ""
        mesh = load.load_text("\n".join([MESH, "peers:", *people, watch])).mesh
        facts = Facts(datetime.now(UTC), program=program.facts(), exporter=self.told)
        return {id: resource for id, resource in state(mesh, facts).items() if id.startswith("hub/")}

    def look(self) -> Plan:
        wants = self.wanted()
        actual = Hub(self.hub, INTERFACE, TABLE).read(wants)
        return plan.make(known(wants, actual), actual)

    def apply(self) -> list[Result]:
        todo = self.look()
        return list(Hub(self.hub, INTERFACE, TABLE).apply(todo.changes, silent))

    def settle(self) -> None:
        failed = [result for result in self.apply() if not result.ok]
        assert not failed, failed
        assert not self.look().changes, [(c.id, c.fields) for c in self.look().changes]

    def curl(self, *more: str, token: str | None = TOKEN, scheme: str = "http") -> tuple[int, str]:
        """(status, 0 for no answer; body) as a host of the LAN sees it."""
        head = ["-H", f"Authorization: Bearer {token}"] if token else []
        words = ["curl", "-s", "-m", "10", "-w", "\\n%{http_code}", *head, *more]
        done = self.lan.run([*words, f"{scheme}://192.0.2.10:{self.port}/metrics"], timeout=30)
        body, _, status = done.out.decode().rpartition("\n")
        return int(status or 0), body

    def sh(self, script: str) -> str:
        return sh(self.hub, script)

    def pid(self) -> int:
        return int(self.sh(f"systemctl show -P MainPID {SERVICE}"))

    def log(self) -> str:
        return self.sh(f"journalctl -q --no-pager -o cat -u {SERVICE}")


def until(true: object, patience: float = 30, what: str = "") -> None:
    end = time.monotonic() + patience
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, what or "it did not come true"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def here(booted_hub: booted.Hub) -> Street:
    street = Street(booted_hub, booted_hub.site.host("lan", "192.0.2.77"))
    street.settle()
    return street


def test_a_host_of_the_lan_reads_it_with_the_token_and_nobody_without(here: Street) -> None:
    status, page = here.curl()
    assert status == 200, page
    assert 'wireguard_interface_up{interface="wg1"} 1' in page
    assert 'wireguard_scrape_success{interface="wg1"} 1' in page, (page, here.log())
    assert 'peer="p0"' in page
    assert here.curl(token=None)[0] == here.curl(token="wrong")[0] == 401
    assert TOKEN not in here.sh(f"cat {SETTINGS}; journalctl -q --no-pager; systemctl cat {SERVICE} {SOCKET}")
    assert here.sh(f"stat -c %a {SETTINGS}") == "600\n"


def test_systemd_takes_both_units_in_silence_and_the_service_may_do_no_more(here: Street) -> None:
    done = here.hub.run(
        ["systemd-analyze", "verify", f"/etc/systemd/system/{SERVICE}", f"/etc/systemd/system/{SOCKET}"]
    )
    ours = [line for line in (done.out.decode() + done.err).splitlines() if "meshwright" in line]
    assert ours == []
    found = re.search(r"exposure level for \S+: ([\d.]+)", here.sh(f"systemd-analyze security --no-pager {SERVICE}"))
    assert found
    print(f"\nsystemd-analyze security: {found[1]}")
    assert float(found[1]) < 2


TRY = """
import errno, socket, sys
sys.path.insert(0, "/var/lib/meshwright/town/hubd.pyz")
def attempt(what, do):
    try:
        do()
        print(what, "POSSIBLE")
    except OSError as error:
        print(what, errno.errorcode[error.errno])
for family in (socket.AF_INET, socket.AF_INET6):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
        attempt(f"socket {family.name} {kind.name}", lambda: socket.socket(family, kind))
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("write", lambda: open("/var/lib/meshwright/town/exporter.json", "a"))
listener = socket.socket(fileno=3)
attempt("handed", lambda: listener.getsockname())
attempt("again", lambda: listener.connect(("192.0.2.77", 7)))
"""


def test_inside_the_sandbox_nobody_can_listen_elsewhere_or_go_out(here: Street) -> None:
    """The very unit, with other lines of Python in the place of its program."""
    try:
        here.machine.write("/run-try.py", TRY)
        drop = f"/run/systemd/system/{SERVICE}.d/try.conf"
        here.sh(
            f"mkdir -p $(dirname {drop}); printf '[Service]\\nType=oneshot\\nRestart=no\\nExecStart=\\n"
            f"ExecStart=/usr/bin/python3 -I -S /run-try.py\\n' > {drop}; systemctl daemon-reload"
        )
        here.sh(f"systemctl restart {SERVICE}")
        said = here.log()
    finally:
        here.sh(f"rm -rf /run/systemd/system/{SERVICE}.d; systemctl daemon-reload; systemctl restart {SERVICE}")
    tried = [line for line in said.splitlines() if re.match(r"(socket|packet|write|again|handed) ?", line)]
    print("\n" + "\n".join(tried))
    for what in ("socket AF_INET SOCK_STREAM", "socket AF_INET6 SOCK_DGRAM", "socket AF_INET SOCK_RAW", "packet"):
        assert f"{what} EAFNOSUPPORT" in tried or f"{what} EPERM" in tried
    assert "handed POSSIBLE" in tried  # so what was tried was tried where the listener is
    assert not [line for line in tried if line.endswith("POSSIBLE") and not line.startswith("handed")]
    until(lambda: here.curl()[0] == 200)


def test_a_friend_more_is_seen_without_a_restart(here: Street) -> None:
    before = here.pid()
    here.friends = 2
    assert ID in {change.id for change in here.look().changes}
    here.settle()
    assert here.pid() == before
    # a page is shown again for a second
    until(lambda: re.search(r'wireguard_peer_expected\{[^}]*peer="p1"', here.curl()[1]), 10, "p1 is not on the page")
    assert f'public_key="{KEYS[1]}"' in here.curl()[1]


def test_another_token_holds_from_the_next_request(here: Street) -> None:
    before, old = here.pid(), here.told
    here.told = Exporter("another-token-that-nobody-has")
    here.settle()
    assert here.pid() == before
    assert (here.curl()[0], here.curl(token=here.told.token)[0]) == (401, 200)
    here.told = old
    here.settle()


def test_killed_stopped_and_started_again(here: Street) -> None:
    before = here.pid()
    here.sh(f"kill -9 {before}")
    until(lambda: here.curl()[0] == 200, 20, here.log())
    assert here.pid() not in (0, before)
    here.sh(f"systemctl stop {SERVICE}")
    assert here.curl()[0] == 0
    time.sleep(1)
    assert here.hub.run(["systemctl", "is-active", SERVICE]).code != 0  # asking has not started it
    assert {change.id for change in here.look().changes} == {UNIT, UNIT.replace(".service", ".socket")}
    here.settle()
    assert here.curl()[0] == 200


def test_a_port_that_somebody_has_is_told_and_nothing_else_suffers(here: Street) -> None:
    here.sh("systemd-run -q --unit=thief /usr/bin/python3 -m http.server --bind 192.0.2.10 9999")
    until(lambda: here.lan.run(["curl", "-s", "http://192.0.2.10:9999/"], timeout=30).code == 0)
    here.port = 9999
    failed = [result for result in here.apply() if not result.ok]
    print("\n", [(result.id, result.why, result.hint) for result in failed])
    assert [result.id for result in failed] == [UNIT.replace(".service", ".socket")]
    assert "nobody can read the metrics" in failed[0].why
    assert "ss -ltnp" in failed[0].hint
    assert here.sh(f"systemctl is-active {SERVICE}") == "active\n"
    until(lambda: "systemd could not listen on 192.0.2.10 port 9999" in here.log())
    assert [change.id for change in here.look().changes] == [UNIT.replace(".service", ".socket")]
    here.sh("systemctl stop thief")
    here.settle()
    assert here.curl()[0] == 200
    here.port = 9586
    here.settle()
    assert here.curl()[0] == 200


def test_over_tls(here: Street, tmp_path: Path) -> None:
    pairs = []
    for name in ("one", "two"):
        argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        words = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:192.0.2.10", "-days", "2"]
        files = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subprocess.run([*argv, *words, *files], check=True, capture_output=True, timeout=60)
        pairs.append(((tmp_path / f"{name}.pem").read_text(), (tmp_path / f"{name}.key").read_text()))
    old = here.told
    try:
        for name, (certificate, key) in zip(("one", "two"), pairs, strict=True):
            here.told = Exporter(TOKEN, certificate, key, certificate)
            before = here.pid()
            here.settle()
            assert here.pid() == before
            here.lan.put("/run/ca.pem", certificate.encode(), 0o644)
            assert here.curl("--cacert", "/run/ca.pem", scheme="https")[0] == 200, name
            assert here.curl()[0] == 0
            assert "PRIVATE" not in here.sh("journalctl -q --no-pager")
    finally:
        here.told = old
        here.settle()


def test_it_is_there_again_after_the_power_went(here: Street) -> None:
    here.machine.crash()
    here.machine.start()
    until(lambda: here.curl()[0] == 200, 60, "it does not come back")
    assert not here.look().changes


def test_out_of_the_file_is_off_the_hub(here: Street) -> None:
    here.watched = False
    assert {(change.id, change.verb) for change in here.look().changes} == {
        (ID, "delete"), (UNIT, "update"), (UNIT.replace(".service", ".socket"), "delete"),
    }  # fmt: skip
    here.settle()
    assert here.curl()[0] == 0
    assert here.sh(f"ls {SETTINGS} /etc/systemd/system/{SOCKET} 2>&1 || true").count("No such file") == 2
    assert here.sh(f"systemctl is-active {SERVICE}") == "active\n"
    assert ":9586 " not in here.sh("ss -ltnH")
    here.watched = True
    here.settle()
    assert here.curl()[0] == 200


def test_destroyed_it_leaves_nothing(here: Street) -> None:
    wants = here.wanted()
    actual = Hub(here.hub, INTERFACE, TABLE).read(wants)
    todo = plan.make({}, {id: resource for id, resource in actual.items() if "/packages/" not in id})
    results = Hub(here.hub, INTERFACE, TABLE).apply(todo.changes, silent)
    assert all(result.ok for result in results), results
    assert here.curl()[0] == 0
    assert "hubd" not in here.sh("ls -AR /var/lib/meshwright /etc/systemd/system 2>/dev/null || true")
    assert "exporter.json" not in here.sh("ls -AR /var/lib/meshwright 2>/dev/null || true")
