#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_key
short_description: Manage the keys of an SPDK target that hosts authenticate with
version_added: 0.1.0
description:
  - Adds keys to the keyring of a target and removes them, and writes the files that hold them.
  - Keys are used by name, in O(excloud.diskengine.spdk_subsystem#module:host_keys).
  - To rotate a DH-HMAC-CHAP key, give the new O(key) under the same name. SPDK reads the file at each authentication,
    so connected hosts stay connected, and those that connect from then on need the new one. An SPDK host that was
    refused when it came back does not try the new one by itself, so give it to hosts (C(bdev_nvme_set_keys)) at once.
  - To rotate a TLS PSK, add another key and give that to the host. The target has read the old one when it was given
    to the host, so a change of its file is refused.
  - A key in use is not removed, nor its path changed, because no host could authenticate with it then.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
  - excloud.diskengine.spdk.key
seealso:
  - module: excloud.diskengine.spdk_subsystem
  - module: excloud.diskengine.spdk_node
"""

EXAMPLES = r"""
---
- name: A key that is in a file on the node already
  excloud.diskengine.spdk_key:
    name: compute-1
    path: /etc/diskengine/keys/compute-1

- name: Keys from a vault, and one that is not used any more
  excloud.diskengine.spdk_key:
    keys:
      - name: compute-1
        path: /etc/diskengine/keys/compute-1
        key: "{{ vault_compute_1_dhchap_key }}"
      - name: compute-1-tls
        path: /etc/diskengine/keys/compute-1-tls
        key: "{{ vault_compute_1_psk }}"
      - name: compute-0
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
      sample: key
    name:
      description: Name of the key.
      type: str
      returned: always
      sample: compute-1
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
      sample: [write /etc/diskengine/keys/compute-1, take the key from /etc/diskengine/keys/compute-1]
    before:
      description: Name and path, and whether the file held what was wanted; empty if the object was not there.
      type: dict
      returned: always
    after:
      description: The same as it is now, or would be in check mode; empty if the object is not there.
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
      sample: key compute-1
    method:
      description: The JSON-RPC method, or V(file) when it is the file that is written.
      type: str
      returned: always
      sample: keyring_file_add_key
    params:
      description: Its parameters, of a file its path and mode.
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
from ansible_collections.excloud.diskengine.plugins.module_utils._resources._key import KeyResource


def main() -> None:
    """Run the module."""
    run_resource(KeyResource)


if __name__ == "__main__":
    main()
