# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema of the role database, without Ansible."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_schema import apply, pending, read_migrations

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = ROOT / "roles" / "database" / "files" / "migrations"


def migrate(conn):
    """Applies all migrations of the role to a database; conn in autocommit mode."""
    for migration in pending(conn, read_migrations(MIGRATIONS)):
        apply(conn, migration)
