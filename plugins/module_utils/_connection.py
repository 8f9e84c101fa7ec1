# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every module has which talks to a target, and how all of them tell many errors. Private."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ._rpc import Client

CONNECTION = {
    "socket": {"type": "path", "default": "/var/tmp/spdk.sock"},
    "timeout": {"type": "float", "default": 60.0},
}
LOCK = {"lock_wait": {"type": "float", "default": 60.0}, "lease": {"type": "int"}}

MESSAGE_ITEMS = 10


def connect(module: AnsibleModule) -> Client:
    """Open the connection that the module's options describe. Raises Unreachable."""
    return Client(module.params["socket"], module.params["timeout"])


def joined(messages: list) -> str:
    """Return messages as one sentence that stays readable however many there are."""
    more = [f"and {len(messages) - MESSAGE_ITEMS} more"] if len(messages) > MESSAGE_ITEMS else []
    return "; ".join([*messages[:MESSAGE_ITEMS], *more])
