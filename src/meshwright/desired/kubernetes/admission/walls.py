"""Walls that hold for everybody who writes in a tenant's namespace: what is exposed, claimed and stored. Pure.

On UPDATE only what differs from before is judged, so that what was there already can still be changed or ended.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired import names
from meshwright.desired.kubernetes.admission.policy import Check, Policy, Rule, annotation, listed, text
from meshwright.spec.model import Mesh

NEW = "dyn(object)"
OLD = "(oldObject == null ? {'metadata': {}, 'spec': {}} : dyn(oldObject))"
GATEWAY = "gateway.networking.k8s.io"
BINDERS = ("system:serviceaccount:kube-system:persistent-volume-binder", "system:kube-controller-manager")
SIDECAR_LABELS = ("grafana_alert", "grafana_dashboard", "grafana_datasource", "grafana_notifier", "grafana_plugin")

# Annotations by which a Service or an Ingress reaches beyond its namespace: names in the owner's DNS, other networks.
_PUBLISHING = (
    r"^(external-dns\.alpha\.kubernetes\.io|tailscale\.com|metallb\.(io|universe\.tf))/"
    r"|^traefik\.ingress\.kubernetes\.io/service\.serverstransport$"
)
# ... and by which an Ingress writes configuration of the shared ingress controller, or refers to another's objects.
_CONTROLLER = "|".join(
    [
        _PUBLISHING,
        r"snippet",
        r"^nginx\.(ingress\.kubernetes\.io|org)/(server-alias|auth-.*secret.*|auth-proxy-set-headers|custom-headers"
        r"|proxy-ssl-secret|fastcgi-params-configmap|modsecurity.*|lua-.*)$",
        r"^(haproxy\.org|haproxy-ingress\.github\.io|ingress\.kubernetes\.io)/(config-.*|.*-config|auth-.*secret"
        r"|server-alias.*|secure-.*secret)$",
        r"^traefik\.ingress\.kubernetes\.io/(router\.(middlewares|entrypoints|priority|pathmatcher|rulesyntax)"
        r"|router\.tls\..*)$",
        r"^cert-manager\.io/(common-name|alt-names|ip-sans|uri-sans|email-sans|subject-.*)$",
    ]
)


def policies(mesh: Mesh) -> Iterator[Policy]:
    """Services, Ingresses, routes, volume claims, and what the owner's Grafana would pick up."""
    yield _services()
    yield _ingresses()
    yield _routes()
    yield _certificates()
    yield _claims()
    yield _claim_classes()
    yield _labels(mesh.observability.dashboard_label if mesh.observability else SIDECAR_LABELS[1])


def _annotations(pattern: str) -> str:
    """CEL: no annotation that matches is new or changed."""
    old = f"{OLD}.metadata.?annotations.orValue({{}})"
    return (
        f"{NEW}.metadata.?annotations.orValue({{}}).all(k, !k.matches({text(pattern)})"
        f" || {old}[?k].orValue('') == {NEW}.metadata.annotations[k])"
    )


def _services() -> Policy:
    """An address of one's own choice is seen in managedFields: at admission the server has chosen already."""
    variables = {
        "type": "object.spec.?type.orValue('ClusterIP')",
        "external": "object.spec.?externalIPs.orValue([])",
        "address": "object.spec.?clusterIP.orValue('')",
        "before": f"{OLD}.spec.?clusterIP.orValue('')",
        "chosen": f"{NEW}.metadata.?managedFields.orValue([]).exists(m, ['f:clusterIP', 'f:clusterIPs']"
        ".exists(f, m.?fieldsV1[?'f:spec'][?f].hasValue()))",
    }
    return Policy(
        "services",
        (Rule("", ("services",)),),
        (
            Check(
                f"variables.type == 'ClusterIP' || variables.type == {OLD}.spec.?type.orValue('')",
                "Here a Service has the type ClusterIP: no port of a node and no address outside the cluster is yours."
                " For a web page use an Ingress",
            ),
            Check(
                f"variables.external.all(ip, ip in {OLD}.spec.?externalIPs.orValue([]))",
                "A Service here has no externalIPs: such an address belongs to others. Leave spec.externalIPs out",
            ),
            Check(
                "variables.address in ['', 'None'] || variables.address == variables.before || "
                "(!variables.chosen && size(dyn(object).metadata.?managedFields.orValue([])) > 0)",
                "The cluster chooses the address of a Service. Leave spec.clusterIP and spec.clusterIPs out,"
                " or write None",
            ),
            Check(
                _annotations(_PUBLISHING),
                "This annotation would publish the Service outside the cluster. Take it away, or ask the owner",
            ),
        ),
        variables=variables,
    )


