"""The exporter's objects, and what every monitor must carry (R9, R17 to R19)."""

from __future__ import annotations

import base64
import shlex
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from meshwright.cli import byhand
from meshwright.desired.documents import documents, ready
from meshwright.desired.facts import ClusterFacts, Exporter, Facts
from meshwright.desired.resource import Resource
from meshwright.desired.state import known, state
from meshwright.plan import plan, text
from meshwright.plan.plan import unknowns
from meshwright.spec import load
from meshwright.spec.model import Mesh

NOW = datetime(2026, 11, 23, tzinfo=UTC)
CASES = Path(__file__).parents[1] / "cases"
REFERENCE = (CASES / "reference/mesh.yaml").read_text()
EVERY_KEY = (CASES / "every-key/mesh.yaml").read_text()
TOKEN = "of-those-who-may-scrape"
WIREGUARD = "wireguard-exporter/wireguard-exporter"
NORTH = "monitoring/northern-lights-exporter"
KEPT = "monitoring/meshwright-northern-lights-exporter"
TLS = EVERY_KEY.replace(
    "token: {file: exporter.token}}", "token: {file: exporter.token}, tls: {certificate: c.pem, key: {file: k.pem}}}"
)


def built(file: str, exporter: Exporter | None = None) -> tuple[Mesh, dict[str, Resource]]:
    mesh = load.load_text(file, now=NOW).mesh
    services = {name: (ip_address("10.96.7.8"),) for name, service in mesh.services.items() if service.kubernetes}
    return mesh, state(mesh, Facts(NOW, services, cluster=ClusterFacts("1.36"), exporter=exporter))


def spec(found: dict[str, Resource], kind: str, name: str) -> Any:
    return found[f"kubernetes/{kind}/{name}"].attrs["spec"]


# what all monitors are


@pytest.mark.parametrize("file", [REFERENCE, EVERY_KEY, TLS], ids=["reference", "every-key", "tls"])
def test_every_monitor_is_found_and_has_bounds(file: str) -> None:
    mesh, found = built(file)
    assert mesh.observability
    monitors = [r.attrs for id, r in found.items() if id.startswith(("kubernetes/servicemonitor/", "kubernetes/podm"))]
    assert len(monitors) == 1 + 2 * sum(bool(peer.namespace and not peer.disabled) for peer in mesh.peers.values())
    for monitor in monitors:
        labels, said = monitor["metadata"]["labels"], monitor["spec"]
        assert labels["release"] == mesh.observability.release
        assert labels["app.kubernetes.io/part-of"] == labels["meshwright.io/mesh"] == mesh.name
        assert said["namespaceSelector"] == {"matchNames": [monitor["metadata"]["namespace"]]}
        assert said["selector"]["matchLabels"], "an empty selector takes all"
        for limit in ["sampleLimit", "targetLimit", "labelLimit", "labelNameLengthLimit", "labelValueLengthLimit"]:
            assert said[limit] > 0
        assert said["keepDroppedTargets"]
        assert said["bodySizeLimit"]
        (endpoint,) = said.get("endpoints") or said["podMetricsEndpoints"]
        assert (endpoint["port"], endpoint["interval"]) == ("metrics", mesh.observability.interval)
        assert {endpoint[key] for key in ("honorLabels", "honorTimestamps", "followRedirects")} == {False}
        assert int(endpoint["scrapeTimeout"].removesuffix("s")) < int(endpoint["interval"].removesuffix("s"))


# exporter 3.6.6


