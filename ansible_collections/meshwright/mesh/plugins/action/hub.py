"""The hub of a mesh, and its peers' .conf files. Runs meshwright here, on the controller, over Ansible's connection."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.meshwright.mesh.plugins.plugin_utils import library
from ansible_collections.meshwright.mesh.plugins.plugin_utils.host import AnsibleHost

display = Display()
SYSTEMS = ("files", "hub")
ARGUMENTS = {
    "mesh_file": {"type": "path", "required": True},
    "digest": {"type": "str"},
    "force": {"type": "str"},
    "verify": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    """See plugins/modules/hub.py for its options."""

    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        given = self.validate_argument_spec(ARGUMENTS)[1]
        api = library.api()
        try:
            return self._run(api, given, variables)
        except api.MeshwrightError as error:
            return {**_failure(api, error), "changed": False}

    def _run(self, api: Any, given: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        said = Path(variables.get("playbook_dir", "."), given["mesh_file"])
        path = said.parent.resolve() / said.name
        mesh = api.load(path)
        self._check_host(api, mesh, path, variables)
        host = AnsibleHost(api, self, variables["inventory_hostname"], self._python(variables))
        look = partial(api.plan, mesh, path.parent, hub=host, systems=SYSTEMS, tell=_tell)
        todo = look()
        result = _planned(todo)
        if not self._task.check_mode:
            failure = _applied(api, todo, given)
            if failure or not given["verify"]:
                return {**result, **failure}
            todo = look() if todo else todo
        return {**result, **(_verified(api, todo) if given["verify"] else {})}

    def _check_host(self, api: Any, mesh: Any, path: Path, variables: dict[str, Any]) -> None:
        """MeshwrightError unless the play is about the hub, and about nothing else."""
        name = variables["inventory_hostname"]
        hosts = list(variables.get("ansible_play_hosts_all") or [name])
        hub = mesh.hub
        if self._task.delegate_to:
            raise api.MeshwrightError("delegate_to is not possible here", "let the play's hosts be the hub itself")
        if len(hosts) > 1:
            raise api.MeshwrightError(
                f"a mesh has one hub, and this play has {len(hosts)} hosts: {', '.join(sorted(hosts))}",
                f"let its hosts be {hub.node} alone; nothing was read or written",
            )
        known = {hub.node, str(hub.address), hub.connection.host if hub.connection else None}
        if not known & {name, self._play_context.remote_addr}:
            raise api.MeshwrightError(
                f"{name} is not the hub of {path}: that is {hub.node} ({hub.address})",
                "correct the inventory, or hub.node and hub.address in the mesh file",
            )

    def _python(self, variables: dict[str, Any]) -> str:
        """The Python of the hub: as the inventory says, or Ansible has found out already; else that of its PATH."""
        said = str(self._templar.template(variables.get("ansible_python_interpreter") or ""))
        if said and not said.startswith("auto"):
            return said
        found = (variables.get("ansible_facts") or {}).get("discovered_interpreter_python")
        return str(found or "python3")


def _tell(event: Any) -> None:
    """With -v, what takes its time: looking around, writing, waiting to hear a peer again."""
    if what := getattr(event, "what", ""):
        display.v(f"meshwright: {what}")


def _planned(todo: Any) -> dict[str, Any]:
    """What a plan comes to. It holds no secret, only where one differs."""
    return {
        "changed": bool(todo),
        "digest": todo.digest,
        "changes": list(todo.changes),
        "diff": {"prepared": todo.text + "\n"} if todo else {},
        **({"warnings": list(todo.notes)} if todo.notes else {}),
    }


def _applied(api: Any, todo: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Write the plan. What the result says otherwise than the plan did: nothing where all went well."""
    if not todo:
        return _failure(api, todo.error) if todo.error else {}
    done = api.apply(todo, digest=given["digest"], force=given["force"], tell=_tell)
    if done.error is None:
        return {}
    return {
        **_failure(api, done.error, done.lines),
        "changed": bool(done.written),
        "changes": list(done.written),
        "diff": {},
    }


def _verified(api: Any, seen: Any) -> dict[str, Any]:
    """What was looked at; failed where something is not as the file says."""
    checks = api.verify(seen, systems=SYSTEMS)
    bad = [check for check in checks if not check.ok]
    said = {"checks": [asdict(check) for check in checks]}
    if not bad:
        return said
    first = next((check.hint for check in bad if check.hint), "look at `meshwright plan`")
    error = api.MeshwrightError(f"{len(bad)} of {len(checks)} things are not as the file says", first)
    lines = tuple(f"{check.name}: expected {check.expected}, saw {check.observed}" for check in bad)
    return {**said, **_failure(api, error, lines)}


def _failure(api: Any, error: Any, lines: tuple[str, ...] = ()) -> dict[str, Any]:
    """The sentence and the next step of the command line, in Ansible's words where the two differ."""
    message, hint = _words(error)
    hint = "if that is meant, set force to the reason" if isinstance(error, api.GuardError) else hint
    said = ": ".join([message, *(["; ".join(line.removeprefix("! ") for line in lines)] if lines else [])])
    kind = "unreachable" if isinstance(error.__cause__, AnsibleConnectionFailure) else "failed"
    return {kind: True, "msg": f"{said}. Next: {hint}"}


def _words(error: Any) -> tuple[str, str]:
    """What happened, and the one next step. Of several problems of the mesh file each keeps its own hint beside it."""
    problems = getattr(error, "problems", ())
    if len(problems) == 1 and problems[0].hint:
        return replace(problems[0], hint="").render(), problems[0].hint
    return error.message, error.hint or "correct the mesh file, then run meshwright check"
