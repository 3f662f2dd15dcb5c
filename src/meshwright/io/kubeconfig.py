"""Where the cluster is and who we are there: kubeconfig files as kubectl reads them, else the pod's own account.

Format: kubectl's config v1 (clientcmd). Files named in KUBECONFIG are merged, the first to name an entry wins. What is
read here holds secrets: no message shows anything of it but names, paths and the server's address.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshwright.errors import ClusterError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its ServiceAccount."""


@dataclass(frozen=True)
class Login:
    """One context, with its cluster and its user: all that a connection needs.

    origin: the files, for people. ca: PEM of the authority, None for the machine's own. tls_name: the name that the
    server's certificate must carry, "" for the URL's. insecure: the certificate is not checked.
    account: the user's entry, paths made absolute; {} is nobody.
    """

    context: str
    origin: str
    namespace: str
    server: str
    user: str = ""
    ca: bytes | None = field(default=None, repr=False)
    tls_name: str = ""
    insecure: bool = False
    proxy: str = field(default="", repr=False)
    cluster: Mapping[str, Any] = field(default_factory=dict, repr=False)
    account: Mapping[str, Any] = field(default_factory=dict, repr=False)


def find(context: str | None, kubeconfig: Path | None, env: Mapping[str, str] = os.environ) -> Login:
    """The context that kubectl would use. ClusterError says which file lacks what."""
    paths = [kubeconfig] if kubeconfig else _paths(env)
    if kubeconfig and not kubeconfig.exists():
        raise ClusterError(f"{kubeconfig}: no such kubeconfig", "give the path of a kubeconfig that exists")
    there = [path for path in paths if path.exists()]
    merged = _merge([(path, _load(path)) for path in there])
    origin = ", ".join(map(str, paths))
    if not any(merged.values()):
        where = origin or "KUBECONFIG, and this user has no home"
        text = f"the kubeconfig {', '.join(map(str, there))} is empty" if there else f"no kubeconfig found in {where}"
        return _in_cluster(context, env, text)
    return _login(merged, context, origin)


def _paths(env: Mapping[str, str]) -> list[Path]:
    if listed := env.get("KUBECONFIG", ""):
        return [Path(each) for each in dict.fromkeys(listed.split(os.pathsep)) if each]
    try:
        return [Path(env.get("HOME") or Path.home()) / ".kube" / "config"]
    except RuntimeError:  # in a container the user may have no name, and so no home
        return []


