# Only the documentation: plugins/action/hub.py does the work, on the controller.

DOCUMENTATION = r"""
module: hub
short_description: Makes a WireGuard hub and its peers' .conf files what a mesh file says
version_added: 0.1.0
author:
  - The meshwright authors (@meshwright)
description:
  - Reads C(mesh.yaml) on the controller, looks at the hub and at the files of the controller, and writes what differs.
  - The hub gets its WireGuard interface with all peers, its nft table, and the units that bring both back after a
    reboot. The controller gets the key pairs in the folder C(secrets.directory) of the file, and a C(.conf) for each
    active peer in C(files.clients), by default C(ansible/.wg-output), each readable by its owner alone.
  - Of a mesh these two are the playbook's. The cluster and the gateway are for C(meshwright apply) on the controller,
    or for the files that C(meshwright render) writes.
  - It does what C(meshwright apply --only files --only hub) does, over Ansible's connection. So the inventory, become
    and vault are Ansible's, and a run of the one leaves nothing to do for the other.
  - Peers come from the mesh file and never from the inventory. C(--limit) removes none; where it leaves the hub out,
    nothing is done at all.
options:
  mesh_file:
    description:
      - Path of the mesh file on the controller. A relative one begins at the folder of the playbook.
    type: path
    required: true
  digest:
    description:
      - Digest of a plan that was looked at, as check mode and C(meshwright plan) give it. Nothing is written when the
        plan has become another one since.
    type: str
  force:
    description:
      - The reason for a plan that deletes much, an interface, or the hub's key. Without one such a plan is refused.
    type: str
  verify:
    description:
      - Afterwards look again, and fail unless the mesh is what the file says. That nothing is left to do, that the nft
        table does what each policy test says, and that nobody's routing rule stands before ours. In check mode this
        tells whether it is so now.
    type: bool
    default: false
requirements:
  - meshwright >= 0.1.0 in the Python that runs Ansible
  - Python 3.9 or newer on the hub
notes:
  - The play must have the hub as its only host. Its name in the inventory is C(hub.node) of the mesh file, or its
    address is C(hub.address).
  - The hub must be managed as root.
  - What is sent goes by stdin. Where become or the connection has none (C(su), paramiko), it goes by a file that only
    the connecting user can read, and that the command removes before it does anything else.
  - No key is in results, diffs, facts or the output of C(-vvvv). ANSIBLE_DEBUG is another matter. It prints whatever
    goes over a connection, and no plugin can keep that from it.
attributes:
  check_mode:
    support: full
    description: Makes the plan and writes nothing, on the hub and here.
  diff_mode:
    support: full
    description: The text of the plan, in the words of C(meshwright plan).
  platform:
    support: full
    platforms: linux
    description: The hub is a Linux with systemd and nftables.
extends_documentation_fragment: []
"""

EXAMPLES = r"""
- name: Set up the hub, and write the .conf files of its peers
  hosts: hub_of_home
  gather_facts: false
  tasks:
    - name: Make the hub what the mesh file says
      meshwright.mesh.hub:
        mesh_file: ../../mesh.yaml

- name: Tell whether hub and file agree, and write nothing
  hosts: hub_of_home
  gather_facts: false
  tasks:
    - name: Prove that the mesh is what the file says
      meshwright.mesh.hub:
        mesh_file: ../../mesh.yaml
        verify: true
      check_mode: true
"""

RETURN = r"""
changes:
  description: What was written, or in check mode would be. Ids in the order of the plan.
  returned: success
  type: list
  elements: str
  sample:
    - files/key/bob
    - hub/peer/bob
digest:
  description: The digest of the plan.
  returned: success
  type: str
  sample: 4f2a9c01be77
checks:
  description: What was looked at.
  returned: when O(verify) is true
  type: list
  elements: dict
  contains:
    name:
      description: The thing.
      type: str
    ok:
      description: Whether it is as it should be.
      type: bool
    expected:
      description: How it should be.
      type: str
    observed:
      description: How it is.
      type: str
    hint:
      description: The next step, where it is not.
      type: str
"""
