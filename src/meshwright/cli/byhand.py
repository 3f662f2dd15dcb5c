"""What `render` cannot write into a file, and the commands that make it."""

from __future__ import annotations

import shlex

from meshwright.desired.monitoring.exporter import CA, TOKEN, held, labels
from meshwright.desired.names import MANAGER
from meshwright.spec.model import BuiltinExporter, FromCommand, FromEnvironment, Mesh, SecretSource


def commands(mesh: Mesh) -> list[str]:
    """For a shell in the mesh file's folder. No secret stands in them, nor in an argument of what they run.

    What they make is as `apply` makes it, with its labels and in its name: else it would be somebody else's, which a
    plan does not touch and nobody takes away when it is no longer wanted.
    """
    watch = mesh.observability
    if mesh.kubernetes is None or watch is None or not isinstance(watch.exporter, BuiltinExporter):
        return []
    name, out = f"{held(mesh, watch)} -n {watch.namespace}", []
    if watch.exporter.token:
        made = _made(mesh, f"secret generic {name} --from-file={TOKEN}=/dev/stdin")
        out.append(f"{_read(watch.exporter.token)} | tr -d '\\r\\n' | {made}")
    if tls := watch.exporter.tls:
        path = shlex.quote(f"{CA}={tls.ca or tls.certificate}")
        out.append(_made(mesh, f"configmap {name} --from-file={path}"))
    return out


def _made(mesh: Mesh, what: str) -> str:
    said = shlex.join(f"{key}={value}" for key, value in labels(mesh).items())
    steps = (
        f"create {what} --dry-run=client -o yaml",
        f"label --local -f - -o yaml {said}",
        f"apply --server-side --field-manager={MANAGER} -f -",
    )
    return " | ".join(f"kubectl {step}" for step in steps)


def _read(source: SecretSource) -> str:
    if isinstance(source, FromEnvironment):
        return f"printenv {shlex.quote(source.env)}"
    return shlex.join(source.command) if isinstance(source, FromCommand) else f"cat {shlex.quote(source.file)}"
