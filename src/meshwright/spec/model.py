"""The mesh file as frozen values: every key of version 1; JSON Schema and the reference come from these classes.

Knows shapes and defaults of single values. What values mean together is rules/, where they stand is load.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    Strict,
    Tag,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from meshwright import keys

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _wrong(text: str, hint: str = "") -> PydanticCustomError:
    """A fault of one value, in our own words."""
    return PydanticCustomError("said", "{text}", {"text": text, "hint": hint})


def _listed(value: Any) -> Any:
    """A scalar where a list may stand means a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


@dataclass(frozen=True, slots=True)
class _Listed:
    """Marks a list that may be written as its only item, for reading and in the JSON Schema."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_listed, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        listed = handler(schema)
        return {"anyOf": [listed["items"], listed]}


def _address(value: Any) -> Address:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    if not isinstance(value, str):
        raise _wrong("not an address", "write it as 10.100.2.1 or fd00::1")
    try:
        if ":" not in value:
            return IPv4Address(value)
        address = IPv6Address(value)
    except ValueError:
        bare = value.partition("/")[0]
        raise _wrong(
            "not an address",
            f"write {bare}, without the length" if "/" in value else "write it as 10.100.2.1 or fd00::1",
        ) from None
    if address.scope_id or address.ipv4_mapped:
        raise _wrong("an address without a zone and not an IPv4 address in IPv6 clothes is needed")
    return address


def _network(value: Any) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise _wrong("not a network", "write it as 10.100.0.0/16 or fd00::/64")
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        wide = ip_network(value, strict=False)
    except ValueError:
        raise _wrong("not a network", "write it as 10.100.0.0/16 or fd00::/64") from None
    raise _wrong("the address has bits set behind the length", f"did you mean {wide}?")


def _shape(pattern: str, text: str, hint: str = "", most: int = 253) -> AfterValidator:
    """A validator for texts that match `pattern` whole and are at most `most` long."""
    match = re.compile(pattern).fullmatch

    def check(value: str) -> str:
        if len(value) > most:
            raise _wrong(f"longer than {most} characters")
        if not match(value):
            raise _wrong(text, hint)
        return value

    return AfterValidator(check)


def _key(value: str) -> str:
    why = keys.fault(value)
    if why:
        raise _wrong(f"not a WireGuard key: {why}", "a key is 44 characters, as `wg pubkey` prints it")
    return value


def _expires(value: str) -> str:
    try:
        expiry(value)
    except (ValueError, OverflowError) as error:
        own = str(error) if "needs an offset" in str(error) else "not a date"
        raise _wrong(own, "write 2027-06-30 or 2027-06-30T18:00:00+02:00") from None
    return value


def _no_word(value: str) -> str:
    if value in ("all", "default", "interfaces", "lo"):
        raise _wrong(f"{value} means something else to the kernel or to wg", "take another name, for example wg0")
    return value


def _one_bit(value: int) -> int:
    if value.bit_count() != 1:
        raise _wrong("the mark must be exactly one bit", "for example 0x100000")
    return value


def _secret_kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((kind for kind in ("env", "file", "command") if kind in value), None)
    kinds: dict[type, str] = {FromEnvironment: "env", FromFile: "file", FromCommand: "command"}
    return kinds.get(type(value))


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=False)


LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_LOWER = "small letters, digits and - between them"

AnAddress = Annotated[Address, PlainValidator(_address), WithJsonSchema({"type": "string", "title": "IP address"})]
ANetwork = Annotated[
    Network, PlainValidator(_network), WithJsonSchema({"type": "string", "title": "Network in CIDR form"})
]
Addresses = Annotated[tuple[AnAddress, ...], _Listed(), Field(min_length=1)]
Networks = Annotated[tuple[ANetwork, ...], _Listed(), Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Text, ...], _Listed(), Field(min_length=1)]
Port = Annotated[int, Strict(), Field(ge=1, le=65535)]
Mtu = Annotated[int, Strict(), Field(ge=1280, le=65535)]
Flag = Annotated[bool, Strict()]
PublicKey = Annotated[str, AfterValidator(_key)]
Expires = Annotated[str, AfterValidator(_expires)]
Label = Annotated[str, _shape(LABEL, "not a DNS label", _LOWER, 63)]
Subdomain = Annotated[str, _shape(rf"{LABEL}(?:\.{LABEL})*", "not a DNS name", f"{_LOWER}; dots between labels")]
Interface = Annotated[
    str,
    _shape(
        r"(?!\.{1,2}$)[A-Za-z0-9_.=+][A-Za-z0-9_.=+-]*",
        "not an interface name",
        "letters, digits, _ . = + - only, no - in front",
        15,
    ),
    AfterValidator(_no_word),
]
Quantity = Annotated[
    str, _shape(r"[0-9]+(?:\.[0-9]+)?(?:m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?", "not a quantity", "as in 500m, 4 or 8Gi")
]
Duration = Annotated[str, _shape(r"(?:[0-9]{1,9}(?:ms|s|m|h|d))+", "not a duration", "as in 30s, 5m or 720h")]
Url = Annotated[str, _shape(r"https?://[^\s/]+(?:/\S*)?", "not a URL", "it begins with https://", 2000)]
Recipient = Annotated[
    str,
    _shape(
        r"age1[02-9ac-hj-np-z]{50,}|(?:ssh-ed25519|ssh-rsa) [A-Za-z0-9+/=]+(?: .*)?",
        "not an age or SSH public key",
        "it begins with age1, ssh-ed25519 or ssh-rsa",
        2000,
    ),
]


SshHost = Annotated[
    str,
    _shape(
        r"[A-Za-z0-9_:][A-Za-z0-9_.:%@-]*",
        "not a host as ssh takes it",
        "a name, an address (an IPv6 one without brackets), or an alias of your ssh config",
        255,
    ),
]
SshUser = Annotated[
    str, _shape(r"[A-Za-z0-9_.][A-Za-z0-9_.@-]*", "not a user name", "letters, digits, _ . @ - only, no - in front", 64)
]


class FromEnvironment(_Model):
    """A secret in an environment variable."""

    env: Text = Field(description="Name of the variable.")


class FromFile(_Model):
    """A secret in a file."""

    file: Text = Field(description="Path of the file, from the mesh file's folder.")


class FromCommand(_Model):
    """A secret that a command prints."""

    command: Annotated[tuple[Text, ...], Field(min_length=1, description="The program and its arguments.")]


SecretSource = Annotated[
    Annotated[FromEnvironment, Tag("env")] | Annotated[FromFile, Tag("file")] | Annotated[FromCommand, Tag("command")],
    Discriminator(
        _secret_kind,
        custom_error_type="secret_source",
        custom_error_message="a secret is never in the file itself",
    ),
]


class Connection(_Model):
    """How the tool reaches a host. Left out: ssh to the hub's address, with become."""

    kind: Literal["ssh", "local"]
    host: SshHost | None = None
    user: SshUser | None = None
    port: Port | None = None
    become: Flag = False
    become_password: SecretSource | None = None


