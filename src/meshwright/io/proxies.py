"""Which proxy leads to an API server: the kubeconfig's, else the environment's, by the rules that kubectl follows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from meshwright.errors import ClusterError
from meshwright.io.kubeconfig import Login


def proxy(login: Login, env: Mapping[str, str] = os.environ) -> str | None:
    """The proxy's URL, None for a direct way. What the kubeconfig names is taken always; the environment's never for
    this machine itself, nor for what NO_PROXY names."""
    url = login.proxy or _from_environment(login.server, env)
    if not url:
        return None
    url = url if "://" in url else f"http://{url}"
    if not url.startswith(("http://", "https://")):
        kind = url.partition(":")[0]
        raise ClusterError(
            f"context {login.context!r}: proxies of kind {kind} are not supported", "use an http or https proxy"
        )
    return url


def shown(url: str | None) -> str:
    """The proxy for people: without the user and password that may stand in it."""
    if not url:
        return ""
    parts = urlsplit(url)
    return f"proxy {parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _from_environment(server: str, env: Mapping[str, str]) -> str:
    parts = urlsplit(server)
    name = "HTTPS_PROXY" if parts.scheme == "https" else "HTTP_PROXY"
    found = env.get(name) or env.get(name.lower()) or ""
    host, port = (parts.hostname or "").rstrip("."), parts.port or (443 if parts.scheme == "https" else 80)
    excepted = (env.get("NO_PROXY") or env.get("no_proxy") or "").lower().split(",")
    if not found or _itself(host) or any(_matches(each.strip(), host, port) for each in excepted):
        return ""
    return found


def _itself(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether one entry of NO_PROXY covers the host: `*`, an address, a CIDR, or a domain; some with a port."""
    if entry in {"", "*"}:
        return entry == "*"
    name, colon, only = entry.rpartition(":")
    if colon and only.isdigit() and (":" not in name or name.endswith("]")):
        if int(only) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        suffix = entry.removeprefix("*")
        return host == suffix or host.endswith(suffix if suffix.startswith(".") else f".{suffix}")
