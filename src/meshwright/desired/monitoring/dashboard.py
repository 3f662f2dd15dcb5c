"""The ConfigMap by which Grafana's sidecar finds the dashboard. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from meshwright.desired.facts import Facts
from meshwright.desired.manifest import annotated, make, resource
from meshwright.desired.monitoring import promql
from meshwright.desired.resource import Resource
from meshwright.spec.model import Mesh, Observability

FOLDER = "grafana_folder"
"""The annotation that names the folder (kiwigrid/k8s-sidecar, FOLDER_ANNOTATION as kube-prometheus-stack sets it)."""
CHOSEN = ('job=~"$job"', 'instance=~"$instance"')
"""What the reader chose; job and namespace of the hub stand beside it, for the choice may be all."""


def build(mesh: Mesh, watch: Observability, facts: Facts) -> Iterator[Resource]:
    """The one dashboard of the mesh."""
    # the sidecar puts the files of all namespaces into one folder, so the name must be nobody else's
    data = {f"{mesh.name}.json": text(mesh, watch, facts)}
    made = make(mesh.name, "v1/ConfigMap", f"grafana-dashboard-{mesh.name}", watch.namespace, data=data)
    yield resource(annotated(made, {watch.dashboard_label: "1"}, {FOLDER: mesh.name}))


def text(mesh: Mesh, watch: Observability, facts: Facts) -> str:
    """The dashboard as JSON."""
    from meshwright.desired.monitoring import grafana, panels  # the SDK is loaded only where a dashboard is wanted

    hub, friends = promql.hub(mesh, watch, *CHOSEN), promql.friends(mesh, facts, *CHOSEN)
    everyone = promql.hub(mesh, watch).of("up")
    chosen = promql.hub(mesh, watch, CHOSEN[0]).of("up")
    if friends:
        everyone = f"{everyone} or {promql.Friends(friends.namespaces).of('up')}"
        chosen = f"{chosen} or {promql.Friends(friends.namespaces, CHOSEN[:1]).of('up')}"
    variables = [
        grafana.variable("job", f"count by (job) ({everyone})"),
        grafana.variable("instance", f"count by (instance) ({chosen})"),
    ]
    title = watch.dashboard or mesh.name
    about = f"The WireGuard mesh {mesh.name}: who is connected, and whether all is as its mesh file says."
    return grafana.written(_uid(mesh.name), title, about, variables, panels.build(hub, friends))


def _uid(name: str) -> str:
    """Grafana takes 40 characters; a longer name is cut, and told apart by its digest."""
    return name if len(name) <= 40 else f"{name[:31]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
