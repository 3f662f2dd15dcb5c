"""Credential plugins of a kubeconfig: a program that answers with a token or a certificate.

Format: client.authentication.k8s.io/v1 and v1beta1, ExecCredential. What it prints is shown nowhere but for the last
line of its complaints, with keys and tokens taken out.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from shutil import which
from typing import Any

from meshwright.errors import ClusterError, HostError
from meshwright.io import process
from meshwright.io.apifailures import clean
from meshwright.io.kubeconfig import Login

VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
TIMEOUT = 60.0
EARLY = 10.0
"""Seconds before its end at which a credential is not used any more."""


@dataclass(frozen=True)
class Answer:
    """token or certificate (PEM of it and of its key); until: time.time() at which to ask again."""

    token: str = field(default="", repr=False)
    certificate: tuple[bytes, bytes] | None = field(default=None, repr=False)
    until: float = float("inf")


def ask(login: Login, where: str) -> Answer:
    """Run the plugin of the user. ClusterError when it is missing, fails, or says what cannot be used."""
    plugin = login.account["exec"]
    if not isinstance(plugin, dict):
        raise ClusterError(f"{where}: exec is not a mapping", "write the kubeconfig anew")
    version, command = str(plugin.get("apiVersion") or ""), str(plugin.get("command") or "")
    if version not in VERSIONS:
        raise ClusterError(
            f"{where}: the credential plugin speaks {version or '(no apiVersion)'}", f"use one of {', '.join(VERSIONS)}"
        )
    if plugin.get("interactiveMode") == "Always":
        raise ClusterError(
            f"{where}: the credential plugin {command} wants to ask questions", "log in with kubectl, then use a token"
        )
    if not which(command):
        hint = clean(str(plugin.get("installHint") or "")) or "install it, or put it on the PATH"
        raise ClusterError(f"{where}: the credential plugin {command or '(no command)'} is not installed", hint)
    env = {**os.environ, **{str(e["name"]): str(e["value"]) for e in plugin.get("env") or ()}}
    env["KUBERNETES_EXEC_INFO"] = json.dumps(_info(login, plugin, version))
    try:
        done = process.run([command, *map(str, plugin.get("args") or ())], timeout=TIMEOUT, env=env)
    except (HostError, OSError) as error:
        why = error.message if isinstance(error, HostError) else str(error.strerror)
        raise ClusterError(f"{where}: the credential plugin {command} cannot be run: {why}", "run it by hand") from None
    if done.code != 0:
        said = next((line for line in reversed(done.err.splitlines()) if line.strip()), "")
        raise ClusterError(
            f"{where}: the credential plugin {command} ended with code {done.code}: {clean(said) or 'said nothing'}",
            clean(str(plugin.get("installHint") or "")) or "log in with it again, or run it by hand",
        )
    return _answer(done.out, version, f"{where}: the credential plugin {command}")


def _info(login: Login, plugin: Mapping[str, Any], version: str) -> dict[str, Any]:
    """What the plugin is told: that nobody is there to ask, and where the credential goes if it wants to know."""
    spec: dict[str, Any] = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = _cluster(login)
    return {"apiVersion": version, "kind": "ExecCredential", "spec": spec}


def _cluster(login: Login) -> dict[str, Any]:
    found: dict[str, Any] = {
        "server": login.server,
        "tls-server-name": login.tls_name,
        "insecure-skip-tls-verify": login.insecure,
        "certificate-authority-data": base64.b64encode(login.ca or b"").decode(),
        "proxy-url": login.proxy,
    }
    for extension in login.cluster.get("extensions") or ():
        if extension.get("name") == "client.authentication.k8s.io/exec":
            found["config"] = extension.get("extension")
    return {key: value for key, value in found.items() if value}


def _answer(out: bytes, version: str, who: str) -> Answer:
    try:
        found = json.loads(out)
        status = found["status"]
        if found.get("kind") != "ExecCredential" or found.get("apiVersion") != version:
            raise ValueError
        token = str(status.get("token") or "")
        pair = [str(status.get(key) or "").encode() for key in ("clientCertificateData", "clientKeyData")]
        until = _end(status.get("expirationTimestamp"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ClusterError(
            f"{who} answered no ExecCredential of {version}", "update it, or correct apiVersion"
        ) from None
    if (not token and not all(pair)) or any(pair) != all(pair):
        raise ClusterError(f"{who} answered neither a token nor a certificate with its key", "log in with it again")
    return Answer(token, (pair[0], pair[1]) if all(pair) else None, until)


def _end(text: str | None) -> float:
    if not text:
        return float("inf")
    end = datetime.fromisoformat(text)
    return (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp() - EARLY
