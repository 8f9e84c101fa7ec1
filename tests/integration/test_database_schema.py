# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations: applied once, never changed, one run at a time; nothing is open to everybody."""

from __future__ import annotations

import shutil

import psycopg
import pytest
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import DatabaseError
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_schema import (
    apply,
    migration_lock,
    pending,
    read_migrations,
)
from support.schema import MIGRATIONS, migrate


@pytest.fixture
def empty(empty_dsn):
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def directory(tmp_path):
    return shutil.copytree(MIGRATIONS, tmp_path / "migrations")


def applied(conn):
    return conn.execute("SELECT version, name FROM diskengine.schema_migration ORDER BY version").fetchall()


def test_second_run_has_nothing_to_do(empty):
    migrate(empty)
    first = applied(empty)
    assert pending(empty, read_migrations(MIGRATIONS)) == []
    migrate(empty)
    assert applied(empty) == first == [(each.version, each.name) for each in read_migrations(MIGRATIONS)]


def test_a_changed_file_is_refused(empty, directory):
    migrate(empty)
    with (directory / "0002_states.sql").open("a") as stream:
        stream.write("-- harmless\n")
    with pytest.raises(DatabaseError, match="0002_states.sql was applied with other content"):
        pending(empty, read_migrations(directory))


def test_a_database_ahead_of_the_files_is_refused(empty, directory):
    migrate(empty)
    last = sorted(directory.iterdir())[-1]
    last.unlink()
    number = int(last.name[:4])
    with pytest.raises(DatabaseError, match=f"has migration {number:04d}, this collection ends at {number - 1:04d}"):
        pending(empty, read_migrations(directory))


def test_a_failing_migration_leaves_nothing_behind(empty, directory):
    there = len(list(directory.iterdir()))
    bad = directory / f"{there + 1:04d}_bad.sql"
    bad.write_text("CREATE TABLE diskengine.half (id int); SELECT nonsense;")
    migrate(empty)
    with pytest.raises(DatabaseError, match=rf"{bad.name} was not applied.*nonsense"):
        apply(empty, pending(empty, read_migrations(directory))[0])
    assert empty.execute("SELECT to_regclass('diskengine.half')").fetchone() == (None,)
    assert len(applied(empty)) == there


def test_two_runs_at_once(empty, empty_dsn):
    with psycopg.connect(empty_dsn, autocommit=True) as other, migration_lock(other):
        with pytest.raises(DatabaseError, match="Another run is migrating"):
            with migration_lock(empty):
                pass
    with migration_lock(empty):
        pass


def test_nothing_is_granted_to_public(conn):
    granted = conn.execute(
        """
        SELECT relname FROM pg_class, aclexplode(relacl) AS a
            WHERE relnamespace = 'diskengine'::regnamespace AND a.grantee = 0
        UNION ALL
        SELECT proname FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS a
            WHERE pronamespace = 'diskengine'::regnamespace AND a.grantee = 0
        """
    ).fetchall()
    assert granted == []


def test_definer_functions_fix_their_search_path(conn):
    loose = conn.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'diskengine'::regnamespace AND prosecdef "
        "AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)"
    ).fetchall()
    assert loose == []


def test_views_have_plain_types_only(conn):
    types = conn.execute(
        "SELECT DISTINCT data_type FROM information_schema.columns WHERE table_schema = 'diskengine' "
        "AND table_name LIKE 'v\\_%'"
    ).fetchall()
    assert {name for (name,) in types} <= {"text", "bigint", "integer", "boolean", "jsonb"}
