"""What each key means, in one short sentence: for the JSON Schema and the generated reference. `Class.key` -> text.

Beside the classes and not in them, so that a command that only reads a file does not pay for it.
"""

from __future__ import annotations

_DEVICE = {
    "public_key": "WireGuard public key; left out, a pair is generated.",
    "next_public_key": "A staged key, promoted at its first handshake.",
    "preshared_key": "Whether a preshared key is generated and used as well.",
    "keepalive": "Seconds between keepalive packets, 0 for none.",
    "expires": "A date (ends 00:00 UTC after it) or a time with offset; then as disabled.",
    "disabled": "Kept in the file, out of everything.",
    "lan": "Networks behind this device, reachable by policy only.",
    "routes": "Names of the routes that this client gets; left out, all.",
    "mtu": "MTU of the tunnel on the device.",
}
_REMOTE = {
    "fingerprint": "Pinned SHA-256 fingerprint of the certificate.",
    "ca": "Path of the CA certificate to trust.",
    "url": "Where its API is.",
    "wan": "Interface of the port forward.",
}
_ACCOUNT = {"username": "Account to log in with.", "password": "Where the account's password comes from."}
_GATEWAY = {
    "kind": "Which gateway this is.",
    "static_route": "Whether a route to the mesh is set on the gateway.",
    "forward": "Ports of the forward, where they differ from the endpoint and hub.listen.",
}

