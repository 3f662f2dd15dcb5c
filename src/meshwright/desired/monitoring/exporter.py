"""The exporter in the cluster, and how Prometheus finds it. Pure.

mindflavor: exporter 3.6.6 as a pod on the hub, in a namespace of its own. builtin: what the service on the hub answers,
found by a Service without pods behind it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any

from meshwright.desired import names
from meshwright.desired.facts import Facts
from meshwright.desired.manifest import Manifest, annotated, id_of, make, resource
from meshwright.desired.monitoring import relabel
from meshwright.desired.monitoring.objects import OPERATOR, drop_labels, found, replace, scrape
from meshwright.desired.monitoring.series import address, job, namespace
from meshwright.desired.podsecurity import security
from meshwright.desired.resource import Resource
from meshwright.spec.model import Address, BuiltinExporter, Kubernetes, Mesh, MindflavorExporter, Observability

PORT = "metrics"
TOKEN, CA = "token", "ca.crt"
"""Keys in the Secret and in the ConfigMap that the monitor of the builtin exporter names."""
PATIENCE = 25_000
LIMITS = {
    "bodySizeLimit": "256MB",
    "keepDroppedTargets": 10,
    "labelLimit": 50,
    "labelNameLengthLimit": 200,
    "labelValueLengthLimit": 10_000,
    "sampleLimit": 1_000_000,
    "targetLimit": 10,
}
"""Room for 60 000 peers, and for a site with hundreds of networks behind it; no room for what has gone mad."""


def build(mesh: Mesh, cluster: Kubernetes, watch: Observability, facts: Facts) -> Iterator[Resource]:
    """Everything of the exporter that is in the cluster."""
    if isinstance(watch.exporter, MindflavorExporter):
        yield from _mindflavor(mesh, cluster, watch, watch.exporter, facts)
    else:
        yield from _builtin(mesh, watch, watch.exporter, facts)


def held(mesh: Mesh, watch: Observability) -> str:
    """The name of the Secret with the bearer token, and of the ConfigMap with the certificate authority."""
    return f"{names.PREFIX}{job(mesh, watch)}"


def labels(mesh: Mesh) -> dict[str, str]:
    """What every object of the exporter's bears, as it is known to be ours."""
    return names.labels(mesh.name) | {names.COMPONENT: names.EXPORTER}


def _mindflavor(
    mesh: Mesh, cluster: Kubernetes, watch: Observability, exporter: MindflavorExporter, facts: Facts
) -> Iterator[Resource]:
    """NetworkPolicy knows nothing of a pod on the host's network, so none is made: who may reach the hub's address may
    scrape it.
    """
    place, name = exporter.namespace, job(mesh, watch)
    space = _object(mesh, "v1/Namespace", place)
    # what listens on the host and changes its network is more than any lower level lets in
    yield resource(annotated(space, security("privileged", cluster, facts), {}))
    account = _object(mesh, "v1/ServiceAccount", name, place, automountServiceAccountToken=False)
    yield resource(account)
    pods = {names.NAME: name}
    yield resource(_daemon(mesh, watch, exporter), id_of(account))
    ports = [{"name": PORT, "port": exporter.port, "protocol": "TCP", "targetPort": exporter.port}]
    service = _object(mesh, "v1/Service", name, place, spec={"type": "ClusterIP", "clusterIP": "None"})
    service["spec"] |= {"selector": pods, "ports": ports}
    yield resource(annotated(service, pods, {}))
    endpoint = scrape(watch, PORT, PATIENCE, metricRelabelings=relabel.keys(mesh, facts))
    yield resource(_monitor(mesh, watch, endpoint), id_of(service))


def _daemon(mesh: Mesh, watch: Observability, exporter: MindflavorExporter) -> Manifest:
    """A DaemonSet, held to one node: the new pod comes when the old one is gone, for both want the same port, and it
    stays on a node that is cordoned. It starts on a control plane's node too.
    """
    name = job(mesh, watch)
    pods = {names.NAME: name}
    account = {"serviceAccountName": name, "automountServiceAccountToken": False, "enableServiceLinks": False}
    template = {
        "metadata": {"labels": pods},
        "spec": {
            **account,
            "hostNetwork": True,
            "nodeSelector": {"kubernetes.io/hostname": mesh.hub.node},
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "tolerations": [
                {"key": f"node-role.kubernetes.io/{role}", "operator": "Exists"} for role in ("control-plane", "master")
            ],
            "containers": [_container(mesh, watch, exporter)],
        },
    }
    spec = {"selector": {"matchLabels": pods}, "template": template}
    return annotated(_object(mesh, "apps/v1/DaemonSet", name, exporter.namespace, spec=spec), pods, {})


