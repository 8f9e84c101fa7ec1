# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the connection to PostgreSQL."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that every action on the database takes."""

    DOCUMENTATION = r"""
options:
  dsn:
    description:
      - Where the database is, as a connection string or URL of libpq, for example
        V(host=db.example.org dbname=diskengine user=convergence sslmode=verify-full).
      - Without it the environment variable E(DISKENGINE_DSN) is read, and without that libpq takes what it needs
        from its own variables, such as E(PGHOST), E(PGDATABASE), E(PGUSER) and E(PGSERVICE).
      - The connection is made from the controller, never from a node.
    type: str
  password:
    description:
      - Password of the database user. It wins over a password in O(dsn).
      - Without it libpq looks in O(dsn), E(PGPASSWORD) and the password file.
    type: str
  connect_timeout:
    description: Seconds to wait for a connection, unless O(dsn) has a C(connect_timeout) of its own.
    type: int
    default: 10
  statement_timeout:
    description: Seconds that one statement may take, waiting for locks included.
    type: int
    default: 60
requirements:
  - psycopg, version 3, on the controller
notes:
  - Runs on the controller whatever the host's connection is, so no node ever needs access to the database.
"""
