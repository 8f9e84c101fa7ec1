# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered migrations and the login roles; on the controller only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import SCHEMA, DatabaseError, driver, sentence

_FILE_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_LOCK = int.from_bytes(hashlib.sha256(SCHEMA.encode()).digest()[:8], "big", signed=True)
_BOOTSTRAP = """
    CREATE SCHEMA IF NOT EXISTS diskengine;
    CREATE TABLE IF NOT EXISTS diskengine.schema_migration (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
"""


@dataclass(frozen=True)
class Migration:
    """One file of migrations: NNNN_what_it_does.sql."""

    version: int
    name: str
    text: str

    @property
    def checksum(self):
        """SHA-256 of the file; an applied file must never change."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_migrations(directory):
    """The migrations of a directory, in order. Raises DatabaseError unless they are numbered 1, 2, 3, ..."""
    try:
        files = sorted(path for path in Path(directory).iterdir() if path.suffix == ".sql")
        migrations = [_read(path) for path in files]
    except (OSError, UnicodeDecodeError) as error:
        raise DatabaseError(f"The migrations in {directory} cannot be read: {error}.") from None
    if not migrations:
        raise DatabaseError(f"There is no migration in {directory}.")
    if [each.version for each in migrations] != list(range(1, len(migrations) + 1)):
        raise DatabaseError(f"The migrations in {directory} are not numbered 0001, 0002, ... without a gap.")
    return migrations


def _read(path):
    match = _FILE_NAME.match(path.name)
    if not match:
        raise DatabaseError(f"The migration {path.name} is not named like 0001_what_it_does.sql.")
    return Migration(int(match[1]), path.name, path.read_text(encoding="utf-8"))


@contextmanager
def migration_lock(conn):
    """Keeps other migration runs out until the end of the block or of the connection."""
    if not conn.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone()[0]:
        raise DatabaseError("Another run is migrating this database.")
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])


def pending(conn, migrations):
    """The migrations that were not applied yet.

    Raises DatabaseError when an applied file changed, when the database is ahead of the files, or when the server is
    older than PostgreSQL 14, which the migrations are written for.
    """
    if conn.info.server_version < 140000:
        raise DatabaseError(f"PostgreSQL 14 or later is needed, this is {conn.info.server_version // 10000}.")
    if conn.execute("SELECT to_regclass('diskengine.schema_migration')").fetchone()[0] is None:
        return migrations
    applied = dict(conn.execute("SELECT version, checksum FROM diskengine.schema_migration"))
    if len(applied) > len(migrations):
        raise DatabaseError(
            f"The database has migration {max(applied):04d}, this collection ends at {len(migrations):04d}: "
            "update the collection."
        )
    for each in migrations:
        if each.version in applied and applied[each.version] != each.checksum:
            raise DatabaseError(f"The migration {each.name} was applied with other content: it must not change.")
    return [each for each in migrations if each.version not in applied]


def apply(conn, migration):
    """Applies one migration in a transaction of its own. Raises DatabaseError that names the file."""
    psycopg = driver()
    try:
        with conn.transaction():
            conn.execute(_BOOTSTRAP)
            conn.execute(migration.text)
            conn.execute(
                "INSERT INTO diskengine.schema_migration (version, name, checksum) VALUES (%s, %s, %s)",
                [migration.version, migration.name, migration.checksum],
            )
    except psycopg.Error as error:
        raise DatabaseError(f"The migration {migration.name} was not applied. {sentence(error)}") from None


def ensure_login_role(conn, name, password, schema_present, dry_run=False, purpose="convergence"):
    """Creates or corrects a role to log in with. Returns the list of what was (would be) done.

    The role may log in, do what the privileges of its purpose say, and nothing else. The password is sent
    as a SCRAM verifier. When the connected role cannot read verifiers, which takes a superuser, the password of a
    role that exists is left alone. Raises DatabaseError for a role that could do more: a superuser, or the owner
    of the schema.
    """
    sql = driver().sql
    role = sql.Identifier(name)
    done = []
    with conn.transaction(force_rollback=dry_run):
        row = conn.execute(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls OR EXISTS ("
            " SELECT FROM pg_namespace WHERE nspname = %s AND pg_has_role(r.oid, nspowner, 'MEMBER')), rolcanlogin "
            "FROM pg_roles AS r WHERE rolname = %s",
            [SCHEMA, name],
        ).fetchone()
        if row is None:
            conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
            done.append("create role")
        elif row[0]:
            raise DatabaseError(f"The role {name} may do more than {purpose} needs: choose another name.")
        elif not row[1]:
            conn.execute(sql.SQL("ALTER ROLE {} LOGIN").format(role))
            done.append("allow login")
        if row is None or not _password_is(conn, name, password):
            verifier = conn.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
            conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(verifier)))
            done.append("set password")
        if not schema_present:
            return done + ["grant privileges"]
        before = _privileges(conn, name)
        conn.execute("SELECT diskengine.grant_purpose(%s, %s)", [name, purpose])
        if _privileges(conn, name) != before:
            done.append("grant privileges")
    return done


def _privileges(conn, role):
    """All that a role was granted by name in the schema, as comparable rows."""
    return conn.execute(
        """
        WITH acl AS (
            SELECT 'schema' AS kind, nspname::text AS object, nspacl AS acl FROM pg_namespace WHERE nspname = %(schema)s
            UNION ALL
            SELECT 'relation', relname, relacl FROM pg_class WHERE relnamespace = to_regnamespace(%(schema)s)
            UNION ALL
            SELECT 'function', oid::regprocedure::text, proacl FROM pg_proc
                WHERE pronamespace = to_regnamespace(%(schema)s)
        )
        SELECT kind, object, privilege_type FROM acl, aclexplode(acl)
        WHERE grantee = (SELECT oid FROM pg_roles WHERE rolname = %(role)s) ORDER BY 1, 2, 3
        """,
        {"schema": SCHEMA, "role": role},
    ).fetchall()


def _password_is(conn, role, password):
    if not conn.execute("SELECT has_column_privilege('pg_authid', 'rolpassword', 'SELECT')").fetchone()[0]:
        return True
    verifier = conn.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [role]).fetchone()[0]
    return verifier_matches(verifier, password)


def verifier_matches(verifier, password):
    """Whether a SCRAM-SHA-256 verifier of PostgreSQL (RFC 5803) was made from this password."""
    match = re.match(r"^SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):", verifier or "")
    if not match:
        return False
    iterations, salt, stored_key = int(match[1]), base64.b64decode(match[2]), base64.b64decode(match[3])
    prepared = unicodedata.normalize("NFKC", password).encode()
    salted = hashlib.pbkdf2_hmac("sha256", prepared, salt, iterations)
    client_key = hmac.new(salted, b"Client Key", "sha256").digest()
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), stored_key)
