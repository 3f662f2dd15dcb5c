"""The scripts that change something, on a copy of the repository."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = (
    "script",
    "pyproject.toml",
    "CHANGELOG.md",
    "requirements.lock",
    "requirements-dev.lock",
    "src/meshwright/__init__.py",
)


class Copy:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "GIT_CONFIG_GLOBAL": str(folder / "home/gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        (folder / "home").mkdir()
        (folder / "home/gitconfig").write_text("[user]\nname = a\nemail = a@example.net\n")
        self.tree = folder / "tree"
        for name in FILES:
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, self.tree / name)
        self("git", "init", "-q")
        self.commit()

    def __call__(self, *argv):
        return subprocess.run(argv, cwd=self.tree, env=self.env, capture_output=True, text=True, timeout=60)

    def commit(self):
        self("git", "add", "-A")
        assert self("git", "commit", "-q", "-m", "x").returncode == 0


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


def test_a_release_is_one_commit_and_one_tag(copy):
    (copy.tree / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n### Added\n- a thing\n")
    copy.commit()
    done = copy("script/release", "7.1.0")
    assert done.returncode == 0, done.stderr
    assert copy("git", "rev-list", "--count", "HEAD").stdout == "3\n"
    assert copy("git", "describe").stdout == "v7.1.0\n"
    assert not copy("git", "status", "--porcelain").stdout
    assert '\nversion = "7.1.0"\n' in (copy.tree / "pyproject.toml").read_text()
    assert '__version__ = "7.1.0"' in (copy.tree / "src/meshwright/__init__.py").read_text()
    changes = (copy.tree / "CHANGELOG.md").read_text()
    assert changes.index("[Unreleased]") < changes.index("## [7.1.0] - 2") < changes.index("a thing")


@pytest.mark.parametrize("version", ["", "7", "7.1", "07.1.0", "7.1.0rc1", "v7.1.0", "0.0.1"])
def test_no_release_of_what_is_no_newer_version(copy, version):
    done = copy("script/release", version)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("next: ")
    assert copy("git", "tag").stdout == ""


def test_no_release_without_changes_or_twice_or_from_a_dirty_tree(copy):
    (copy.tree / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n")
    assert "has changes" in copy("script/release", "7.1.0").stderr
    copy.commit()
    assert "says nothing" in copy("script/release", "7.1.0").stderr
    assert copy("git", "status", "--porcelain").stdout == ""
    copy("git", "tag", "v7.1.0")
    assert "exists" in copy("script/release", "7.1.0").stderr


@pytest.mark.parametrize("script", ["bootstrap", "demo"])
def test_an_unknown_argument_is_refused(copy, script):
    done = copy(f"script/{script}", "--bogus")
    assert done.returncode == 1
    assert done.stderr.startswith("error: unknown argument --bogus\nnext: ")


def test_an_ordinary_user_without_sudo_is_told_what_to_install(copy, tmp_path):
    """Debian's packages are missing and `sudo -n` fails: one sentence, and nothing else happens."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "readlink", "cat", "sha256sum", "cut", "sort", "tr", "python3", "apt-get", "pwd"):
        (tools / name).symlink_to(shutil.which(name))
    (tools / "id").write_text("#!/bin/bash\necho 1000\n")
    (tools / "sudo").write_text("#!/bin/bash\nexit 1\n")
    for name in ("id", "sudo"):
        (tools / name).chmod(0o755)
    script = copy.tree / "script/lib.sh"
    script.write_text(script.read_text().replace("PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin", ""))
    copy.env["PATH"] = str(tools)
    done = copy("script/bootstrap")
    assert done.returncode == 1
    assert "run as root: apt-get update && apt-get install --yes" in done.stderr
    assert "nftables" in done.stderr
    assert "wireguard-tools" in done.stderr
    assert not list((tmp_path / "home").rglob("venv-*"))


@pytest.fixture
def tiers(copy, tmp_path):
    """script/test with each thing that it runs replaced by a word of its own and an exit code."""

    def run(codes, **env):
        tools = tmp_path / "bin"
        tools.mkdir()
        for path in (*(copy.tree / "script" / name for name in STEPS), tools / "python", tools / "id"):
            path.write_text('#!/bin/bash\ncase "${0##*/} $*" in\n')
            with path.open("a") as script:
                script.writelines(f'*"{word}"*) exit {code};;\n' for word, code in codes.items())
                script.write('"id -u") echo 0;;\n*) echo "ran ${0##*/}";;\nesac\n')
            path.chmod(0o755)
        copy.env |= {"PATH": f"{tools}:{os.environ['PATH']}"} | env
        done = copy("script/test")
        told = done.stdout.partition("== All tiers\n")[2]
        return done, {name: word for word, name in re.findall(r"^ *\d+:\d\d  (\S.*?)  +(.+)$", told, re.M)}

    return run


STEPS = ("bootstrap", "lint", "cluster", "observed", "vm", "rootless")


def test_a_tier_that_fails_stops_no_other_and_the_end_names_it(tiers):
    done, told = tiers({"-m cluster and not lab": 1, "observed": 3})
    assert done.returncode == 1
    assert done.stderr.startswith("error: not every tier passed\nnext: ")
    assert [name for name, word in told.items() if word == "FAILED"] == [
        "Programs that watch it",
        "Cluster tests, on a real API server",
    ]
    assert list(told.values()).count("passed") == 7
    assert "ran rootless" in done.stdout


@pytest.mark.parametrize(("env", "code"), [({}, 0), ({"CI": "true"}, 1)])
def test_a_tier_that_cannot_run_is_told_and_fails_in_ci(tiers, env, code):
    done, told = tiers({"vm": 75}, **env)
    assert done.returncode == code
    assert told["Tests on the kernel's WireGuard, in a virtual machine"] == "DID NOT RUN"
    assert ("All other checks and tests passed." in done.stdout) == (code == 0)


def test_everything_passed(tiers):
    done, told = tiers({})
    assert done.returncode == 0, done.stderr
    assert set(told.values()) == {"passed"}
    assert done.stdout.endswith("\nAll checks and tests passed.\n")
