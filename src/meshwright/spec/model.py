"""The mesh file as frozen values. Every key of version 1 is here; JSON Schema and the reference come from these classes.

Knows shapes and defaults of single values. What values mean together is rules.py, where they stand is load.py.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _listed(value: Any) -> Any:
    """A scalar where a list may stand means a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=False)


Addresses = Annotated[tuple[Address, ...], BeforeValidator(_listed), Field(min_length=1)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_listed), Field(min_length=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
Port = Annotated[int, Field(ge=1, le=65535)]


class FromEnvironment(_Model):
    env: str


class FromFile(_Model):
    file: str


class FromCommand(_Model):
    command: Annotated[tuple[str, ...], Field(min_length=1)]


SecretSource = FromEnvironment | FromFile | FromCommand


class Connection(_Model):
    """How the tool reaches a host. Left out: ssh to the hub's address, with become."""

    kind: Literal["ssh", "local"]
    host: str | None = None
    user: str | None = None
    port: Port | None = None
    become: bool = False


class NextHub(_Model):
    interface: str
    listen: Port
    public_key: str | None = None


class Hub(_Model):
    node: str
    address: Address
    interface: str
    endpoint: str
    listen: Port | None = None
    public_key: str | None = None
    mtu: Annotated[int, Field(ge=1280, le=65535)] = 1420
    mark: Annotated[int, Field(gt=0, le=0x80000000)] = 0x100000
    next: NextHub | None = None
    connection: Connection | None = None

    @property
    def endpoint_host(self) -> str:
        """The name or address that peers dial, without brackets."""
        return self.endpoint.rpartition(":")[0].strip("[]")

    @property
    def endpoint_port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    @property
    def port(self) -> int:
        """The UDP port that the hub listens on."""
        return self.listen or self.endpoint_port


class Dns(_Model):
    server: Address
    domains: tuple[str, ...] = ()
    mode: Literal["none", "split", "all"] = "none"


def _dns(value: Any) -> Any:
    return {"server": value} if isinstance(value, str) else value


class NetworkSection(_Model):
    cidr: Networks
    hub: Addresses
    routes: dict[str, Networks] = Field(default_factory=dict)
    dns: Annotated[Dns | None, BeforeValidator(_dns)] = None
    return_path: Literal["masquerade", "nodes", "gateway"] = "masquerade"


class Quota(_Model):
    cpu: str | None = None
    memory: str | None = None
    pods: Annotated[int, Field(ge=0)] | None = None


class Limits(_Model):
    cpu: str | None = None
    memory: str | None = None


class Tenant(_Model):
    role: Literal["admin", "restricted"] | None = None
    quota: Quota | None = None
    limits: Limits | None = None
    egress: Literal["internet", "none"] | tuple[Network, ...] | None = None
    network_policy: bool | None = None
    admission: bool | None = None
    storage_classes: tuple[str, ...] | None = None
    registries: tuple[str, ...] | None = None


class _DeviceKeys(_Model):
    public_key: str | None = None
    next_public_key: str | None = None
    preshared_key: bool = False
    keepalive: Annotated[int, Field(ge=0, le=65535)] = 25
    expires: str | None = None
    disabled: bool = False
    lan: Annotated[tuple[Network, ...], BeforeValidator(_listed)] = ()
    routes: Annotated[tuple[str, ...], BeforeValidator(_listed)] | None = None
    mtu: Annotated[int, Field(ge=1280, le=65535)] | None = None


class DeviceSection(_DeviceKeys):
    address: Addresses


class Peer(_DeviceKeys):
    address: Annotated[tuple[Address, ...], BeforeValidator(_listed)] | None = None
    devices: dict[str, DeviceSection] | None = None
    namespace: str | None = None
    groups: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    recipient: str | None = None
    always_on: bool = False
    tenant: Tenant | None = None


class Service(_Model):
    address: Annotated[tuple[Address, ...], BeforeValidator(_listed)] | None = None
    kubernetes: str | None = None
    ports: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()


class Allow(_Model):
    from_: Names = Field(alias="from")
    to: Names
    ports: Annotated[tuple[str, ...], BeforeValidator(_listed)] | None = None


class Test(_Model):
    __test__ = False
    from_: str = Field(alias="from")
    to: str
    port: str | None = None
    expect: Literal["allow", "deny"]


class Policy(_Model):
    allow: tuple[Allow, ...] = ()
    tests: tuple[Test, ...] = ()


class Forward(_Model):
    from_: Port | None = Field(default=None, alias="from")
    to: Port | None = None


class _Gateway(_Model):
    static_route: bool = False
    forward: Forward = Forward()


class UnifiGateway(_Gateway):
    kind: Literal["unifi"]
    url: str
    site: str = "default"
    api_key: SecretSource | None = None
    username: str | None = None
    password: SecretSource | None = None
    fingerprint: str | None = None
    ca: str | None = None
    wan: str = "wan"


class OpnsenseGateway(_Gateway):
    kind: Literal["opnsense"]
    url: str
    key: SecretSource
    secret: SecretSource
    fingerprint: str | None = None
    ca: str | None = None
    wan: str = "wan"


class MikrotikGateway(_Gateway):
    kind: Literal["mikrotik"]
    url: str
    username: str
    password: SecretSource
    fingerprint: str | None = None
    ca: str | None = None
    wan: str = "wan"


class NftablesGateway(_Gateway):
    kind: Literal["nftables"]
    connection: Connection
    wan: str


class ManualGateway(_Gateway):
    kind: Literal["manual"]


class NoGateway(_Gateway):
    kind: Literal["none"]


Gateway = Annotated[
    UnifiGateway | OpnsenseGateway | MikrotikGateway | NftablesGateway | ManualGateway | NoGateway,
    Field(discriminator="kind"),
]


class TsigKey(_Model):
    name: str
    algorithm: str = "hmac-sha256"
    secret: SecretSource


class NoDnsUpdate(_Model):
    kind: Literal["none"]


class Rfc2136(_Model):
    kind: Literal["rfc2136"]
    server: str
    zone: str
    name: str
    key: TsigKey
    ttl: Annotated[int, Field(ge=1, le=86400)] = 60
    echo: str | None = None


DnsUpdate = Annotated[NoDnsUpdate | Rfc2136, Field(discriminator="kind")]


class Secrets(_Model):
    directory: str = ".meshwright"
    recipients: tuple[str, ...] = ()


class Deployer(_Model):
    name: str = "mesh-deployer"
    namespace: str = "default"


class Oidc(_Model):
    issuer_url: str
    client_id: str
    username_prefix: str = ""


class Access(_Model):
    namespace: str = "collective-access"
    ttl: str = "720h"
    issuer: Literal["token", "oidc"] = "token"
    oidc: Oidc | None = None


class Ingress(_Model):
    namespace: str = "kube-system"
    domain: str | None = None


class Kubernetes(_Model):
    context: str | None = None
    version: str | None = None
    reader: str = "mesh-reader"
    deployer: Deployer = Deployer()
    access: Access = Access()
    pod_security: Literal["restricted", "baseline", "privileged"] = "restricted"
    ingress: Ingress = Ingress()
    tenant: Tenant = Tenant()


class BuiltinExporter(_Model):
    kind: Literal["builtin"]
    address: Address | None = None
    port: Port = 9586
    token: SecretSource | None = None


class MindflavorExporter(_Model):
    kind: Literal["mindflavor"]
    image: str = "mindflavor/prometheus-wireguard-exporter:3.6.6"
    namespace: str = "wireguard-exporter"
    address: Address | None = None
    port: Port = 9586


Exporter = Annotated[BuiltinExporter | MindflavorExporter, Field(discriminator="kind")]


class Observability(_Model):
    namespace: str = "monitoring"
    exporter: Exporter = BuiltinExporter(kind="builtin")
    release: str = "prometheus"
    interval: str = "30s"
    dashboard: str | None = None
    dashboard_label: str = "grafana_dashboard"


class Files(_Model):
    """Part -> path, relative to the folder that `render` writes to. `{name}`, `{deployer}`, `{dashboard}` are filled in."""

    tenants: str = "kubernetes/apps/mesh-peers/{name}.yaml"
    tenant: dict[str, str] = Field(default_factory=dict)
    access: str = "kubernetes/apps/mesh-peers/{name}-access.yaml"
    deployer: str = "kubernetes/apps/mesh-peers/{deployer}-rbac.yaml"
    monitors: str = "kubernetes/apps/mesh-peers/peer-observability.yaml"
    admission: str = "kubernetes/apps/mesh-peers/admission.yaml"
    rules: str = "kubernetes/apps/mesh-peers/prometheus-rules.yaml"
    dashboard: str = "kubernetes/apps/mesh-peers/grafana-dashboard-{dashboard}.yaml"
    exporter: str = "kubernetes/apps/monitoring/wireguard-exporter.yaml"
    gateway: str = "scripts/unifi-configure.py"
    playbook: str = "ansible/playbooks/mesh-wireguard.yml"
    inventory: str = "ansible/inventory/homelab"
    clients: str = "ansible/.wg-output"


class Device(_Model):
    """One tunnel end of a friend, with everything that belongs to it. A peer with `address` has one unnamed device."""

    peer: str
    name: str | None
    addresses: tuple[Address, ...]
    lan: tuple[Network, ...]
    public_key: str | None
    next_public_key: str | None
    preshared_key: bool
    keepalive: int
    expires: str | None
    disabled: bool
    routes: tuple[str, ...] | None
    mtu: int | None
    groups: tuple[str, ...]
    namespace: str | None

    @property
    def label(self) -> str:
        """The device in file names and resource ids: `bjorn-phone`, or `bjorn` for the unnamed one."""
        return f"{self.peer}-{self.name}" if self.name else self.peer

    @property
    def reference(self) -> str:
        """The device as the policy names it: `bjorn/phone`, or `bjorn`."""
        return f"{self.peer}/{self.name}" if self.name else self.peer

    def active(self, now: datetime) -> bool:
        """Whether the device belongs to the mesh at `now` (with offset): neither disabled nor expired."""
        end = expiry(self.expires) if self.expires else None
        return not self.disabled and (end is None or now < end)


def expiry(text: str) -> datetime:
    """When `expires` ends: a date ends at 00:00 UTC after it; a time carries its offset. ValueError says what is wrong."""
    if len(text) == 10:
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs an offset, as in 2027-06-30T18:00:00+02:00")
    return moment


def host_network(address: Address) -> Network:
    """The network that holds only this address (/32 or /128)."""
    return ip_network(address)


class Mesh(_Model):
    """The whole file."""

    version: Literal[1]
    include: tuple[str, ...] = ()
    name: str
    hub: Hub
    network: NetworkSection
    peers: dict[str, Peer] = Field(default_factory=dict)
    services: dict[str, Service] = Field(default_factory=dict)
    policy: Policy = Policy()
    gateway: Gateway | None = None
    dns_update: DnsUpdate = NoDnsUpdate(kind="none")
    secrets: Secrets = Secrets()
    kubernetes: Kubernetes | None = None
    observability: Observability | None = None
    files: Files = Files()

    @property
    def table(self) -> str:
        """The nft table's name: the mesh's name as an nft identifier (nft(8): a letter first, then letters, digits, _)."""
        name = self.name.replace("-", "_")
        return name if name[:1].isalpha() else f"m{name}"

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """All devices of all peers, in the order of the file, disabled and expired ones too.

        What a peer with `devices` says about itself (expires, disabled, routes, ...) holds for each device that does not
        say otherwise; `disabled` on the peer disables all.
        """
        return tuple(_devices(name, peer) for name, peer in self.peers.items() if not peer.devices) + tuple(
            _named(name, peer, device, section)
            for name, peer in self.peers.items()
            for device, section in (peer.devices or {}).items()
        )


def _devices(name: str, peer: Peer) -> Device:
    return Device.model_construct(
        peer=name,
        name=None,
        addresses=peer.address or (),
        lan=peer.lan,
        public_key=peer.public_key,
        next_public_key=peer.next_public_key,
        preshared_key=peer.preshared_key,
        keepalive=peer.keepalive,
        expires=peer.expires,
        disabled=peer.disabled,
        routes=peer.routes,
        mtu=peer.mtu,
        groups=peer.groups,
        namespace=peer.namespace,
    )


def _named(peer_name: str, peer: Peer, name: str, section: DeviceSection) -> Device:
    own = section.model_fields_set

    def said(key: str) -> Any:
        return getattr(section if key in own else peer, key)

    ends = [text for text in (peer.expires, section.expires) if text]
    return Device.model_construct(
        peer=peer_name,
        name=name,
        addresses=section.address,
        lan=section.lan,
        public_key=section.public_key,
        next_public_key=section.next_public_key,
        preshared_key=said("preshared_key"),
        keepalive=said("keepalive"),
        expires=min(ends, key=expiry, default=None),
        disabled=peer.disabled or section.disabled,
        routes=said("routes"),
        mtu=said("mtu"),
        groups=peer.groups,
        namespace=peer.namespace,
    )
