"""Documents tell the truth: links lead somewhere, commands exist and run, the README's plan is what comes out."""

import base64
import hashlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from meshwright import discover
from meshwright.cli import app
from meshwright.desired import state
from meshwright.desired.resource import Resource, Unknown
from meshwright.plan import plan, text
from meshwright.spec import load

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for path in (
        ROOT / line for line in subprocess.check_output(["git", "ls-files", "*.md"], cwd=ROOT, text=True).split()
    )
    if path.exists()
)
README = (ROOT / "README.md").read_text()


def block(language, document=README):
    return re.search(rf"^```{language}\n(.*?)^```$", document, re.M | re.S)[1]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    prose = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, heading = target.partition("#")
        found = (path.parent / file) if file else path
        assert found.exists(), f"{path.name} links to {target}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", found.read_text(), re.M)
            assert heading in [re.sub(r"[^\w\- ]", "", t).strip().lower().replace(" ", "-") for t in titles], target


def commands():
    """Every command of ours that stands in a document, in a block or between backticks."""
    for path in DOCUMENTS:
        found = re.findall(r"^(?:\$ )?((?:script/)?meshwright .*|script/\S+.*)$", path.read_text(), re.M)
        found += re.findall(r"`((?:script/)?meshwright [^`]+|script/[^`]+)`", path.read_text())
        for line in dict.fromkeys(found):
            yield pytest.param(line, id=f"{path.name}: {line}")


@pytest.mark.parametrize("line", list(commands()))
def test_commands_exist(line):
    words = shlex.split(line.split("  #")[0].split("   ")[0])
    if words[0] != "meshwright" and words[0] != "script/meshwright":
        assert (ROOT / words[0]).exists()
        return
    group, rest = app.cli, [w for w in words[1:] if w not in ("--lab", "--output", "json")]
    while rest and isinstance(group, app.click.Group):
        name = rest.pop(0)
        group = group.get_command(app.click.Context(group), name)
        assert group is not None, f"{line}: there is no command {name}"
    known = {option for parameter in group.get_params(app.click.Context(group)) for option in parameter.opts}
    known |= {"--help", "--file", "-f"}
    assert {w for w in rest if w.startswith("-") and w != "--"} <= known | ({"-c"} if group.name == "exec" else set())


def test_every_command_is_in_the_readme():
    for name in app.COMMANDS:
        assert re.search(rf"\b{name}\b", README), name


def test_the_mesh_file_of_the_readme_has_twelve_lines_and_no_problem():
    assert len(block("yaml").splitlines()) == 12
    loaded = load.load_text(block("yaml"))
    assert set(loaded.mesh.peers) == {"alice", "bob"}
    assert not loaded.warnings


def test_the_plan_of_the_readme_is_what_comes_out():
    with_bob = load.load_text(block("yaml")).mesh
    without = load.load_text("".join(line for line in block("yaml").splitlines(True) if "  bob:" not in line)).mesh
    facts = discover.read(with_bob, {})
    actual = {id: settled(resource) for id, resource in state.state(without, facts).items()}
    wanted = state.known(state.state(with_bob, facts), actual)
    assert block("plan").splitlines() == text.text(plan.make(wanted, actual)).splitlines()


def settled(resource):
    """The resource as an apply would have left it: everything known."""

    def fill(value):
        if isinstance(value, Unknown):
            return base64.b64encode(hashlib.sha256(value.id.encode()).digest()).decode()
        return {k: fill(v) for k, v in value.items()} if isinstance(value, dict) else value

    return Resource(resource.id, fill(dict(resource.attrs)), resource.secret, resource.after)


def test_exit_codes_of_the_readme_are_those_of_the_program():
    said = set(map(int, re.findall(r"(\d+) [a-z]", README[README.index("Exit codes:") :].split("\n\n")[0])))
    assert said == {0, 1, 2, 3, 4, 70, 130}


def test_scripts_say_what_they_do():
    for path in sorted((ROOT / "script").iterdir()):
        lines = path.read_text().splitlines()
        assert any(line.startswith("# ") for line in lines[:2]), path.name
        assert subprocess.run(["bash", "-n", str(path)], timeout=20).returncode == 0


def test_lock_files_name_no_host_and_have_hashes():
    for name in ("requirements.lock", "requirements-dev.lock"):
        lock = (ROOT / name).read_text()
        assert "://" not in lock
        pinned = re.findall(r"^[\w.-]+==[^\s]+ \\\n    --hash=sha256:", lock, re.M)
        assert len(pinned) == len(re.findall(r"^[\w.-]+==", lock, re.M)) > 10


def test_the_lock_has_everything_that_the_project_needs():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for needs, name in (
        (project["dependencies"], "requirements.lock"),
        (project["optional-dependencies"]["dev"], "requirements-dev.lock"),
    ):
        locked = set(re.findall(r"^([\w.-]+)==", (ROOT / name).read_text(), re.M))
        for need in needs:
            assert re.split(r"[<>=]", need)[0].lower().replace(".", "-").replace("_", "-") in locked, need
