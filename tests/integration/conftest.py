# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the integration tests; what they do is in tests/support."""

from __future__ import annotations

import itertools

import psycopg
import pytest
from support.postgres import postgres_server
from support.schema import migrate

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres():
    """A private server for the session."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def _template(postgres):
    name = "migrated"
    with psycopg.connect(postgres.create_database(name), autocommit=True) as conn:
        migrate(conn)
    return name


@pytest.fixture
def empty_dsn(postgres):
    """The dsn of a database with nothing in it."""
    name = f"empty_{next(_numbers)}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def dsn(postgres, _template):
    """The dsn of a database with the schema and no rows."""
    name = f"test_{next(_numbers)}"
    yield postgres.create_database(name, _template)
    postgres.drop_database(name)


@pytest.fixture
def conn(dsn):
    """A connection, as the owner, to the database of dsn."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection
