"""What the cluster around the tenants has that a friend could lean on. Told, never failed: it is the owner's choice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from meshwright.events import Checked
from meshwright.io.cluster import Cluster, Object
from meshwright.providers.kubernetes.kinds import Kind
from meshwright.spec.model import Mesh
from meshwright.verify.spaces import some

_NODE = Kind("Node", "v1", "nodes", namespaced=False)
_DEPLOYMENT = Kind("Deployment", "apps/v1", "deployments")
_WHERE = ("kube-system", "local-path-storage")
SERVICE_LB = "svccontroller.k3s.cattle.io/enablelb"
MENDED = (0, 0, 34)
"""The release of local-path-provisioner that keeps a volume inside its folder (CVE-2025-62878)."""
_image = re.compile(r"(?:^|/)local-path-provisioner:v?(\d+)\.(\d+)\.(\d+)").search


def checks(mesh: Mesh, cluster: Cluster) -> Iterator[Checked]:
    """Three LISTs."""
    yield from service_lb(mesh, cluster.list(_NODE.collection()))
    yield from local_path([live for place in _WHERE for live in cluster.list(_DEPLOYMENT.collection(place))])


def service_lb(mesh: Mesh, nodes: Sequence[Object]) -> Iterator[Checked]:
    """k3s gives a LoadBalancer the port of every node, or of those with the label where any has it. Pure."""
    k3s = [node for node in nodes if "+k3s" in (node.get("status") or {}).get("nodeInfo", {}).get("kubeletVersion", "")]
    if not any(node["metadata"]["name"] == mesh.hub.node for node in k3s):
        return
    chosen = {node["metadata"]["name"] for node in k3s if (node["metadata"].get("labels") or {}).get(SERVICE_LB)}
    away = bool(chosen) and mesh.hub.node not in chosen
    said = (
        f"k3s may put a load balancer's port on {mesh.hub.node}, where it would come before the hub's own, unless"
        f" ServiceLB is switched off; label the other nodes {SERVICE_LB}=true"
    )
    yield Checked(
        "load balancers stay off the hub", True, "off the hub", f"{SERVICE_LB} keeps them off" if away else said
    )


def local_path(deployments: Sequence[Object]) -> Iterator[Checked]:
    """The release of local-path-provisioner, where it is there. Pure."""
    images = {
        container.get("image", "")
        for live in deployments
        for container in live["spec"]["template"]["spec"].get("containers") or ()
    }
    for image in sorted(images):
        if found := _image(image):
            late = tuple(map(int, found.groups())) >= MENDED
            said = (
                some([image])
                if late
                else f"{some([image])} can be made to write outside its folder: bring it up to date"
            )
            yield Checked("local-path-provisioner", True, "0.0.34 or newer", said)
