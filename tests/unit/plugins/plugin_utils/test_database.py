# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs no server: sentences, migrations on disk, SCRAM verifiers."""

from __future__ import annotations

import pytest
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import DatabaseError, sentence
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_schema import (
    read_migrations,
    verifier_matches,
)

# RFC 7677, section 3: user "user", password "pencil".
RFC_7677 = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


class Failure(Exception):
    """A psycopg error as far as sentence() looks at it."""

    def __init__(self, text, sqlstate=None):
        super().__init__(text)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            Failure('relation "diskengine.v_node" does not exist\nLINE 1: SELECT', "42P01"),
            "The database refused: a view is missing: run the role database first "
            '(relation "diskengine.v_node" does not exist).',
        ),
        (Failure("division by zero", "22012"), "The database failed: division by zero."),
        (
            Failure(
                'connection failed: connection to server at "::1", port 5432 failed: Connection refused\n'
                "\tIs the server running on that host and accepting TCP/IP connections?"
            ),
            'The database failed: connection to server at "::1", port 5432 failed: Connection refused.',
        ),
        (
            Failure("connection failed: A\nMultiple connection attempts failed. All failures were:\n- host: 'a': B\n"),
            "The database failed: host: 'a': B.",
        ),
        (Failure(""), "The database failed: no cause given."),
    ],
)
def test_sentence(error, expected):
    assert sentence(error) == expected


def test_a_secret_is_cut_out():
    assert sentence(Failure("bad password hunter2"), [None, "hunter2"]) == "The database failed: bad password ********."


def test_migrations_in_order(tmp_path):
    for name in ("0002_b.sql", "0001_a.sql", "README.md"):
        (tmp_path / name).write_text(name)
    assert [(each.version, each.name) for each in read_migrations(tmp_path)] == [(1, "0001_a.sql"), (2, "0002_b.sql")]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "no migration in"),
        (["0002_b.sql"], "without a gap"),
        (["0001_a.sql", "0001_b.sql"], "without a gap"),
        (["first.sql"], "not named like"),
    ],
)
def test_migrations_that_are_not_right(tmp_path, names, said):
    for name in names:
        (tmp_path / name).write_text("")
    with pytest.raises(DatabaseError, match=said):
        read_migrations(tmp_path)


def test_migrations_that_are_not_there(tmp_path):
    with pytest.raises(DatabaseError, match="cannot be read"):
        read_migrations(tmp_path / "nowhere")


def test_verifier():
    assert verifier_matches(RFC_7677, "pencil")
    assert not verifier_matches(RFC_7677, "pen")
    assert not verifier_matches("md5d41d8cd98f00b204e9800998ecf8427e", "pencil")
    assert not verifier_matches(None, "pencil")
