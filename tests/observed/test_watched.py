"""Everything that watches the mesh, end to end with the real parts.

The tests are one story, told in order: each begins where the one before it ended.
"""

from __future__ import annotations

import base64
import json

import pytest
import square
from expected import CONNECTED, EVERYBODY, expected, people
from lookout import Lookout
from square import JOBS, OTHER, OURS, STRANGER

from meshwright.io.host import service

pytestmark = [pytest.mark.lab, pytest.mark.cluster]
PATIENCE = 90  # seconds; seen: 5 to 10
both = pytest.mark.parametrize("mesh", [OURS, OTHER])


def of(mesh: str, name: str, *more: str) -> str:
    """The selector of a series of the hub."""
    job, namespace = JOBS[mesh]
    return name + "{" + ",".join((f'job="{job}"', f'namespace="{namespace}"', *more)) + "}"


@both
def test_every_key_has_the_name_of_its_peer(house: Lookout, mesh: str) -> None:
    names = square.keys(house)
    assert sorted(names.values()) == sorted(EVERYBODY)
    assert {sign for key in names for sign in key} >= set("+/="), "keys with signs that a pattern could mistake"
    for series in ("wireguard_received_bytes_total", "wireguard_sent_bytes_total"):
        found = house.values(of(mesh, series), "public_key", "peer", "device")
        wanted = {(key, name.partition("/")[0], name.partition("/")[2]) for key, name in names.items()}
        assert found.keys() == wanted | {(STRANGER, "unknown", "")}


@both
def test_who_never_came_has_no_handshake(house: Lookout, mesh: str) -> None:
    found = house.values(of(mesh, "wireguard_latest_handshake_seconds"), "peer", "device")
    assert {who for who, when in found.items() if when > 0} == people(CONNECTED).keys()
    never = {who for who, when in found.items() if when == 0}
    assert never == (set() if mesh == OURS else people(EVERYBODY).keys() - people(CONNECTED).keys() | {("unknown", "")})


def test_friends_are_scraped_by_label_and_port_name(house: Lookout) -> None:
    found = {t["labels"].get("pod"): t for t in house.targets() if t["labels"].get("tenant") == "bert"}
    assert found.keys() == {"by-pod", "by-service"}
    assert {t["labels"]["job"] for t in found.values()} == {"bert/bert-pods", "bert/by-service"}
    assert {t["scrapeInterval"] for t in found.values()} == {"2s"}
    assert house.values("app_requests_total", "tenant", "namespace", "job", "pod") == {
        ("bert", "bert", "bert/bert-pods", "by-pod"): 7,
        ("bert", "bert", "bert/by-service", "by-service"): 7,
    }
    for kind, name in (("servicemonitor", "bert-autodiscover"), ("podmonitor", "bert-pods")):
        labels = house.get(kind, name, "-n", "bert")["metadata"]["labels"]
        assert labels["release"] == "prometheus"
        assert labels["app.kubernetes.io/part-of"] == OURS


def test_nobody_passes_for_the_hub(house: Lookout) -> None:
    spoof = [t for t in house.targets() if t["labels"].get("pod") == "spoof"]
    assert [t["health"] for t in spoof] == ["up"], "what he says is read"
    assert house.query('{namespace="carl",__name__=~"(wireguard|meshwright)_.*"}') == []
    assert house.query('{__name__=~"wireguard_.*",tenant!=""}') == []
    assert {m["namespace"] for m, _ in house.query('{__name__=~"wireguard_.+"}')} == {n for _, n in JOBS.values()}
    assert house.query('{__name__=~"up|scrape_.*",exported_job!=""}') == []
    # a name that nobody keeps from him: where it comes from is said by the scraper
    found = house.query("visits_total")
    assert {m["exported_job"] for m, _ in found} == {job for job, _ in JOBS.values()}
    assert {(m["job"], m["namespace"], m["tenant"]) for m, _ in found} == {("carl/carl-pods", "carl", "carl")}
    for mesh, (job, namespace) in JOBS.items():
        assert house.values(of(mesh, "up"), "job", "namespace") == {(job, namespace): 1}


def test_too_much_is_cut_off_and_the_others_go_on(house: Lookout) -> None:
    errors = {t["labels"].get("pod"): t["lastError"] for t in house.targets() if t["labels"].get("tenant") == "carl"}
    assert "sample limit exceeded" in errors["samples"]
    assert "body size limit exceeded" in errors["size"]
    assert house.query("flood") == []
    assert errors["spoof"] == ""
    assert house.api("status/tsdb")["headStats"]["numSeries"] < 20_000
    assert house.query('min(count_over_time(up{tenant="bert"}[10s])) >= 3'), "bert is scraped as before"


