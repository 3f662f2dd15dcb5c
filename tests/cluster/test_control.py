"""The control plane of the tests: it is a real one, it is closed, and nothing of it stays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from controlplane import ControlPlane
from meshwright.errors import LabError
from meshwright.lab.cluster import children, programs
from meshwright.lab.cluster.ask import asker
from meshwright.lab.cluster.programs import Programs

pytestmark = pytest.mark.cluster

PRIVILEGED = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "control-psa"},
    "spec": {"containers": [{"name": "c", "image": "x", "securityContext": {"privileged": True}}]},
}


def test_it_has_what_the_tests_are_about(cluster: ControlPlane) -> None:
    roles = json.loads(cluster.kubectl("get", "clusterrole", "admin", "-o", "json").stdout)
    assert any("secrets" in rule["resources"] for rule in roles["rules"])
    assert cluster.kubectl("get", "serviceaccount", "default", "-n", "default").returncode == 0
    kinds = cluster.kubectl("api-resources", "-o", "name").stdout.decode().split()
    assert "validatingadmissionpolicies.admissionregistration.k8s.io" in kinds


def test_a_token_is_who_it_says_and_may_nothing_by_itself(cluster: ControlPlane) -> None:
    token = cluster.token("default", "default")
    who = cluster.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", token=token)
    assert who.stdout == b"system:serviceaccount:default:default"
    refused = cluster.kubectl("get", "secrets", "-A", token=token)
    assert refused.returncode != 0
    assert b"forbidden" in refused.stderr
    assert cluster.kubectl("get", "secrets", "-A").returncode == 0


def test_pod_security_is_enforced_by_the_server(cluster: ControlPlane) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("create", "namespace", "control-psa")
    pod = json.dumps(PRIVILEGED).encode()
    try:
        dry = ("apply", "--dry-run=server", "-f", "-")
        assert cluster.kubectl(*dry, stdin=pod).returncode == 0
        cluster.kubectl("label", "namespace", "control-psa", label)
        refused = cluster.kubectl(*dry, stdin=pod)
        assert b"violates PodSecurity" in refused.stderr
    finally:
        cluster.kubectl("delete", "namespace", "control-psa", "--wait=false")


def test_its_keys_are_for_nobody_else(cluster: ControlPlane) -> None:
    folder = cluster.plane.folder
    assert folder.stat().st_mode & 0o077 == 0
    secret = [cluster.kubeconfig, cluster.kubeconfig_of("t"), *(folder / "pki").glob("*.key")]
    assert len(secret) >= 6
    assert [str(p) for p in secret if p.stat().st_mode & 0o077] == []


def test_etcd_answers_nobody_without_a_certificate(cluster: ControlPlane) -> None:
    url, keys = f"https://127.0.0.1:{cluster.plane.etcd[0]}", cluster.plane.folder / "pki"
    stranger = asker(url, keys / "ca.crt", None)
    assert stranger("/health") == (0, b"")
    known = asker(url, keys / "ca.crt", keys / "etcd")
    assert known("/health")[0] == 200


def test_a_program_that_dies_is_named_with_its_last_words(tmp_path: Path) -> None:
    bad = tmp_path / "kube-apiserver"
    bad.write_text("#!/bin/sh\necho 'my disk is full' >&2\nexit 3\n")
    bad.chmod(0o755)
    found = Programs({**programs.find().paths, "kube-apiserver": bad})
    with (
        pytest.raises(LabError, match="kube-apiserver ended: my disk is full"),
        children.loopback(tmp_path / "plane", found),
    ):
        pytest.fail("it cannot be up")
    assert not (tmp_path / "plane").exists()
    assert _mentioning(str(tmp_path)) == []


def _mentioning(text: str) -> list[str]:
    """Processes with a text in their arguments."""
    out = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            out += [words] if text in words else []
    return out
