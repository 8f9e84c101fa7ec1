# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action of the module node."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import connected, wish_node
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_action import DatabaseAction

CLEARED = ("failure_domain", "hostnqn", "maintaining", "maintained")


class ActionModule(DatabaseAction):
    """Wishes for a node of the estate."""

    SPEC = {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "kind": {"type": "str", "choices": ["storage", "compute"]},
        "cordoned": {"type": "bool"},
        "failure_domain": {"type": "str"},
        "hostnqn": {"type": "str"},
        "addresses": {
            "type": "list",
            "elements": "dict",
            "options": {
                "trtype": {"type": "str", "choices": ["RDMA", "TCP"], "default": "RDMA"},
                "address": {"type": "str", "required": True},
                "port": {"type": "int", "default": 4420},
            },
        },
        "maintaining": {"type": "str"},
        "maintained": {"type": "str"},
    }

    def perform(self, options, connection):
        """Makes the wish, or makes it and takes it back in check mode, and fails if the database refuses it."""
        with connected(**connection) as conn:
            found = wish_node(conn, wanted(options), self._task.check_mode)
        if found["outcome"] == "refused":
            return {"changed": False, "failed": True, "msg": f"Node {options['name']}: {found['reason']}."}
        sides = {side: found[side] or {} for side in ("before", "after")}
        result = {"changed": found["outcome"] == "changed", **sides}
        if self._task.diff and result["changed"]:
            result["diff"] = sides
        return result


def wanted(options):
    """The row that the database is asked for; an empty text takes away what is there."""
    if options["state"] == "absent":
        return {"name": options["name"], "state": "GONE"}
    row = {name: options[name] for name in ("name", "kind", *CLEARED, "addresses") if options[name] is not None}
    if options["cordoned"] is not None:
        row["state"] = "cordoned" if options["cordoned"] else "active"
    return {name: None if name in CLEARED and value == "" else value for name, value in row.items()}