def test_a_token_and_tls_are_shown_by_what_the_operator_makes(house: Lookout) -> None:
    name = f"{square.GUARDED}-exporter"
    house.make(*square.guarded(house))
    house.reload(lambda found: f"monitoring/{name}/" in found["prometheus.yaml"].decode())
    here = f'{{job="{JOBS[OURS][0]}",namespace="{square.ELSEWHERE}"}}'

    def error() -> str:
        (target,) = (t for t in house.targets() if t["labels"]["namespace"] == square.ELSEWHERE)
        assert target["scrapeUrl"].startswith("https://")
        return str(target["lastError"])

    house.until(lambda: house.values(f"up{here}") == {(): 1}, PATIENCE, "what is guarded is not scraped")
    assert house.values(f"wireguard_scrape_success{here}") == {(): 0}
    wrong = {"data": {"token": base64.b64encode(b"another-house-s-token").decode()}}
    where = ("secret", f"meshwright-{name}", "-n", "monitoring")
    done = house.kubectl("hub", "patch", *where, f"--patch={json.dumps(wrong)}")
    assert done.returncode == 0, done.stderr
    house.reload(lambda found: square.TOKEN not in found["prometheus.yaml"].decode())
    house.until(lambda: house.values(f"up{here}") == {(): 0}, PATIENCE, "a wrong token opens")
    assert "401" in error()
    right = {"data": {"token": base64.b64encode(square.TOKEN.encode()).decode()}}
    done = house.kubectl("hub", "patch", *where, f"--patch={json.dumps(right)}")
    assert done.returncode == 0, done.stderr
    house.reload(lambda found: square.TOKEN in found["prometheus.yaml"].decode())
    house.until(lambda: house.values(f"up{here}") == {(): 1}, PATIENCE, "the right token does not open again")


@both
def test_every_expression_says_what_it_should(house: Lookout, mesh: str) -> None:
    wanted, wrong = expected(mesh), []
    found = house.expressions(mesh)
    for where, expression in found:
        said = house.query(expression)
        if where == "$instance":
            assert {m["instance"] for m, _ in said} >= {"k3s-server-1"}
        elif why := wanted[where].wrong(said):
            wrong.append(f"{where} {why}: {expression}")
    assert not wrong, "\n".join(wrong)
    assert wanted.keys() == {where for where, _ in found} - {"$instance"}, (
        "each has an expectation, and none is left over"
    )


# -- alerts

CUT = {("MeshTenantScrapeCutOff", "samples"), ("MeshTenantScrapeCutOff", "size")}
STANDING = CUT | {("MeshPeerUnknown", STRANGER), ("MeshPeerSilent", "dora"), ("MeshPeersDiffer", "")}
"""What fires in the house as it is, and nothing else does."""


SOON = ("MeshPeerSilent", "carl")
"""What begins to fire at some time of the story; one test waits for it."""


def firing(house: Lookout, mesh: str) -> set[tuple[str, str]]:
    """Name of each alert of a mesh that fires, and whom it is about."""
    found = house.firing(mesh=mesh)
    about = ("public_key", "peer", "limit", "tenant")
    return {(a["alertname"], next((a[label] for label in about if label in a), "")) for a in found}


def fires(house: Lookout, ours: set[tuple[str, str]], other: set[tuple[str, str]] | None = None) -> None:
    """Wait until just these fire, of one mesh and of the other (None: the same)."""
    wanted = {OURS: ours, OTHER: ours if other is None else other}

    def now() -> dict[str, set[tuple[str, str]]]:
        return {mesh: firing(house, mesh) - {SOON} for mesh in wanted}

    try:
        house.until(lambda: now() == wanted, PATIENCE)
    except AssertionError:
        assert now() == wanted


def test_just_what_is_wrong_is_told(house: Lookout) -> None:
    """Not what that other exporter says, of the same job in another namespace (square.guarded)."""
    fires(house, STANDING)
    # he takes the longest to be missed, so he begins now
    house.sh("carl", f"ip link delete {house.lab.interface('carl')}")


def test_a_peer_that_somebody_takes_off_the_hub(house: Lookout) -> None:
    key = next(key for key, name in square.keys(house).items() if name == "emil")
    house.sh("hub", f"wg set wg1 peer {key} remove")
    missing = STANDING | {("MeshPeerMissing", "emil")}
    # one too few and one too many are as many as there should be
    fires(house, missing - {("MeshPeersDiffer", "")})


def test_a_peer_who_tries_what_he_may_not(house: Lookout) -> None:
    """Only our exporter knows what the firewall drops."""
    denied = of(OURS, "wireguard_peer_denied_packets_total", 'peer="anna"')
    square.send(house, "anna", "10.100.0.1", 10)
    house.until(lambda: sum(house.values(denied).values()) >= 10)
    # a busy machine loses some of a burst before the firewall sees them
    house.until(lambda: square.send(house, "anna", "10.100.0.1", 500) or sum(house.values(denied).values()) >= 3000, 90)
    now = STANDING - {("MeshPeersDiffer", "")} | {("MeshPeerMissing", "emil")}
    fires(house, now | {("MeshPeerDenied", "anna")}, now)


def forgotten(house: Lookout, received: list[str]) -> None:
    """Make a peer anew until both exporters saw him at 0: he may shake hands by himself before they look."""
    for attempt in range(4):
        square.anew(house, "bert/laptop")
        try:
            house.until(lambda: all(sum(house.values(one).values()) == 0 for one in received), 15)
            return
        except AssertionError:
            if attempt == 3:
                raise