_OWN_HOST = (
    "(variables.domain != '' && ({host} == variables.domain || {host}.endsWith('.' + variables.domain)))"
    " || {host} in variables.before"
)
_DOMAIN_SAID = (
    "variables.domain == '' ? 'No host name is yours here. Ask the owner for one (kubernetes.ingress.domain)' : "
    "'Your host names here are ' + variables.domain + ' and everything below it; every {what} has to name one of them'"
)
_HOST_WHY = "Every host has to be one of your own"


def _ingresses() -> Policy:
    rules = "{}.spec.?rules.orValue([]).map(r, r.?host.orValue(''))"
    tls = "{}.spec.?tls.orValue([])"
    own = _OWN_HOST.format(host="h")
    paths = f"{NEW}.spec.?rules.orValue([]).all(r, r.?http.?paths.orValue([]).all(p, !p.?path.orValue('').matches("
    return Policy(
        "ingresses",
        (Rule("networking.k8s.io", ("ingresses",)),),
        (
            Check(
                f"{rules.format(NEW)}.all(h, {own})",
                _HOST_WHY,
                _DOMAIN_SAID.format(what="rule"),
            ),
            Check(
                f"{tls.format(NEW)}.all(t, t.?hosts.orValue([]).all(h, {own}"
                f" || {tls.format(OLD)}.exists(o, h in o.?hosts.orValue([]))))",
                _HOST_WHY,
                _DOMAIN_SAID.format(what="entry of spec.tls"),
            ),
            Check(
                f"!has(object.spec.defaultBackend) || {OLD}.spec.?defaultBackend == {NEW}.spec.?defaultBackend",
                "A default backend would answer for the hosts of everybody. Write a rule for each host of yours",
            ),
            Check(
                paths + text(r"[`\"'\s;{}]") + ")))",
                "A path may hold no quotation mark, space, semicolon or brace: the ingress controller would read it"
                " as configuration",
            ),
            Check(
                _annotations(_CONTROLLER),
                "This annotation would change the ingress controller for everybody. Take it away, or ask the owner",
            ),
        ),
        variables={"domain": annotation(names.INGRESS_DOMAIN), "before": rules.format(OLD)},
    )


def _routes() -> Policy:
    return Policy(
        "routes",
        (Rule(GATEWAY, ("httproutes", "grpcroutes", "tlsroutes"), version="*"),),
        (
            Check(
                f"size(variables.hosts) > 0 && variables.hosts.all(h, {_OWN_HOST.format(host='h')})"
                " || variables.hosts == variables.before && oldObject != null",
                _HOST_WHY,
                _DOMAIN_SAID.format(what="route"),
            ),
        ),
        variables={
            "domain": annotation(names.INGRESS_DOMAIN),
            "hosts": f"{NEW}.spec.?hostnames.orValue([])",
            "before": f"{OLD}.spec.?hostnames.orValue([])",
        },
    )


