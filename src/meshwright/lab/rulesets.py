"""nftables texts of what stands around the mesh in the lab: home routers, the home gateway, kube-proxy. Pure.

The hub's own table and the gateway's port forward are not here: the product writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshwright.spec.model import Address, Network

FAMILY = {4: "ip", 6: "ip6"}
# IPv6 cannot work without neighbour discovery, whatever the policy
NEIGHBOURS = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept"


def home_router(version: int, wan: str, lan: str) -> str:
    """A friend's router: masquerades, lets nothing in that was not asked for."""
    return f"""
table {FAMILY[version]} nat {{
  chain post {{ type nat hook postrouting priority srcnat; oifname "{wan}" masquerade
  }}
}}
table inet firewall {{
  chain forward {{ type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "{lan}" accept
  }}
}}
"""


def home_gateway(version: int, wan: str, server: str, *, trusting: bool, direct: Address | None = None) -> str:
    """The owner's gateway. `trusting`: what stays inside the VLAN passes unseen, which a static route there needs
    (the answer of a node goes by the gateway, its question did not). `direct`: a hub that needs no port forward."""
    open_ = f"{FAMILY[version]} daddr {direct} meta l4proto udp accept" if direct else ""
    inside = f'iifname "{server}" oifname "{server}" accept' if trusting else ""
    return f"""
table {FAMILY[version]} nat {{
  chain post {{ type nat hook postrouting priority srcnat; oifname "{wan}" masquerade
  }}
}}
table inet firewall {{
  chain forward {{ type filter hook forward priority filter; policy drop;
    {inside}
    ct state invalid counter drop
    ct state established,related accept
    ct status dnat accept
    {open_}
    iifname "{server}" accept
    counter drop
  }}
}}
"""


def kube_proxy(services: Mapping[Address, Address], pods: Iterable[Network], local: Iterable[Network]) -> str:
    """What kube-proxy and flannel do on a node: service addresses become a pod's; pods are masqueraded on their way
    out, and so is what comes from outside to a pod of another node."""
    pods, local = list(pods), list(local)
    text = "".join(_family(version, services, pods, local) for version in (4, 6))
    return f"table inet kube_proxy_standin {{\n{text}}}\n" if text else ""


def _family(version: int, services: Mapping[Address, Address], pods: list[Network], local: list[Network]) -> str:
    word = FAMILY[version]
    ranges = [n for n in pods if n.version == version]
    mine = [n for n in local if n.version == version]
    rules = [
        f"    {word} daddr {service} meta l4proto {{ tcp, udp }} dnat {word} to {pod}"
        for service, pod in services.items()
        if service.version == version
    ]
    out = ""
    if rules:
        for hook in ("prerouting", "output"):
            out += f"  chain services{version}_{hook} {{ type nat hook {hook} priority -100;\n"
            out += "\n".join(rules) + "\n  }\n"
    if ranges:
        all_, here = _set(ranges), _set(mine)
        multicast = "224.0.0.0/4" if version == 4 else "ff00::/8"
        out += f"""  chain pods{version} {{ type nat hook postrouting priority srcnat;
    {word} saddr {all_} {word} daddr != {{ {", ".join([*map(str, ranges), multicast])} }} oifname "eth0" masquerade
    {word} saddr != {all_} {word} daddr {all_} {word} daddr != {here} oifname "eth0" masquerade
  }}
"""
    return out


def _set(networks: Iterable[Network]) -> str:
    return "{ " + ", ".join(map(str, networks)) + " }"
