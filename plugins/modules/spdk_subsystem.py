#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_subsystem
short_description: Manage NVMe-oF subsystems of an SPDK target with listeners, hosts and namespaces
version_added: 0.1.0
description:
  - Creates and deletes subsystems, and repairs their parts one by one.
  - What a subsystem has and nobody wants is reported and left alone, unless O(purge) names that part.
  - A bdev that another subsystem, a vhost controller or something else uses is never exported.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
  - excloud.diskengine.spdk.subsystem
seealso:
  - module: excloud.diskengine.spdk_transport
  - module: excloud.diskengine.spdk_key
  - module: excloud.diskengine.spdk_lvol
  - module: excloud.diskengine.spdk_node
"""

EXAMPLES = r"""
---
- name: Export one lvol to one host
  excloud.diskengine.spdk_subsystem:
    nqn: nqn.2024-01.io.excloud:storage.node-1.7.1234
    max_namespaces: 1
    listeners:
      - traddr: 192.0.2.11
        trsvcid: "4420"
    hosts:
      - nqn.2014-08.org.nvmexpress:uuid:5d3d2a60-7d3c-4b0e-9a6e-0f6d2b3f0b11
    namespaces:
      - bdev: lvs-disk-7/1234
        nsid: 1

- name: One host that has to authenticate, and does so over TLS
  excloud.diskengine.spdk_subsystem:
    nqn: nqn.2024-01.io.excloud:storage.node-1.7.1234
    listeners:
      - traddr: 192.0.2.11
        trsvcid: "4421"
        secure_channel: true
    hosts:
      - nqn.2024-01.io.excloud:compute-1
    host_keys:
      - host: nqn.2024-01.io.excloud:compute-1
        dhchap_key: compute-1
        dhchap_ctrlr_key: node-1
        psk: compute-1-tls

- name: Exactly these hosts, and one export less
  excloud.diskengine.spdk_subsystem:
    subsystems:
      - nqn: nqn.2024-01.io.excloud:storage.node-1.7.1234
        hosts:
          - nqn.2024-01.io.excloud:compute-1
        purge: [hosts]
      - nqn: nqn.2024-01.io.excloud:storage.node-1.7.1235
        state: absent
"""

RETURN = r"""
results:
  description: One entry for each object, in the order in which they were given.
  returned: always, unless the target could not be reached
  type: list
  elements: dict
  contains:
    kind:
      description: Kind of the object.
      type: str
      returned: always
      sample: subsystem
    nqn:
      description: NQN of the subsystem.
      type: str
      returned: always
      sample: nqn.2024-01.io.excloud:storage.node-1.7.1234
    changed:
      description: Whether something was sent for the object, or would be in check mode.
      type: bool
      returned: always
    failed:
      description: Whether the object is not as wanted.
      type: bool
      returned: always
    actions:
      description: What was done, or would be done in check mode, as sentences.
      type: list
      elements: str
      returned: always
      sample: [create the subsystem, show bdev lvs-disk-7/1234 as namespace 1]
    before:
      description: The managed fields as they were; empty if the object was not there.
      type: dict
      returned: always
    after:
      description: The managed fields as they are now, or would be in check mode; empty if the object is not there.
      type: dict
      returned: always
    notes:
      description: Sentences on what is worth knowing, such as a size that was rounded up or parts left alone.
      type: list
      elements: str
      returned: always
    msg:
      description: Why the object is not as wanted, and what to do.
      type: str
      returned: when the object failed
actions:
  description: The calls that a run would send, in an order in which they can be sent.
  returned: in check mode, unless the target could not be reached
  type: list
  elements: dict
  contains:
    object:
      description: The object that the call is about.
      type: str
      returned: always
      sample: subsystem nqn.2024-01.io.excloud:storage.node-1.7.1234
    method:
      description: The JSON-RPC method.
      type: str
      returned: always
      sample: nvmf_create_subsystem
    params:
      description: Its parameters.
      type: dict
      returned: always
    summary:
      description: What it does, as a sentence.
      type: str
      returned: always
    risk:
      description: V(safe), V(disruptive) when hosts are interrupted, V(destructive) when data is given up.
      type: str
      returned: always
      sample: safe
"""

from ansible_collections.excloud.diskengine.plugins.module_utils._module import run_resource
from ansible_collections.excloud.diskengine.plugins.module_utils._resources._subsystem import SubsystemResource


def main() -> None:
    """Run the module."""
    run_resource(SubsystemResource)


if __name__ == "__main__":
    main()
