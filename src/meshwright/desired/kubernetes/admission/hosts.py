"""Whose host names are whose: Ingresses, routes of the Gateway API, certificates. Pure.

What a friend may claim is said by an annotation of his namespace.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired import names
from meshwright.desired.kubernetes.admission.policy import (
    NEW,
    OLD,
    Check,
    Policy,
    Rule,
    annotation,
    text,
    unchanged,
)

# Annotations by which a Service or an Ingress reaches beyond its namespace: names in the owner's DNS, other networks.
PUBLISHING = (
    r"^(external-dns\.alpha\.kubernetes\.io|tailscale\.com|metallb\.(io|universe\.tf))/"
    r"|^traefik\.ingress\.kubernetes\.io/service\.serverstransport$"
)
# ... and by which an Ingress writes configuration of the shared ingress controller, or refers to another's objects.
_CONTROLLER = "|".join(
    [
        PUBLISHING,
        r"snippet",
        r"^nginx\.(ingress\.kubernetes\.io|org)/(server-alias|auth-.*secret.*|auth-proxy-set-headers|custom-headers"
        r"|proxy-ssl-secret|fastcgi-params-configmap|modsecurity.*|lua-.*)$",
        r"^(haproxy\.org|haproxy-ingress\.github\.io|ingress\.kubernetes\.io)/(config-.*|.*-config|auth-.*secret"
        r"|server-alias.*|secure-.*secret)$",
        r"^traefik\.ingress\.kubernetes\.io/router\.(middlewares|pathmatcher|rulesyntax|tls\.(options|domains\..*))$",
        r"^cert-manager\.io/(common-name|alt-names|ip-sans|uri-sans|email-sans|subject-.*)$",
    ]
)


def policies() -> Iterator[Policy]:
    """One for each kind that claims a host."""
    yield _ingresses()
    yield _routes()
    yield _certificates()


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
                unchanged(_CONTROLLER),
                "This annotation would change the ingress controller for everybody. Take it away, or ask the owner",
            ),
        ),
        variables={"domain": annotation(names.INGRESS_DOMAIN), "before": rules.format(OLD)},
    )


def _routes() -> Policy:
    return Policy(
        "routes",
        (Rule("gateway.networking.k8s.io", ("httproutes", "grpcroutes", "tlsroutes"), version="*"),),
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