def _load(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_bytes()
    except OSError as error:
        raise ClusterError(
            f"{path}: the kubeconfig cannot be read: {error.strerror}", "make it a file that you can read"
        ) from None
    try:
        found = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ClusterError(f"{where}: the kubeconfig is not YAML", "correct it, or write it anew") from None
    if not isinstance(found, dict) or found.get("kind", "Config") != "Config":
        raise ClusterError(f"{path}: this is not a kubeconfig", "give the path of a kubeconfig (kind: Config)")
    return found


_FILES = {"cluster": ("certificate-authority",), "user": ("client-certificate", "client-key", "tokenFile")}


def _merge(files: list[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """The files as one: for every entry and for the current context the first file that has it."""
    merged: dict[str, Any] = {"cluster": {}, "user": {}, "context": {}, "current": ""}
    for path, found in files:
        merged["current"] = merged["current"] or _text(found.get("current-context"))
        for kind in ("cluster", "user", "context"):
            for entry in _entries(path, found, kind):
                merged[kind].setdefault(_text(entry.get("name")), _absolute(path, kind, entry.get(kind) or {}))
    return merged


def _entries(path: Path, found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The file's clusters, users or contexts, of which nothing but their form is sure."""
    entries, what = found.get(f"{kind}s") or [], f"{path}: {kind}s"
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get(kind) or {}, dict) for entry in entries
    ):
        raise ClusterError(f"{what}: not a list of entries with a name", "correct it, or write it anew")
    for entry in entries:
        if wrong := _untextual(entry):
            raise ClusterError(f"{what}: {wrong} is not text", "put quotes around its value")
    names = [_text(entry.get("name")) for entry in entries]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ClusterError(f"{what}: {twice!r} is there twice", "remove or rename one of them")
    return entries


_OTHER = frozenset(
    {"insecure-skip-tls-verify", "disable-compression", "provideClusterInfo", "extensions", "auth-provider"}
)


def _untextual(entry: dict[str, Any]) -> str:
    """The first key whose value YAML takes for a number, a yes or a date, where kubectl wants text; "" for none."""
    for key, value in entry.items():
        if isinstance(value, dict) and key not in _OTHER:
            if found := _untextual(value):
                return found
        elif key not in _OTHER and not isinstance(value, str | list | dict | None):
            return str(key)
    return ""


def _absolute(path: Path, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    """Relative paths in an entry are relative to its file; a plugin's only when it is written with a slash."""
    folder = path.absolute().parent
    value = dict(value)
    for key in _FILES.get(kind, ()):
        if value.get(key):
            value[key] = str(folder / _text(value[key]))
    plugin = value.get("exec")
    if isinstance(plugin, dict) and "/" in _text(plugin.get("command")):
        value["exec"] = {**plugin, "command": str(folder / _text(plugin["command"]))}
    return value


def _login(merged: dict[str, Any], wanted: str | None, origin: str) -> Login:
    name = wanted or merged["current"]
    exist = f"the contexts are: {', '.join(sorted(merged['context'])) or '(none)'}"
    if not name:
        raise ClusterError(f"{origin}: no context is chosen", f"name one, or set current-context; {exist}")
    if name not in merged["context"]:
        raise ClusterError(f"{origin}: there is no context {name!r}", exist)
    context = merged["context"][name]
    parts = {}
    for kind in ("cluster", "user"):
        named = _text(context.get(kind))
        if named not in merged[kind] and (named or kind == "cluster"):
            what = f"names the {kind} {named!r}, which is not there" if named else f"names no {kind}"
            raise ClusterError(f"{origin}: context {name!r} {what}", f"correct the context, or choose another: {exist}")
        parts[kind] = merged[kind].get(named, {})
    cluster = parts["cluster"]
    server = _server(_text(cluster.get("server")), parts, f"{origin}: cluster {_text(context.get('cluster'))!r}")
    if not context.get("user") and server.startswith("https:"):
        raise ClusterError(f"{origin}: context {name!r} names no user", "add one, or choose another; " + exist)
    return Login(
        context=name,
        origin=origin,
        namespace=_text(context.get("namespace")) or "default",
        server=server,
        user=_text(context.get("user")),
        ca=material(cluster, "certificate-authority", f"context {name!r}"),
        tls_name=_text(cluster.get("tls-server-name")),
        insecure=_true(cluster.get("insecure-skip-tls-verify")),
        proxy=_text(cluster.get("proxy-url")),
        cluster=cluster,
        account=parts["user"],
    )


def _server(server: str, parts: Mapping[str, Mapping[str, Any]], where: str) -> str:
    if not server:
        raise ClusterError(f"{where} has no server", "add its URL, e.g. server: https://192.168.20.20:6443")
    if "://" not in server:
        tls = any(key.startswith(("certificate-", "client-", "insecure-")) for part in parts.values() for key in part)
        server = f"{'https' if tls else 'http'}://{server}"
    if not server.startswith(("http://", "https://")):
        raise ClusterError(f"{where} has a server that is no http or https URL", "write it as https://HOST:PORT")
    return server.rstrip("/")


def material(entry: Mapping[str, Any], key: str, where: str) -> bytes | None:
    """What `KEY-data` (base64) holds, else what the file named by `KEY` holds, else None."""
    if data := entry.get(f"{key}-data"):
        try:
            return base64.b64decode(_text(data), validate=False)
        except (binascii.Error, ValueError):
            raise ClusterError(f"{where}: {key}-data is not base64", "write the kubeconfig anew") from None
    if path := entry.get(key):
        try:
            return Path(_text(path)).read_bytes()
        except OSError as error:
            raise ClusterError(
                f"{where}: {key} {path} cannot be read: {error.strerror}", "put the file there, or correct the path"
            ) from None
    return None


def _in_cluster(context: str | None, env: Mapping[str, str], why: str) -> Login:
    """The pod's own account. why: what is wrong where there is none."""
    host, port = env.get("KUBERNETES_SERVICE_HOST", ""), env.get("KUBERNETES_SERVICE_PORT", "")
    token = ACCOUNT / "token"
    if context or not (host and port and token.is_file()):
        missing = f"there is no context {context!r}: " if context else ""
        raise ClusterError(
            f"{missing}{why}",
            "put the cluster's kubeconfig there, or name another file by the environment variable KUBECONFIG",
        )
    namespace = ACCOUNT / "namespace"
    authority = {"certificate-authority": str(ACCOUNT / "ca.crt")}
    return Login(
        context="in-cluster",
        origin=str(ACCOUNT),
        namespace=namespace.read_text().strip() if namespace.is_file() else "default",
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        user="serviceaccount",
        ca=material(authority, "certificate-authority", "in-cluster"),
        cluster=authority,
        account={"tokenFile": str(token)},
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _true(value: Any) -> bool:
    return value is True or value == "true"
