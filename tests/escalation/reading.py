"""What is others' and the house's: read directly, by every detour, or written."""

from __future__ import annotations

from api import Request, apply, collection, create, delete, get, merge, patch
from attempt import NOTE, OWN_CONFIG, OWN_SECRET, Attempt, acting, add, core
from things import account, binding, claim, config, make, meta, pod, secret, token
from world import ACCESS, JAKE, MESH, STEVE


def _no(title: str, bad: Request, verb: str, what: str, good: Request) -> Attempt:
    return Attempt(title, bad, f'cannot {verb} resource "{what}"', good)


def secrets() -> list[Attempt]:
    mine = get(OWN_SECRET)
    theirs = core("Secret", "private", STEVE)
    return [
        _no("another friend's Secret", get(theirs), "get", "secrets", mine),
        _no("another friend's Secrets", get(core("Secret", namespace=STEVE)), "list", "secrets", get(core("Secret"))),
        _no(
            "another friend's tunnel",
            get(core("Secret", "wireguard-steve", STEVE)),
            "get",
            "secrets",
            get(core("Secret", "wireguard-jake")),
        ),
        _no("the Secrets of everybody", get("/api/v1/secrets"), "list", "secrets", get("/api/v1/pods")),
        _no(
            "watching the Secrets of everybody",
            get("/api/v1/secrets", watch="1"),
            "watch",
            "secrets",
            get(core("Secret"), watch="1", timeoutSeconds="1"),
        ),
        _no("the Secrets of the system", get(core("Secret", namespace="kube-system")), "list", "secrets", mine),
        _no("the Secrets beside the access accounts", get(core("Secret", namespace=ACCESS)), "list", "secrets", mine),
        _no(
            "another friend's ConfigMaps",
            get(core("ConfigMap", namespace=STEVE)),
            "list",
            "configmaps",
            get(OWN_CONFIG),
        ),
        _no("changing another friend's Secret", merge(theirs, NOTE), "patch", "secrets", merge(OWN_SECRET, NOTE)),
        _no(
            "deleting another friend's Secrets",
            delete(core("Secret", namespace=STEVE)),
            "deletecollection",
            "secrets",
            merge(OWN_SECRET, NOTE),
        ),
        _no(
            "what Helm was told",
            get(collection("helm.cattle.io/v1", "HelmChart")),
            "list",
            "helmcharts",
            get(collection("monitoring.coreos.com/v1", "ServiceMonitor")),
        ),
    ]


def detours() -> list[Attempt]:
    """A verb of the request is what RBAC asks for: these are refused before anything is dialled."""
    theirs, mine, out = core("Pod", "own", STEVE), core("Pod", "own"), []
    for sub in ("exec", "attach", "portforward", "proxy"):
        good = get(mine) if sub != "proxy" else get(f"{core('Pod')}")
        for method, verb in (("GET", "get"), ("POST", "create")):
            bad = Request(method, f"{theirs}/{sub}", query={"command": "id"} if sub == "exec" else {})
            out.append(_no(f"{sub} into another friend's pod by {method}", bad, verb, f"pods/{sub}", good))
    impersonate = {"Impersonate-User": "admin"}
    steve = {"Impersonate-User": f"system:serviceaccount:{STEVE}:default"}
    nodes = "/api/v1/nodes"
    return [
        *out,
        _no("the log of another friend's pod", get(f"{theirs}/log"), "get", "pods/log", get(mine)),
        _no(
            "the web page of another friend",
            get(f"{core('Service', 'web', STEVE)}/proxy"),
            "get",
            "services/proxy",
            get(core("Service", "web")),
        ),
        _no("a node's kubelet", get(f"{nodes}/k3s-server-1/proxy/pods"), "get", "nodes/proxy", get(nodes)),
        _no(
            "a node's kubelet to run something",
            Request("POST", f"{nodes}/k3s-server-1/proxy/run/a/b/c"),
            "create",
            "nodes/proxy",
            get(nodes),
        ),
        _no("a node's logs", get(f"{nodes}/k3s-server-1/log"), "get", "nodes/log", get(nodes)),
        Attempt(
            "being the owner",
            Request("GET", nodes, headers=impersonate),
            'cannot impersonate resource "users"',
            acting(get(OWN_CONFIG)),
        ),
        Attempt(
            "being an account of another friend",
            Request("GET", nodes, headers=steve),
            'cannot impersonate resource "serviceaccounts"',
            acting(get(OWN_CONFIG)),
        ),
        _no(
            "asking whose token this is",
            create(make("authentication.k8s.io/v1", "TokenReview", "x", spec={"token": "x"})),
            "create",
            "tokenreviews",
            Request(
                "POST",
                "/apis/authentication.k8s.io/v1/selfsubjectreviews",
                make("authentication.k8s.io/v1", "SelfSubjectReview", "x"),
            ),
        ),
        Attempt("no name at all", get(core("Secret")), "forbidden", get("/version"), "nobody"),
    ]


