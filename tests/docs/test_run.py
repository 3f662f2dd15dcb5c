"""The commands of the README, run as they stand: the house on a hub made of namespaces, the demo as a newcomer."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

import controlplane
from meshwright.io.host import Namespace

pytestmark = pytest.mark.lab
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PATIENCE = 300


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)
    assert found
    return found[1]


def typed(argv: list[str], environment: dict[str, str], answer: bytes) -> tuple[int, str]:
    """Run a program on a terminal of its own, with `answer` typed when it asks [y/N]. Gives (exit code, screen)."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        argv, stdin=secondary, stdout=secondary, stderr=secondary, env=environment, start_new_session=True
    )
    os.close(secondary)
    screen, end, asked = b"", time.monotonic() + PATIENCE, False
    try:
        while time.monotonic() < end:
            if select.select([primary], [], [], 1)[0]:
                try:
                    screen += os.read(primary, 65536)
                except OSError:
                    break
            if b"[y/N]" in screen and not asked:
                os.write(primary, answer)
                asked = True
        return process.wait(30), screen.decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        os.close(primary)


def test_the_readmes_house_is_set_up_by_the_readmes_commands(tmp_path: Path, hub_host: Namespace) -> None:
    (tmp_path / "mesh.yaml").write_text(block("yaml"))
    environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin", "HOME": str(tmp_path), "TERM": "xterm", "LANG": "C.UTF-8"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    seen = []
    for line in block("console").splitlines():
        words = shlex.split(line.removeprefix("$ "))
        assert words[0] == "meshwright"
        inside = ["sh", "-c", f'cd {tmp_path} && exec "$@"', "sh", sys.executable, "-m", *words]
        code, screen = typed(hub_host.enter(inside), environment, b"y\n")
        expected = 2 if words[1] == "plan" else 0
        assert code == expected, f"{line}: {screen}"
        seen.append(words[1])
    assert seen == ["check", "plan", "apply", "verify", "peer"]
    assert hub_host.run(["wg", "show", "wg0", "peers"]).out.decode().count("\n") == 2


def test_the_demo_comes_up_proves_itself_and_goes(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}

    def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "script/demo", *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE
        )

    try:
        up = demo()
        assert up.returncode == 0, up.stdout + up.stderr
        assert "none failed" in up.stdout
        exported = re.search(r"^  export (.*)$", up.stdout, re.M)
        assert exported
        environment.update(word.split("=", 1) for word in exported[1].split())
        tried = re.findall(r"^  (script/meshwright .*?)(?:  .*)?$", up.stdout, re.M)
        assert len(tried) > 2
        for line in tried:
            done = subprocess.run(
                shlex.split(line), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE
            )
            assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    finally:
        down = demo("--down")
    assert down.returncode == 0, down.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.cluster
def test_the_readmes_lab_with_a_cluster(tmp_path: Path) -> None:
    if reason := controlplane.obstacle():
        controlplane.give_up(reason)
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S)
    lines = next(text for text in blocks if "lab up" in text).splitlines()
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": str(ROOT / "src")}
    environment.update([lines[0].removeprefix("export ").split("=", 1)])
    said = {}

    def run(line: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", *shlex.split(line)]
        return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)

    try:
        for line in lines[1:]:
            done = run(line)
            assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
            said[line] = done.stdout + done.stderr
    finally:
        run("meshwright lab down")
    assert [line.split()[2] for line in said] == ["up", "exec", "verify", "down"]
    assert "No resources found in jake namespace." in said["meshwright lab exec jake kubectl get pods"]
    assert "none failed" in said["meshwright lab verify"]
    assert not (tmp_path / "state/meshwright/lab/collective-mesh").exists()