def container(found: dict[str, Resource]) -> dict[str, Any]:
    (only,) = spec(found, "daemonset", WIREGUARD)["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def test_exporter_of_the_reference() -> None:
    """R9: namespace, node, network, right, image, interface."""
    _, found = built(REFERENCE)
    pod = spec(found, "daemonset", WIREGUARD)["template"]["spec"]
    one = container(found)
    assert pod["nodeSelector"] == {"kubernetes.io/hostname": "k3s-server-1"}
    assert pod["hostNetwork"] is True
    assert pod["automountServiceAccountToken"] is False
    assert one["image"] == "mindflavor/prometheus-wireguard-exporter:3.6.6"
    assert one["securityContext"]["capabilities"] == {"add": ["NET_ADMIN"], "drop": ["ALL"]}
    assert one["securityContext"]["runAsUser"] == 0
    assert one["securityContext"]["readOnlyRootFilesystem"] is True
    assert {one["securityContext"][key] for key in ("privileged", "allowPrivilegeEscalation")} == {False}
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one["resources"]["limits"].keys() == {"cpu", "memory"}
    levels = found["kubernetes/namespace/wireguard-exporter"].attrs["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert levels[f"pod-security.kubernetes.io/{mode}"] == "privileged"
        assert levels[f"pod-security.kubernetes.io/{mode}-version"] == "v1.36"
    assert "meshwright.io/peer" not in levels, "nobody's"
    inside = {id.split("/")[1] for id in found if "/wireguard-exporter/" in id}
    assert not inside & {"rolebinding", "role"}, "no rights for anybody"


@pytest.mark.parametrize(
    ("more", "listens"),
    [
        ("", "192.168.20.20"),
        (", address: 192.168.20.21, port: 9000", "192.168.20.21"),
        (", address: 'fd00::5'", "fd00::5"),
    ],
)
def test_it_never_logs_what_wg_prints_nor_shows_where_friends_are(more: str, listens: str) -> None:
    """What it prints when it is verbose holds the hub's private key."""
    _, found = built(REFERENCE.replace("namespace: wireguard-exporter}", f"namespace: wireguard-exporter{more}}}"))
    words = container(found)["args"]
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert len(options) * 2 == len(words), "each once: the last one would win"
    assert (options["-v"], options["-r"]) == ("false", "false")
    assert options["-i"] == "wg1", "not the cluster's own WireGuard too"
    assert options["-l"] == listens
    assert not container(found).get("env")
    probe = container(found)["readinessProbe"]["tcpSocket"]
    assert (probe["host"], str(probe["port"])) == (options["-l"], options["-p"])


def test_it_is_scraped_where_it_listens_whatever_address_the_pod_has() -> None:
    _, found = built(
        REFERENCE.replace("namespace: wireguard-exporter}", "namespace: wireguard-exporter, address: 'fd00::5'}")
    )
    (endpoint,) = spec(found, "servicemonitor", WIREGUARD)["endpoints"]
    rules = {rule["targetLabel"]: rule["replacement"] for rule in endpoint["relabelings"] if "targetLabel" in rule}
    assert rules == {"__address__": "[fd00::5]:9586", "instance": "k3s-server-1", "node": "k3s-server-1"}
    service = found[f"kubernetes/service/{WIREGUARD}"].attrs
    chosen = spec(found, "servicemonitor", WIREGUARD)["selector"]["matchLabels"]
    assert chosen.items() <= service["metadata"]["labels"].items()
    pods = spec(found, "daemonset", WIREGUARD)["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= pods.items()


# ours


def test_ours_is_found_by_either_way_of_discovery() -> None:
    _, found = built(TLS, Exporter(TOKEN, "PEM", "of the certificate", "CA"))
    service, old, new = (
        found[f"kubernetes/{kind}/{NORTH}"].attrs for kind in ("service", "endpoints", "endpointslice")
    )
    assert "selector" not in service["spec"]
    chosen = spec(found, "servicemonitor", NORTH)["selector"]["matchLabels"]
    assert chosen.items() <= service["metadata"]["labels"].items()
    assert new["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
    assert old["metadata"]["labels"]["endpointslice.kubernetes.io/skip-mirror"] == "true"
    assert old["metadata"]["name"] == service["metadata"]["name"]
    ports = [(p["name"], p["port"]) for p in service["spec"]["ports"]]
    assert ports == [(p["name"], p["port"]) for p in new["ports"]] == [("metrics", 9586)]
    assert [(p["name"], p["port"]) for p in old["subsets"][0]["ports"]] == ports
    assert new["endpoints"][0]["addresses"] == [old["subsets"][0]["addresses"][0]["ip"]] == ["192.0.2.10"]


def test_the_scraper_shows_the_token_and_checks_the_certificate() -> None:
    _, found = built(TLS, Exporter(TOKEN, "PEM", "of the certificate", "CA"))
    (endpoint,) = spec(found, "servicemonitor", NORTH)["endpoints"]
    secret, authority = found[f"kubernetes/secret/{KEPT}"], found[f"kubernetes/configmap/{KEPT}"]
    named = endpoint["authorization"]["credentials"]
    assert base64.b64decode(secret.attrs["data"][named["key"]]).decode() == TOKEN
    assert secret.attrs["metadata"]["name"] == named["name"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]["serverName"]) == ("https", "192.0.2.10")
    named = endpoint["tlsConfig"]["ca"]["configMap"]
    assert (authority.attrs["metadata"]["name"], authority.attrs["data"][named["key"]]) == (named["name"], "CA")
    todo = plan.make({secret.id: secret}, {})
    shown = text.text(todo) + str(text.as_json(todo))
    assert "(secret)" in shown
    assert TOKEN not in shown
    assert secret.attrs["data"]["token"] not in shown
    assert all("of the certificate" not in str(r.attrs) for r in found.values() if r.system == "kubernetes")


def test_what_is_made_by_hand_is_made_as_apply_makes_it() -> None:
    mesh, found = built(TLS, Exporter(TOKEN, "PEM", "of the certificate", "CA"))
    by_hand = byhand.commands(mesh)
    for kind, command in zip(("secret", "configmap"), by_hand, strict=True):
        said = [word.split("=") for word in shlex.split(command) if "/" in word and "=" in word and word[0] != "-"]
        assert dict(said) == found[f"kubernetes/{kind}/{KEPT}"].attrs["metadata"]["labels"]
    assert by_hand[0].startswith(
        "cat exporter.token | tr -d '\\r\\n' | kubectl create secret generic meshwright-northern-lights-exporter"
        " -n monitoring --from-file=token=/dev/stdin --dry-run=client -o yaml | kubectl label --local -f - -o yaml "
    )
    assert by_hand[1].startswith(
        "kubectl create configmap meshwright-northern-lights-exporter -n monitoring --from-file=ca.crt=c.pem"
        " --dry-run=client -o yaml | kubectl label --local -f - -o yaml "
    )
    assert all(c.endswith(" | kubectl apply --server-side --field-manager=meshwright -f -") for c in by_hand)


def test_what_is_rendered_holds_no_secret() -> None:
    mesh, found = built(TLS)
    kinds = {manifest["kind"] for manifest in documents(mesh, found.values())[mesh.files.exporter]}
    assert kinds == {"Service", "Endpoints", "EndpointSlice", "ServiceMonitor"}
    (endpoint,) = spec(found, "servicemonitor", NORTH)["endpoints"]
    assert endpoint["authorization"]["credentials"]["name"] == "meshwright-northern-lights-exporter"


@pytest.mark.parametrize(("name", "job"), [("7of9", "m7of9-exporter"), ("x" * 63, f"{'x' * 54}-exporter")])
def test_a_mesh_of_any_name_names_a_service(name: str, job: str) -> None:
    _, found = built(EVERY_KEY.replace("name: northern-lights ", f"name: {name} ", 1))
    assert f"kubernetes/service/monitoring/{job}" in found
    assert len(job) <= 63


# keys that are not there


def test_a_render_leaves_out_whom_nobody_has_made_a_key_for() -> None:
    mesh, found = built(REFERENCE)
    found = {id: resource for id, resource in found.items() if resource.system == "kubernetes"}
    key = Resource("files/key/jake", {"public_key": "a+b"})
    kept, missing = ready(known(found, {key.id: key}))
    assert missing == ["files/key/bryce", "files/key/hamilton", "files/key/steve"]
    assert not any(unknowns(resource.attrs) for resource in kept.values())
    rules = spec(kept, "servicemonitor", WIREGUARD)["endpoints"][0]["metricRelabelings"]
    assert [(rule["regex"], rule["replacement"]) for rule in rules if rule.get("targetLabel") == "__tmp_whose"] == [
        (r"a\+b", "jake")
    ]
    whole = documents(
        mesh, known(found, {id: Resource(id, {"public_key": "k"}) for id in missing} | {key.id: key}).values()
    )
    assert {path: len(each) for path, each in documents(mesh, kept.values()).items()} == {
        path: len(each) for path, each in whole.items()
    }
