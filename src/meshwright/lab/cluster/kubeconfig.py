"""Kubeconfig files: 0600, everything embedded, so that a copy works anywhere."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any


def admin(folder: Path) -> dict[str, str]:
    """The admin's credentials, from the control plane's folder."""
    return {
        "client-certificate-data": _data(folder / "pki" / "admin.crt"),
        "client-key-data": _data(folder / "pki" / "admin.key"),
    }


def text(server: str, ca: Path, user: dict[str, str], namespace: str = "", name: str = "lab") -> str:
    """A kubeconfig with one context. JSON, which is YAML too."""
    context = {"cluster": name, "user": name, **({"namespace": namespace} if namespace else {})}
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": _data(ca)}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }
    return json.dumps(document, indent=1) + "\n"


def write(path: Path, server: str, ca: Path, user: dict[str, str], namespace: str = "") -> None:
    """Atomically, and for nobody else's eyes."""
    temporary = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text(server, ca, user, namespace))
    temporary.replace(path)


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
