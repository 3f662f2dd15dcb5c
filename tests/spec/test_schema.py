"""The JSON Schema against the files that the loader takes, and against some that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from meshwright.spec import descriptions
from meshwright.spec.model import Mesh
from meshwright.spec.nodes import parse
from meshwright.spec.schema import json_schema

TESTS = Path(__file__).parent.parent
EXAMPLES = TESTS.parent / "examples"
GOOD = [EXAMPLES / "homelab/mesh.yaml", EXAMPLES / "minimal/mesh.yaml", TESTS / "data/mesh-full.yaml"]
SHAPES = [
    "unknown-key",
    "from-underscored",
    "gateway-kind-unknown",
    "secret-in-the-file",
    "text-for-number",
    "version-other",
]


def check(path: Path) -> list[Any]:
    data, faults = parse(path.read_text())
    assert not faults
    return list(jsonschema.Draft202012Validator(json_schema()).iter_errors(data))


def test_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.parent.name)
def test_good_file_fits(path: Path) -> None:
    assert check(path) == []


@pytest.mark.parametrize("name", SHAPES)
def test_wrong_shape_does_not_fit(name: str) -> None:
    assert check(TESTS / "bad" / f"{name}.yaml")


def test_every_key_of_the_file_is_described_by_its_own_name() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(Mesh.model_fields)
    assert {"from", "to", "ports"} == set(schema["$defs"]["Allow"]["properties"])


def test_every_key_says_what_it_means() -> None:
    schema = json_schema()
    keys = [inner for part in [schema, *schema["$defs"].values()] for inner in part.get("properties", {}).values()]
    assert len(keys) > 150
    assert all(key["description"].endswith(".") for key in keys)


def test_every_description_is_of_a_key_that_exists() -> None:
    schema = json_schema()
    classes = {"Mesh": schema, **schema["$defs"]}
    for name, keys in descriptions._CLASSES.items():
        assert set(keys) <= set(classes[name]["properties"]), name
