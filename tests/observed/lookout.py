"""A house that is watched: the lab as `lab up --kubernetes` makes it, the real Prometheus operator on its API server,
and the real Prometheus with the configuration and the rules that this operator generates.

Prometheus runs in the hub's namespaces and finds there, as in a pod, its token and its rules: nothing of what the
operator generates is rewritten, but for `for:` and `interval:` of the rules, which are shortened.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import os
import re
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import watchers
import yaml

import promql
from door import Door
from meshwright.desired.resource import Resource
from meshwright.errors import ClusterError
from meshwright.io.cluster import Cluster
from meshwright.io.host import Namespace
from meshwright.lab import Lab, entry, open_lab, play
from meshwright.lab.cluster import programs
from meshwright.lab.cluster.inhub import InHub

SPACE = "monitoring"
HUB, PORT = "192.168.20.20", 9090
MINDFLAVOR = "mindflavor/prometheus-wireguard-exporter:3.6.6"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
FOR, EVERY = "2s", "1s"  # of every alert that has a `for:`; of every group of rules
LONG = 400  # seconds for one command, on a machine that does much else
Labels = Mapping[str, str]
PROMETHEUS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "prometheus", "namespace": SPACE}},
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "prometheus"},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["services", "endpoints", "pods", "nodes"],
                "verbs": ["get", "list", "watch"],
            },
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "prometheus"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "prometheus"},
        "subjects": [{"kind": "ServiceAccount", "name": "prometheus", "namespace": SPACE}],
    },
    {
        # what kube-prometheus-stack makes of its release `prometheus`; no replicas: it runs in the hub, as a program
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "Prometheus",
        "metadata": {"name": "house", "namespace": SPACE},
        "spec": {
            "replicas": 0,
            "version": watchers.PROMETHEUS_VERSION,
            "serviceAccountName": "prometheus",
            **{f"{kind}NamespaceSelector": {} for kind in ("serviceMonitor", "podMonitor", "rule")},
            **{
                f"{kind}Selector": {"matchLabels": {"release": "prometheus"}}
                for kind in ("serviceMonitor", "podMonitor", "rule")
            },
        },
    },
]


class Lookout(Door):
    """The house, from outside. Every change goes through the real program, kubectl, or a host of the lab."""

    def __init__(self, folder: Path, mesh: str) -> None:
        super().__init__(folder)
        self.env |= {"XDG_CACHE_HOME": str(programs.base().parents[1]), "MESHWRIGHT_FILE": str(self.mesh(mesh))}
        self.name = str(yaml.safe_load(mesh)["name"])
        self.said: dict[str, Any] = {}

    def text(self) -> str:
        """The mesh file."""
        return (self.folder / "mesh.yaml").read_text()

    def write(self, mesh: str) -> None:
        self.mesh(mesh)

    def __call__(self, *arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.env, input=stdin,
            capture_output=True, text=True, timeout=LONG,
        )  # fmt: skip

    # -- the lab

    @property
    def state(self) -> Path:
        return self.folder / "home/.local/state/meshwright/lab" / self.name

    @property
    def lab(self) -> Lab:
        return open_lab(self.state)

    @property
    def hub(self) -> Namespace:
        return self.lab.host("hub")

    def up(self) -> None:
        """Everything runs; Prometheus has no target yet."""
        done = self("lab", "up", "--kubernetes", "--output", "json")
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr
        self.said = json.loads(done.stdout)
        # the operator and Prometheus come with the owner's cluster: meshwright brings neither
        self.make(*PROMETHEUS)
        self._operator()
        self._prometheus()

    def down(self) -> None:
        self("lab", "down")

    def apply(self, *more: str) -> None:
        done = self("--lab", "apply", "--yes", *more)
        assert done.returncode == 0, done.stdout + done.stderr

    def sh(self, host: str, script: str, timeout: float = 60) -> str:
        done = self.lab.host(host).run(["sh", "-c", script], timeout=timeout)
        assert done.code == 0, (host, script, done.err)
        return done.out.decode()

    def runner(self) -> InHub:
        return InHub(self.lab, self.folder / "watchers.json")

    def start(self, name: str, argv: list[str]) -> Path:
        """A program in the hub that stays -> its log."""
        log = self.folder / f"{name}.log"
        self.runner().start(name, argv, log)
        return log

    # -- the cluster

    def kubectl(self, host: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """As whoever is at home on the host: the admin on the hub, a friend with his own kubeconfig on his."""
        found: subprocess.CompletedProcess[str]
        found = self("lab", "exec", host, programs.find()["kubectl"], "--request-timeout=20s", *arguments, stdin=stdin)
        return found

    def get(self, *arguments: str) -> Any:
        """As the admin."""
        done = self.kubectl("hub", "get", *arguments, "--output=json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def make(self, *objects: Mapping[str, Any], host: str = "hub") -> None:
        done = self.kubectl(
            host, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(objects)
        )
        assert done.returncode == 0, done.stderr

    # -- what watches

    def _operator(self) -> None:
        keys = self.state / "kubernetes/pki"
        argv = [str(watchers.operator()), f"--apiserver=https://{HUB}:6443", f"--ca-file={keys / 'ca.crt'}"]
        argv += [f"--cert-file={keys / 'admin.crt'}", f"--key-file={keys / 'admin.key'}"]
        self.start("operator", [*argv, "--web.listen-address=127.0.0.1:18080"])

    def _prometheus(self) -> None:
        token = self.kubectl("hub", "create", "token", "prometheus", "-n", SPACE, "--duration=6h").stdout.strip()
        hub = self.hub
        self.sh("hub", f"mkdir -p {ACCOUNT} /etc/prometheus")
        hub.put(f"{ACCOUNT}/token", token.encode(), 0o600)
        hub.put(f"{ACCOUNT}/ca.crt", (self.state / "kubernetes/pki/ca.crt").read_bytes())
        hub.put(f"{ACCOUNT}/namespace", SPACE.encode())
        self.until(lambda: bool(self.generated()), 60, "the operator generates nothing")
        self._place()
        argv = ["env", f"KUBERNETES_SERVICE_HOST={HUB}", "KUBERNETES_SERVICE_PORT=6443", str(watchers.prometheus())]
        argv += ["--config.file=/etc/prometheus/prometheus.yaml", f"--storage.tsdb.path={self.folder / 'data'}"]
        argv += [
            "--web.enable-lifecycle",
            "--enable-feature=extra-scrape-metrics",
            f"--web.listen-address={HUB}:{PORT}",
        ]
        log = self.start("prometheus", argv)
        # a socket's name may be 107 bytes long
        self.start("way", entry.command("relay", str(self.way), HUB, str(PORT)))
        self.until(lambda: self._answers("/-/ready"), 60, log)

    @property
    def way(self) -> Path:
        """The socket that leads to Prometheus."""
        return self.state / "prometheus"

    def generated(self) -> dict[str, bytes]:
        """What the operator has made: path below /etc/prometheus -> content. {} before it has."""
        secret = self._maybe("secrets/prometheus-house")
        if not secret:
            return {}
        packed = base64.b64decode(secret["data"]["prometheus.yaml.gz"])
        # the config-reloader says which part of the targets is this Prometheus's
        out = {"prometheus.yaml": gzip.decompress(packed).replace(b"$(SHARD)", b"0")}
        maps = self.cluster.list(f"/api/v1/namespaces/{SPACE}/configmaps")
        rules = sorted((m for m in maps if "-rulefiles-" in m["metadata"]["name"]), key=lambda m: m["metadata"]["name"])
        for number, found in enumerate(rules):
            for file, text in (found.get("data") or {}).items():
                out[f"rules/prometheus-house-rulefiles-{number}/{file}"] = shortened(text).encode()
        assets = self._maybe("secrets/prometheus-house-tls-assets-0") or {}
        for file, text in (assets.get("data") or {}).items():
            out[f"certs/{file}"] = base64.b64decode(text)
        return out

    @cached_property
    def cluster(self) -> Cluster:
        """As the admin, without a program."""
        found = play.places(self.lab).cluster
        assert found
        return found

    def _maybe(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(self.cluster.get(f"/api/v1/namespaces/{SPACE}/{name}"))
        except ClusterError as error:
            if error.status != 404:
                raise
            return None

    def _place(self) -> dict[str, bytes]:
        """What the config-reloader does in a pod."""
        found = self.generated()
        folders = " ".join(sorted({f"/etc/prometheus/{Path(name).parent}" for name in found}))
        self.sh("hub", f"rm -rf /etc/prometheus/rules; mkdir -p {folders}")
        for name, text in found.items():
            self.hub.put(f"/etc/prometheus/{name}", text)
        return found

    def reload(
        self, ready: Callable[[dict[str, bytes]], bool] = lambda _: True, seconds: float = 60
    ) -> dict[str, bytes]:
        """Give Prometheus what the operator has generated, as soon as this is `ready`."""
        self.until(lambda: ready(self.generated()), seconds, "the operator does not generate what is waited for")
        found = self._place()
        status, body = self._ask("POST", "/-/reload")
        assert status == 200, body
        return found

    # -- asking Prometheus

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        connection = _Unix(self.way)
        try:
            connection.request(method, path, headers={"Host": "prometheus"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _answers(self, path: str) -> bool:
        try:
            return self._ask("GET", path)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def api(self, path: str, **query: str) -> Any:
        status, body = self._ask("GET", f"/api/v1/{path}?{urllib.parse.urlencode(query)}")
        found = json.loads(body)
        assert status == 200, (query, found)
        return found["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The instant vector of an expression now: labels and value."""
        found = self.api("query", query=expression)
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        return [(row["metric"], float(row["value"][1])) for row in found["result"]]

    def values(self, expression: str, *labels: str) -> dict[Any, float]:
        """The same, by these labels of each row, "" for one that it lacks."""
        out: dict[Any, float] = {}
        for metric, value in self.query(expression):
            key = tuple(metric.get(label, "") for label in labels)
            assert key not in out, f"{expression} has {key} twice"
            out[key if len(labels) != 1 else key[0]] = value
        return out

    def expressions(self, mesh: str) -> list[tuple[str, str]]:
        """(where, expression) of the rules and of the dashboard that the cluster was given for this mesh."""
        which = ("-n", SPACE, "-l", f"meshwright.io/mesh={mesh}")
        found = [*self.get("prometheusrules", *which)["items"], *self.get("configmaps", *which)["items"]]
        return promql.expressions([Resource("kubernetes/read/back", o) for o in found])

    def firing(self, **wanted: str) -> list[Labels]:
        """The labels of the alerts that fire, of those with these labels."""
        found = [a["labels"] for a in self.api("alerts")["alerts"] if a["state"] == "firing"]
        return [one for one in found if wanted.items() <= one.items()]

    def targets(self) -> list[dict[str, Any]]:
        """Those that are scraped, with health and lastError."""
        found: list[dict[str, Any]] = self.api("targets", state="active")["activeTargets"]
        return found

    def until(self, what: Callable[[], Any], seconds: float = 30, why: object = "") -> Any:
        """Wait until it is so, and give what it gave."""
        end = time.monotonic() + seconds
        while not (found := what()):
            if time.monotonic() > end:
                words = why.read_text(errors="replace")[-2000:] if isinstance(why, Path) else str(why)
                raise AssertionError(f"not within {seconds:g} s: {words}")
            time.sleep(0.3)
        return found


def shortened(text: str) -> str:
    """A file of rules whose groups are looked at EVERY second, and whose alerts wait FOR; the expressions stay."""
    text = re.sub(r"(?m)^(\s*(?:- )?for: ).*$", rf"\g<1>{FOR}", text)
    return re.sub(r"(?m)^(\s*(?:- )?interval: ).*$", rf"\g<1>{EVERY}", text)


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self.path))


def obstacle() -> str:
    """Why the house cannot stand here, and what to do, in one line; "" when it can."""
    if os.geteuid():
        return "only root can run containers; run the tests as root"
    wanted = [*programs.CONTROL_PLANE, *programs.NODE]
    if set(wanted) - programs.look(wanted).keys() or not programs.crds().exists():
        return "the programs of the cluster are not here; run script/cluster"
    lacking = watchers.missing()
    return f"not here: {', '.join(lacking)}; run script/observed" if lacking else ""
