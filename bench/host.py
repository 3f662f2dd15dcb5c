"""One friend more on a hub over SSH: `meshwright apply`, our playbook, a classic playbook (template, `wg syncconf`).

    python bench/host.py [ROUNDS] [PEERS...]       as root; about a minute with 4 and 1000 peers

The hub is a machine with systemd and sshd of its own. All ways go over the same ssh settings with a connection that is
kept open, and begin with the hub as the round before left it; each round every way adds one peer. Neither classic
playbook has a firewall in it, or writes a file for the friend. One is as such playbooks are: facts, forwarding,
template, service, handler, Ansible's own defaults. The other is as quick as one can be: template,
service and handler alone, no facts, pipelining on. The last line is what Ansible takes for one task that does nothing.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import ENV, ROOT, cpu, record

import booted  # isort: skip  harness says where the tests are
import meshes  # isort: skip

NUMBERS = [int(word) for word in sys.argv[1:] if word.isdigit()]
ROUNDS = NUMBERS[0] if NUMBERS else 5
SIZES = NUMBERS[1:] or [4, 1000]

CONF = """[Interface]
Address = 10.99.0.1/16
ListenPort = 51999
PrivateKey = {{ private_key }}
{% for peer in peers %}

# {{ peer.name }}
[Peer]
PublicKey = {{ peer.public_key }}
AllowedIPs = {{ peer.address }}/32
{% endfor %}
"""
USUAL = """- name: The hub, the usual way
  hosts: hub
  tasks:
    - name: Forwarding
      ansible.builtin.copy: {content: "net.ipv4.ip_forward = 1\\n", dest: /etc/sysctl.d/99-wg9.conf, mode: "0644"}
    - name: The configuration
      ansible.builtin.template: {src: wg9.conf.j2, dest: /etc/wireguard/wg9.conf, mode: "0600"}
      notify: Sync
    - name: The service
      ansible.builtin.systemd_service: {name: wg-quick@wg9, enabled: true, state: started}
  handlers:
    - name: Sync
      ansible.builtin.shell: {cmd: wg syncconf wg9 <(wg-quick strip wg9), executable: /bin/bash}
"""
CLASSIC = """- name: The hub, the classic way
  hosts: hub
  gather_facts: false
  tasks:
    - name: The configuration
      ansible.builtin.template: {src: wg9.conf.j2, dest: /etc/wireguard/wg9.conf, mode: "0600"}
      notify: Sync
    - name: The service
      ansible.builtin.systemd_service: {name: wg-quick@wg9, enabled: true, state: started}
  handlers:
    - name: Sync
      ansible.builtin.shell: {cmd: wg syncconf wg9 <(wg-quick strip wg9), executable: /bin/bash}
"""
NOTHING = """- name: Nothing
  hosts: hub
  gather_facts: false
  tasks: [{name: Nothing, ansible.builtin.ping: {}}]
"""
OURS = """- name: The hub, our way
  hosts: hub
  gather_facts: false
  tasks: [{name: The hub, meshwright.mesh.hub: {mesh_file: "{{ playbook_dir }}/mesh.yaml"}}]