class NextHub(_Model):
    interface: Interface
    listen: Port
    public_key: PublicKey | None = None


class Hub(_Model):
    node: Subdomain
    address: AnAddress
    interface: Interface
    endpoint: Text
    listen: Port | None = None
    public_key: PublicKey | None = None
    mtu: Mtu = 1420
    mark: Annotated[int, Strict(), Field(gt=0, le=0x80000000), AfterValidator(_one_bit)] = 0x100000
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
    server: AnAddress
    domains: tuple[Subdomain, ...] = ()
    mode: Literal["none", "split", "all"] = "none"


@dataclass(frozen=True, slots=True)
class _Server:
    """`dns: ADDRESS` means {server: ADDRESS}."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def widen(value: Any) -> Any:
            return {"server": value} if isinstance(value, str) else value

        return core_schema.no_info_before_validator_function(widen, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "title": "Address of the server"}, handler(schema)]}


class NetworkSection(_Model):
    cidr: Networks
    hub: Addresses
    routes: dict[str, Networks] = Field(default_factory=dict)
    dns: Annotated[Dns, _Server()] | None = None
    return_path: Literal["masquerade", "nodes", "gateway"] = "masquerade"


class Quota(_Model):
    cpu: Quantity | None = None
    memory: Quantity | None = None
    pods: Annotated[int, Strict(), Field(ge=0, le=10_000)] | None = None
    storage: Quantity | None = None


class Limits(_Model):
    cpu: Quantity | None = None
    memory: Quantity | None = None


def _egress(value: Any) -> Any:
    if isinstance(value, str) and value not in ("internet", "none"):
        raise _wrong("neither internet nor none", "networks are a list: [203.0.113.0/24]")
    return value if isinstance(value, str) else tuple(_network(item) for item in _listed(value))


Egress = Annotated[
    Literal["internet", "none"] | tuple[Network, ...],
    PlainValidator(_egress),
    WithJsonSchema(
        {"anyOf": [{"enum": ["internet", "none"]}, {"type": "array", "items": {"type": "string"}}], "title": "Egress"}
    ),
]


class Tenant(_Model):
    role: Literal["admin", "restricted"] | None = None
    quota: Quota | None = None
    limits: Limits | None = None
    egress: Egress | None = None
    network_policy: Flag | None = None
    admission: Flag | None = None
    storage_classes: tuple[str, ...] | None = None
    registries: tuple[str, ...] | None = None


class _DeviceKeys(_Model):
    public_key: PublicKey | None = None
    next_public_key: PublicKey | None = None
    preshared_key: Flag = False
    keepalive: Annotated[int, Strict(), Field(ge=0, le=65535)] = 25
    expires: Expires | None = None
    disabled: Flag = False
    lan: Annotated[tuple[ANetwork, ...], _Listed()] = ()
    routes: Annotated[tuple[str, ...], _Listed()] | None = None
    mtu: Mtu | None = None


class DeviceSection(_DeviceKeys):
    address: Addresses


class Peer(_DeviceKeys):
    address: Addresses | None = None
    devices: dict[str, DeviceSection] | None = None
    namespace: Label | None = None
    groups: Annotated[tuple[str, ...], _Listed()] = ()
    recipient: Recipient | None = None
    always_on: Flag = False
    tenant: Tenant | None = None


class Service(_Model):
    address: Addresses | None = None
    kubernetes: str | None = None
    ports: Annotated[tuple[str, ...], _Listed()] = ()


class Allow(_Model):
    from_: Names = Field(alias="from")
    to: Names
    ports: Annotated[tuple[str, ...], _Listed()] | None = None


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
    static_route: Flag = False
    forward: Forward = Forward()


class UnifiGateway(_Gateway):
    kind: Literal["unifi"]
    url: Url
    site: str = "default"
    api_key: SecretSource | None = None
    username: str | None = None
    password: SecretSource | None = None
    fingerprint: str | None = None
    ca: str | None = None
    wan: str = "wan"


class OpnsenseGateway(_Gateway):
    kind: Literal["opnsense"]
    url: Url
    key: SecretSource
    secret: SecretSource
    fingerprint: str | None = None
    ca: str | None = None
    wan: str = "wan"


class MikrotikGateway(_Gateway):
    kind: Literal["mikrotik"]
    url: Url
    username: str
    password: SecretSource
    fingerprint: str | None = None
    ca: str | None = None
    wan: str = "wan"


class NftablesGateway(_Gateway):
    kind: Literal["nftables"]
    connection: Connection
    wan: Interface


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
    ttl: Annotated[int, Strict(), Field(ge=1, le=86400)] = 60
    echo: str | None = None


DnsUpdate = Annotated[NoDnsUpdate | Rfc2136, Field(discriminator="kind")]


class Secrets(_Model):
    directory: str = ".meshwright"
    recipients: tuple[Recipient, ...] = ()


class Deployer(_Model):
    name: Subdomain = "mesh-deployer"
    namespace: Label = "default"


class Oidc(_Model):
    issuer_url: str
    client_id: str
    username_prefix: str = ""


class Access(_Model):
    namespace: Label = "collective-access"
    ttl: Duration = "720h"
    issuer: Literal["token", "oidc"] = "token"
    oidc: Oidc | None = None


class Ingress(_Model):
    namespace: Label = "kube-system"
    domain: str | None = None


class Kubernetes(_Model):
    context: str | None = None
    version: str | None = None
    reader: Subdomain = "mesh-reader"
    deployer: Deployer = Deployer()
    access: Access = Access()
    pod_security: Literal["restricted", "baseline", "privileged"] = "restricted"
    ingress: Ingress = Ingress()
    tenant: Tenant = Tenant()


class ExporterTls(_Model):
    """Paths from the mesh file's folder, PEM. ca: what scrapers check against; default: the certificate itself."""

    certificate: str
    key: SecretSource
    ca: str | None = None


