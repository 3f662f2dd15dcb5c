"""Loads hubd from the document that came by stdin, runs one operation and answers in a frame.

Not imported: executed on the far side with `document` in its globals (io/host.py). Stray output of any program goes to
stderr, so nothing can come between the marks.
"""

from __future__ import annotations

import base64
import gc
import importlib
import importlib.abc
import importlib.machinery
import json
import linecache
import marshal
import os
import sys
import traceback
import zlib
from typing import Any

document: dict[str, Any] = globals()["document"]
LONG = 1 << 16  # what is shorter is as quick as it is


class _Memory(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports hubd's modules from the document: `modules` holds sources, `code` what the same Python has compiled. Both
    are by the path of the file below hubd."""

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        package, *inside = name.split(".")
        held = document["modules" if "modules" in document else "code"]
        for file in ("/".join(inside) + ".py", "/".join([*inside, "__init__.py"])):
            if package == "hubd" and file in held:
                is_package = os.path.basename(file) == "__init__.py"
                return importlib.machinery.ModuleSpec(name, self, loader_state=file, is_package=is_package)
        return None

    def document(self) -> dict[str, Any]:
        """What hubd came with: for who wants to run it again later."""
        return document

    def exec_module(self, module):  # type: ignore[no-untyped-def]
        file = module.__spec__.loader_state
        if "code" in document:
            exec(marshal.loads(base64.b64decode(document["code"][file])), module.__dict__)  # noqa: S102, S302
            return
        source = document["modules"][file]
        place = f"hubd/{file}"
        linecache.cache[place] = (len(source), None, source.splitlines(True), place)
        exec(compile(source, place, "exec"), module.__dict__)  # noqa: S102


def _unforeseen(error: Exception) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    file = frames[-1].filename if frames else ""
    inside = file.rpartition("hubd/")[2] if "hubd/" in file else os.path.basename(file)
    place = f"hubd/{inside}:{frames[-1].lineno}" if frames else "?"
    # the words of an unforeseen error may quote what it worked on, so only system errors are repeated
    words = f": {error}" if isinstance(error, OSError) else ""
    return {
        "error": f"{document['operation']} broke at {place}: {type(error).__name__}{words}",
        "hint": "this is likely a bug of meshwright; run the command again and report the line above",
    }


def _answer() -> dict[str, Any]:
    sys.meta_path.insert(0, _Memory())
    module, _, operation = document["operation"].rpartition(".")
    agent = importlib.import_module(f"hubd.{module or 'agent'}")
    system = importlib.import_module("hubd.host.system")
    try:
        return {"result": agent.operate(operation, document["payload"])}
    except system.HubError as error:
        return {"error": str(error), "hint": error.hint}
    except OSError as error:
        # where everything is full Python finds no place for a temporary file, and has no number for it
        if error.errno in system.NO_ROOM or "temporary directory" in str(error):
            why = f"{error.filename}: no space left" if error.filename else "no space left on a disk of the hub"
            return {"error": f"{document['operation']}: {why}", "hint": system.FULL}
        if isinstance(error, PermissionError) and os.geteuid():
            return {"error": f"{error.filename}: {system.not_root()}", "hint": system.not_root().hint}
        return _unforeseen(error)
    except Exception as error:  # noqa: BLE001  whatever it is, it must come home as one line
        return _unforeseen(error)


def main() -> None:
    os.umask(0o022)  # whoever logs in here may have set any
    gc.disable()  # one operation and the end: no garbage is worth looking through all peers for
    sys.stdout.flush()
    home = os.dup(1)
    os.dup2(2, 1)
    mark = document["mark"]
    answer = json.dumps(_answer())
    if document.get("packed") and len(answer) > LONG:
        answer = base64.b64encode(zlib.compress(answer.encode(), 1)).decode()
    text = "\n" + mark + answer + mark + "\n"
    with os.fdopen(home, "wb") as out:
        out.write(text.encode())


main()
