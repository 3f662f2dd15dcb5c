"""What the dashboard shows, and the PromQL behind it: first whether all is well, then who, then how much. Pure.

`unknown`, the peer of a stranger's key, is no friend: it has a panel of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired.monitoring import grafana, series
from meshwright.desired.monitoring.grafana import GREEN, GREY, ORANGE, RED, About, Builder, Column, Query
from meshwright.desired.monitoring.promql import SILENT, Friends, Hub

WHO = f"{series.PEER}, {series.DEVICE}"
NAME = "{{peer}} {{device}}"
MOST = 25
"""Lines in one diagram; of more, those with the largest values are shown."""

STATES = {0: ("not on the hub", RED), 1: ("never", GREY), 2: ("away", ORANGE), 3: ("connected", GREEN)}
HEALTH = {0: ("no answer", RED), 1: ("interface down", RED), 2: ("cannot see", RED), 3: ("up", GREEN)}
NEVER = {-1: ("never", GREY)}
SCRAPED = {0: ("fails", RED), 1: ("scraped", GREEN)}


def build(hub: Hub, friends: Friends | None) -> Iterator[Builder]:
    """All panels, in the order in which they are read."""
    yield from _numbers(hub, friends)
    yield _table(hub)
    yield _timeline(hub)
    yield from _traffic(hub)
    yield _ages(hub)
    yield from _denials(hub)
    yield _strangers(hub, 24 if hub.own else 12)
    if friends:
        yield from _scrapes(friends)


OURS = f'{series.PEER}!="{series.UNKNOWN}"'


def _known(hub: Hub, name: str, *matchers: str) -> str:
    return hub.of(name, OURS, *matchers)


def _age(hub: Hub) -> str:
    """By device, how many seconds ago a friend last shook hands; who never did is not in it."""
    return hub.age(WHO, OURS)


def _state(hub: Hub) -> str:
    """By device, a number of STATES."""
    away = f"({_age(hub)} <= bool {SILENT}) + 2"
    never = f"group by ({WHO}) ({_known(hub, series.RECEIVED)})"
    missing = f"group by ({WHO}) ({hub.of(series.EXPECTED)}) * 0 and on () {hub.of(series.PEERS)}"
    return f"{away} or {never} or {missing}"


def _health(hub: Hub) -> str:
    """A number of HEALTH."""
    up = f"max({hub.of('up')})"
    if hub.own:
        rest = f"max({hub.of(series.UP)}) * (1 + max({hub.of(series.SUCCESS)}))"
        return f"{up} + {rest} or {up} * 0"
    return f"{up} * 3 and on () {hub.of(series.PEERS)} or {up} * 2"


def _counted(hub: Hub, expr: str) -> str:
    """How many: 0 where the hub could be seen and there is none, nothing where it could not be seen."""
    return f"count({expr}) or max({hub.of(series.PEERS)}) * 0"


def _numbers(hub: Hub, friends: Friends | None) -> Iterator[Builder]:
    heard, there = f"{_age(hub)} <= {SILENT}", hub.of(series.RECEIVED)
    expected, always = (f"group by ({WHO}) ({hub.of(series.EXPECTED, *more)})" for more in ((), ('always_on="true"',)))
    silent = f"{always} and on ({WHO}) {there} unless on ({WHO}) ({heard})"
    missing = f"{expected} unless on ({WHO}) {there} and on () {hub.of(series.PEERS)}"
    strangers = f"group by ({series.KEY}) ({hub.of(series.RECEIVED, STRANGER)})"
    about = "The hub as Prometheus sees it: whether it answers, its interface is up, and all of it can be read."
    yield grafana.numbers(
        About(1, "Hub", about, 4, 4, words=HEALTH, empty="not scraped"), [Query(_health(hub))], bad_from=None
    )
    about = f"Devices with a handshake in the last {SILENT} s, and devices that the mesh file admits."
    yield grafana.numbers(
        About(2, "Connected", about, 4, 4, empty="?"),
        [Query(_counted(hub, heard), "connected"), Query(_counted(hub, expected), "admitted")],
    )
    about = "Devices of friends who should always be connected, and are not."
    yield grafana.numbers(About(3, "Always on, but silent", about, 4, 4, empty="?"), [Query(_counted(hub, silent))], 1)
    about = "Devices that the mesh file admits and the hub does not have, and keys on the hub that nobody admitted."
    yield grafana.numbers(
        About(4, "Not as the file says", about, 4, 4, empty="?"),
        [Query(_counted(hub, missing), "missing"), Query(_counted(hub, strangers), "strangers")],
        1,
    )
    if hub.own:
        dropped = f"sum(increase({hub.of(series.DENIED)}[24h]))"
        about = "Packets of friends that the hub's firewall dropped in the last 24 hours."
        yield grafana.numbers(About(5, "Dropped, 24 h", about, 4, 4, empty="?"), [Query(dropped)])
    else:
        moved = [
            Query(f"sum(increase({hub.of(name)}[24h]))", word)
            for name, word in ((series.RECEIVED, "in"), (series.SENT, "out"))
        ]
        about = "Bytes from friends and to friends in the last 24 hours."
        yield grafana.numbers(About(6, "Traffic, 24 h", about, 4, 4, "bytes", empty="?"), moved)
    if friends:
        about = "Targets of friends that Prometheus cannot scrape."
        failing = f"count({friends.of('up')} == 0) or count({friends.of('up')}) * 0"
        yield grafana.numbers(About(7, "Friends' targets failing", about, 4, 4, empty="none yet"), [Query(failing)], 1)


STRANGER = f'{series.PEER}=~"({series.UNKNOWN})?"'


def _table(hub: Hub) -> Builder:
    there = f"group by ({WHO}) ({_known(hub, series.RECEIVED)})"
    age = f"{_age(hub)} or {there} - 2"
    moved = [f"sum by ({WHO}) (increase({_known(hub, name)}[24h]))" for name in (series.RECEIVED, series.SENT)]
    always = f"group by ({WHO}, always_on) ({hub.of(series.EXPECTED)})"
    columns = [
        Column("peer", "Friend"),
        Column("device", "Device"),
        Column("Value #A", "State", words=STATES),
        Column("Value #B", "Last handshake", "s", NEVER),
        Column("Value #C", "Received, 24 h", "bytes"),
        Column("Value #D", "Sent, 24 h", "bytes"),
        Column("always_on", "Always on"),
    ]
    about = (
        "Every device that the mesh file admits. Last handshake: how long ago; a live session renews it every two "
        "minutes. Never: not since the hub's interface was made."
    )
    queries = [Query(expr) for expr in (_state(hub), age, *moved, always)]
    return grafana.rows(About(10, "Friends", about, 24, 9, "none"), queries, columns, "Friend")


def _timeline(hub: Hub) -> Builder:
    about = f"Connected: a handshake in the last {SILENT} s. No bar: the hub could not be seen."
    return grafana.states(
        About(11, "Who was connected", about, 24, 8, words=STATES, empty="?"), [Query(_state(hub), NAME)]
    )


def _traffic(hub: Hub) -> Iterator[Builder]:
    for number, name, title in ((12, series.RECEIVED, "From friends"), (13, series.SENT, "To friends")):
        rate = f"topk({MOST}, sum by ({WHO}) (rate({hub.of(name)}[$__rate_interval])))"
        about = f"Bytes a second, as the hub counts them, tunnel included; of more than {MOST} devices the busiest."
        yield grafana.lines(About(number, title, about, 12, 8, "Bps"), [Query(rate, NAME)])


def _ages(hub: Hub) -> Builder:
    about = (
        "How many devices had their last handshake how long ago. Live sessions stay below two or three minutes; who "
        "never had one is not in it."
    )
    return grafana.heat(About(14, "Age of the last handshake", about, 12, 8, "s"), [Query(_age(hub))])


def _denials(hub: Hub) -> Iterator[Builder]:
    if hub.own:
        rate = f"topk({MOST}, sum by ({WHO}) (rate({hub.of(series.DENIED)}[$__rate_interval])))"
        about = "Packets a second that the hub's firewall dropped, by who sent them."
        yield grafana.lines(About(15, "Dropped by the firewall", about, 12, 8, "pps"), [Query(rate, NAME)])


def _strangers(hub: Hub, width: int) -> Builder:
    key = f"{series.KEY}, allowed_ips"
    moved = f"sum by ({key}) (increase({hub.of(series.RECEIVED, STRANGER)}[24h]))"
    columns = [
        Column(series.KEY, "Public key"),
        Column("allowed_ips", "May use"),
        Column("Value", "Received, 24 h", "bytes"),
    ]
    about = "Keys on the hub's interface that the mesh file does not have. There should be none."
    return grafana.rows(
        About(16, "Strangers", about, width, 4 if hub.own else 8, "none", empty="none"),
        [Query(moved)],
        columns,
        "Public key",
    )


def _scrapes(friends: Friends) -> Iterator[Builder]:
    about = "Whether Prometheus gets the metrics of what friends run: services and pods with a port called metrics."
    up = f"min by (tenant, job) ({friends.of('up')})"
    yield grafana.states(
        About(17, "Friends' targets", about, 12, 7, words=SCRAPED, empty="none yet"), [Query(up, "{{tenant}}: {{job}}")]
    )
    about = "Series of each scrape that count against the limit, by friend. Of too many none is kept: the scrape fails."
    many = f"sum by (tenant) ({friends.of('scrape_samples_post_metric_relabeling')})"
    yield grafana.lines(About(18, "Friends' series", about, 12, 7), [Query(many, "{{tenant}}")])