class BuiltinExporter(_Model):
    kind: Literal["builtin"]
    address: AnAddress | None = None
    port: Port = 9586
    token: SecretSource | None = None
    tls: ExporterTls | None = None


class MindflavorExporter(_Model):
    kind: Literal["mindflavor"]
    image: str = "mindflavor/prometheus-wireguard-exporter:3.6.6"
    namespace: Label = "wireguard-exporter"
    address: AnAddress | None = None
    port: Port = 9586


Exporter = Annotated[BuiltinExporter | MindflavorExporter, Field(discriminator="kind")]


class Observability(_Model):
    namespace: Label = "monitoring"
    exporter: Exporter = BuiltinExporter(kind="builtin")
    release: str = "prometheus"
    interval: Duration = "30s"
    dashboard: str | None = None
    dashboard_label: str = "grafana_dashboard"


class Files(_Model):
    """Part -> path, from the folder that `render` writes to. `{name}`, `{deployer}`, `{dashboard}` are filled in."""

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


@dataclass(frozen=True, slots=True)
class Device:
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
    """When `expires` ends: a date ends at 00:00 UTC after it, a time has its offset. ValueError says what is wrong."""
    if len(text) == 10:
        day = date.fromisoformat(text)
        if day == date.max:
            return datetime.max.replace(tzinfo=UTC)
        return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs an offset, as in 2027-06-30T18:00:00+02:00")
    return moment


