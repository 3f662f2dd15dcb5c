"""A copy of the example, and the command of R21 in it, as its users run it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import booted

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "ansible_collections/meshwright/mesh"
EXAMPLE = ROOT / "examples/homelab"
BIN = Path(sys.executable).parent
QUIET = {
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_LOCALHOST_WARNING": "0",
    "ANSIBLE_TIMEOUT": "60",  # for sudo's prompt too, on a machine that is busy
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(frozen=True)
class Run:
    """A run of ansible-playbook. result: what the task for the hub came to; {} when it was not reached."""

    code: int
    out: str
    result: Mapping[str, Any]

    @property
    def changes(self) -> list[str]:
        return list(self.result["changes"])

    @property
    def said(self) -> str:
        return str(self.result["msg"])


@dataclass
class Ansible:
    """A copy of the example whose hub is a real machine. Calling it runs ansible-playbook in its folder `ansible`."""

    folder: Path
    env: Mapping[str, str]
    runs: list[str] = field(default_factory=list)

    @property
    def mesh(self) -> Path:
        return self.folder / "mesh.yaml"

    @property
    def confs(self) -> Path:
        return self.folder / "ansible/.wg-output"

    def __call__(self, *more: str, env: Mapping[str, str] | None = None) -> Run:
        """The command of R21, and further arguments."""
        return self.play("-i", "inventory/homelab", "playbooks/hamilton-wireguard.yml", *more, env=env)

    def play(self, *words: str, env: Mapping[str, str] | None = None) -> Run:
        done = subprocess.run(
            [str(BIN / "ansible-playbook"), "-v", *words],
            cwd=self.folder / "ansible", env={**self.env, **(env or {})},
            capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        text = done.stdout + done.stderr
        self.runs.append(text)
        assert "Traceback" not in text or "pipe.py" in text, text  # pipe.py is the tests' own way through ssh
        return Run(done.returncode, text, _result(done.stdout))

    def edit(self, change: Callable[[str], str]) -> None:
        text = self.mesh.read_text()
        assert change(text) != text
        self.mesh.write_text(change(text))

    def meshwright(self, *words: str) -> str:
        """What the command line says of the same hub, over its own ssh."""
        done = subprocess.run(
            [sys.executable, "-m", "meshwright", *words], cwd=self.folder, env=self.env,
            capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode in (0, 2), done.stdout + done.stderr
        return done.stdout

    def secrets(self) -> dict[str, str]:
        """Where -> secret: every key of the controller's folder."""
        return {str(path): path.read_text().strip() for path in (self.folder / ".meshwright").rglob("*.key")}


def _result(out: str) -> dict[str, Any]:
    """Of the last task: the one before it is the role's check of its arguments."""
    found = list(re.finditer(r"^(?:ok|changed|fatal): \[[^]]+\](?:: \w+!)? => (?=\{)", out, re.M))
    result: dict[str, Any] = json.JSONDecoder().raw_decode(out, found[-1].end())[0] if found else {}
    return result


def copied(folder: Path, installed: Path, config: Path | None = None) -> Ansible:
    """The example with another address for its hub: what the files of Ansible say of it is adapted, and nothing else.

    One of its peers gets a preshared key, so that there is one to be kept secret.
    """
    place = folder / "homelab"
    shutil.copytree(EXAMPLE, place)
    for path in (place / "mesh.yaml", place / "ansible/inventory/homelab"):
        path.chmod(0o644)
        path.write_text(path.read_text().replace("192.168.20.20", booted.HUB))
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MESHWRIGHT_"))},
        **QUIET,
        "HOME": str(folder),
        "ANSIBLE_COLLECTIONS_PATH": str(installed),
        "PYTHONPATH": str(ROOT / "src"),
    }
    if config:
        env |= {"ANSIBLE_SSH_COMMON_ARGS": f"-F {config}", "MESHWRIGHT_SSH_CONFIG": str(config)}
    here = Ansible(place, env)
    here.edit(lambda text: text.replace("origin.k3s.strommen.systems", booted.HUB))
    here.edit(lambda text: text.replace("namespace: steve}", "namespace: steve, preshared_key: true}"))
    return here
