"""What an attempt is, and where the things are that it is about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from api import Request, collection
from things import RBAC
from world import JAKE

Body = dict[str, Any]


@dataclass(frozen=True)
class Attempt:
    """bad has to be refused with `says` in the reason; good has to pass. policy: ours that refuses it, where one does.

    deeper: without our policy something else still refuses it.
    """

    title: str
    bad: Request
    says: str
    good: Request
    who: str = "jake"
    policy: str = ""
    deeper: bool = False


def core(kind: str, name: str = "", namespace: str = JAKE) -> str:
    return collection("v1", kind, namespace) + (f"/{name}" if name else "")


OWN_SERVICE, OWN_CONFIG, OWN_SECRET = core("Service", "web"), core("ConfigMap", "own"), core("Secret", "own")
OWN_INGRESS = collection("networking.k8s.io/v1", "Ingress", JAKE) + "/web"
OWN_DEPLOYMENT = collection("apps/v1", "Deployment", JAKE) + "/web"
OWN_ROLE = collection(f"{RBAC}/v1", "Role", JAKE) + "/own"
OWN_BINDING = collection(f"{RBAC}/v1", "RoleBinding", JAKE) + "/own"
OWN_POLICY = collection("networking.k8s.io/v1", "NetworkPolicy", JAKE) + "/own"
OWN_CLAIM = core("PersistentVolumeClaim", "data")
DENY = collection("networking.k8s.io/v1", "NetworkPolicy", JAKE) + "/meshwright-default-deny"
ADMIN = collection(f"{RBAC}/v1", "RoleBinding", JAKE) + "/meshwright-admin"
NOTE = {"metadata": {"annotations": {"note": "mine"}}}


def add(path: str, value: Any) -> Body:
    return {"op": "add", "path": path, "value": value}


def replaced(path: str, value: Any) -> Body:
    return {"op": "replace", "path": path, "value": value}


def with_meta(body: Body, **more: Any) -> Body:
    return {**body, "metadata": {**body["metadata"], **more}}


def acting(request: Request, **headers: str) -> Request:
    """As the account of a friend's own pods, which he may."""
    who = {"Impersonate-User": f"system:serviceaccount:{JAKE}:worker"}
    return replace(request, headers={**who, **headers})
