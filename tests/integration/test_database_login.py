# SPDX-License-Identifier: GPL-3.0-or-later
"""The login role of convergence, and what connecting says when it fails."""

from __future__ import annotations

import itertools

import psycopg
import pytest
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import (
    DatabaseError,
    connected,
    read_desired,
    record,
)
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_schema import ensure_login_role
from support.estate import invented_lvstores, make_estate

PASSWORD = "correct horse é battery"
_numbers = itertools.count(1)


@pytest.fixture
def role(conn):
    name = f"convergence-{next(_numbers)}"
    assert ensure_login_role(conn, name, PASSWORD, True) == ["create role", "set password", "grant privileges"]
    yield name
    conn.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')


@pytest.fixture
def login(dsn, role):
    return dsn.replace("user=postgres", f"user={role}")


def test_it_can_do_its_work(conn, login):
    estate = make_estate(conn, lvols=4, lvstores=invented_lvstores())
    with connected(login, PASSWORD) as own:
        assert len(read_desired(own)["storage-1"]["lvols"]) == 2
        row = {"id": estate.mappings[0], "from": "ASSIGNED", "to": "INITIALISED"}
        assert record(own, "mapping", [row])[0]["outcome"] == "changed"
        assert own.execute("SELECT diskengine.lvol_nqn('n', 1, 2)").fetchone()[0].endswith(":storage.n.1.2")


def test_it_can_do_nothing_else(conn, login):
    tables = [
        name
        for (name,) in conn.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'diskengine'::regnamespace AND relkind = 'r'"
        )
    ]
    views = [
        name
        for (name,) in conn.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'diskengine'::regnamespace AND relkind = 'v'"
        )
    ]
    assert {"lvol", "privilege"} < set(tables) and "v_lvol" in views
    attempts = [f"SELECT FROM diskengine.{name}" for name in tables]
    attempts += [f"DELETE FROM diskengine.{name}" for name in tables + views]
    attempts += [f"UPDATE diskengine.{name} SET revision = 1" for name in ("node", "disk", "lvol", "v_node", "v_lvol")]
    attempts += ["UPDATE diskengine.lease SET holder = NULL", "UPDATE diskengine.v_lease SET token = 1"]
    attempts += [f"TRUNCATE diskengine.{name}" for name in tables]
    attempts += [
        "CREATE TABLE diskengine.mine (id int)",
        "CREATE FUNCTION diskengine.record_lvols(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT diskengine.grant_convergence('postgres')",
        "SELECT diskengine._record('lvol', ARRAY['size_bytes'], '[]')",
        "SELECT nextval('diskengine.lvol_id_seq')",
        "DROP VIEW diskengine.v_node",
        "ALTER TABLE diskengine.lvol DISABLE TRIGGER a_state",
        "CREATE ROLE another",
    ]
    with psycopg.connect(login, password=PASSWORD, autocommit=True) as own:
        for attempt in attempts:
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)):
                own.execute(attempt)


def test_nothing_is_granted_to_everybody(conn):
    """A function is, unless its migration takes that away."""
    found = conn.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'diskengine'::regnamespace "
        "AND EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0)"
    ).fetchall()
    assert found == []


def test_nobody_without_a_grant_gets_in(conn, dsn):
    conn.execute("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
    try:
        with pytest.raises(DatabaseError, match="a privilege is missing"):
            with connected(dsn.replace("user=postgres", "user=stranger"), "stranger") as own:
                read_desired(own)
    finally:
        conn.execute("DROP ROLE stranger")


def test_a_second_run_changes_nothing(conn, role):
    assert ensure_login_role(conn, role, PASSWORD, True) == []


def test_what_is_off_is_corrected(conn, role):
    conn.execute(f'GRANT SELECT ON diskengine.lvol TO "{role}"')
    conn.execute(f'REVOKE SELECT ON diskengine.v_lvol FROM "{role}"')
    conn.execute(f'ALTER ROLE "{role}" NOLOGIN')
    wanted = ["allow login", "set password", "grant privileges"]
    assert ensure_login_role(conn, role, "another password", True, dry_run=True) == wanted
    assert ensure_login_role(conn, role, "another password", True) == wanted
    assert ensure_login_role(conn, role, "another password", True) == []


def test_a_dry_run_makes_no_role(conn):
    assert ensure_login_role(conn, "nobody-yet", "x", True, dry_run=True)
    assert conn.execute("SELECT FROM pg_roles WHERE rolname = 'nobody-yet'").fetchone() is None


def test_a_mighty_role_is_refused(conn):
    with pytest.raises(DatabaseError, match="may do more than convergence needs"):
        ensure_login_role(conn, "postgres", "x", True)


def test_an_owner_without_superuser(postgres, empty_dsn):
    from support.schema import migrate

    with psycopg.connect(empty_dsn, autocommit=True) as admin:
        admin.execute("CREATE ROLE owner LOGIN CREATEROLE PASSWORD 'owner'")
        admin.execute(f"GRANT CREATE ON DATABASE {admin.info.dbname} TO owner")
        try:
            with connected(empty_dsn.replace("user=postgres", "user=owner"), "owner") as own:
                migrate(own)
                assert len(ensure_login_role(own, "theirs", "x", True)) == 3
                assert ensure_login_role(own, "theirs", "cannot be compared", True) == []
        finally:
            admin.execute("DROP OWNED BY theirs, owner")
            admin.execute("DROP ROLE theirs; DROP ROLE owner")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("host=/", "host=/nowhere/"), "No such file or directory"),
        (lambda text: text.replace("dbname=", "dbname=no_"), "does not exist"),
        (lambda text: "host=127.0.0.1 port=1 dbname=x", "Connection refused"),
        (lambda text: "host=no.such.host.invalid dbname=x", "no.such.host.invalid"),
        (lambda text: "postgresql://someone:hunter2@[bad", "neither a URL nor a connection string"),
        (lambda text: "hunter2 =", "neither a URL nor a connection string"),
    ],
)
def test_a_connection_that_fails(dsn, change, said):
    with pytest.raises(DatabaseError) as caught:
        with connected(change(dsn), "hunter2"):
            pass
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_password(login):
    with pytest.raises(DatabaseError, match="password authentication failed") as caught:
        with connected(login, "hunter2"):
            pass
    assert "hunter2" not in str(caught.value)


def test_a_statement_that_takes_too_long(dsn):
    with pytest.raises(DatabaseError, match="longer than statement_timeout"):
        with connected(dsn, statement_timeout=1) as own:
            own.execute("SELECT pg_sleep(5)")


def test_a_server_that_goes_away(conn, dsn):
    with pytest.raises(DatabaseError, match=r"\.$") as caught:
        with connected(dsn) as own:
            conn.execute("SELECT pg_terminate_backend(%s)", [own.info.backend_pid])
            own.execute("SELECT 1")
    assert "\n" not in str(caught.value)


def test_the_environment_is_a_dsn_too(dsn, monkeypatch):
    monkeypatch.setenv("DISKENGINE_DSN", dsn)
    with connected() as own:
        assert own.info.dbname in dsn
    monkeypatch.delenv("DISKENGINE_DSN")
    host, name = (part.split("=")[1] for part in dsn.split()[:2])
    for variable, value in (("PGHOST", host), ("PGDATABASE", name), ("PGUSER", "postgres")):
        monkeypatch.setenv(variable, value)
    with connected() as own:
        assert own.info.dbname == name
