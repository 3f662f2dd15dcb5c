"""What happens in the house: who its friends are, what apps they run, and what goes wrong."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import watchers
from lookout import HUB, MINDFLAVOR, Lookout

from meshwright import discover, events, flow
from meshwright.desired.facts import Facts
from meshwright.desired.names import COMPONENT
from meshwright.desired.state import known, state
from meshwright.io import exporter, program
from meshwright.lab import play
from meshwright.lab.cluster import images, settings
from meshwright.providers import table
from meshwright.spec.load import load_text
from meshwright.spec.model import BuiltinExporter, Mesh, MindflavorExporter

OURS, OTHER = "lookout", "elder"
"""Two names for one mesh: the first is watched by our exporter, the second by exporter 3.6.6."""
JOBS = {OURS: ("lookout-exporter", "monitoring"), OTHER: ("wireguard-exporter", "wireguard-exporter")}
PORTS = {OURS: 9587, OTHER: 9586}
MANY = 200
MESH = f"""
version: 1
name: {OURS}
hub: {{node: k3s-server-1, address: {HUB}, interface: wg1, endpoint: "home.example.net:51821"}}
network:
  cidr: 10.100.0.0/16
  hub: 10.100.0.1
  routes: {{nodes: 192.168.20.0/24, pods: 10.42.0.0/16, services: 10.43.0.0/16, mesh: 10.100.0.0/16}}
peers:
  anna: {{address: 10.100.2.1, namespace: anna, always_on: true}}
  bert: {{namespace: bert, devices: {{phone: {{address: 10.100.2.2}}, laptop: {{address: 10.100.2.3}}}}}}
  carl: {{address: 10.100.2.4, namespace: carl, always_on: true}}
  emil: {{address: 10.100.2.6}}
policy:
  allow:
    - {{from: peers, to: hub, ports: [6443/tcp, icmp]}}
kubernetes: {{pod_security: restricted}}
observability: {{interval: 2s, exporter: {{kind: builtin, port: {PORTS[OURS]}}}}}
"""
NEVER = "  dora: {address: 10.100.2.5, always_on: true}\n"
"""He comes into the file when the lab is up: nobody there plays him, so he never connects."""

ANSWER = r"""#!/bin/sh
end=$(printf '\r')
while read -r line && [ "$line" != "$end" ]; do :; done
printf 'HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n\r\n'
cat /tmp/page
"""
SERVE = 'echo "$ANSWER" > /tmp/answer; chmod 755 /tmp/answer; exec nc -ll -p 8080 -e /tmp/answer'
HONEST = 'app_requests_total{path="/"} 7\n'
WG = 'interface="wg1",public_key="AAAA",allowed_ips="10.100.2.1/32"'
LIE = (
    f'job="{JOBS[OURS][0]}",namespace="monitoring",instance="k3s-server-1",tenant="anna"',
    f'job="{JOBS[OTHER][0]}",namespace="wireguard-exporter",instance="k3s-server-1",tenant="anna"',
)
SPOOF = "".join(
    f'wireguard_received_bytes_total{{{WG},peer="unknown",{lie}}} 1\n'
    f'wireguard_sent_bytes_total{{{WG},peer="unknown",{lie}}} 1\n'
    f'wireguard_latest_handshake_seconds{{{WG},peer="dora",{lie}}} 9999999999\n'
    f'wireguard_peer_expected{{interface="wg1",peer="ghost",always_on="true",{lie}}} 1\n'
    f'wireguard_peer_next_key{{interface="wg1",peer="ghost",public_key="AAAA",{lie}}} 1\n'
    f'wireguard_peers_total{{interface="wg1",{lie}}} 4711\n'
    f'wireguard_interface_up{{interface="wg1",{lie}}} 0\n'
    f'wireguard_scrape_success{{interface="wg1",{lie}}} 0\n'
    f'wireguard_peer_denied_packets_total{{interface="wg1",peer="anna",{lie}}} 1e12\n'
    f"up{{{lie}}} 0\n"
    f"scrape_samples_scraped{{{lie}}} 1e9\n"
    f"visits_total{{{lie}}} 7\n"
    for lie in LIE
)
"""What a friend says who would like to be the hub."""


def flood(series: int) -> str:
    """A page with so many series, made in the pod."""
    return f"""seq {series} | sed 's/.*/flood{{number="&"}} 1/' > /tmp/page; {SERVE}"""


def pod(name: str, page: str = "", *, port: str = "metrics", opted: bool = True, command: str = "") -> dict[str, Any]:
    """A friend's pod as the walls of his namespace let it in."""
    container = {
        "name": "main",
        "image": images.BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", command or f'printf %s "$PAGE" > /tmp/page; {SERVE}'],
        "env": [{"name": "ANSWER", "value": ANSWER}, {"name": "PAGE", "value": page}],
        "ports": [{"name": port, "containerPort": 8080}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, **({"prometheus.io/scrape": "true"} if opted else {})}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65534,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }


