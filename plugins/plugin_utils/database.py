# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All SQL of the collection but the migrations; on the controller only.

Reads views and calls functions of the schema C(diskengine), as docs/database.md describes
them. Every failure is a DatabaseError whose text is one sentence without any password.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

SCHEMA = "diskengine"
_LEASE_PAUSE = 1.0

# A connection error quotes what libpq said; of it the first line with a cause is enough.
_ADVICE = {
    "28P01": "the password was not accepted",
    "28000": "the login was not accepted",
    "3D000": "there is no such database",
    "3F000": "the schema diskengine is missing: run the role database first",
    "42P01": "a view is missing: run the role database first",
    "42883": "a function is missing: run the role database first",
    "42703": "a column that the contract names is missing",
    "42501": "a privilege is missing",
    "57014": "the statement took longer than statement_timeout",
    "55P03": "a lock was not free in time",
    "57P01": "the server shut down",
    "57P03": "the server is starting up or shutting down",
    "53300": "the server has no free connection",
}


class DatabaseError(Exception):
    """The database could not do what was asked; the text is one sentence for the user."""


class UnknownNode(DatabaseError):
    """A node was asked for that the database does not know."""

    def __init__(self, names):
        super().__init__(f"The database knows no node named {', '.join(sorted(names))}.")


@dataclass(frozen=True)
class Kind:
    """One kind of row: its view, the key in the result, and the function that records it, if any."""

    view: str
    key: str
    recorder: str | None = None


KINDS = {
    "disk": Kind("v_disk", "disks", "record_disks"),
    "lvol": Kind("v_lvol", "lvols", "record_lvols"),
    "snapshot": Kind("v_snapshot", "snapshots", "record_snapshots"),
    "volume": Kind("v_volume", "volumes"),
    "mapping": Kind("v_mapping", "mappings", "record_mappings"),
}
RECORDED_KINDS = [name for name, kind in KINDS.items() if kind.recorder]


@cache
def driver():
    """The psycopg module, imported late because it costs 0.17 s. Raises DatabaseError when it is missing."""
    try:
        import psycopg  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        raise DatabaseError(
            "The Python library psycopg (version 3) is needed on the controller: pip install 'psycopg[binary]'."
        ) from error
    return psycopg


@contextmanager
def connected(dsn=None, password=None, connect_timeout=10, statement_timeout=60):
    """A connection in autocommit mode, closed at the end; timeouts in seconds.

    Without a dsn the environment decides: DISKENGINE_DSN, then what libpq itself reads (PGHOST, PGSERVICE, ...).
    Raises DatabaseError, also for whatever psycopg raises inside the block.
    """
    psycopg = driver()
    dsn = dsn or os.environ.get("DISKENGINE_DSN") or ""
    try:
        settings = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise DatabaseError("The DSN is neither a URL nor a connection string of libpq.") from None
    settings.setdefault("application_name", "excloud.diskengine")
    settings.setdefault("connect_timeout", connect_timeout)
    if password is not None:
        settings["password"] = password
    secrets = [settings.get("password"), os.environ.get("PGPASSWORD")]
    try:
        with psycopg.connect(**settings, autocommit=True) as conn:
            conn.execute("SELECT set_config('statement_timeout', %s, false)", [f"{statement_timeout}s"])
            yield conn
    except psycopg.Error as error:
        raise DatabaseError(sentence(error, secrets)) from None


def sentence(error, secrets=()):
    """What a psycopg error says, as one sentence in which no secret appears."""
    said = str(error).strip()
    if error.sqlstate is None:
        said = _connection_cause(said)
    else:
        said = said.splitlines()[0]
    for secret in filter(None, secrets):
        said = said.replace(secret, "********")
    advice = _ADVICE.get(error.sqlstate or "")
    return f"The database refused: {advice} ({said})." if advice else f"The database failed: {said.rstrip('.')}."


