"""What the world must tell before anything can be wanted: the only input beside the mesh file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from meshwright.spec.model import Address


@dataclass(frozen=True, slots=True)
class TenantNamespace:
    """A tenant's namespace of this mesh, by its labels, and what quarantine has to know of it.

    bindings: its RoleBindings that are not ours. workloads: its Deployments, Jobs and so on. Both as the server has
    them, and read only of a namespace that has to be put into quarantine, or is in it.
    """

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    bindings: tuple[Mapping[str, Any], ...] = ()
    workloads: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the cluster tells. version: "1.36", its minor release. tenants: by name of the namespace."""

    version: str
    tenants: Mapping[str, TenantNamespace] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Program:
    """The program that shall be on the hub: which format it has, and the digest of its bytes."""

    format: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Exporter:
    """What the files and secrets hold that `observability.exporter` names; "" for what it does not name. PEM texts.

    token: the bearer token that a scraper must show. ca: what the certificate is checked against.
    """

    token: str = field(default="", repr=False)
    certificate: str = ""
    key: str = field(default="", repr=False)
    ca: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Read once per command by discover. Keys are no facts: they are Unknown until the world answers (decision 002).

    now: aware, UTC; decides what has expired.
    services: addresses of the `kubernetes:` services of the file, by their name in the file.
    missing: why a `kubernetes:` service has no address, by its name; it stands for nothing then, so nobody reaches it.
    cluster: None where there is no cluster to ask.
    program: the one that this meshwright brings to the hub; None: it brings none.
    exporter: None where they were not asked for, as by `render`, which writes no secret.
    """

    now: datetime
    services: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    cluster: ClusterFacts | None = None
    program: Program | None = None
    exporter: Exporter | None = None
