"""What verify can say of a friend who is gone: his data, what is still ending, what still reaches in."""

from __future__ import annotations

import pytest

from controlplane import ControlPlane
from meshwright.providers.kubernetes.remains import Remains, remains
from tenancy import House, about, belongings, binding, eventually, held_on, placed

pytestmark = pytest.mark.cluster


def test_what_remains_is_listed(cluster: ControlPlane) -> None:
    house = House(cluster, "remains")
    space = house.space("ann")
    try:
        assert house.apply() == []
        house.make(*belongings(space))
        house.make(binding("friendly", "robot", space, namespace=house.space("ben")))
        eventually(lambda: "web" in " ".join(house.names("ann", "pods")))
        with house.connected() as connected:
            assert remains(connected, []) == []
            assert remains(connected, [space])[0].reaches
            house.out.add("ann")
            with held_on(house, "ann", "alone") as node:
                assert house.apply() == []
                eventually(lambda: house.names("ann", "pods") == {"alone"})
                (found,) = remains(connected, [space])
            assert found == Remains(
                space,
                {"ConfigMap": 1, "PersistentVolumeClaim": 1, "Secret": 1, "ServiceAccount": 1},
                (
                    *("cronjob/nightly", "daemonset/everywhere", "deployment/web", "job/once", "replicaset/bare"),
                    *("replicationcontroller/old", "statefulset/db"),
                ),
                ("robot",),
                (f"alone (ending on {node})",),
                (f"rolebinding/{house.space('ben')}/friendly",),
            )
            assert found.reaches
            house.run("delete", "rolebinding", "friendly", "-n", house.space("ben"))
            eventually(lambda: not house.names("ann", "pods"))
            house.make(*placed(space, about("Service", "web", spec={"ports": [{"port": 80}]})))
            (found,) = remains(connected, [space])
            assert not found.reaches
            assert found.data["Service"] == 1
    finally:
        house.gone()
