"""The settings and arguments of a node's programs. Pure.

Formats: KubeletConfiguration v1beta1, KubeProxyConfiguration v1alpha1, containerd's config version 2, CNI 0.4.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshwright.lab.cluster.images import PAUSE
from meshwright.lab.cluster.programs import Programs
from meshwright.lab.cluster.site import KUBELET
from meshwright.lab.inside.node import HOME
from meshwright.spec.model import Address, Network

SOCKET = "/run/containerd/containerd.sock"


@dataclass(frozen=True, slots=True)
class Ground:
    """What a node is made from. bridge: the hub's part of the pod networks; first, last: what its pods may have of it.

    pods: the network that all nodes share. dns: the cluster's DNS server, "" for none. plugins: folder of CNI's.
    everywhere: all addresses of the hub. loopback: two ports that kube-proxy may have there.
    """

    name: str
    address: Address
    server: str
    pki: Path
    bridge: Network
    first: Address
    last: Address
    pods: Network
    dns: str
    plugins: str
    everywhere: str
    loopback: tuple[int, int]

    @property
    def family(self) -> str:
        """Of nft's tables."""
        return "ip" if self.address.version == 4 else "ip6"


def files(ground: Ground) -> dict[str, str]:
    """Name in the node's folder -> text. JSON is YAML too."""
    return {
        "containerd.toml": _containerd(ground),
        "kubelet.yaml": json.dumps(_kubelet(ground), indent=1),
        "kube-proxy.yaml": json.dumps(_proxy(ground), indent=1),
        "cni/10-lab.conflist": json.dumps(_network(ground), indent=1),
    }


def arguments(ground: Ground, programs: Programs) -> Mapping[str, list[str]]:
    """The argument list of each program."""
    return {
        "containerd": ["containerd", f"--config={HOME}/containerd.toml"],
        "kube-scheduler": [
            programs["kube-scheduler"],
            f"--kubeconfig={HOME}/kube-scheduler.kubeconfig",
            "--leader-elect=false",
            "--secure-port=0",
        ],
        "kubelet": [
            programs["kubelet"],
            f"--config={HOME}/kubelet.yaml",
            f"--kubeconfig={HOME}/kubelet.kubeconfig",
            f"--root-dir={HOME}/kubelet",
            f"--hostname-override={ground.name}",
            f"--node-ip={ground.address}",
        ],
        "kube-proxy": [programs["kube-proxy"], f"--config={HOME}/kube-proxy.yaml"],
    }


def _containerd(ground: Ground) -> str:
    # native: copies of files, which work on every file system. restrict_oom_score_adj: root without CAP_SYS_RESOURCE.
    return f"""
version = 2
root = "{HOME}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{ground.plugins}"
    conf_dir = "{HOME}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "runc"
        SystemdCgroup = false
"""


def _kubelet(ground: Ground) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ground.everywhere,
        "port": KUBELET,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(ground.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(ground.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(ground.pki / "kubelet.key"),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "protectKernelDefaults": True,  # it reads settings of the lab's own, and must never write the machine's
        "clusterDomain": "cluster.local",
        "clusterDNS": [ground.dns] if ground.dns else [],
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "podLogsDir": "/var/log/pods",
        "volumePluginDir": f"{HOME}/plugins",
        # the machine's disk and memory are shared with all the rest: a nearly full one must not empty the node
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
    }


def _proxy(ground: Ground) -> dict[str, Any]:
    loopback = "127.0.0.1" if ground.address.version == 4 else "[::1]"
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": str(ground.pods),
        "hostnameOverride": ground.name,
        "healthzBindAddress": f"{loopback}:{ground.loopback[0]}",
        "metricsBindAddress": f"{loopback}:{ground.loopback[1]}",
        "clientConnection": {"kubeconfig": f"{HOME}/kube-proxy.kubeconfig"},
        # conntrack's limits are the machine's, not the hub's
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _network(ground: Ground) -> dict[str, Any]:
    """Pods on the bridge that the lab's own pods are on. No masquerading: the hub does it, as for all pods."""
    everywhere = "0.0.0.0/0" if ground.address.version == 4 else "::/0"
    scope = {"subnet": str(ground.bridge), "rangeStart": str(ground.first), "rangeEnd": str(ground.last)}
    ipam = {"type": "host-local", "dataDir": f"{HOME}/addresses", "ranges": [[scope]], "routes": [{"dst": everywhere}]}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "ipam": ipam}
    return {"cniVersion": "0.4.0", "name": "lab", "plugins": [bridge]}
