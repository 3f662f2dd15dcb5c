"""Whether our exporter answers who may ask and refuses everybody else. What Prometheus sees, only Prometheus knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from meshwright.desired.exporter import wanted
from meshwright.desired.facts import Exporter, Facts
from meshwright.desired.monitoring import series
from meshwright.errors import HostError
from meshwright.events import Checked
from meshwright.io.host import Host, remote
from meshwright.spec.model import Address, Mesh
from meshwright.verify.evaluate import Evaluator
from meshwright.verify.judge import ground, passes

MOST = 500
"""Devices whose way to the port is looked at one by one."""
SHOWN = 5


def checks(mesh: Mesh, facts: Facts, host: Host, objects: Sequence[Mapping[str, Any]]) -> Iterator[Checked]:
    """Nothing where the file wants no exporter of ours. objects: the table as read from the hub."""
    section, watch = wanted(mesh), mesh.observability
    if section is None or watch is None:
        return
    address = series.address(mesh, watch)
    told = facts.exporter or Exporter()
    if facts.exporter is None and (section.token or section.tls):
        yield Checked("metrics of the hub", True, "any", "not asked: nobody told this run the token")
    else:
        payload = {"address": str(address), "port": section.port, "token": told.token, "ca": told.ca}
        try:
            yield from _answered(remote(host, "asking.scrape", payload), f"{address} port {section.port}")
        except HostError as error:
            yield Checked("metrics of the hub", False, "read", error.message, error.hint)
    if objects:
        yield _reached(mesh, facts, objects, address, section.port)


def _answered(said: Mapping[str, Any], place: str) -> Iterator[Checked]:
    name, hint = (
        "metrics of the hub",
        "on the hub: systemctl status 'meshwright-hubd-*', journalctl -u 'meshwright-hubd-*'",
    )
    if said["why"] or said["status"] != 200:
        yield Checked(name, False, "200", f"{place}: {said['why'] or said['status']}", hint)
        return
    whole = said["success"] == "1"
    observed = (
        f"{said['series']} series at {place}, asked on the hub itself; only Prometheus can say whether it gets them"
    )
    blind = f"{place} answers, but the page says that the hub could not read everything"
    yield Checked(name, whole, "everything could be read", observed if whole else blind, "" if whole else hint)
    if said["refused"]:
        kept = all(status == 401 for status in said["refused"])
        found = ", ".join(map(str, said["refused"]))
        yield Checked(
            "metrics without the token",
            kept,
            "401 without one and with a wrong one",
            found,
            "" if kept else "apply again; until then stop meshwright-hubd-*.socket on the hub",
        )


def _reached(mesh: Mesh, facts: Facts, objects: Iterable[Mapping[str, Any]], address: Address, port: int) -> Checked:
    """Which friends the firewall lets through to it: none, unless the policy says so."""
    table, place = Evaluator(objects, mesh.table), ground(mesh, facts.now)
    place = replace(place, hub=place.hub | {str(address)})
    active = [device for device in mesh.devices if device.active(facts.now)]
    may = [
        device.reference
        for device in islice(active, MOST)
        if any(
            passes(table, place.packet(str(own), str(address), "tcp", port), place)
            for own in device.addresses
            if own.version == address.version
        )
    ]
    more = f" and {len(may) - SHOWN} more" if len(may) > SHOWN else ""
    who = f"the policy lets {', '.join(may[:SHOWN])}{more} reach it" if may else "no friend reaches it"
    rest = f"; {len(active) - MOST} devices were not looked at" if len(active) > MOST else ""
    return Checked("metrics from the tunnel", True, "as the policy says", f"{who}{rest}")
