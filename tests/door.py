"""The front door: the real program in a process of its own, in a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "examples/homelab/mesh.yaml"


class Door:
    """Runs `meshwright ...` in `folder`, where nothing but what a test put there is found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "PYTHONPATH": str(ROOT / "src"),
            "LANG": "C.UTF-8",
        }
        (folder / "home").mkdir()

    def command(self, *arguments):
        return [sys.executable, "-m", "meshwright", *map(str, arguments)]

    def __call__(self, *arguments, env=None, stdin=""):
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env={**self.env, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def mesh(self, text=None, name="mesh.yaml"):
        path = self.folder / name
        path.write_text(REFERENCE.read_text() if text is None else text)
        return path
