"""Whether a Secret of ours may go: what was adopted is held by its first maker too, as managedFields has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from meshwright.providers.kubernetes.kinds import TABLE
from meshwright.providers.kubernetes.look import Place, _prunable

MINE, HIS = ("meshwright", "Apply"), ("kubectl-create", "Update")
DATA = {".": {}, "f:token": {}}


def secret(*holders: tuple[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    entries = [{"manager": name, "operation": how, "fieldsV1": fields} for (name, how), fields in holders]
    return {"metadata": {"name": "exporter", "managedFields": entries}}


@pytest.mark.parametrize(
    ("holders", "goes"),
    [([(MINE, {"f:data": DATA})], True),
     ([(MINE, {"f:data": DATA}), (HIS, {"f:data": DATA, "f:type": {}})], True),
     ([(MINE, {"f:data": DATA}), (HIS, {"f:data": {**DATA, "f:more": {}}})], False),
     ([(MINE, {"f:data": DATA}), (HIS, {"f:data": {}})], False),
     ([(MINE, {"f:type": {}}), (HIS, {"f:data": DATA})], False),
     ([(HIS, {"f:data": DATA})], False),
     ([(HIS, {"f:type": {}})], True),
     ([], False)],
)  # fmt: skip
def test_a_secret_goes_unless_it_has_data_of_somebody_elses(holders: Iterable[Any], goes: bool) -> None:
    assert _prunable(secret(*holders), Place(TABLE["secret"], "monitoring", "exporter")) is goes
