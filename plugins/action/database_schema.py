# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action of the module database_schema."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import connected
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_action import DatabaseAction
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_schema import (
    apply,
    ensure_login_role,
    migration_lock,
    pending,
    read_migrations,
)


class ActionModule(DatabaseAction):
    """Brings the schema to the newest migration and makes a login role."""

    SPEC = {
        "migrations": {"type": "path", "required": True},
        "login_role": {"type": "str"},
        "login_password": {"type": "str", "no_log": True},
        "login_purpose": {"type": "str", "choices": ["convergence", "operator"], "default": "convergence"},
    }
    RULES = {"required_by": {"login_role": ["login_password"]}}

    def perform(self, options, connection):
        """Applies what is pending, or lists it in check mode."""
        role, check = options["login_role"], self._task.check_mode
        migrations = read_migrations(options["migrations"])
        with connected(**connection) as conn, migration_lock(conn):
            todo = pending(conn, migrations)
            for migration in [] if check else todo:
                apply(conn, migration)
            schema_present = not (check and todo)
            role_changes = (
                ensure_login_role(
                    conn, role, options["login_password"], schema_present, check, options["login_purpose"]
                )
                if role
                else []
            )
        names = [migration.name for migration in todo]
        done = [migration.name for migration in migrations if migration not in todo]
        result = {
            "changed": bool(names or role_changes),
            "applied": names,
            "version": migrations[-1].version,
            "role_changes": role_changes,
        }
        if self._task.diff and result["changed"]:
            result["diff"] = {
                "before": {"migrations": done},
                "after": {"migrations": done + names, **({role: role_changes} if role_changes else {})},
            }
        return result