"""
INVENTORY = f"[hub]\nhub ansible_host={booted.HUB} ansible_user=root ansible_python_interpreter=/usr/bin/python3\n"
USUALLY, QUICKEST = "classic playbook, as usual", "classic playbook, as quick as can be"
CFG = "[defaults]\nhost_key_checking = true\n[ssh_connection]\npipelining = true\n"


class Stage:
    """A folder with the mesh file and the playbooks, and the hub that they are about."""

    def __init__(self, folder: Path, hub: booted.Hub, size: int) -> None:
        self.folder, self.hub, self.count = folder, hub, size
        self.classic = size
        self.private = booted.run(["wg", "genkey"]).stdout.decode().strip()
        # a proxy of the tests' own is a Python program; its start is nothing that a real network has
        self.config = folder / "ssh_config"
        proxy = f"nsenter -t {hub.site.ground.pid} -n busybox nc %h %p"
        text = re.sub(r"ProxyCommand .*", f"ProxyCommand {proxy}", hub.config.read_text())
        self.config.write_text(text)
        self.env = {
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT),
            "ANSIBLE_SSH_ARGS": f"-F {self.config} -o ControlMaster=auto -o ControlPersist=60s",
            "MESHWRIGHT_SSH_CONFIG": str(self.config),
        }
        for name, text in {
            "inventory": INVENTORY, "classic.yml": CLASSIC, "usual.yml": USUAL,
            "nothing.yml": NOTHING, "ours.yml": OURS, "wg9.conf.j2": CONF, "ansible.cfg": CFG,
        }.items():  # fmt: skip
            (folder / name).write_text(text)
        ENV.update(self.env)

    def add(self) -> None:
        """One peer more in the mesh file."""
        self.count += 1
        text = meshes.text(self.count, {number: meshes.nobodys_key(number) for number in range(self.count)})
        (self.folder / "mesh.yaml").write_text(text.replace("192.168.20.20", booted.HUB))

    def add_classic(self) -> None:
        """One peer more in the variables of the classic playbook."""
        self.classic += 1
        peers = "\n".join(
            f"  - {{name: peer{n}, public_key: '{meshes.nobodys_key(n)}', address: 10.99.{n // 250 + 1}.{n % 250 + 1}}}"
            for n in range(self.classic)
        )
        (self.folder / "host_vars").mkdir(exist_ok=True)
        (self.folder / "host_vars" / "hub.yml").write_text(f"private_key: '{self.private}'\npeers:\n{peers}\n")

    def playbook(self, name: str, *, pipelining: bool = True) -> Callable[[], tuple[float, float]]:
        word = f"ANSIBLE_PIPELINING={pipelining}"
        return lambda: cpu(
            ["env", word, "ansible-playbook", "-i", str(self.folder / "inventory"), str(self.folder / f"{name}.yml")]
        )

    def apply(self) -> tuple[float, float]:
        return cpu([sys.executable, "-m", "meshwright", "--file", str(self.folder / "mesh.yaml"), "apply", "--yes"])


def measure(size: int) -> list[str]:
    with tempfile.TemporaryDirectory() as place, booted.site() as site, booted.hub(site) as hub:
        stage = Stage(Path(place), hub, size - 2)
        ways = {
            "meshwright apply over SSH": (stage.add, stage.apply),
            "our playbook": (stage.add, stage.playbook("ours")),
            USUALLY: (stage.add_classic, stage.playbook("usual", pipelining=False)),
            QUICKEST: (stage.add_classic, stage.playbook("classic")),
            "Ansible doing nothing": (lambda: None, stage.playbook("nothing")),
        }
        for prepare, way in ways.values():  # the first set-up is not measured
            prepare()
            way()
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, (prepare, way) in ways.items():
                prepare()
                found[name].append(way())
        for interface, count in (("wg1", stage.count), ("wg9", stage.classic)):
            live = hub.run("wg", "show", interface, "peers").stdout.decode().split()
            assert set(live) == {meshes.nobodys_key(number) for number in range(count)}, (
                f"peers are missing on {interface}"
            )
    return [_row(size, name, runs, found) for name, runs in found.items()]


def _row(size: int, name: str, runs: list[tuple[float, float]], found: dict[str, list[tuple[float, float]]]) -> str:
    wall = [run[1] for run in runs]
    times = [
        statistics.median(other[1] / own[1] for own, other in zip(runs, found[classic], strict=True))
        for classic in (USUALLY, QUICKEST)
    ]
    mine = statistics.median(run[0] for run in runs)
    low, middle, high = min(wall), statistics.median(wall), max(wall)
    return f"| {size} | {name} | {low:.2f} / {middle:.2f} / {high:.2f} | {times[0]:.1f} | {times[1]:.1f} | {mine:.2f} |"


def main() -> None:
    os.chdir(ROOT)
    start = time.monotonic()
    head = [
        "| peers | way | s min / median / max | the usual one takes times as long | the quickest one | CPU s here |",
        "|---|---|---|---|---|---|",
    ]
    lines = [line for size in SIZES for line in measure(size)]
    record(
        "One friend more over SSH",
        [*head, *lines, "", f"{ROUNDS} rounds, all ways in turn, {time.monotonic() - start:.0f} s."],
    )


main()
