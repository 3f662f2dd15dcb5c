"""The NetworkPolicies of a real API server: what a friend opens by himself, and walls that are gone, are seen."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from manor import Manor, faults, network_policy

from controlplane import ControlPlane
from tenancy import placed

pytestmark = pytest.mark.cluster
ENFORCED = "NetworkPolicies are enforced"


@pytest.fixture(scope="module")
def manor(cluster: ControlPlane) -> Iterator[Manor]:
    """ann's admission wall is off."""
    here = Manor(cluster, "manor", peers={"ann": {"tenant": {"admission": False}}})
    try:
        assert here.apply() == []
        yield here
    finally:
        here.gone()


def test_a_mesh_as_it_was_applied_passes(manor: Manor) -> None:
    found = manor.pods()
    assert faults(found) == []
    assert list(found) == [
        "the pods of ann are closed in",
        "the pods of ben are closed in",
        "pods of ann -> nodes 22/tcp",
        "pods of peers -> nodes any port",
        "pods of ben -> pods any port",
        ENFORCED,
    ]
    assert found[ENFORCED].observed == "not visible from the API; only packets prove it"


@pytest.mark.parametrize(
    ("spec", "failed", "said"),
    [
        (
            {"policyTypes": ["Egress"], "egress": [{}]},
            ["pods of ann -> nodes 22/tcp", "pods of peers -> nodes any port"],
            "a pod of ann may dial 192.168.20.0:22/tcp: NetworkPolicy manor-ann/own allows it",
        ),
        (
            {
                "podSelector": {"matchLabels": {"app": "x"}},
                "policyTypes": ["Egress"],
                "egress": [
                    {
                        "to": [{"ipBlock": {"cidr": "192.168.0.0/16", "except": ["192.168.20.0/25"]}}],
                        "ports": [{"port": 20, "endPort": 30}],
                    }
                ],
            },
            ["pods of ann -> nodes 22/tcp", "pods of peers -> nodes any port"],
            "a pod of ann may dial 192.168.20.128:22/tcp: NetworkPolicy manor-ann/own allows it",
        ),
        (
            {
                "policyTypes": ["Egress"],
                "egress": [{"to": [{"ipBlock": {"cidr": "192.168.20.5/32"}}], "ports": [{"port": 80}]}],
            },
            ["pods of peers -> nodes any port"],
            "",
        ),
        ({"policyTypes": ["Egress"], "egress": [{"to": [{"namespaceSelector": {}}]}]}, [], ""),
        ({"policyTypes": ["Ingress"], "ingress": [{}]}, [], ""),
    ],
)  # fmt: skip
def test_a_hole_that_a_friend_made_himself_is_found(manor: Manor, spec: object, failed: list[str], said: str) -> None:
    assert isinstance(spec, dict)
    manor.make(*placed(manor.space("ann"), network_policy("own", **spec)), token=manor.token("ann"))
    try:
        found = manor.pods()
        assert faults(found) == failed
        if said:
            assert found[failed[0]].observed == said
            assert found[failed[0]].hint == "ask ann about it, or: kubectl delete networkpolicy -n manor-ann own"
        assert manor.converged().ok, "it is his, so no plan sees it"
    finally:
        manor.run("delete", "networkpolicy", "own", "-n", manor.space("ann"))


def test_a_wall_that_is_gone_or_opened_is_found_and_apply_mends_it(manor: Manor) -> None:
    space, wall = manor.space("ben"), "the pods of ben are closed in"
    manor.run("delete", "networkpolicy", "meshwright-default-deny", "-n", space)
    found = manor.pods()
    assert faults(found) == [wall]
    assert found[wall].observed == "meshwright-default-deny is not there"
    manor.run("delete", "networkpolicy", "--all", "-n", space)
    found = manor.pods()
    assert faults(found) == [wall, "pods of peers -> nodes any port", "pods of ben -> pods any port"]
    assert "nothing closes it (Ingress, Egress)" in found[wall].observed
    assert found["pods of ben -> pods any port"].observed.endswith("no NetworkPolicy closes it")
    assert manor.apply() == []
    patch = json.dumps({"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "192.168.20.20/32"}}]}]}})
    manor.run("patch", "networkpolicy", "meshwright-default-deny", "-n", space, "--type=merge", "-p", patch)
    found = manor.pods()
    assert faults(found) == [wall, "pods of peers -> nodes any port"]
    assert found[wall].observed == "meshwright-default-deny opens something"
    assert "puts meshwright-default-deny right" in found["pods of peers -> nodes any port"].hint
    assert manor.apply() == []
    assert faults(manor.pods()) == []


def test_who_enforces_it_is_said_as_far_as_it_can_be_seen(manor: Manor) -> None:
    def made(kind: str, name: str, **meta: object) -> dict[str, object]:
        return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, **meta}}

    def agent(space: str) -> dict[str, object]:
        labels = {"app": "x"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"selector": {"matchLabels": labels}, "template": template}
        return {**made("DaemonSet", "calico-node", namespace=space), "apiVersion": "apps/v1", "spec": spec}

    def node(*words: str) -> None:
        note = f"k3s.io/node-args={json.dumps(['server', *words])}"
        assert manor.run("annotate", "node", "manor-node", "--overwrite", note).returncode == 0

    try:
        manor.make(made("Node", "manor-node"), agent(manor.space("ann")))
        assert manor.pods()[ENFORCED].observed.startswith("not visible"), "a friend's own proves nothing"
        node("--disable", "traefik")
        assert "the controller inside k3s" in manor.pods()[ENFORCED].observed
        node("--disable-network-policy", "false")
        assert manor.pods()[ENFORCED].ok
        for words in (["--disable-network-policy"], ["--x", "--disable-network-policy=true", "--y"]):
            node(*words)
            assert faults(manor.pods()) == [ENFORCED]
        manor.make(agent("kube-system"))
        check = manor.pods()[ENFORCED]
        assert check.ok
        assert check.observed == "there is DaemonSet kube-system/calico-node; that it does its work only packets prove"
    finally:
        manor.run("delete", "node", "manor-node")
        manor.run("delete", "daemonset", "calico-node", "-n", "kube-system")
        manor.run("delete", "daemonset", "calico-node", "-n", manor.space("ann"))