def host_network(address: Address) -> Network:
    """The network that holds only this address (/32 or /128)."""
    kind = IPv4Network if address.version == 4 else IPv6Network
    return kind((int(address), address.max_prefixlen))


def host_prefix(address: Address) -> str:
    """The same as text."""
    return f"{address}/{address.max_prefixlen}"


def _version(value: Any) -> Literal[1]:
    if type(value) is not int or value != 1:
        raise _wrong("this tool reads version 1 of the file format", "write version: 1")
    return 1


Version = Annotated[Literal[1], PlainValidator(_version), WithJsonSchema({"const": 1, "title": "Format version"})]


class Mesh(_Model):
    """The whole file."""

    version: Version
    include: tuple[Text, ...] = ()
    name: Label
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
        """The nft table's name: the mesh's name as nft(8) takes it: a letter first, then letters, digits, _."""
        name = self.name.replace("-", "_")
        return name if name[:1].isalpha() else f"m{name}"

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """All devices of all peers, in the order of the file, disabled and expired ones too.

        What a peer with `devices` says about itself (expires, disabled, routes, ...) holds for each device that does
        not say otherwise; `disabled` on the peer disables all.
        """
        return tuple(_devices(name, peer) for name, peer in self.peers.items() if not peer.devices) + tuple(
            _named(name, peer, device, section)
            for name, peer in self.peers.items()
            for device, section in (peer.devices or {}).items()
        )


def _devices(name: str, peer: Peer) -> Device:
    return Device(
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
    return Device(
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