def _container(mesh: Mesh, watch: Observability, exporter: MindflavorExporter) -> Manifest:
    """Root with one right. As another user it reads nothing and says so to nobody; what `wg show` prints holds the
    hub's private key, so it is never told to be verbose.
    """
    listens = str(address(mesh, watch))
    options = {"-i": mesh.hub.interface, "-l": listens, "-p": str(exporter.port), "-v": "false", "-r": "false"}
    port = {"name": PORT, "containerPort": exporter.port, "hostPort": exporter.port, "protocol": "TCP"}
    return {
        "name": "exporter",
        "image": exporter.image,
        "imagePullPolicy": "IfNotPresent",
        "args": [word for option in options.items() for word in option],
        "ports": [port],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": False,
            "runAsUser": 0,
        },
        "readinessProbe": {
            "tcpSocket": {"host": listens, "port": exporter.port},
            "failureThreshold": 3,
            "periodSeconds": 10,
            "successThreshold": 1,
            "timeoutSeconds": 1,
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }


def _builtin(mesh: Mesh, watch: Observability, exporter: BuiltinExporter, facts: Facts) -> Iterator[Resource]:
    """What the hub itself answers, as if it were in the namespace of monitoring."""
    place, name = watch.namespace, job(mesh, watch)
    ports = [{"name": PORT, "port": exporter.port, "protocol": "TCP"}]
    service = _object(mesh, "v1/Service", name, place, spec={"type": "ClusterIP", "clusterIP": "None"})
    service["spec"]["ports"] = [{**ports[0], "targetPort": exporter.port}]
    yield resource(annotated(service, {names.NAME: name}, {}))
    for behind in _behind(mesh, name, place, address(mesh, watch), ports):
        yield resource(behind, id_of(service))
    kept = [resource(manifest, secret=secret) for manifest, secret in _kept(mesh, watch, exporter, facts)]
    yield from kept
    endpoint = scrape(watch, PORT, PATIENCE, **_door(mesh, watch, exporter))
    yield resource(_monitor(mesh, watch, endpoint), id_of(service), *(each.id for each in kept))


def _behind(mesh: Mesh, name: str, place: str, where: Address, ports: list[Manifest]) -> Iterator[Manifest]:
    """The same twice: a Prometheus asks either for Endpoints or for EndpointSlices, as its owner has chosen, and only
    from release 0.86 of the operator on may a monitor say so. The cluster is told not to make the one of the other.
    """
    subsets = [{"addresses": [{"ip": str(where)}], "ports": ports}]
    old = _object(mesh, "v1/Endpoints", name, place, subsets=subsets)
    yield annotated(old, {"endpointslice.kubernetes.io/skip-mirror": "true"}, {})
    endpoints = [{"addresses": [str(where)], "conditions": {"ready": True}}]
    kind = "discovery.k8s.io/v1/EndpointSlice"
    new = _object(mesh, kind, name, place, addressType=f"IPv{where.version}", endpoints=endpoints, ports=ports)
    of = {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": names.MANAGER}
    yield annotated(new, of, {})


def _kept(
    mesh: Mesh, watch: Observability, exporter: BuiltinExporter, facts: Facts
) -> Iterator[tuple[Manifest, Sequence[tuple[str, ...]]]]:
    """What the monitor names: the token and the certificate authority, with what is secret of it. Whoever renders has
    neither, and is told how to make them by hand.
    """
    if facts.exporter is None:
        return
    place, name = watch.namespace, held(mesh, watch)
    if exporter.token:
        data = {TOKEN: b64encode(facts.exporter.token.encode()).decode()}
        yield _object(mesh, "v1/Secret", name, place, type="Opaque", data=data), [("data",)]
    if exporter.tls:
        yield _object(mesh, "v1/ConfigMap", name, place, data={CA: facts.exporter.ca}), []


def _door(mesh: Mesh, watch: Observability, exporter: BuiltinExporter) -> dict[str, Any]:
    """How the scraper shows who it is, and by what it knows the hub. The certificate must be for the hub's address."""
    out: dict[str, Any] = {}
    if exporter.token:
        out["authorization"] = {"type": "Bearer", "credentials": {"name": held(mesh, watch), "key": TOKEN}}
    if exporter.tls:
        authority = {"configMap": {"name": held(mesh, watch), "key": CA}}
        out |= {"scheme": "https", "tlsConfig": {"ca": authority, "serverName": str(address(mesh, watch))}}
    return out


def _monitor(mesh: Mesh, watch: Observability, endpoint: Manifest) -> Manifest:
    """The hub is one instance, whatever pod answers for it and by whichever address of the node that pod is known."""
    place, name, where = namespace(watch), job(mesh, watch), address(mesh, watch)
    host = f"[{where}]" if where.version == 6 else str(where)
    target = [
        replace("__address__", f"{host}:{watch.exporter.port}"),
        replace("instance", mesh.hub.node),
        replace("node", mesh.hub.node),
        drop_labels("pod|container"),
    ]
    spec = {
        "endpoints": [{**endpoint, "relabelings": target}],
        "namespaceSelector": {"matchNames": [place]},
        "selector": {"matchLabels": {names.NAME: name, names.MESH: mesh.name}},
        **LIMITS,
    }
    return found(_object(mesh, f"{OPERATOR}/ServiceMonitor", name, place, spec=spec), watch)


def _object(mesh: Mesh, kind: str, name: str, namespace: str = "", /, **body: Any) -> Manifest:
    """As `make`, and it says that it is the exporter's."""
    return annotated(make(mesh.name, kind, name, namespace, **body), labels(mesh), {})