def _connection_cause(said):
    """The last cause in libpq's answer, which lists one line per address that it tried."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and "Is the server running" not in line]
    causes = [re.sub(r"^(- )?(connection failed: )?", "", line) for line in lines]
    causes = [line for line in causes if not line.startswith("Multiple connection attempts failed")]
    return causes[-1] if causes else "no cause given"


def read_desired(conn, nodes=None, kinds=tuple(KINDS)):
    """What should exist, split by node: {name: {"node": {...}, "disks": [...], "lvols": [...], ...}}.

    One query per kind, all from one snapshot of the database. Rows are the columns of the views as JSON types,
    sorted by id. A volume is listed at each node that holds a replica or a mapping of it.
    Raises UnknownNode when one of nodes does not exist; without nodes all are read.
    """
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        found = _rows(conn, "v_node", "name", nodes)
        result = {row["name"]: {"node": row, **{KINDS[kind].key: [] for kind in kinds}} for row in found}
        missing = set(nodes or ()) - result.keys()
        if missing:
            raise UnknownNode(missing)
        for kind in kinds:
            for row in _rows(conn, KINDS[kind].view, "id", nodes, "nodes" if kind == "volume" else "node"):
                for name in row["nodes"] if kind == "volume" else [row["node"]]:
                    if name in result:
                        result[name][KINDS[kind].key].append(row)
    return result


def _rows(conn, view, key, nodes, place=None):
    sql = driver().sql
    query = sql.SQL("SELECT to_jsonb(v) FROM {} AS v{} ORDER BY v.{}").format(
        sql.Identifier(SCHEMA, view),
        sql.SQL("") if nodes is None else _where(sql, place or key),
        sql.Identifier(key),
    )
    return [row for (row,) in conn.execute(query, None if nodes is None else [list(nodes)])]


def _where(sql, place):
    test = " WHERE v.{} ?| %s::text[]" if place == "nodes" else " WHERE v.{} = ANY (%s::text[])"
    return sql.SQL(test).format(sql.Identifier(place))


def record(conn, kind, rows, dry_run=False):
    """Records results, each a compare-and-set, in one transaction: one call of the function for kind.

    rows are {"id", "from", "to", ...} as docs/database.md describes. Returns one dict per row, in order, with
    id, outcome (changed, unchanged, stale, refused or missing), state, reason, before and after. Rows of one object
    that go on where an earlier one of it ends are recorded by a call of their own.
    A dry run executes the very same calls and rolls them back. No rows, no call.
    """
    sql = driver().sql
    query = sql.SQL("SELECT id, outcome, state, reason, before, after FROM {}(%s)").format(
        sql.Identifier(SCHEMA, KINDS[kind].recorder)
    )
    steps = _steps(rows)
    outcomes = {}
    if rows:
        with conn.transaction(force_rollback=dry_run):
            for step in range(max(steps) + 1):
                chosen = [row for row, of in zip(rows, steps) if of == step]
                outcomes[step] = iter(_outcomes(conn, query, [driver().types.json.Jsonb(chosen)]))
    return [next(outcomes[step]) for step in steps]


def _steps(rows):
    """Number the rows of each object: one that begins where an earlier one ends is a step of its own."""
    reached: dict = {}
    steps = []
    for row in rows:
        state, step = reached.get(row.get("id"), (row.get("from"), -1))
        step += row.get("from") == state
        reached[row.get("id")] = (row.get("to"), step)
        steps.append(step)
    return steps


def register(conn, node, disks, dry_run=False):
    """Makes rows of drives that were found on a storage node: one call of register_disks, in one transaction.

    disks are {"serial", "bdf", "model"}. Returns one dict per drive, in order, with serial, id, outcome (changed,
    unchanged or refused), state, reason, before and after. Dry runs as record() does them. No drives, no call.
    """
    if not disks:
        return []
    query = "SELECT serial, id, outcome, state, reason, before, after FROM diskengine.register_disks(%s, %s)"
    with conn.transaction(force_rollback=dry_run):
        return _outcomes(conn, query, [node, driver().types.json.Jsonb(disks)])


def take_leases(conn, nodes, holder, seconds, wait=0, partial=False):
    """Takes the lease of each node for so many seconds, by one call of take_leases. Returns one dict per node, by name.

    Those are {"held", "token", "holder", "taken_at", "expires_at"}, the last four null when nobody holds the node, and
    the token of all that are held is the same. As long as not all of nodes are free none is taken, for up to wait
    seconds; then, if partial, those that are. Raises UnknownNode.
    """
    deadline = time.monotonic() + wait
    while True:
        last = time.monotonic() >= deadline
        query = "SELECT * FROM diskengine.take_leases(%s, %s, %s, %s)"
        leases = _leases(conn, query, nodes, holder, seconds, partial and last)
        if last or all(lease["held"] for lease in leases.values()):
            return leases
        time.sleep(_LEASE_PAUSE)


def renew_leases(conn, nodes, token):
    """Starts the time of leases again, by one call of renew_leases; returns what take_leases() does."""
    return _leases(conn, "SELECT * FROM diskengine.renew_leases(%s, %s)", nodes, token)


def release_leases(conn, nodes, token):
    """Ends the leases of nodes that have this token, or any without one; returns how they were, as take_leases() does.

    One call of release_leases.
    """
    return _leases(conn, "SELECT * FROM diskengine.release_leases(%s, %s)", nodes, token)


def read_leases(conn, nodes):
    """The leases of nodes that somebody holds, also those that have expired: rows of v_lease, sorted by node."""
    return _rows(conn, "v_lease", "node", nodes)


def _leases(conn, query, nodes, *parameters):
    with conn.transaction():
        leases = {row.pop("node"): row for row in _outcomes(conn, query, [list(nodes), *parameters])}
        missing = set(nodes) - leases.keys()
        if missing:
            raise UnknownNode(missing)
    return leases


def wish_node(conn, row, dry_run=False):
    """Wishes for one node: one call of wish_nodes, in one transaction.

    row is {"name", ...} as docs/database.md describes; what it does not have stays as it is. Returns name, outcome
    (changed, unchanged or refused), reason, before and after. Dry runs as record() does them.
    """
    query = "SELECT name, outcome, reason, before, after FROM diskengine.wish_nodes(%s)"
    with conn.transaction(force_rollback=dry_run):
        (result,) = _outcomes(conn, query, [driver().types.json.Jsonb([row])])
    return result


@contextmanager
def wishing(conn, dry_run=False):
    """One transaction of wishes, in which nobody else makes any; what is read in it stays true to its end.

    A dry run executes the very same calls and rolls them back.
    """
    with conn.transaction(force_rollback=dry_run):
        conn.execute("SELECT diskengine.lock_wishes()")
        yield


def wish(conn, kind, rows):
    """Makes wishes: one call of the function for kind (volume, mapping or disk), within wishing().

    rows are as docs/database.md describes. Returns one dict per row, in order, with id, outcome (changed, unchanged,
    stale or refused) and reason. No rows, no call.
    """
    if not rows:
        return []
    query = driver().sql.SQL("SELECT * FROM {}(%s)").format(driver().sql.Identifier(SCHEMA, f"wish_{kind}s"))
    return _outcomes(conn, query, [driver().types.json.Jsonb(rows)])


def read_volumes(conn, names):
    """The volumes of these names: {name: row of v_volume, with its rows of v_lvol and v_mapping as lvols, mappings}."""
    volumes = _with_parts(conn, _rows(conn, "v_volume", "id", names, "name"))
    return {row["name"]: row for row in volumes}


def read_lvols_on(conn, disk):
    """The replicas on a disk: rows of v_lvol."""
    return _of(conn, "v_lvol", "disk_id", [disk])


def read_volumes_on(conn, disk):
    """The volumes that have a replica on a disk, each as in read_volumes(), by id."""
    found = [row["volume_id"] for row in read_lvols_on(conn, disk)]
    return _with_parts(conn, _of(conn, "v_volume", "id", found))


def read_disks(conn, column, value):
    """The disks whose id or serial (column) is this: rows of v_disk."""
    return _of(conn, "v_disk", column, [value])


def _with_parts(conn, rows):
    volumes = {row["id"]: {**row, "lvols": [], "mappings": []} for row in rows}
    for kind in ("lvol", "mapping"):
        for row in _of(conn, KINDS[kind].view, "volume_id", list(volumes)):
            volumes[row["volume_id"]][KINDS[kind].key].append(row)
    return list(volumes.values())


def _of(conn, view, column, values):
    sql = driver().sql
    query = sql.SQL("SELECT to_jsonb(v) FROM {} AS v WHERE v.{} = ANY (%s) ORDER BY v.id").format(
        sql.Identifier(SCHEMA, view), sql.Identifier(column)
    )
    return [row for (row,) in conn.execute(query, [values])]


def read_room(conn):
    """What each disk of the estate has room for: the rows of v_room."""
    return _rows(conn, "v_room", "disk_id", None)


def _outcomes(conn, query, parameters):
    with conn.cursor(row_factory=driver().rows.dict_row) as cursor:
        return cursor.execute(query, parameters).fetchall()
