"""doctor scrape from the front door, where there is no cluster: what it completes, and what it refuses."""

from pathlib import Path

import pytest

from door import Door


@pytest.fixture
def door(tmp_path: Path) -> Door:
    door = Door(tmp_path)
    door.mesh()
    return door


def test_namespaces_are_completed_up_to_the_slash(door: Door) -> None:
    def words(typed: str) -> list[str]:
        more = {"COMP_WORDS": f"meshwright doctor scrape {typed}", "COMP_CWORD": "3"}
        done = door(env={**more, "_MESHWRIGHT_COMPLETE": "bash_complete"})
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert words("") == ["ham/", "bryce/", "jake/", "steve/"]
    assert words("br") == ["bryce/"]
    assert words("hamilton") == [""], "a peer is no namespace"


@pytest.mark.parametrize("what", ["web", "bryce/", "/web", "bryce/web/x"])
def test_a_name_needs_its_namespace(door: Door, what: str) -> None:
    done = door("doctor", "scrape", what)
    assert done.returncode == 1
    assert done.stderr == f"error: {what} is not NAMESPACE/NAME\nnext: write it as bryce/web\n"


def test_without_a_cluster_in_the_file_there_is_nothing_to_look_at(door: Door) -> None:
    path = door.folder / "mesh.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("\nkubernetes:")] + "\n")
    done = door("doctor", "scrape", "bryce/web")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no cluster to look at\nnext: ")
