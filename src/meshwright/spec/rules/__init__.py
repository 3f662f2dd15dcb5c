"""What values of the file mean together: small functions that each look for one kind of fault.

A rule never sees a file, a line or the disk: it gets a Scene and yields Faults with paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from meshwright.spec.nodes import Fault
from meshwright.spec.rules import addresses, cluster, hub, names, peers, platform, reach, watch
from meshwright.spec.rules.scene import Scene

__all__ = ["RULES", "Scene", "faults"]

RULES: tuple[Callable[[Scene], Iterator[Fault]], ...] = (
    names.labels,
    names.one_space,
    names.same_file,
    hub.endpoint,
    hub.endpoint_inside,
    hub.next_hub,
    hub.connections,
    addresses.hub_addresses,
    addresses.device_addresses,
    addresses.overlaps,
    addresses.home_networks,
    addresses.families,
    peers.addresses_or_devices,
    peers.belongs_to_device,
    peers.expired,
    peers.own_keys,
    peers.known_routes,
    peers.tenants,
    reach.known_names,
    reach.port_words,
    reach.wide_open,
    reach.services,
    reach.contradicted,
    platform.namespaces,
    platform.gateway,
    platform.access,
    cluster.names,
    watch.monitors,
    watch.strangers,
    watch.exporter,
    watch.namespace,
    watch.many,
    watch.heard,
    cluster.amounts,
    cluster.lists,
    cluster.pod_security,
    cluster.opened,
    platform.secrets,
    platform.files,
)


def faults(scene: Scene) -> Iterator[Fault]:
    """Everything that any rule has to say."""
    for rule in RULES:
        yield from rule(scene)
