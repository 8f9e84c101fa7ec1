# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plugins that talk to the database share."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import DatabaseError

CONNECTION_SPEC = {
    "dsn": {"type": "str", "no_log": True},
    "password": {"type": "str", "no_log": True},
    "connect_timeout": {"type": "int", "default": 10},
    "statement_timeout": {"type": "int", "default": 60},
}


class DatabaseAction(ActionBase):
    """An action on the controller: validated options, one result, every expected failure one sentence."""

    _supports_check_mode = True
    _requires_connection = False
    SPEC: dict = {}
    REQUIRED_BY: dict = {}

    def run(self, tmp=None, task_vars=None):
        """Runs perform() and turns a DatabaseError into a failed result."""
        del tmp
        super().run(None, task_vars)
        validated, dummy = self.validate_argument_spec(
            argument_spec={**CONNECTION_SPEC, **self.SPEC}, required_by=self.REQUIRED_BY
        )
        options = validated.validated_parameters
        connection = {name: options[name] for name in CONNECTION_SPEC}
        try:
            return self.perform(options, connection)
        except DatabaseError as error:
            return {"changed": False, "failed": True, "msg": str(error)}

    def perform(self, options, connection):
        """The work itself: takes the options and those of them that connected() takes, returns the result."""
        raise NotImplementedError


def failure_message(results, key="id"):
    """One sentence that names, by kind and key, the rows that were not recorded, and why; None when there are none."""
    causes: dict[tuple[str, str], list[str]] = {}
    for row in results:
        if row["outcome"] not in ("changed", "unchanged"):
            causes.setdefault((row["kind"], f"{row['outcome']}, {row['reason']}"), []).append(str(row[key]))
    if not causes:
        return None
    count = sum(len(ids) for ids in causes.values())
    listed = "; ".join(f"{kind} {', '.join(ids)}: {cause}" for (kind, cause), ids in causes.items())
    return f"{count} of {len(results)} rows were not recorded: {listed}."
