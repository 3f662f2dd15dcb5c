"""The JSON Schema of the mesh file, made from the classes: for editors, and for naming the key that was meant."""

from __future__ import annotations

from functools import cache
from typing import Any

from meshwright.spec import descriptions, model

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@cache
def json_schema() -> dict[str, Any]:
    """The schema of draft 2020-12. Not to be changed by who gets it."""
    schema = model.Mesh.model_json_schema(by_alias=True)
    for name, part in {"Mesh": schema, **schema["$defs"]}.items():
        for key, inner in part.get("properties", {}).items():
            inner["description"] = descriptions.of(name, key)
    return {"$schema": DIALECT, **schema, "title": "meshwright mesh file"}
