#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: spdk_config
short_description: Save and restore the configuration of an SPDK target
version_added: 0.1.0
description:
  - Saves the configuration of a target to a file, brings a target to a saved configuration, and starts the framework of
    a target that waits for it (C(--wait-for-rpc)) with options that can only be set before that.
  - The file is what SPDK's own C(save_config) writes, and what the target's C(-c) option takes.
  - A configuration does not contain what SPDK finds again on the disks (lvstores, lvols, RAIDs with a superblock), nor
    the ANA states of listeners.
  - M(excloud.diskengine.spdk_config_info) tells how a target differs from a file.
author:
  - The excloud.diskengine developers (@excloud)
options:
  state:
    description:
      - V(saved) writes the configuration of the target to O(path) if the file differs from it. The file that was there
        is kept as C(<path>.previous). A target that has nothing of what the file names is refused, because it seems to
        have been started again.
      - V(restored) brings the target to what O(path) says. What the target has already is compared and left alone, and
        where it differs the task fails with both values. What the file does not name is left alone.
      - V(started) sets O(startup) and starts the framework, without a file.
      - A target that waits for the start gets what can be set before it, is started once, and gets the rest. A target
        that runs gets what it lacks; values that can only be set before the start and differ make the task fail.
      - What is independent goes out together. One call that fails does not stop those that do not rely on it, but
        before the start it stops the start, because the target could not be set up any more. The task fails in the end,
        with all of them.
      - Drives are attached at the addresses that were saved.
      - A mirror without a superblock is not made again, because nothing tells whether one of its members is stale.
      - When this is cut off at any moment, running it again goes on.
    type: str
    choices: [saved, restored, started]
    required: true
  path:
    description:
      - The file. It gets the mode C(0600), because it may hold keys, and keeps its owner.
      - A file with calls or parameters that the release of the target does not know is refused before anything is sent.
    type: path
  startup:
    description:
      - Options for before the start, as parameters by the method that sets them. They stand above what is in the file.
      - Numbers must be numbers, and truth values truth values.
      - Only what is named here is compared with a target that runs.
    type: dict
    default: {}
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.node
  - excloud.diskengine.attributes.actiongroup_spdk
  - excloud.diskengine.spdk
  - excloud.diskengine.spdk.lock
seealso:
  - module: excloud.diskengine.spdk_config_info
"""

EXAMPLES = r"""
---
- name: Keep what the target has
  excloud.diskengine.spdk_config:
    state: saved
    path: /var/lib/diskengine/spdk.json

- name: Bring it back after the target was started again with --wait-for-rpc
  excloud.diskengine.spdk_config:
    state: restored
    path: /var/lib/diskengine/spdk.json

- name: Start a target of a storage node, which must not assemble the RAIDs of others
  excloud.diskengine.spdk_config:
    state: started
    startup:
      bdev_set_options:
        bdev_auto_examine: false
      iobuf_set_options:
        small_pool_count: 16384
"""

RETURN = r"""
actions:
  description: The calls that were made, or would be made in check mode, in order.
  returned: O(state=restored) or O(state=started), unless the file or the options were refused
  type: list
  elements: dict
  contains:
    object:
      description: What the call is about.
      type: str
      returned: always
      sample: nqn.2024-01.io.excloud:storage.node-1.7.42 1
    method:
      description: The method.
      type: str
      returned: always
      sample: nvmf_subsystem_add_ns
    params:
      description: Its parameters, key material hidden.
      type: dict
      returned: always
    summary:
      description: What it does.
      type: str
      returned: always
    risk:
      description: V(safe); nothing is ever removed.
      type: str
      returned: always
errors:
  description: Why the target is not as wanted, a sentence for each call that failed and each value that differs.
  returned: O(state=restored) or O(state=started), unless the file or the options were refused
  type: list
  elements: str
waited:
  description: Whether the target was found waiting for C(framework_start_init).
  returned: O(state=restored) or O(state=started), unless the file or the options were refused
  type: bool
previous:
  description: Where the file is kept that was there before. Empty if there was none, or only its mode was wrong.
  returned: success and O(state=saved)
  type: str
  sample: /var/lib/diskengine/spdk.json.previous
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.excloud.diskengine.plugins.module_utils._config_file import load, save
from ansible_collections.excloud.diskengine.plugins.module_utils._connection import CONNECTION, LOCK, connect, joined
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._lock import lock_unless_check
from ansible_collections.excloud.diskengine.plugins.module_utils._restore import read_document, restore


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            **LOCK,
            "state": {"type": "str", "choices": ["saved", "restored", "started"], "required": True},
            "path": {"type": "path"},
            "startup": {"type": "dict", "default": {}},
        },
        required_if=[("state", "saved", ["path"]), ("state", "restored", ["path"])],
        supports_check_mode=True,
    )
    try:
        with lock_unless_check(module):
            if module.params["state"] == "saved":
                _save(module)
            else:
                _restore(module)
    except DiskengineError as error:
        module.fail_json(msg=str(error))


def _save(module: AnsibleModule) -> NoReturn:
    with connect(module) as client:
        document = read_document(client)
    saved = save(module.params["path"], document, module.check_mode)
    result: dict = {"changed": saved.changed, "previous": saved.previous}
    if module._diff:
        result["diff"] = saved.diff
    module.exit_json(**result)


def _restore(module: AnsibleModule) -> NoReturn:
    saved = load(module.params["path"]) if module.params["state"] == "restored" else []
    outcome = restore(lambda: connect(module), saved, module.params["startup"], module.check_mode)
    errors = list(outcome.errors.values())
    result: dict = {
        "changed": bool(outcome.sent),
        "actions": [entry.describe() for entry in outcome.sent],
        "errors": errors,
        "waited": outcome.waited,
    }
    if module._diff:
        result["diff"] = outcome.diff
    if errors:
        module.fail_json(msg=joined(errors), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
