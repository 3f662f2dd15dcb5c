"""etcd, kube-apiserver and kube-controller-manager: which arguments, in which order, and when they are ready.

Where they run is the Runner's: as children of this process, or inside the hub of a lab. Everything that they read and
write is in one folder (0700): pki, data, logs, kubeconfig.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from meshwright.errors import LabError
from meshwright.events import Started, Tell, silent
from meshwright.lab.cluster import kubeconfig, pki
from meshwright.lab.cluster.programs import Programs

if TYPE_CHECKING:
    from meshwright.lab.cluster.ask import Ask

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
PATIENCE = 180.0  # seconds until something that lives but does not answer counts as broken; it takes 5 to 10


@dataclass(frozen=True, slots=True)
class Plane:
    """One control plane. address, port: where the API server answers. names: what else its certificate is for.

    etcd: the two ports of etcd on loopback. advertise: the address for Service kubernetes; "" keeps that Service empty,
    and the API server to `address`; else it listens on `everywhere`.
    """

    folder: Path
    address: str
    port: int
    etcd: tuple[int, int]
    names: tuple[str, ...] = ()
    services: tuple[str, ...] = ("10.43.0.0/16",)
    advertise: str = ""
    everywhere: str = "::"

    @property
    def server(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"https://{host}:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """The admin's."""
        return self.folder / "kubeconfig"


class Runner(Protocol):
    """Starts programs that stay, with their output in a file, and knows which have ended."""

    def start(self, name: str, argv: list[str], log: Path) -> None: ...
    def ended(self) -> list[str]: ...


def prepare(plane: Plane) -> None:
    """Keys, certificates and the admin's kubeconfig; those that are there stay."""
    plane.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (plane.folder / "log").mkdir(exist_ok=True)
    if not plane.kubeconfig.exists():
        names = ("localhost", "127.0.0.1", "kubernetes", "kubernetes.default.svc", plane.address, *plane.names)
        pki.make(plane.folder / "pki", names)
        kubeconfig.write(
            plane.kubeconfig, plane.server, plane.folder / "pki" / "ca.crt", kubeconfig.admin(plane.folder)
        )


def start(plane: Plane, programs: Programs, runner: Runner, ask: Ask, tell: Tell = silent) -> None:
    """Start everything and wait until it can be used. LabError with the last words of what did not come up."""
    tell(Started("starting the Kubernetes control plane"))
    prepare(plane)
    commands = arguments(plane, programs)
    for name in ("etcd", "kube-apiserver"):
        runner.start(name, commands[name], _log(plane, name))
    _wait(plane, runner, "/readyz", ask, lambda body: body == b"ok")
    runner.start("kube-controller-manager", commands["kube-controller-manager"], _log(plane, "kube-controller-manager"))
    # /readyz is too early: ClusterRoles that others add to are filled by the controller-manager
    role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/admin"
    _wait(plane, runner, role, ask, lambda body: bool(json.loads(body).get("rules")))
    _wait(plane, runner, "/api/v1/namespaces/default/serviceaccounts/default", ask, bool)


def arguments(plane: Plane, programs: Programs) -> Mapping[str, list[str]]:
    """The argument list of each program. Pure."""
    keys = plane.folder / "pki"
    client, peer = (f"https://127.0.0.1:{port}" for port in plane.etcd)
    etcd = [
        programs["etcd"],
        f"--data-dir={plane.folder / 'data'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        "--logger=zap",
    ]
    for kind in ("", "peer-"):
        etcd += [f"--{kind}cert-file={keys / 'etcd.crt'}", f"--{kind}key-file={keys / 'etcd.key'}"]
        etcd += [f"--{kind}trusted-ca-file={keys / 'ca.crt'}", f"--{kind}client-cert-auth"]
    return {
        "etcd": etcd,
        "kube-apiserver": _apiserver(plane, programs, client),
        "kube-controller-manager": [
            programs["kube-controller-manager"],
            f"--kubeconfig={plane.kubeconfig}",
            f"--service-account-private-key-file={keys / 'sa.key'}",
            f"--root-ca-file={keys / 'ca.crt'}",
            f"--cluster-signing-cert-file={keys / 'ca.crt'}",
            f"--cluster-signing-key-file={keys / 'ca.key'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ],
    }


def _apiserver(plane: Plane, programs: Programs, etcd: str) -> list[str]:
    keys = plane.folder / "pki"
    return [
        programs["kube-apiserver"],
        f"--etcd-servers={etcd}",
        f"--etcd-cafile={keys / 'ca.crt'}",
        f"--etcd-certfile={keys / 'etcd.crt'}",
        f"--etcd-keyfile={keys / 'etcd.key'}",
        f"--secure-port={plane.port}",
        f"--bind-address={plane.everywhere if plane.advertise else plane.address}",
        f"--advertise-address={plane.advertise or '127.0.0.1'}",
        f"--endpoint-reconciler-type={'lease' if plane.advertise else 'none'}",
        f"--tls-cert-file={keys / 'apiserver.crt'}",
        f"--tls-private-key-file={keys / 'apiserver.key'}",
        f"--client-ca-file={keys / 'ca.crt'}",
        f"--cert-dir={keys}",
        f"--service-account-key-file={keys / 'sa.pub'}",
        f"--service-account-signing-key-file={keys / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={','.join(plane.services)}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
        # logs and exec ask a node's kubelet, whose name resolves nowhere
        f"--kubelet-client-certificate={keys / 'admin.crt'}",
        f"--kubelet-client-key={keys / 'admin.key'}",
        "--kubelet-preferred-address-types=InternalIP",
    ]


def _log(plane: Plane, name: str) -> Path:
    return plane.folder / "log" / name


def _wait(plane: Plane, runner: Runner, path: str, ask: Ask, good: Callable[[bytes], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        dead = runner.ended()
        if dead:
            raise LabError(
                f"{dead[0]} ended: {last_words(_log(plane, dead[0]))}", f"its whole log: {_log(plane, dead[0])}"
            )
        status, body = ask(path)
        if status == 200 and good(body):
            return
        if time.monotonic() > end:
            raise LabError(
                f"the API server does not become ready: {path} answered {status or 'nothing'}",
                f"look into its log: {_log(plane, 'kube-apiserver')}",
            )
        time.sleep(0.1)


def last_words(log: Path, lines: int = 4) -> str:
    """The end of a log file, as one line."""
    try:
        found = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        found = []
    return " | ".join(line[:300] for line in found[-lines:]) or "it said nothing"
