# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action of the module volume_mapping."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import connected, wish, wishing
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_action import (
    DatabaseAction,
    objects,
    one_or_many,
    one_or_many_rules,
    reported,
)

OPTIONS = {
    "volume": {"type": "str", "required": True},
    "node": {"type": "str", "required": True},
    "vm": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "allow_shared": {"type": "bool", "default": False},
}


class ActionModule(DatabaseAction):
    """Writes which VM on which compute node should have a volume."""

    SPEC = one_or_many(OPTIONS, "mappings")
    RULES = one_or_many_rules(OPTIONS, "mappings")

    def perform(self, options, connection):
        """Makes the wishes, then fails if one of them was refused."""
        wanted, check = objects(options, OPTIONS, "mappings"), self._task.check_mode
        with connected(**connection) as conn, wishing(conn, dry_run=check):
            outcomes = wish(conn, "mapping", wanted)
        results = [{name: each[name] for name in ("volume", "node", "vm")} for each in wanted]
        for row, outcome in zip(results, outcomes):
            row.update(outcome)
            if check and row["before"] == {"state": "GONE"}:
                row["id"] = None  # a run gets another one
        return reported("mapping", [f"{row['volume']} on {row['node']}" for row in results], results, self._task.diff)
