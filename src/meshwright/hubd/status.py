"""What `meshwright status` asks: the sample that the exporter's page is made of, as plain data, and what only a person
wants to know. In one call; nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .firewall import closed
from .host import system
from .host.place import Place
from .kernel import device
from .metrics import sample
from .resources import state

BEGIN = 512  # bytes of a page by which it is known
WAIT = 3.0  # seconds that an exporter has to answer: one of 3.6.6 reads the device first, one after the other


def operate(operation: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """`status.look`: see look."""
    if operation != "look":
        raise system.HubError(f"unknown operation status.{operation}", "this is a bug of meshwright; report it")
    system.need_root()
    return look(payload)


def look(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{interface, table, mark, settings: as metrics/sample.py says, exporter: {address, port, tls} or null} -> the
    moment.

    {"now": epoch seconds by the hub's clock, "up": bool, "faults": [sentence], "read": whether the interface could be,
    "peers": [a sample.Row with its endpoint], "missing": [[peer, device]], "counts": {peer/device: [attempted, denied]}
    or null, "table": "there", "missing" or "unknown", "closed": families of the rule that closes the mesh (asked only
    where the table is not there), "exporter": {"answers": bool, "said": sentence} or null}.
    """
    where = state.place(payload)
    taken = sample.take(where, payload["settings"])
    ends = _endpoints(where.interface) if taken.live is not None else {}
    table = "there" if taken.counters is not None else _table(where)
    counts = {_name(*who): list(each) for who, each in sample.counted(taken).items()}
    return {
        "now": int(taken.now),
        "up": taken.up,
        "faults": list(taken.faults),
        "read": taken.live is not None,
        "peers": [{**row._asdict(), "endpoint": ends.get(row.public_key, "")} for row in sample.rows(taken)],
        "missing": [[owner.peer, owner.device] for owner in sample.missing(taken)],
        "counts": counts if taken.counters is not None else None,
        "table": table,
        "closed": [] if table == "there" else _closed(where),
        "exporter": answers(payload["exporter"]) if payload.get("exporter") else None,
    }


def _name(peer: str, device: str) -> str:
    return f"{peer}/{device}" if device else peer


def _endpoints(interface: str) -> dict[str, str]:
    """Public key -> where the peer was last heard from; the sample leaves it out, for no page shows it."""
    try:
        found = device.wireguard(interface)
    except system.HubError:
        return {}
    return {key: peer.endpoint for key, peer in found.peers.items()} if found else {}


def _table(where: Place) -> str:
    """Whether the table is there although nothing could be counted."""
    try:
        return "there" if state.listed(where.table) else "missing"
    except system.HubError:
        return "unknown"


def _closed(where: Place) -> list[str]:
    found = closed.read(where.interface, where.mark, ())
    return list(found["rules"]) if found else []


def answers(place: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the exporter itself speaks HTTP at its address, and nobody else there.

    It shows no token, so ours may refuse, if it does so by its own name; 3.6.6 is known by its page alone. Nothing
    secret is sent, so a certificate is not looked at: Prometheus does.
    """
    import http.client  # not small, and only wanted where there is an exporter

    address, port, own = str(place["address"]), int(place["port"]), bool(place["own"])
    at = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    link = http.client.HTTPConnection(address, port, timeout=WAIT)
    if place.get("tls"):
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        link = http.client.HTTPSConnection(address, port, timeout=WAIT, context=context)
    try:
        try:
            link.request("GET", "/" if own else "/metrics")
            answer = link.getresponse()
            name, begin = answer.getheader("WWW-Authenticate", ""), answer.read1(BEGIN)
        finally:
            link.close()
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return {"answers": False, "said": f"nothing answers at {at}: {why}"[:200]}
    if answer.status >= 500:
        return {"answers": False, "said": f"it answers {answer.status} at {at}"}
    known = 'realm="meshwright"' in name or begin.startswith(b"meshwright: ") if own else b" wireguard_" in begin
    return {"answers": True, "said": at} if known else {"answers": False, "said": f"something else answers at {at}"}
