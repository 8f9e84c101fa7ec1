#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_transport
short_description: Manage the NVMe-oF transports of an SPDK target
version_added: 0.1.0
description:
  - Creates the transport that subsystems listen on.
  - SPDK can neither change nor delete a transport. A wish that differs from what is there is refused.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
  - excloud.diskengine.spdk.transport
seealso:
  - module: excloud.diskengine.spdk_subsystem
  - module: excloud.diskengine.spdk_node
"""

EXAMPLES = r"""
---
- name: The target speaks TCP
  excloud.diskengine.spdk_transport:
    trtype: TCP
    max_queue_depth: 256

- name: The target speaks RDMA and TCP, on a socket of its own
  excloud.diskengine.spdk_transport:
    socket: /run/spdk/spdk.sock
    transports:
      - trtype: RDMA
        max_queue_depth: 256
        io_unit_size: 16384
        num_shared_buffers: 1024
      - trtype: TCP
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
      sample: transport
    trtype:
      description: Transport type.
      type: str
      returned: always
      sample: TCP
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
      sample: [create the TCP transport]
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
      sample: transport TCP
    method:
      description: The JSON-RPC method.
      type: str
      returned: always
      sample: nvmf_create_transport
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
from ansible_collections.excloud.diskengine.plugins.module_utils._resources._transport import TransportResource


def main() -> None:
    """Run the module."""
    run_resource(TransportResource)


if __name__ == "__main__":
    main()
