"""What runs: Pod Security, the node that a pod runs on, its importance, its images."""

from __future__ import annotations

from typing import Any

from api import Request, create, get, merge, patch, strategic
from attempt import NOTE, OWN_DEPLOYMENT, Attempt, add, core, replaced
from things import Body, annotated, container, make, pod, workload
from world import HAM, JAKE


def pods() -> list[Attempt]:
    """Pod Security's."""
    fine = create(pod(JAKE))

    def refused(title: str, says: str, **spec: Any) -> Attempt:
        return Attempt(title, create(pod(JAKE, **spec)), says, fine)

    def inside(title: str, says: str, **more: Any) -> Attempt:
        return refused(title, says, containers=[container(**more)])

    psa = 'violates PodSecurity "restricted'
    return [
        inside("a privileged pod", psa, context={"privileged": True, "allowPrivilegeEscalation": True}),
        inside("a container as root", psa, context={"runAsNonRoot": False}),
        inside("a container that keeps its capabilities", psa, context={"capabilities": {}}),
        inside("a container with NET_ADMIN", psa, context={"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}),
        inside("a container without seccomp", psa, context={"seccompProfile": {"type": "Unconfined"}}),
        inside("a port of the node", psa, ports=[{"containerPort": 80, "hostPort": 80}]),
        refused("the node's network", psa, hostNetwork=True),
        refused("the node's processes", psa, hostPID=True),
        refused("the node's memory segments", psa, hostIPC=True),
        refused("a folder of the node", psa, volumes=[{"name": "v", "hostPath": {"path": "/"}}]),
        Attempt(
            "a privileged debug container in a running pod",
            merge(f"{core('Pod', 'own')}/ephemeralcontainers", {"spec": {"ephemeralContainers": [debugger()]}}),
            'cannot patch resource "pods/ephemeralcontainers"',
            merge(core("Pod", "own"), NOTE),
        ),
        Attempt(
            "a privileged debug container where debugging was allowed",
            strategic(
                f"{core('Pod', 'own', HAM)}/ephemeralcontainers", {"spec": {"ephemeralContainers": [debugger(True)]}}
            ),
            psa,
            strategic(
                f"{core('Pod', 'own', HAM)}/ephemeralcontainers", {"spec": {"ephemeralContainers": [debugger()]}}
            ),
            "hamilton",
        ),
        Attempt(
            "more than the quota",
            create(pod(JAKE, containers=[container(resources={"limits": {"cpu": "900"}, "requests": {"cpu": "900"}})])),
            "exceeded quota: meshwright-quota",
            fine,
        ),
        Attempt(
            "choosing the node of a waiting pod",
            Request("POST", f"{core('Pod', 'own')}/binding", make("v1", "Binding", "own", JAKE, target={"name": "n"})),
            'cannot create resource "pods/binding"',
            fine,
        ),
        Attempt(
            "looking into the devices of others",
            create(devices(adminAccess=True)),
            "requires the `resource.kubernetes.io/admin-access: true` label",
            create(devices()),
        ),
        Attempt(
            "writing a pod's status",
            merge(f"{core('Pod', 'own')}/status", {"status": {"phase": "Running"}}),
            'cannot patch resource "pods/status"',
            get(f"{core('Pod', 'own')}/status"),
        ),
    ]


def devices(**more: Any) -> Body:
    exactly = {"deviceClassName": "gpu", "allocationMode": "All", **more}
    spec = {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}
    return make("resource.k8s.io/v1", "ResourceClaim", "app", JAKE, spec=spec)


def debugger(privileged: bool = False) -> Body:
    more = {"context": {"privileged": True, "allowPrivilegeEscalation": True}} if privileged else {}
    return container(**more) | {"name": "bad" if privileged else "good"}


def placement() -> list[Attempt]:
    def refused(
        title: str, says: str, bad: Body, good: Body, policy: str = "placement", deeper: bool = False
    ) -> Attempt:
        return Attempt(title, create(bad), says, create(good), policy=policy, deeper=deeper)

    master = {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}
    usual = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}
    out = [
        refused(
            "a pod on a node of one's choice",
            "The scheduler chooses",
            pod(JAKE, nodeName="k3s-server-1"),
            pod(JAKE, nodeSelector={"kubernetes.io/hostname": "k3s-server-1"}),
        ),
        refused(
            "a pod that tolerates the control plane's taint",
            "Only tolerations of node.kubernetes.io/",
            pod(JAKE, tolerations=[master]),
            pod(JAKE, tolerations=[usual]),
        ),
        refused(
            "a pod that tolerates everything",
            "Only tolerations of node.kubernetes.io/",
            pod(JAKE, tolerations=[{"operator": "Exists"}]),
            pod(JAKE, tolerations=[usual]),
        ),
        refused(
            "a pod of another scheduler",
            "Leave spec.schedulerName out",
            pod(JAKE, schedulerName="mine"),
            pod(JAKE, schedulerName="default-scheduler"),
        ),
        refused(
            "a pod of another runtime",
            "Leave spec.runtimeClassName out",
            pod(JAKE, runtimeClassName="esc-other"),
            pod(JAKE),
        ),
        refused(
            "a pod more important than others'",
            "Leave spec.priorityClassName out",
            pod(JAKE, priorityClassName="esc-important"),
            pod(JAKE, priorityClassName="esc-usual"),
            "priority",
        ),
        refused(
            "a pod as important as the node itself",
            "Leave spec.priorityClassName out",
            pod(JAKE, priorityClassName="system-node-critical"),
            pod(JAKE),
            "priority",
        ),
        refused(
            "a Deployment more important than others'",
            "Leave spec.priorityClassName out",
            workload("Deployment", JAKE, priorityClassName="esc-important"),
            workload("Deployment", JAKE),
            "priority",
        ),
    ]
    for kind in (
        "Deployment",
        "StatefulSet",
        "DaemonSet",
        "ReplicaSet",
        "ReplicationController",
        "Job",
        "CronJob",
    ):
        bad, good = workload(kind, JAKE, tolerations=[master]), workload(kind, JAKE, tolerations=[usual])
        out.append(refused(f"a {kind} that tolerates the control plane's taint", "Only tolerations", bad, good))
    spec = {"spec": {"template": {"spec": {"nodeName": "k3s-server-1"}}}}
    fine = {"spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}}
    out += [
        Attempt(
            "moving a Deployment to a node",
            merge(OWN_DEPLOYMENT, spec),
            "The scheduler chooses",
            merge(OWN_DEPLOYMENT, fine),
            policy="placement",
        ),
        Attempt(
            "adding a toleration to a running pod",
            patch(core("Pod", "own"), add("/spec/tolerations/-", master)),
            "Only tolerations",
            patch(core("Pod", "own"), add("/spec/tolerations/-", usual)),
            policy="placement",
        ),
    ]
    return out


def attachments() -> list[Attempt]:
    fine = create(pod(JAKE))

    def refused(title: str, says: str, bad: Body, good: Request = fine) -> Attempt:
        return Attempt(title, create(bad), says, good, policy="attachments")

    def tokens(seconds: int) -> list[Body]:
        source = {"serviceAccountToken": {"path": "t", "expirationSeconds": seconds}}
        return [{"name": "t", "projected": {"sources": [source]}}]

    def net(body: Body) -> Body:
        return annotated(body, **{"k8s.v1.cni.cncf.io/networks": "kube-system/lan"})

    drive = [{"name": "v", "csi": {"driver": "nfs.csi.k8s.io", "volumeAttributes": {"server": "nas", "share": "/"}}}]
    later = workload("Deployment", JAKE)
    later["spec"]["template"]["metadata"]["annotations"] = {"k8s.v1.cni.cncf.io/networks": "kube-system/lan"}
    volume = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    return [
        refused(
            "a share of the house by a driver",
            "Use a PersistentVolumeClaim",
            pod(JAKE, volumes=drive),
            create(pod(JAKE, volumes=volume)),
        ),
        refused(
            "a Deployment with a share of the house",
            "Use a PersistentVolumeClaim",
            workload("Deployment", JAKE, volumes=drive),
            create(workload("Deployment", JAKE, volumes=volume)),
        ),
        refused(
            "a token for a year in a pod",
            "lives for 24 hours at most",
            pod(JAKE, volumes=tokens(31536000)),
            create(pod(JAKE, volumes=tokens(86400))),
        ),
        refused("the house's network in a pod", "Another network than the cluster's", net(pod(JAKE))),
        refused(
            "the house's network in the pods of a Deployment",
            "Another network than the cluster's",
            later,
            create(net(workload("Deployment", JAKE))),
        ),
    ]


def images() -> list[Attempt]:
    def refused(title: str, bad: Request, good: Request) -> Attempt:
        return Attempt(
            title, bad, "Images come from these registries here: ghcr.io, docker.io/library", good, "hamilton", "images"
        )

    def of(*names: str, **spec: Any) -> Body:
        return pod(HAM, containers=[container(image=name) | {"name": f"c{i}"} for i, name in enumerate(names)], **spec)

    first = [container(image="evil.example.org/x")]
    other = {"spec": {"ephemeralContainers": [debugger() | {"image": "evil.example.org/x", "name": "strange"}]}}
    good = {"spec": {"ephemeralContainers": [debugger() | {"name": "e"}]}}
    where = f"{core('Pod', 'own', HAM)}/ephemeralcontainers"
    volume = {"name": "v", "image": {"reference": "evil.example.org/x"}}
    allowed = {"name": "v", "image": {"reference": "ghcr.io/x/y"}}
    return [
        refused("an image of a strange registry", create(of("evil.example.org/x")), create(of("ghcr.io/a/b:1"))),
        refused(
            "an image of a registry that only begins alike",
            create(of("ghcr.io.evil.example/x")),
            create(of("ghcr.io/a@sha256:" + "0" * 64)),
        ),
        refused("somebody's image of Docker Hub", create(of("somebody/nginx")), create(of("nginx"))),
        refused("a strange image beside a good one", create(of("nginx", "quay.io/x/y")), create(of("nginx", "redis"))),
        refused(
            "a strange image before the others",
            create(of("nginx", initContainers=first)),
            create(of("nginx", initContainers=[container() | {"name": "first"}])),
        ),
        refused(
            "a strange image as a volume", create(of("nginx", volumes=[volume])), create(of("nginx", volumes=[allowed]))
        ),
        refused(
            "a CronJob with a strange image",
            create(workload("CronJob", HAM, containers=first)),
            create(workload("CronJob", HAM)),
        ),
        refused("a debug container with a strange image", strategic(where, other), strategic(where, good)),
        refused(
            "a strange image put into a running pod",
            patch(core("Pod", "own", HAM), replaced("/spec/containers/0/image", "quay.io/x/y")),
            patch(core("Pod", "own", HAM), replaced("/spec/containers/0/image", "ghcr.io/friends/app:2")),
        ),
    ]
