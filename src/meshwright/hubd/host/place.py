"""Where things of one mesh stand on a hub."""

from __future__ import annotations

from typing import NamedTuple

HOME = "/var/lib/meshwright"
"""What the hub keeps for itself."""


class Place(NamedTuple):
    """What of the hub is meant: names, and the parts that only the wanted side knows."""

    interface: str
    table: str
    mark: int = 0
    sysctl: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    @property
    def conf(self) -> str:
        return f"/etc/wireguard/{self.interface}.conf"

    @property
    def ruleset(self) -> str:
        return f"/etc/meshwright/{self.table}.json"

    @property
    def service(self) -> str:
        return f"wg-quick@{self.interface}.service"

    @property
    def lock(self) -> str:
        return lock(self.interface)

    @property
    def program(self) -> str:
        return f"{HOME}/{self.table}/hubd.pyz"

    @property
    def memory(self) -> str:
        return f"{HOME}/{self.table}/memory/endpoints.json"

    @property
    def exporter(self) -> str:
        """What the exporter serves by; there only where the mesh has one of ours."""
        return f"{HOME}/{self.table}/exporter.json"

    @property
    def listener(self) -> str:
        """The unit that holds the exporter's listener."""
        return f"meshwright-hubd-{self.table}.socket"

    @property
    def socket(self) -> str:
        """Its file."""
        return f"/etc/systemd/system/{self.listener}"

    @property
    def hubd(self) -> str:
        """The unit that runs the program."""
        return f"meshwright-hubd-{self.table}.service"


def lock(interface: str) -> str:
    """What whoever writes the interface or its conf holds."""
    return f"/run/meshwright-{interface}.lock"
