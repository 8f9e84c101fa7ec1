# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action of the module volume."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import (
    connected,
    read_room,
    read_volumes,
    wish,
    wishing,
)
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_action import (
    DatabaseAction,
    objects,
    one_or_many,
    one_or_many_rules,
    reported,
)
from ansible_collections.excloud.diskengine.plugins.plugin_utils.placement import Disks
from ansible_collections.excloud.diskengine.plugins.plugin_utils.volumes import (
    forget_new_ids,
    plan_volumes,
    volume_result,
)

OPTIONS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "size": {"type": "str"},
    "replicas": {"type": "int"},
    "thin": {"type": "bool"},
    "clear_method": {"type": "str", "choices": ["default", "none", "unmap", "write_zeroes"]},
    "rw_ios_per_sec": {"type": "int"},
    "rw_mbytes_per_sec": {"type": "int"},
    "r_mbytes_per_sec": {"type": "int"},
    "w_mbytes_per_sec": {"type": "int"},
    "source_snapshot": {"type": "int"},
    "nodes": {"type": "list", "elements": "str"},
    "disks": {"type": "list", "elements": "int"},
    "allow_same_domain": {"type": "bool", "default": False},
}


class ActionModule(DatabaseAction):
    """Writes what volumes should be, and chooses where their replicas go."""

    SPEC = one_or_many(OPTIONS, "volumes")
    RULES = one_or_many_rules(OPTIONS, "volumes")

    def perform(self, options, connection):
        """Plans all volumes beside each other and makes the wishes, then fails if a volume cannot be as wanted."""
        wanted, check = objects(options, OPTIONS, "volumes"), self._task.check_mode
        names = [each["name"] for each in wanted]
        with connected(**connection) as conn, wishing(conn, dry_run=check):
            before = read_volumes(conn, names)
            disks = Disks(read_room(conn))
            plans = plan_volumes(wanted, before, disks)
            made = iter(wish(conn, "volume", [plan["wish"] for plan in plans if plan.get("wish")]))
            outcomes = [next(made) if plan.get("wish") else None for plan in plans]
            after = read_volumes(conn, names) if any(outcomes) else before
        results = [
            volume_result(name, plan, outcome, before.get(name), after.get(name))
            for name, plan, outcome in zip(names, plans, outcomes)
        ]
        if check:
            forget_new_ids(results, before)
        return {**reported("volume", names, results, self._task.diff), "rejected": disks.rejected}
