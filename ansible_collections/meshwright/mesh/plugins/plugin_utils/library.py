"""The meshwright package in the Python that runs Ansible, or one sentence on how to get it there."""

from __future__ import annotations

import re
import shlex
import sys
from types import ModuleType

from ansible.errors import AnsibleActionFail

OLDEST = "0.1.0"


def api() -> ModuleType:
    """meshwright.api. AnsibleActionFail when the package is missing, too old or cannot be imported."""
    try:
        import meshwright
    except ModuleNotFoundError:
        raise AnsibleActionFail(
            f"meshwright is not installed in the Python that runs Ansible. Next: {_install()}"
        ) from None
    version = getattr(meshwright, "__version__", "0")
    try:
        from meshwright import api as found
    except ImportError as error:
        raise AnsibleActionFail(
            f"meshwright {version} cannot be used by Ansible's Python: {error}. Next: {_install()}"
        ) from None
    if _numbers(version) < _numbers(OLDEST):
        raise AnsibleActionFail(f"meshwright {version} is older than {OLDEST}, which this needs. Next: {_install()}")
    return found


def _install() -> str:
    return f"{shlex.quote(sys.executable)} -m pip install --upgrade 'meshwright>={OLDEST}'"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