_CLASSES: dict[str, dict[str, str]] = {
    "Mesh": {
        "version": "Version of the file format.",
        "include": "Files with more peers, from this file's folder.",
        "name": "Name of the mesh, a DNS label; also names the nft table.",
        "hub": "The host that all peers connect to.",
        "network": "Addresses of the mesh and what lies behind the hub.",
        "peers": "Friends, by name.",
        "services": "Names for the policy: services, by name.",
        "policy": "Who may reach what; what is not allowed is dropped.",
        "gateway": "The router with the port forward; left out, not managed.",
        "dns_update": "How the endpoint's name is kept up to date.",
        "secrets": "Where generated keys are kept.",
        "kubernetes": "The cluster; left out, not managed.",
        "observability": "Metrics and dashboard; left out, not managed.",
        "files": "Where `render` writes each part.",
    },
    "FromEnvironment": {"env": "Name of the environment variable."},
    "FromFile": {"file": "Path of the file, from the mesh file's folder."},
    "FromCommand": {"command": "The program that prints the secret, and its arguments."},
    "Connection": {
        "kind": "ssh, or local when the tool runs on the host itself.",
        "host": "Name or address to connect to; left out, the hub's address.",
        "user": "User to log in as.",
        "port": "Port of the SSH server.",
        "become": "Whether to become root by sudo.",
        "become_password": "Where sudo's password comes from; left out, sudo must need none, or a terminal is asked.",
    },
    "NextHub": {
        "interface": "Interface that runs beside the present one.",
        "listen": "Its UDP port.",
        "public_key": "Its public key, once it is known.",
    },
    "Hub": {
        "node": "Inventory name and Kubernetes node name.",
        "address": "Address in the home network.",
        "interface": "WireGuard interface, at most 15 characters.",
        "endpoint": "What peers dial, as HOST:PORT.",
        "listen": "UDP port; left out, the endpoint's port.",
        "public_key": "Pinned key: a changed hub key is then an error.",
        "mtu": "MTU of the tunnel.",
        "mark": "The one packet-mark bit that is ours.",
        "next": "The next interface while the hub's key is rotated.",
        "connection": "How the tool reaches the hub; left out, ssh to its address.",
    },
    "Dns": {
        "server": "Address of a DNS server inside.",
        "domains": "Domains that it answers for.",
        "mode": "What clients use it for: none, the domains alone (split), all.",
    },
    "NetworkSection": {
        "cidr": "Networks of the tunnel addresses.",
        "hub": "The hub's tunnel addresses, one of each family.",
        "routes": "Networks behind the hub, by name: what clients send into the tunnel.",
        "dns": "DNS for clients: an address, or server, domains and mode.",
        "return_path": "How answers find back: masquerade, a route on every node, or one on the gateway.",
    },
    "Quota": {
        "cpu": "CPU of a namespace, 4 by default.",
        "memory": "Memory of a namespace, 8Gi by default.",
        "pods": "Pods of a namespace, 30 by default.",
        "storage": "Volume claims of a namespace together, 100Gi by default.",
    },
    "Limits": {"cpu": "CPU of a container that does not say: 500m.", "memory": "Its memory: 256Mi."},
    "Tenant": {
        "role": "What a peer may do in his namespace.",
        "quota": "Most that a namespace may use.",
        "limits": "Defaults of a container.",
        "egress": "Where a tenant's pods may connect to: internet (public addresses), none, or networks.",
        "network_policy": "Whether network policies wall the namespace in.",
        "admission": "Whether admission policies are put up.",
        "storage_classes": "Storage classes a tenant may use; empty, the default one.",
        "registries": "Registries a tenant's images may come from; empty, any.",
    },
    "DeviceSection": {"address": "Tunnel addresses.", **_DEVICE},
    "Peer": {
        "address": "Tunnel addresses of a peer with one device.",
        "devices": "Several devices, by name, instead of one address.",
        "namespace": "His Kubernetes namespace; left out, network only.",
        "groups": "Groups he belongs to: names for the policy.",
        "recipient": "age or SSH public key: what is sent to him is encrypted.",
        "always_on": "Whether his silence is an alert.",
        "tenant": "This peer's own walls.",
        **_DEVICE,
    },
    "Service": {
        "address": "Addresses of the service.",
        "kubernetes": "A Service as NAMESPACE/NAME, looked up at each plan.",
        "ports": "Its ports: what a rule without ports opens.",
    },
    "Allow": {
        "from": "Who may start a connection.",
        "to": "What it may reach.",
        "ports": "443/tcp, 27000-27100/udp, tcp, udp, icmp; left out, everything.",
    },
    "Test": {
        "from": "Who starts the connection.",
        "to": "Where it goes.",
        "port": "N/tcp, N/udp or icmp; left out, any.",
        "expect": "allow: every address reaches every one; deny: none does.",
    },
    "Policy": {"allow": "What is allowed.", "tests": "What must hold; checked before every apply."},
    "Forward": {
        "from": "Port on the WAN side; left out, the endpoint's.",
        "to": "Port of the hub; nothing but hub.listen is right.",
    },
    "UnifiGateway": {
        **_GATEWAY,
        **_REMOTE,
        **_ACCOUNT,
        "site": "Name of the site.",
        "api_key": "Where the API key comes from.",
    },
    "OpnsenseGateway": {**_GATEWAY, **_REMOTE, "key": "Where the API key comes from.", "secret": "And its secret."},
    "MikrotikGateway": {**_GATEWAY, **_REMOTE, **_ACCOUNT},
    "NftablesGateway": {**_GATEWAY, "connection": "How the tool reaches it.", "wan": "Name of its WAN interface."},
    "ManualGateway": _GATEWAY,
    "NoGateway": _GATEWAY,
    "TsigKey": {
        "name": "Name of the key.",
        "algorithm": "Its algorithm.",
        "secret": "Where the key's secret comes from.",
    },
    "NoDnsUpdate": {"kind": "Nothing is updated."},
    "Rfc2136": {
        "kind": "Dynamic updates, RFC 2136.",
        "server": "The name server that takes updates.",
        "zone": "The zone to update.",
        "name": "The name to keep.",
        "key": "The TSIG key.",
        "ttl": "Seconds that the record may be cached.",
        "echo": "URL that answers with one's own public address.",
    },
    "Secrets": {
        "directory": "Where generated keys are kept, from the mesh file's folder; 0700, not in git.",
        "recipients": "age or SSH public keys: then secrets are encrypted at rest.",
    },
    "Deployer": {"name": "Its ServiceAccount.", "namespace": "Where the ServiceAccount lives."},
    "Oidc": {
        "issuer_url": "URL of the issuer.",
        "client_id": "Client id of the cluster.",
        "username_prefix": "What the cluster puts before names.",
    },
    "Access": {
        "namespace": "Where the peers' ServiceAccounts live.",
        "ttl": "How long a token is good for.",
        "issuer": "Who makes credentials: the cluster (token) or oidc.",
        "oidc": "The issuer, for oidc.",
    },
    "Ingress": {
        "namespace": "Who may reach tenants' pods.",
        "domain": "Hosts that a tenant may claim; {namespace} is filled in.",
    },
    "Kubernetes": {
        "context": "Context of the kubeconfig; left out, as kubectl finds it.",
        "version": "Pins Pod Security, in quotes; left out, the cluster's.",
        "reader": "Name of the ClusterRole that lets peers look around.",
        "deployer": "The collective's automation.",
        "access": "How peers get into the cluster.",
        "pod_security": "Pod Security level of peers' namespaces.",
        "ingress": "The ingress in front of tenants.",
        "tenant": "The walls, for all peers.",
    },
    "BuiltinExporter": {
        "kind": "Our own exporter, part of the service on the hub.",
        "address": "Address that it listens on.",
        "port": "Port that it listens on.",
        "token": "Where the token that scrapers must show comes from.",
        "tls": "Serve over TLS, with this certificate.",
    },
    "ExporterTls": {
        "certificate": "File with the certificate, PEM, from the mesh file's folder.",
        "key": "Where its private key comes from.",
        "ca": "File with what scrapers check it against; left out, the certificate itself.",
    },
    "MindflavorExporter": {
        "kind": "The exporter of that name.",
        "image": "Its image.",
        "namespace": "Where it runs.",
        "address": "Address that it listens on.",
        "port": "Port that it listens on.",
    },
    "Observability": {
        "namespace": "Where dashboard and rules go; who may scrape tenants.",
        "exporter": "What tells the hub's metrics.",
        "release": "Label that the Prometheus operator looks for.",
        "interval": "Time between scrapes.",
        "dashboard": "Title of the dashboard, {dashboard} in the name of its file; left out, the mesh's name.",
        "dashboard_label": "Label by which Grafana finds dashboards.",
    },
    "Files": {
        "tenants": "Namespaces, roles and bindings of the peers.",
        "tenant": "Peer -> a file of his own.",
        "access": "Access namespace, ServiceAccounts, reader role and bindings.",
        "deployer": "The deployer and its rights.",
        "monitors": "ServiceMonitors and PodMonitors.",
        "admission": "Admission policies.",
        "rules": "Recording and alerting rules.",
        "dashboard": "The dashboard's ConfigMap.",
        "exporter": "The exporter.",
        "gateway": "Script that sets up the gateway.",
        "playbook": "Ansible playbook.",
        "inventory": "Ansible inventory.",
        "clients": "Folder of the peers' .conf files, 0600, never written by `render`.",
    },
}


def of(name: str, key: str) -> str:
    """The sentence for a key of a class. KeyError when nobody has written it yet."""
    return _CLASSES[name][key]
