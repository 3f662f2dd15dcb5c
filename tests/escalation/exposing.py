"""What is shown, claimed and stored: Services, Ingresses, volumes, the owner's Grafana."""

from __future__ import annotations

from typing import Any

from api import Request, apply, collection, create, get, merge, patch
from attempt import NOTE, OWN_CLAIM, OWN_CONFIG, OWN_INGRESS, OWN_SERVICE, Attempt, with_meta
from things import Body, account, annotated, binding, claim, config, ingress, labelled, make, rule, secret, service
from world import JAKE, STEVE


def services() -> list[Attempt]:
    def refused(title: str, says: str, bad: Request, good: Request | None = None, deeper: bool = False) -> Attempt:
        good = good or create(service(JAKE))
        return Attempt(title, bad, says, good, policy="services", deeper=deeper)

    kind, address = "Here a Service has the type ClusterIP", "The cluster chooses the address"
    external = {"spec": {"externalIPs": ["192.168.20.20"]}}
    port = merge(OWN_SERVICE, {"spec": {"ports": [{"port": 81}]}})
    dns = {"metadata": {"annotations": {"external-dns.alpha.kubernetes.io/hostname": "www.example.net"}}}
    chosen = {"clusterIP": "10.43.200.7"}
    return [
        refused("a LoadBalancer", kind, create(service(JAKE, type="LoadBalancer")), deeper=True),
        refused("a port on every node", kind, create(service(JAKE, type="NodePort")), deeper=True),
        refused(
            "a name that stands for another host",
            kind,
            create(service(JAKE, type="ExternalName", externalName="router.lan")),
        ),
        refused(
            "the hub's address as externalIPs",
            "A Service here has no externalIPs",
            create(service(JAKE, externalIPs=["192.168.20.20"])),
        ),
        refused(
            "an address of one's choice",
            address,
            create(service(JAKE, **chosen)),
            create(service(JAKE, clusterIP="None")),
        ),
        refused(
            "an address of one's choice, as a list",
            address,
            create(service(JAKE, clusterIPs=["10.43.200.7"], **chosen)),
        ),
        refused(
            "an address of one's choice, with an empty history",
            address,
            create(with_meta(service(JAKE, **chosen), managedFields=[{}])),
            create(service(JAKE, clusterIP="")),
        ),
        refused(
            "an address of one's choice by server-side apply",
            address,
            apply(service(JAKE, **chosen), "kubectl"),
            apply(service(JAKE, "applied"), "kubectl"),
        ),
        refused(
            "turning a Service into a LoadBalancer",
            kind,
            merge(OWN_SERVICE, {"spec": {"type": "LoadBalancer"}}),
            port,
            deeper=True,
        ),
        refused(
            "turning a Service into node ports",
            kind,
            merge(OWN_SERVICE, {"spec": {"type": "NodePort"}}),
            port,
            deeper=True,
        ),
        refused(
            "turning a Service into another host's name",
            kind,
            merge(
                OWN_SERVICE,
                {"spec": {"type": "ExternalName", "externalName": "x", "clusterIP": None, "clusterIPs": None}},
            ),
            port,
        ),
        refused("adding externalIPs", "A Service here has no externalIPs", merge(OWN_SERVICE, external), port),
        refused(
            "a name in the owner's DNS", "would publish the Service", merge(OWN_SERVICE, dns), merge(OWN_SERVICE, NOTE)
        ),
        Attempt(
            "an address in a Service's status",
            merge(f"{OWN_SERVICE}/status", {"status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}}}),
            'cannot patch resource "services/status"',
            get(f"{OWN_SERVICE}/status"),
        ),
        Attempt(
            "endpoints of one's choice",
            create(make("discovery.k8s.io/v1", "EndpointSlice", "app", JAKE, addressType="IPv4", endpoints=[])),
            'cannot create resource "endpointslices"',
            get(collection("discovery.k8s.io/v1", "EndpointSlice", JAKE)),
        ),
    ]


def ingresses() -> list[Attempt]:
    own = f"{JAKE}.apps.example.net"
    says = f"Your host names here are {own} and everything below it"

    def refused(title: str, bad: Body, says: str = says, good: Body | None = None) -> Attempt:
        return Attempt(title, create(bad), says, create(good or ingress(JAKE, f"game.{own}")), policy="ingresses")

    def noted(**annotations: str) -> Body:
        return annotated(ingress(JAKE, own), **annotations)

    def note(title: str, key: str, value: str = "x") -> Attempt:
        return refused(
            title,
            noted(**{key: value}),
            "would change the ingress controller",
            noted(**{"nginx.ingress.kubernetes.io/proxy-body-size": "8m"}),
        )

    first = {"op": "replace", "path": "/spec/rules/0/host", "value": "esc-steve.apps.example.net"}
    route = {"parentRefs": [{"name": "g"}], "hostnames": ["esc-steve.apps.example.net"]}
    mine = {**route, "hostnames": [f"x.{own}"]}
    return [
        refused("another friend's host", ingress(JAKE, "esc-steve.apps.example.net")),
        refused("another friend's host beside one's own", ingress(JAKE, own, "esc-steve.apps.example.net")),
        refused("a host of the owner's", ingress(JAKE, "apps.example.net")),
        refused("a host that only ends alike", ingress(JAKE, f"evil{own}")),
        refused("everybody's hosts", ingress(JAKE, "*.apps.example.net"), says, ingress(JAKE, f"*.{own}")),
        refused("no host, so all of them", ingress(JAKE, "")),
        refused(
            "a certificate for another friend's host",
            ingress(JAKE, own, tls=[{"hosts": ["esc-steve.apps.example.net"]}]),
            "every entry of spec.tls",
            ingress(JAKE, own, tls=[{"hosts": [own], "secretName": "tls"}]),
        ),
        refused(
            "what no rule answers",
            ingress(JAKE, own, defaultBackend={"service": {"name": "web", "port": {"number": 80}}}),
            "A default backend would answer for the hosts of everybody",
        ),
        refused(
            "a path that is configuration",
            ingress(JAKE, rules=[rule(own, "/`) || Host(`x")]),
            "A path may hold no quotation mark",
            ingress(JAKE, rules=[rule(own, "/a/(.*)$")]),
        ),
        note("configuration of nginx", "nginx.ingress.kubernetes.io/configuration-snippet"),
        note("another host by nginx", "nginx.ingress.kubernetes.io/server-alias"),
        note("another's Secret by nginx", "nginx.ingress.kubernetes.io/auth-tls-secret", "esc-steve/private"),
        note(
            "another's middleware of Traefik", "traefik.ingress.kubernetes.io/router.middlewares", "a-b@kubernetescrd"
        ),
        note("a rule of Traefik", "traefik.ingress.kubernetes.io/router.pathmatcher", "PathPrefix(`/`) || Path"),
        note("configuration of HAProxy", "haproxy.org/backend-config-snippet"),
        note("another name in the owner's certificate", "cert-manager.io/alt-names"),
        note("a name in the owner's DNS by an Ingress", "external-dns.alpha.kubernetes.io/hostname", "www.example.net"),
        Attempt(
            "taking over another friend's host later",
            patch(OWN_INGRESS, first),
            says,
            patch(OWN_INGRESS, {**first, "value": f"new.{own}"}),
            policy="ingresses",
        ),
        Attempt(
            "another friend's host by the Gateway API",
            create(make("gateway.networking.k8s.io/v1", "HTTPRoute", "app", JAKE, spec=route)),
            says,
            create(make("gateway.networking.k8s.io/v1", "HTTPRoute", "app", JAKE, spec=mine)),
            policy="routes",
        ),
        Attempt(
            "all hosts by the Gateway API",
            create(make("gateway.networking.k8s.io/v1", "HTTPRoute", "app", JAKE, spec={})),
            says,
            create(make("gateway.networking.k8s.io/v1", "HTTPRoute", "app", JAKE, spec=mine)),
            policy="routes",
        ),
    ]


def certificates() -> list[Attempt]:
    own = f"{JAKE}.apps.example.net"

    def wanted(kind: str = "ClusterIssuer", **spec: Any) -> Request:
        return create(
            make("cert-manager.io/v1", "Certificate", "app", JAKE, spec={"issuerRef": {"kind": kind}, **spec})
        )

    def refused(title: str, says: str, good: Request, **spec: Any) -> Attempt:
        return Attempt(title, wanted(**spec), says, good, policy="certificates")

    hosts = f"Your host names here are {own}"
    fine = wanted(dnsNames=[f"*.{own}", own])
    private = wanted("Issuer", dnsNames=["esc-steve.apps.example.net"], ipAddresses=["10.43.0.9"])
    return [
        refused("the owner's certificate of another friend", hosts, fine, dnsNames=["esc-steve.apps.example.net"]),
        refused("the owner's certificate of another friend as common name", hosts, fine, commonName="www.example.net"),
        refused("the owner's certificate of an address", "names hosts", private, ipAddresses=["192.168.20.20"]),
        refused("the owner's certificate authority", "names hosts", fine, dnsNames=[own], isCA=True),
    ]


def claims() -> list[Attempt]:
    def refused(title: str, says: str, good: Body | None = None, policy: str = "claims", **spec: Any) -> Attempt:
        return Attempt(title, create(claim(JAKE, **spec)), says, create(good or claim(JAKE)), policy=policy)

    return [
        refused(
            "a storage class of the owner's",
            "only the default storage class is yours",
            claim(JAKE, storageClassName="esc-usual"),
            "claim-classes",
            storageClassName="esc-owner",
        ),
        refused("a volume that waits for somebody", "would take a volume of the owner's", storageClassName=""),
        Attempt(
            "a storage class of the owner's in the old way",
            create(annotated(claim(JAKE), **{"volume.beta.kubernetes.io/storage-class": "esc-owner"})),
            "stands in spec.storageClassName",
            create(annotated(claim(JAKE), note="x")),
            policy="claims",
        ),
        refused("a volume of one's choice", "may not choose its volume", volumeName="backup"),
        refused("a volume by its labels", "may not select volumes", selector={"matchLabels": {"for": "owner"}}),
        Attempt(
            "a volume chosen later",
            merge(OWN_CLAIM, {"spec": {"volumeName": "backup"}}),
            "may not choose its volume",
            merge(OWN_CLAIM, NOTE),
            policy="claims",
        ),
        Attempt(
            "a storage class beside the listed ones",
            create(claim(STEVE, storageClassName="esc-owner")),
            "Your storage classes here are: esc-fast",
            create(claim(STEVE, storageClassName="esc-fast")),
            "steve",
            "claims",
        ),
    ]


def copies() -> list[Attempt]:
    push, pull = (
        {"replicator.v1.mittwald.de/replicate-to": "kube-system"},
        {"reflector.v1.k8s.emberstack.com/reflects": "kube-system/a"},
    )
    worker = account("worker", JAKE)

    def refused(title: str, bad: Body, good: Body) -> Attempt:
        return Attempt(title, create(bad), "it would be copied between namespaces", create(good), policy="copies")

    return [
        refused("a Secret that is copied into another namespace", annotated(secret(JAKE), **push), secret(JAKE)),
        refused("a ConfigMap that is filled from another namespace", annotated(config(JAKE), **pull), config(JAKE)),
        refused(
            "a binding that is copied into another namespace",
            annotated(binding(JAKE, worker), **push),
            annotated(binding(JAKE, worker), note="x"),
        ),
    ]


def grafana() -> list[Attempt]:
    def refused(title: str, bad: Request, good: Request) -> Attempt:
        return Attempt(title, bad, "it would be loaded into the owner's Grafana", good, policy="grafana")

    label = {"metadata": {"labels": {"grafana_dashboard": "1"}}}
    fine = {"metadata": {"labels": {"dashboard": "1"}}}
    return [
        refused(
            "a dashboard for the owner's Grafana",
            create(config(JAKE, grafana_dashboard="1")),
            create(config(JAKE, dashboard="1")),
        ),
        refused(
            "a data source for the owner's Grafana",
            create(labelled(secret(JAKE), grafana_datasource="1")),
            create(secret(JAKE)),
        ),
        refused("labelling a ConfigMap as a dashboard later", merge(OWN_CONFIG, label), merge(OWN_CONFIG, fine)),
    ]
