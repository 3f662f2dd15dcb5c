"""The admission policies as objects; what they refuse is tried on a real server in tests/escalation."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from meshwright.desired import names
from meshwright.desired.facts import Facts
from meshwright.desired.kubernetes import admission
from meshwright.desired.resource import Resource, collect
from meshwright.spec import load

REFERENCE = (Path(__file__).parents[1] / "cases" / "reference" / "mesh.yaml").read_text()
FACTS = Facts(datetime(2026, 1, 1, tzinfo=UTC))
ALWAYS = {"protect", "deployer", "marks", "quarantine"}
EVERYWHERE = {"namespaces"}


def built(text: str = REFERENCE) -> dict[str, Resource]:
    return collect(admission.build(load.load_text(text).mesh, FACTS))


def policies() -> dict[str, dict[str, Any]]:
    """What of the policy's name -> its spec."""
    found = [r.attrs for r in built().values() if r.attrs["kind"] == "ValidatingAdmissionPolicy"]
    return {attrs["metadata"]["name"].removeprefix("collective-mesh-"): attrs["spec"] for attrs in found}


def test_nothing_where_no_cluster_is_managed() -> None:
    start, end = REFERENCE.index("kubernetes:\n"), REFERENCE.index("observability:\n")
    assert built(REFERENCE[:start] + REFERENCE[end:]) == {}


def test_every_policy_has_a_binding_that_denies_and_comes_after_it() -> None:
    resources = built()
    assert len(resources) == 2 * len(policies())
    for what in policies():
        policy = f"kubernetes/validatingadmissionpolicy/collective-mesh-{what}"
        binding = resources[policy.replace("policy", "policybinding")]
        assert resources[policy].after == ()
        assert binding.after == (policy,)
        assert binding.attrs["spec"]["policyName"] == f"collective-mesh-{what}"
        assert binding.attrs["spec"]["validationActions"] == ["Deny"]


def test_walls_can_be_switched_off_but_not_the_protection_of_what_is_ours() -> None:
    for what, spec in policies().items():
        labels = spec["matchConstraints"]["namespaceSelector"].get("matchLabels")
        if what in EVERYWHERE:
            assert labels is None
        elif what in ALWAYS:
            assert labels == {names.MESH: "collective-mesh"}
        else:
            assert labels == {names.MESH: "collective-mesh", names.ADMISSION: "enforced"}


def test_quarantine_refuses_every_request_but_only_where_its_mark_is() -> None:
    for what, spec in policies().items():
        match = spec["matchConstraints"]
        keys = [each["key"] for each in match["namespaceSelector"].get("matchExpressions", ())]
        assert (names.QUARANTINE in keys) == (what == "quarantine")
        (rule, *_) = match["resourceRules"]
        assert (rule["scope"] == "Namespaced") == (what == "quarantine"), "or it judges what is in no namespace"
        if what == "quarantine":
            assert (rule["apiGroups"], rule["apiVersions"]) == (["*"], ["*"])
            assert (rule["resources"], rule["operations"]) == (["*/*"], ["*"])


def test_policies_fail_closed_and_take_no_parameter_of_a_namespace() -> None:
    for spec in policies().values():
        assert spec["failurePolicy"] == "Fail"
        assert spec.get("paramKind", {}).get("kind") in (None, "PriorityClass", "StorageClass")


def test_every_refusal_says_what_to_do() -> None:
    for spec in policies().values():
        for check in spec["validations"]:
            assert check["message"][0].isupper()
            assert len(check["message"]) > 20
            assert check["reason"] == "Forbidden"


def test_a_label_of_the_mesh_file_cannot_become_part_of_an_expression() -> None:
    """`check` refuses such a label; whoever makes a mesh without it gets it quoted."""
    mesh = load.load_text(REFERENCE).mesh
    assert mesh.observability
    watch = mesh.observability.model_copy(update={"dashboard_label": "x'] || true || k in ['\""})
    found = collect(admission.build(mesh.model_copy(update={"observability": watch}), FACTS))
    spec = next(r.attrs["spec"] for id, r in found.items() if id.endswith("policy/collective-mesh-grafana"))
    assert '"x\'] || true || k in [\'\\""' in spec["validations"][0]["expression"]
