"""The loader that hubd arrives with: packages inside of hubd, as source and compiled, and where what broke stands."""

from __future__ import annotations

import base64
import json
import marshal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import meshwright.hubd
from meshwright.io.host import BOOT, modules

SOURCES = {
    "__init__.py": "FORMAT = 7\n",
    "upper/__init__.py": "",
    "upper/wish.py": "from .. import FORMAT\nfrom ..lower import number\ndef both():\n    return number.SEVEN, FORMAT",
    "lower/__init__.py": '"""Nothing."""\n',
    "lower/number.py": "SEVEN = 7\n",
    "lower/deep/__init__.py": "",
    "lower/deep/fault.py": "def strike():\n    return 1 / 0\n",
    "entry.py": """def operate(operation, payload):
    if operation == "break":
        from .lower.deep import fault
        fault.strike()
    if operation == "miss":
        from .lower import nothing
    from .upper import wish
    import sys
    return {"both": wish.both(), "loaded": sorted(name for name in sys.modules if name.startswith("hubd"))}
""",
}
"""A package with packages in it; boot.py's own needs come from the real one."""


def compiled(sources: dict[str, str]) -> dict[str, str]:
    code = {path: compile(text, f"/anywhere/meshwright/hubd/{path}", "exec") for path, text in sources.items()}
    return {path: base64.b64encode(marshal.dumps(each)).decode() for path, each in code.items()}


def answer(operation: str, kind: str) -> dict[str, Any]:
    sources = {**modules(), **SOURCES}
    boot = (Path(meshwright.hubd.__path__[0]) / "boot.py").read_text()
    held = {"modules": sources} if kind == "modules" else {"code": compiled(sources)}
    document = {"boot": boot, **held, "mark": "MARK", "operation": f"entry.{operation}", "payload": {}}
    argv = [sys.executable, "-I", "-S", "-c", BOOT]
    done = subprocess.run(argv, input=json.dumps(document).encode(), capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.split(b"MARK")[1])
    return found


@pytest.mark.parametrize("kind", ["modules", "code"])
def test_packages_in_packages_are_found_and_only_what_is_asked_for_is_loaded(kind: str) -> None:
    result = answer("look", kind)["result"]
    assert result["both"] == [7, 7]
    assert {"hubd.upper", "hubd.upper.wish", "hubd.lower", "hubd.lower.number"} < set(result["loaded"])
    assert not [name for name in result["loaded"] if "deep" in name]


@pytest.mark.parametrize("kind", ["modules", "code"])
def test_what_broke_is_named_with_its_folder(kind: str) -> None:
    assert answer("break", kind)["error"] == "entry.break broke at hubd/lower/deep/fault.py:2: ZeroDivisionError"


def test_a_module_that_did_not_come_is_not_found() -> None:
    assert answer("miss", "modules")["error"].endswith(": ImportError")