def house() -> list[Attempt]:
    fine = create(pod(JAKE))
    hook = make("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "me", webhooks=[])
    wall = f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/{MESH}-services"
    volume = make("v1", "PersistentVolume", "me", spec={"hostPath": {"path": "/"}})
    return [
        _no("a pod in the namespace default", create(pod("default")), "create", "pods", fine),
        _no("a pod beside the access accounts", create(pod(ACCESS)), "create", "pods", fine),
        _no("a pod in another friend's namespace", create(pod(STEVE)), "create", "pods", fine),
        _no("a pod in kube-system", create(pod("kube-system")), "create", "pods", fine),
        _no("a volume with the node's disk", create(volume), "create", "persistentvolumes", create(claim(JAKE))),
        _no(
            "an importance of one's own",
            create(make("scheduling.k8s.io/v1", "PriorityClass", "me", value=9)),
            "create",
            "priorityclasses",
            get(collection("scheduling.k8s.io/v1", "PriorityClass")),
        ),
        _no(
            "a taint taken off a node",
            merge("/api/v1/nodes/k3s-server-1", {"spec": {"taints": []}}),
            "patch",
            "nodes",
            get("/api/v1/nodes"),
        ),
        _no("an own hook at admission", create(hook), "create", "validatingwebhookconfigurations", fine),
        _no("removing an admission policy", delete(wall), "delete", "validatingadmissionpolicybindings", get(wall)),
        _no(
            "a lease of the system",
            merge("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x", NOTE),
            "patch",
            "leases",
            get(collection("coordination.k8s.io/v1", "Lease", JAKE)),
        ),
        _no(
            "one's own quota",
            create(make("v1", "ResourceQuota", "mine", JAKE, spec={"hard": {"pods": "99"}})),
            "create",
            "resourcequotas",
            get(core("ResourceQuota")),
        ),
        _no(
            "what of the quota is used",
            merge(f"{core('ResourceQuota', 'meshwright-quota')}/status", {"status": {}}),
            "patch",
            "resourcequotas/status",
            get(core("ResourceQuota")),
        ),
    ]


def deployer() -> list[Attempt]:
    """In steve's namespace the deployer got the ClusterRole admin by mistake."""
    tunnel = core("Secret", "wireguard-jake")
    there = core("Secret", "wireguard-steve", STEVE)
    fill = {"stringData": {"wg.conf": "[Interface]\n"}}
    only, rbac = "The deployer fills the Secrets wireguard-", "secrets"

    def no(title: str, bad: Request, verb: str, what: str = rbac) -> Attempt:
        return Attempt(
            f"the deployer: {title}", bad, f'cannot {verb} resource "{what}"', merge(tunnel, fill), "deployer"
        )

    def refused(title: str, bad: Request, says: str, good: Request | None = None, where: str = there) -> Attempt:
        good = good or merge(where, fill)
        return Attempt(f"the deployer: {title}", bad, says, good, "deployer", "deployer")

    data = "The deployer changes the data of a Secret and nothing else"
    declared = {"apiVersion": "v1", "kind": "Secret", "metadata": meta("wireguard-jake", JAKE)}
    return [
        no("a Secret of his own", create(secret(JAKE)), "create"),
        no("the list of Secrets", get(core("Secret")), "list"),
        no("a Secret that is not his", get(OWN_SECRET), "get"),
        no("reading his Secret without writing", get(tunnel), "get"),
        no("writing a Secret that is not his", merge(OWN_SECRET, NOTE), "patch"),
        no("deleting his Secret", delete(tunnel), "delete"),
        no(
            "a Secret of another name that begins alike",
            apply({**declared, "metadata": meta("wireguard-x", JAKE)}, "collective"),
            "patch",
        ),
        no("reading pods", get(core("Pod")), "list", "pods"),
        no("a ConfigMap", create(config(JAKE)), "create", "configmaps"),
        no(
            "a token of a friend's account",
            Request("POST", f"{core('ServiceAccount', 'default')}/token", token(3600)),
            "create",
            "serviceaccounts/token",
        ),
        no("the Secrets of the namespace default", get(core("Secret", namespace="default")), "list"),
        refused("another label", merge(tunnel, {"metadata": {"labels": {"a": "b"}}}), data, merge(tunnel, fill)),
        refused("taking our label off", merge(tunnel, {"metadata": {"labels": {"meshwright.io/mesh": None}}}), data),
        refused(
            "a copy of the file in an annotation", merge(tunnel, NOTE), data, apply({**declared, **fill}, "collective")
        ),
        refused(
            "an owner that takes it along",
            patch(
                tunnel, add("/metadata/ownerReferences", [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x"}])
            ),
            data,
        ),
        refused("a Secret that nobody can change again", merge(tunnel, {"immutable": True}), data),
        refused("another key", merge(tunnel, {"stringData": {"x": "y"}}), "has one key: wg.conf"),
        refused("a Secret, with rights got by mistake", create(secret(STEVE, "wireguard-more")), only),
        refused("a pod, with rights got by mistake", create(pod(STEVE)), only),
        refused(
            "a friend's token, with rights got by mistake",
            Request("POST", f"{core('ServiceAccount', 'default', STEVE)}/token", token(600)),
            only,
        ),
        refused("deleting his Secret, with rights got by mistake", delete(there), only),
        refused("a friend's Secret, with rights got by mistake", merge(core("Secret", "private", STEVE), fill), only),
        refused("a binding, with rights got by mistake", create(binding(STEVE, account("default", STEVE))), only),
    ]