def _certificates() -> Policy:
    """A ClusterIssuer proves the owner's domain: whoever may ask it for any name can be any host of his."""
    spec, old = f"{NEW}.spec", f"{OLD}.spec"
    others = "['ipAddresses', 'uris', 'emailAddresses', 'otherNames', 'literalSubject', 'subject', 'isCA']"
    names_of = "({0}.?dnsNames.orValue([]) + [{0}.?commonName.orValue('')]).filter(h, h != '')"
    return Policy(
        "certificates",
        (Rule("cert-manager.io", ("certificates",), version="*"),),
        (
            Check(
                f"!variables.shared || variables.hosts.all(h, {_OWN_HOST.format(host='h')})",
                _HOST_WHY,
                _DOMAIN_SAID.format(what="certificate"),
            ),
            Check(
                f"!variables.shared || {others}.all(k, {spec}[?k] == {old}[?k] || !{spec}[?k].hasValue())",
                "A certificate of the owner's issuer names hosts (dnsNames) and nothing else",
            ),
        ),
        variables={
            "domain": annotation(names.INGRESS_DOMAIN),
            "shared": f"{spec}.?issuerRef.?kind.orValue('Issuer') != 'Issuer'",
            "hosts": names_of.format(spec),
            "before": f"{spec}.?issuerRef == {old}.?issuerRef ? {names_of.format(old)} : []",
        },
    )


def _claims() -> Policy:
    binders = ", ".join(text(name) for name in BINDERS)
    return Policy(
        "claims",
        (Rule("", ("persistentvolumeclaims",)),),
        (
            Check(
                f"object.spec.?volumeName.orValue('') in ['', string({OLD}.spec.?volumeName.orValue(''))]"
                f" || (request.operation == 'UPDATE' && request.userInfo.username in [{binders}])",
                "A claim here may not choose its volume. Leave spec.volumeName out; the owner can reserve a volume for"
                " a claim by the volume's claimRef",
            ),
            Check(
                f"!has(object.spec.selector) || {OLD}.spec.?selector == {NEW}.spec.?selector",
                "A claim here may not select volumes by their labels. Leave spec.selector out",
            ),
            Check(
                "object.spec.?dataSourceRef.?namespace.orValue('') in ['', request.namespace]",
                "A claim here is filled from your own namespace only. Leave dataSourceRef.namespace out",
            ),
            Check(
                "object.spec.?storageClassName.orValue('default') != '' || oldObject != null",
                "A claim without a storage class would take a volume of the owner's."
                " Leave spec.storageClassName out for the default class",
            ),
            Check(
                f"size(variables.classes) == 0 || {_CLASS} in variables.classes || {_CLASS} == {_CLASS_BEFORE}",
                "This storage class is not yours",
                "'Your storage classes here are: ' + variables.classes.join(', ')",
            ),
        ),
        variables={"classes": listed(names.STORAGE_CLASSES)},
    )


_CLASS = "object.spec.?storageClassName.orValue('')"
_CLASS_BEFORE = f"{OLD}.spec.?storageClassName.orValue('')"


def _claim_classes() -> Policy:
    """Which class is the default one is known by the classes themselves; the server has filled it in already."""
    default = "storageclass.kubernetes.io/is-default-class"
    return Policy(
        "claim-classes",
        (Rule("", ("persistentvolumeclaims",)),),
        (
            Check(
                f"{_CLASS} != params.metadata.name || {_CLASS} == {_CLASS_BEFORE} || params.metadata"
                f".?annotations[?'{default}'].orValue('') == 'true' || size({listed(names.STORAGE_CLASSES)}) > 0",
                "Here only the default storage class is yours. Leave spec.storageClassName out",
            ),
        ),
        each=("storage.k8s.io/v1", "StorageClass"),
    )


def _labels(dashboard: str) -> Policy:
    labels = ", ".join(text(label) for label in sorted({*SIDECAR_LABELS, dashboard}))
    old = f"{OLD}.metadata.?labels.orValue({{}})"
    return Policy(
        "grafana",
        (Rule("", ("configmaps", "secrets")),),
        (
            Check(
                f"{NEW}.metadata.?labels.orValue({{}}).all(k, !(k in [{labels}])"
                f" || {old}[?k].orValue('-') == {NEW}.metadata.labels[k])",
                "With this label it would be loaded into the owner's Grafana. Take the label away, and send him the"
                " dashboard",
            ),
        ),
    )