def service(name: str, *, port: str = "metrics", opted: bool = True) -> dict[str, Any]:
    labels = {"prometheus.io/scrape": "true"} if opted else {}
    spec = {"selector": {"app": name}, "ports": [{"name": port, "port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels}, "spec": spec}


APPS: Mapping[str, list[dict[str, Any]]] = {
    "bert-phone": [
        pod("by-pod", HONEST),
        pod("by-service", HONEST, opted=False),
        service("by-service"),
        pod("not-asked", HONEST, opted=False),
        pod("other-port", HONEST, port="http"),
        service("not-asked", opted=False),
    ],
    "carl": [
        pod("spoof", SPOOF),
        pod("samples", command=flood(20_000)),
        pod("size", command=flood(1_000_000)),
    ],
}
"""Host of a friend -> what he applies from there, with his own kubeconfig, in his namespace."""


def keys(house: Lookout) -> dict[str, str]:
    """Public key -> "peer" or "peer/device", as the conf on the hub has them: each peer has its address there."""
    conf = house.sh("hub", "wg show wg1 allowed-ips")
    addresses = {f"{d.addresses[0]}/32": d.reference for d in load_text(house.text()).mesh.devices}
    found = (line.split() for line in conf.splitlines())
    return {key: addresses[allowed] for key, allowed, *_ in found if allowed in addresses}


def twin(house: Lookout) -> list[dict[str, Any]]:
    """What the cluster would be given if the file asked for exporter 3.6.6: all of it but what is the friends'."""
    mesh = load_text(house.text()).mesh
    places = play.places(house.lab)
    view = flow.look(play.played(mesh), table.providers(play.played(mesh), places), places, events.silent)
    facts = discover.read(play.played(mesh), places.services, places.cluster)
    wanted = known(state(_elder(mesh), facts), view.actual)
    found = [r.attrs for r in wanted.values() if r.system == "kubernetes" and _watches(r.attrs)]
    return [json.loads(json.dumps(attrs)) for attrs in found]


def _watches(manifest: Mapping[str, Any]) -> bool:
    return manifest["kind"] in ("PrometheusRule", "ConfigMap") or COMPONENT in manifest["metadata"].get("labels", {})


def _elder(mesh: Mesh) -> Mesh:
    assert mesh.observability
    watch = mesh.observability.model_copy(update={"exporter": MindflavorExporter(kind="mindflavor")})
    return play.played(mesh).model_copy(update={"name": OTHER, "observability": watch})


def exporter_image(house: Lookout) -> None:
    """Exporter 3.6.6 as its image has it: the program is the entry point, its arguments are the pod's."""
    wg = house.sh("hub", "command -v wg").strip()
    program = watchers.exporter()
    files = {"usr/bin/wg": Path(wg), "usr/local/bin/exporter": program}
    files |= images.libraries(wg) | images.libraries(str(program))
    image = images.Image(f"docker.io/{MINDFLAVOR}", ["-a"], files, entrypoint=["/usr/local/bin/exporter"])
    with tempfile.TemporaryDirectory(dir=house.folder) as folder:
        images.write(Path(folder) / "image.tar", [image])
        house.sh("hub", f"ctr -a {settings.SOCKET} -n k8s.io images import {folder}/image.tar")


def with_socket(manifest: dict[str, Any]) -> dict[str, Any]:
    """The DaemonSet, with the folder of wireguard-go's control socket: a kernel's device needs none. It does not heed
    SIGTERM, so each change of it would take half a minute.
    """
    if manifest["kind"] == "DaemonSet":
        spec = manifest["spec"]["template"]["spec"]
        spec["terminationGracePeriodSeconds"] = 1
        spec["volumes"] = [{"name": "lab", "hostPath": {"path": "/run/wireguard"}}]
        spec["containers"][0]["volumeMounts"] = [{"name": "lab", "mountPath": "/var/run/wireguard"}]
    return manifest


def many(number: int = MANY) -> Iterator[str]:
    """Lines of the file for so many who never connect, each with a key of its own."""
    for n in range(number):
        yield f"  p{n:03}: {{address: 10.100.{16 + n // 250}.{1 + n % 250}}}\n"


STRANGER, HIS = base64.b64encode(b"\xfb\xef\xbe" * 10 + b"\xff\xff").decode(), "10.100.9.9/32"


def settle(house: Lookout, number: int = MANY) -> None:
    """Everything that the tests look at, started as far as possible at once."""
    house.write(MESH.replace("policy:\n", NEVER + "".join(many(number)) + "policy:\n"))
    for host, objects in APPS.items():
        house.make(*objects, host=host)
    house.apply()
    exporter_image(house)
    house.make(*map(with_socket, twin(house)))
    house.sh("hub", f"wg set wg1 peer {STRANGER} allowed-ips {HIS}")
    sections = [f"monitoring/{OURS}-exporter", "wireguard-exporter/wireguard-exporter", "carl/carl-pods"]
    house.reload(lambda found: all(s in found["prometheus.yaml"].decode() for s in sections) and ruled(found))
    house.until(lambda: scraped(house), 90, house.folder / "prometheus.log")
    # a rate is known from the second look on
    done = house.lab.peer("anna").run(["ping", "-q", "-c", "5", "-i", "0.2", "-W", "5", "10.100.0.1"], timeout=30)
    assert done.code == 0, done.out
    rates = [
        f'rate(wireguard_{way}_bytes_total{{job="{job}",peer="anna"}}[1m]) > 0'
        for way in ("sent", "received")
        for job, _ in JOBS.values()
    ]
    house.until(lambda: all(house.query(rate) for rate in rates))


def ruled(found: Mapping[str, bytes]) -> bool:
    """Whether the rules of both meshes are there."""
    return all(any(f"-{name}-" in file for file in found if file.startswith("rules/")) for name in JOBS)


def scraped(house: Lookout) -> bool:
    """Whether everything has been, and has been answered as it will be."""
    health = {(t["labels"]["job"], t["labels"].get("pod", "")): t["health"] for t in house.targets()}
    up = [*((job, "") for job, _ in JOBS.values()), ("carl/carl-pods", "spoof"), ("bert/bert-pods", "by-pod")]
    read = {t["labels"].get("pod") for t in house.targets() if t["health"] == "up" or "limit" in t["lastError"]}
    return all(health.get(one) == "up" for one in up) and read >= {"samples", "size"}


# -- what goes wrong


def send(house: Lookout, host: str, to: str, packets: int) -> None:
    """UDP that the policy does not allow."""
    code = f"import socket; s = socket.socket(2, 2); [s.sendto(b'x', ('{to}', 9)) for _ in range({packets})]"
    done = house.lab.host(host).run([sys.executable, "-I", "-S", "-c", code])
    assert done.code == 0, done.err


def anew(house: Lookout, name: str) -> None:
    """Make a peer of the hub anew, as a tool would that writes the whole interface: counters and session are gone."""
    key = next(key for key, who in keys(house).items() if who == name)
    house.sh(
        "hub",
        f"""
        address=$(wg show wg1 allowed-ips | awk '$1 == "{key}" {{print $2}}')
        umask 077
        wg show wg1 preshared-keys | awk '$1 == "{key}" && $2 != "(none)" {{print $2}}' > /run/shared
        wg set wg1 peer {key} remove peer {key} preshared-key /run/shared allowed-ips $address
        rm /run/shared""",
    )


def knock(house: Lookout, label: str) -> None:
    """Have a peer shake hands now."""
    name = house.lab.interface(label)
    conf = play.places(house.lab).clients / f"{label}.conf"
    house.sh(house.lab.peers[label], f"wg-quick strip {conf} > /run/plain; wg setconf {name} /run/plain; rm /run/plain")
    done = house.lab.peer(label).run(["ping", "-c1", "-W5", "10.100.0.1"], timeout=20)
    assert done.code == 0, done.out


@contextmanager
def between(house: Lookout, mode: str) -> Iterator[None]:
    """Somebody between the device and all who ask it (between_wg.py)."""
    argv = [sys.executable, "-I", "-S", str(Path(__file__).with_name("between_wg.py")), "/run/wireguard/wg1.sock", mode]
    log = house.folder / f"between-{mode}.log"
    log.unlink(missing_ok=True)
    house.start(f"between-{mode}", argv)
    house.until(lambda: log.exists() and "there" in log.read_text(), 20, log)
    try:
        yield
    finally:
        house.runner().end(f"between-{mode}")


SLOW = """
import runpy, sys, time
true = time.time
time.time = lambda: true() - 600
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@contextmanager
def slow(house: Lookout) -> Iterator[None]:
    """Our exporter on a hub whose clock is ten minutes behind: what it reads of the device, and its own time."""
    house.sh("hub", f"kill $(pgrep -f '[h]ubd.pyz serve wg1 {OURS}')")
    with between(house, "past"):
        program = f"/var/lib/meshwright/{OURS}/hubd.pyz"
        house.start("slow", [sys.executable, "-I", "-S", "-c", SLOW, program, "serve", "wg1", OURS])
        try:
            yield
        finally:
            house.runner().end("slow")
            house.apply()


def run_as(house: Lookout, user: int) -> None:
    """Exporter 3.6.6 as this user, with all else as it was."""
    patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/securityContext/runAsUser", "value": user}]
    _change(house, "patch", "--type=json", f"--patch={json.dumps(patch)}")


def restart(house: Lookout) -> None:
    """Exporter 3.6.6 in a new pod, which finds the control socket as it is now."""
    _change(house, "rollout restart")


def _change(house: Lookout, what: str, *more: str) -> None:
    for words in ([*what.split(), *ELDER, *more], ["rollout", "status", *ELDER]):
        done = house.kubectl("hub", *words)
        assert done.returncode == 0, done.stdout + done.stderr


ELDER = ("daemonset/wireguard-exporter", "-n", "wireguard-exporter")


# -- an exporter of ours that is guarded

GUARDED, TOKEN, DOOR, ELSEWHERE = "guarded", "t0ken+of/the-house=", 9599, "elsewhere"


def guarded(house: Lookout) -> list[dict[str, Any]]:
    """A second service on the hub, with TLS and a token -> what the cluster is given so that Prometheus finds it.

    A lab's own has neither (lab/play.py). It is of an interface that is not there, and says so under the job of the
    hub's own: but for the namespace it could be this.
    """
    folder = house.folder / GUARDED
    folder.mkdir()
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=hub -batch"
    argv = [*make.split(), "-addext", f"subjectAltName=IP:{HUB}", "-keyout", f"{folder}/key", "-out", f"{folder}/crt"]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    (folder / "token").touch(0o600)
    (folder / "token").write_text(TOKEN)
    mesh = load_text(house.text()).mesh
    assert mesh.observability
    tls = {"certificate": "crt", "key": {"file": "key"}}
    section = BuiltinExporter.model_validate({"kind": "builtin", "port": DOOR, "token": {"file": "token"}, "tls": tls})
    watch = mesh.observability.model_copy(update={"exporter": section})
    hub = mesh.hub.model_copy(update={"interface": "wg9"})
    mesh = mesh.model_copy(update={"name": GUARDED, "hub": hub, "observability": watch})
    wanted = state(mesh, Facts(datetime.now(UTC), program=program.facts(), exporter=exporter.read(mesh, folder)))
    settings = {**wanted[f"hub/exporter/{GUARDED}"].attrs["saved"], "peers": {}}
    memory = f"/var/lib/meshwright/{GUARDED}"
    house.sh("hub", f"mkdir -m 700 -p {memory}/memory")
    house.hub.put(f"{memory}/exporter.json", json.dumps(settings).encode(), 0o600)
    serve = [sys.executable, "-I", "-S", f"/var/lib/meshwright/{OURS}/hubd.pyz", "serve", "wg9", GUARDED]
    house.start(GUARDED, serve)
    found = [r.attrs for r in wanted.values() if r.system == "kubernetes" and _watches(r.attrs)]
    found = [json.loads(json.dumps(a)) for a in found if a["metadata"].get("labels", {}).get(COMPONENT)]
    (monitor,) = (a for a in found if a["kind"] == "ServiceMonitor")
    names = {"job": JOBS[OURS][0], "namespace": ELSEWHERE}
    monitor["spec"]["endpoints"][0]["relabelings"] += [
        {"targetLabel": label, "replacement": value} for label, value in names.items()
    ]
    return found