def test_peers_that_are_made_anew_again_and_again(house: Lookout) -> None:
    received = [of(mesh, "wireguard_received_bytes_total", 'device="laptop"') for mesh in (OURS, OTHER)]
    for left in (2, 1, 0):
        forgotten(house, received)
        if left:
            square.knock(house, "bert-laptop")
            house.until(lambda: all(sum(house.values(one).values()) > 0 for one in received))
    now = STANDING - {("MeshPeersDiffer", "")} | {("MeshPeerMissing", "emil"), ("MeshCountersReset", "")}
    fires(house, now | {("MeshPeerDenied", "anna")}, now)
    square.knock(house, "bert-laptop")


def test_apply_mends_what_is_not_as_the_file_says(house: Lookout) -> None:
    house.apply()
    fires(house, LASTING | {("MeshPeerDenied", "anna")}, LASTING)


TIME, HANDSHAKE = "wireguard_scrape_time_seconds", "wireguard_latest_handshake_seconds"
LASTING = STANDING - {("MeshPeersDiffer", ""), ("MeshPeerUnknown", STRANGER)} | {("MeshCountersReset", "")}
"""What fires of both when the hub is as the file says again."""


def test_a_clock_that_is_ahead(house: Lookout) -> None:
    now = LASTING | {("MeshHandshakeInFuture", "")}
    with square.between(house, "future"):
        square.restart(house)
        fires(house, now | {("MeshPeerDenied", "anna")}, now)
    square.restart(house)
    fires(house, LASTING | {("MeshPeerDenied", "anna")}, LASTING)


def test_a_clock_that_is_behind(house: Lookout) -> None:
    """Ours tells its own time, so nobody is taken for silent. What tells it of 3.6.6 looks back over five minutes, and
    promtool's tests have them.
    """
    with square.slow(house):
        told = LASTING | {("MeshClockDiffers", ""), ("MeshPeerDenied", "anna")}
        fires(house, told, LASTING)
        heard = of(OURS, HANDSHAKE, 'peer="anna"')
        assert house.values(f"max({of(OURS, TIME)}) - on () {heard} < 180").keys() == {()}
        assert house.values(f"time() - {heard} > 500").keys() == {()}
    fires(house, LASTING | {("MeshPeerDenied", "anna")}, LASTING)


def test_exporters_that_cannot_see(house: Lookout) -> None:
    """Ours is refused by the device. 3.6.6 as another user than root says nothing and looks well; as root with
    NET_ADMIN alone it sees.
    """
    # what looks back sees what was there before
    blind = CUT | {("MeshExporterBlind", ""), ("MeshCountersReset", "")}
    square.run_as(house, 1000)
    with square.between(house, "blind"):  # the pod does not see this: it has the true socket
        fires(house, blind | {("MeshPeerDenied", "anna")}, blind)
    square.run_as(house, 0)
    fires(house, LASTING | {("MeshPeerDenied", "anna")}, LASTING)


def test_an_interface_that_is_down(house: Lookout) -> None:
    """3.6.6 does not know."""
    house.sh("hub", "ip link set wg1 down")
    try:
        fires(house, LASTING | {("MeshPeerDenied", "anna"), ("MeshInterfaceDown", "")}, LASTING)
    finally:
        house.apply()
    fires(house, LASTING | {("MeshPeerDenied", "anna")}, LASTING)


def test_a_friends_app_that_does_not_answer(house: Lookout) -> None:
    deaf = square.pod("deaf", command="sleep 3600")
    deaf["metadata"]["namespace"] = "bert"
    house.make(deaf)
    now = LASTING | {("MeshTenantScrapeFails", "bert")}
    fires(house, now | {("MeshPeerDenied", "anna")}, now)
    done = house.kubectl("hub", "delete", "pod", "deaf", "-n", "bert")
    assert done.returncode == 0, done.stderr


def test_a_peer_who_should_always_be_there_and_fell_silent(house: Lookout) -> None:
    """He was silenced long ago (test_just_what_is_wrong_is_told), and nothing fired about him until now."""
    handshake = of(OURS, "wireguard_latest_handshake_seconds", 'peer="carl"')
    age = f"time() - {handshake}"
    ((_, seconds),) = house.query(age)
    house.until(lambda: SOON in firing(house, OURS) & firing(house, OTHER), max(0, 180 - seconds) + PATIENCE)
    ((_, seconds),) = house.query(age)
    assert seconds > 180


def test_exporters_that_are_gone(house: Lookout) -> None:
    service(house.hub, f"meshwright-hubd-{OURS}.service", "stop")
    done = house.kubectl("hub", "delete", "daemonset", "wireguard-exporter", "-n", "wireguard-exporter")
    assert done.returncode == 0, done.stderr
    # what looks back sees what was there before
    gone = CUT | {("MeshExporterDown", ""), ("MeshCountersReset", "")}
    fires(house, gone | {("MeshPeerDenied", "anna")}, gone)
