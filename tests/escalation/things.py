"""Objects that a friend may have, and what to change in them to have what he may not."""

from __future__ import annotations

from typing import Any

Body = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"
NET = "networking.k8s.io/v1"


def meta(name: str, namespace: str = "", **more: Any) -> Body:
    return {"name": name, **({"namespace": namespace} if namespace else {}), **more}


def make(version: str, kind: str, name: str, namespace: str = "", **body: Any) -> Body:
    return {"apiVersion": version, "kind": kind, "metadata": meta(name, namespace), **body}


def container(**more: Any) -> Body:
    context = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    context |= more.pop("context", {})
    return {"name": "c", "image": "ghcr.io/friends/app:1", "securityContext": context, **more}


def pod_spec(**more: Any) -> Body:
    return {"containers": [container()], **more}


def pod(namespace: str, name: str = "app", **spec: Any) -> Body:
    return make("v1", "Pod", name, namespace, spec=pod_spec(**spec))


def template(**spec: Any) -> Body:
    return {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec(**spec)}


def workload(kind: str, namespace: str, name: str = "app", **spec: Any) -> Body:
    """Anything that makes pods; replicas 0 where it has them, so that nothing runs."""
    selector = {"matchLabels": {"app": "web"}}
    if kind == "Job":
        return make("batch/v1", kind, name, namespace, spec={"template": template(restartPolicy="Never", **spec)})
    if kind == "CronJob":
        job = {"spec": {"template": template(restartPolicy="Never", **spec)}}
        return make("batch/v1", kind, name, namespace, spec={"schedule": "0 4 * * *", "jobTemplate": job})
    if kind == "ReplicationController":
        body = {"replicas": 0, "selector": {"app": "web"}, "template": template(**spec)}
        return make("v1", kind, name, namespace, spec=body)
    body = {"selector": selector, "template": template(**spec)}
    if kind == "StatefulSet":
        body["serviceName"] = "web"
    if kind != "DaemonSet":
        body["replicas"] = 0
    return make("apps/v1", kind, name, namespace, spec=body)


def service(namespace: str, name: str = "app", **spec: Any) -> Body:
    return make("v1", "Service", name, namespace, spec={"ports": [{"port": 80}], **spec})


def backend() -> Body:
    return {"service": {"name": "web", "port": {"number": 80}}}


def rule(host: str = "", path: str = "/") -> Body:
    http = {"paths": [{"path": path, "pathType": "ImplementationSpecific", "backend": backend()}]}
    return {"http": http, **({"host": host} if host else {})}


def ingress(namespace: str, *hosts: str, name: str = "app", **spec: Any) -> Body:
    return make(NET, "Ingress", name, namespace, spec={"rules": [rule(host) for host in hosts], **spec})


def claim(namespace: str, name: str = "app", **spec: Any) -> Body:
    size = {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]}
    return make("v1", "PersistentVolumeClaim", name, namespace, spec={**size, **spec})


def network_policy(namespace: str, name: str = "app", **spec: Any) -> Body:
    return make(NET, "NetworkPolicy", name, namespace, spec={"podSelector": {}, **spec})


def role(namespace: str, *rules: Body, name: str = "app") -> Body:
    return make(f"{RBAC}/v1", "Role", name, namespace, rules=list(rules))


def allow(verbs: str, resources: str, group: str = "") -> Body:
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}


def account(name: str, namespace: str) -> Body:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def binding(namespace: str, subject: Body, role: str = "view", kind: str = "ClusterRole", name: str = "app") -> Body:
    ref = {"apiGroup": RBAC, "kind": kind, "name": role}
    return make(f"{RBAC}/v1", "RoleBinding", name, namespace, roleRef=ref, subjects=[subject])


def config(namespace: str, name: str = "app", **labels: str) -> Body:
    return labelled(make("v1", "ConfigMap", name, namespace, data={"a": "b"}), **labels)


def secret(namespace: str, name: str = "app", type: str = "Opaque", **annotations: str) -> Body:
    return annotated(make("v1", "Secret", name, namespace, type=type), **annotations)


def labelled(body: Body, **labels: str) -> Body:
    return {**body, "metadata": {**body["metadata"], "labels": labels}}


def annotated(body: Body, **annotations: str) -> Body:
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def token(seconds: int, **spec: Any) -> Body:
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [], "expirationSeconds": seconds, **spec},
    }
