"""What `render` cannot write into a file, and the commands that make it."""

from __future__ import annotations

import shlex

from meshwright.desired.monitoring.exporter import CA, TOKEN, held
from meshwright.spec.model import BuiltinExporter, FromCommand, FromEnvironment, Mesh, SecretSource


def commands(mesh: Mesh) -> list[str]:
    """For a shell in the mesh file's folder. No secret stands in them, nor in an argument of what they run."""
    watch = mesh.observability
    if mesh.kubernetes is None or watch is None or not isinstance(watch.exporter, BuiltinExporter):
        return []
    name, place, out = held(mesh, watch), watch.namespace, []
    if watch.exporter.token:
        made = f"kubectl create secret generic {name} -n {place} --from-file={TOKEN}=/dev/stdin"
        out.append(f"{_read(watch.exporter.token)} | tr -d '\\n' | {made}")
    if tls := watch.exporter.tls:
        path = shlex.quote(f"{CA}={tls.ca or tls.certificate}")
        out.append(f"kubectl create configmap {name} -n {place} --from-file={path}")
    return out


def _read(source: SecretSource) -> str:
    if isinstance(source, FromEnvironment):
        return f"printenv {shlex.quote(source.env)}"
    return shlex.join(source.command) if isinstance(source, FromCommand) else f"cat {shlex.quote(source.file)}"
