"""What Ansible's own tools say of the collection and the example. Offline: those that fetch something are not run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from playing import BIN, EXAMPLE, QUIET, ROOT, SOURCE

from meshwright import api

# those of `ansible-test sanity` that need nothing but Python; the others install their own tools from the network
SANITY = (
    "action-plugin-docs",
    "compile",
    "empty-init",
    "ignores",
    "line-endings",
    "no-assert",
    "no-get-exception",
    "no-illegal-filenames",
    "no-smart-quotes",
    "replace-urlopen",
    "shebang",
    "symlinks",
    "use-argspec-type-path",
    "use-compat-six",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the collection and the example, for these tools write beside what they look at."""
    folder = tmp_path_factory.mktemp("tree")
    kept = shutil.ignore_patterns("__pycache__")
    shutil.copytree(SOURCE, folder / SOURCE.relative_to(ROOT), ignore=kept)
    shutil.copytree(EXAMPLE / "ansible", folder / "example/ansible", ignore=kept)
    shutil.copy(ROOT / ".ansible-lint", folder)
    return folder


def run(tree: Path, folder: Path, *words: str) -> str:
    env = {
        **QUIET,
        "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tree),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(tree),
    }
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]], cwd=folder, env=env,
        capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_ansible_lint_has_nothing_to_say(tree: Path) -> None:
    said = run(tree, tree, "ansible-lint", "--nocolor", "--offline", str(SOURCE.relative_to(ROOT)), "example/ansible")
    assert "Profile 'production' was required, and it passed" in said
    found = re.search(r"in (\d+) files processed", said)
    assert found
    assert int(found[1]) > 15


def test_sanity(tree: Path) -> None:
    words = [word for test in SANITY for word in ("--test", test)]
    said = run(tree, tree / SOURCE.relative_to(ROOT), "ansible-test", "sanity", "--python", "default", *words)
    assert said.count("Running sanity test") >= len(SANITY)


def test_options_are_the_same_wherever_they_are_told() -> None:
    """The documentation of the module, the arguments of the action plugin, the role's specification and its table."""
    module = (SOURCE / "plugins/modules/hub.py").read_text()
    documented = yaml.safe_load(module.partition('DOCUMENTATION = r"""')[2].partition('"""')[0])["options"]
    action = (SOURCE / "plugins/action/hub.py").read_text()
    role = yaml.safe_load((SOURCE / "roles/hub/meta/argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]
    table = (SOURCE / "roles/hub/README.md").read_text()
    assert {f"hub_{name}" for name in documented} == set(role)
    for name, said in documented.items():
        assert f'"{name}": {{"type": "{said["type"]}"' in action
        assert role[f"hub_{name}"]["type"] == said["type"]
        assert f"`hub_{name}`" in table


def test_the_collection_asks_for_a_version_that_there_is() -> None:
    from meshwright import __version__

    galaxy = yaml.safe_load((SOURCE / "galaxy.yml").read_text())
    assert galaxy["version"] == __version__
    assert f'OLDEST = "{__version__}"' in (SOURCE / "plugins/plugin_utils/library.py").read_text()


def test_the_public_names() -> None:
    """What others may rely on. To take one away is to break them."""
    assert sorted(api.__all__) == [
        "Applied", "Done", "GuardError", "Host", "HostError", "Lost", "Mesh", "MeshwrightError", "Overdue", "Planned",
        "apply", "load", "plan", "put", "verify",
    ]  # fmt: skip
    assert all(hasattr(api, name) for name in api.__all__)
