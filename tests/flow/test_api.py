"""meshwright as a library: look, apply, look again, on a hub of namespaces that the caller brings himself."""

from __future__ import annotations

from pathlib import Path

import pytest

from door import REFERENCE
from meshwright import api
from meshwright.io.host import Namespace

pytestmark = pytest.mark.lab
BOTH = ("files", "hub")


def test_a_mesh_is_set_up_and_guarded(hub_host: Namespace, tmp_path: Path) -> None:
    text = REFERENCE.read_text()
    (tmp_path / "mesh.yaml").write_text(text)
    mesh = api.load(tmp_path / "mesh.yaml")
    todo = api.plan(mesh, tmp_path, hub=hub_host, systems=BOTH)
    assert todo
    assert not (tmp_path / ".meshwright").exists()
    assert todo.text.endswith(f"digest {todo.digest}")
    with pytest.raises(api.MeshwrightError, match="not 0123"):
        api.apply(todo, digest="0123")
    done = api.apply(todo, digest=todo.digest)
    assert (done.error, done.lines) == (None, ())
    assert done.written == todo.changes
    assert len(list((tmp_path / "ansible/.wg-output").glob("*.conf"))) == 4
    again = api.plan(mesh, tmp_path, hub=hub_host, systems=BOTH)
    assert not again
    assert again.error is None
    assert all(check.ok for check in api.verify(again, systems=BOTH))

    (tmp_path / "mesh.yaml").write_text(text.partition("peers:")[0] + "peers:\n  bryce: {address: 10.100.2.2}\n")
    less = api.plan(api.load(tmp_path / "mesh.yaml"), tmp_path, hub=hub_host, systems=BOTH)
    with pytest.raises(api.GuardError, match="deletes"):
        api.apply(less)
    assert not all(check.ok for check in api.verify(less, systems=BOTH))
    (tmp_path / "ansible/.wg-output/new.conf").touch(0o600)
    more = (tmp_path / "mesh.yaml").read_text() + "  new: {address: 10.100.2.9}\n"
    (tmp_path / "mesh.yaml").write_text(more)
    todo = api.plan(api.load(tmp_path / "mesh.yaml"), tmp_path, hub=hub_host, systems=BOTH)
    done = api.apply(todo, force="a test")
    assert set(todo.changes) - set(done.written) == {"files/client/new"}
    assert done.error is not None
    assert done.error.exit_code == 3
    assert "is there already and not ours" in done.lines[0]
