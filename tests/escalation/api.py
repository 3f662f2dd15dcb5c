"""What the attempts are made with: plain requests to the API server, as anybody with a token could send them."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Body = dict[str, Any]

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"

PLURALS = {
    "Ingress": "ingresses", "NetworkPolicy": "networkpolicies", "PriorityClass": "priorityclasses",
    "StorageClass": "storageclasses", "RuntimeClass": "runtimeclasses", "Prometheus": "prometheuses",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One request. kind: its Content-Type, which says what kind of patch it is."""

    method: str
    path: str
    body: Any = None
    kind: str = "application/json"
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def dry(self) -> Request:
        return replace(self, query={**self.query, "dryRun": "All"})

    @property
    def writes(self) -> bool:
        """Whether it can be asked for a dry run: a shell cannot."""
        return self.method != "GET" and not self.path.endswith("/exec")


@dataclass(frozen=True)
class Answer:
    status: int
    body: Body

    @property
    def good(self) -> bool:
        return self.status < 300

    @property
    def message(self) -> str:
        """The reason that a user would see."""
        return str(self.body.get("message", ""))


@dataclass(frozen=True)
class Api:
    """The server as one identity sees it."""

    server: str
    trust: ssl.SSLContext
    token: str = field(default="", repr=False)

    def ask(self, request: Request) -> Answer:
        url = f"{self.server}{request.path}"
        if request.query:
            url += "?" + urllib.parse.urlencode(request.query)
        headers = {"Content-Type": request.kind, "Accept": "application/json", **request.headers}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if request.body is None else json.dumps(request.body).encode()
        sent = urllib.request.Request(url, data, headers, method=request.method)
        try:
            with urllib.request.urlopen(sent, timeout=30, context=self.trust) as answer:
                return Answer(answer.status, _json(answer.read()))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _json(error.read()))


def _json(data: bytes) -> Body:
    try:
        out = json.loads(data)
    except ValueError:
        return {"message": data.decode(errors="replace")}
    return out if isinstance(out, dict) else {"message": str(out)}


def collection(version: str, kind: str, namespace: str = "") -> str:
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = PLURALS.get(kind, f"{kind.lower()}s")
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


def path(body: Body) -> str:
    """Where an object lives."""
    meta = body["metadata"]
    return f"{collection(body['apiVersion'], body['kind'], meta.get('namespace', ''))}/{meta['name']}"


def create(body: Body, **headers: str) -> Request:
    place = body["metadata"].get("namespace", "")
    return Request("POST", collection(body["apiVersion"], body["kind"], place), body, headers=headers)


def get(path: str, **query: str) -> Request:
    return Request("GET", path, query=query)


def delete(path: str, **headers: str) -> Request:
    return Request("DELETE", path, headers=headers)


def merge(path: str, body: Body) -> Request:
    return Request("PATCH", path, body, MERGE)


def strategic(path: str, body: Body) -> Request:
    return Request("PATCH", path, body, STRATEGIC)


def patch(path: str, *steps: Body) -> Request:
    return Request("PATCH", path, list(steps), JSON_PATCH)


def apply(body: Body, manager: str) -> Request:
    return Request("PATCH", path(body), body, APPLY, {"fieldManager": manager, "force": "true"})
