# SPDX-License-Identifier: GPL-3.0-or-later
"""Every transition of a storage node's rows, walked by playbooks, and back where there is no way back.

The transitions are those of the table in the database, so that none can be forgotten. A wish is made in the database,
a result by the playbook: by converge.yml, or by record_state where something outside of SPDK finds it (the state of
drives; a drive's way through converge.yml is in test_storage_life.py).
"""

from __future__ import annotations

import psycopg
import pytest
from support.ansible import play, run_playbook

SIZE = 12 << 20
GROWTH = {"storage_node_growth": "plain"}  # as the lvols are thin
RECORD = "excloud.diskengine.record_state"


class Walk:
    """The rows of one site and the transitions that were seen."""

    def __init__(self, site):
        self.site, self.conn, self.seen = site, site.conn, set()
        self.table = {
            (kind, before, after): maker
            for kind, before, after, maker in self.conn.execute(
                "SELECT kind, from_state, to_state, made_by FROM diskengine.state_transition WHERE kind <> 'mapping'"
            ).fetchall()
        }

    def state(self, kind, key):
        column = "name" if kind == "node" else "id"
        row = self.conn.execute(f"SELECT state FROM diskengine.{kind} WHERE {column} = %s", [key]).fetchone()
        return row[0] if row else "GONE"

    def change(self, kind, key, state, /, **fields):
        """What the owner of the tables may try."""
        column = "name" if kind == "node" else "id"
        if state == "GONE":
            self.conn.execute(f"DELETE FROM diskengine.{kind} WHERE {column} = %s", [key])
        elif self.state(kind, key) == "GONE":
            names = [column, "state", *fields]
            values = ", ".join(["%s"] * len(names))
            columns = ", ".join(names)
            row = [key, state, *fields.values()]
            self.conn.execute(f"INSERT INTO diskengine.{kind} ({columns}) VALUES ({values})", row)
        else:
            changes = ", ".join(f"{name} = %s" for name in ("state", *fields))
            row = [state, *fields.values(), key]
            self.conn.execute(f"UPDATE diskengine.{kind} SET {changes} WHERE {column} = %s", row)

    def went(self, kind, key, before, after, maker, /, **fields):
        """Note a transition, and see that there is no way back but those of the table."""
        assert self.state(kind, key) == after, (kind, key, before, after)
        assert self.table[kind, before, after] == maker
        self.seen.add((kind, before, after))
        if (kind, after, before) not in self.table:
            with pytest.raises(psycopg.errors.CheckViolation, match=f"{after} -> {before} is not allowed"):
                self.change(kind, key, before, **fields)
        assert self.state(kind, key) == after

    def wish(self, table, key, after, /, **fields):
        before = self.state(table, key)
        self.change(table, key, after, **fields)
        if after != "GONE":
            fields = {}
        self.went(table, key, before, after, "wish", **fields)

    def record(self, key, after, /, **fields):
        """The result for a disk. The way back is not for convergence to make, unless it is a result itself."""
        before = self.state("disk", key)

        def task(name, before, after):
            row = {"kind": "disk", "id": key, "from": before, "to": after, **fields}
            return {"name": name, RECORD: {"dsn": self.site.dsn, "rows": [row]}, "ignore_errors": True}

        tasks = [task("There", before, after)]
        if self.table.get(("disk", after, before)) != "result":
            tasks.append(task("Back", after, before))
        done = run_playbook(play(*tasks))
        assert [event["event"] for event in done.events] == ["ok", "ignored"][: len(tasks)], done.output
        for result in done.results("Back"):
            assert result["results"][0]["reason"] == f"{after} -> {before} is not for convergence to make"
        self.went("disk", key, before, after, "result")

    def converge(self, *expected):
        """Preview, run and run again; each of (kind, key, from, to) came, and the target has what the rows say."""
        for kind, key, before, _after in expected:
            assert self.state(kind, key) == before
        gone = {key: self.fields(kind, key) for kind, key, _before, after in expected if after == "GONE"}
        check = self.site.converge(check=True, host_vars=GROWTH)
        done = self.site.converge(times=2, host_vars=GROWTH)
        assert (check.rc, done.rc) == (0, 0), check.output + done.output
        assert [result["changed"] for result in done.results("Converge the SPDK target")] == [bool(expected), False]
        assert check.result("Converge the SPDK target")["changed"] == bool(expected)
        for kind, key, before, after in expected:
            self.went(kind, key, before, after, "result", **gone.get(key, {}))
        self.check_target()

    def fields(self, kind, key):
        names = {"lvol": "volume_id, disk_id, size_bytes", "snapshot": "disk_id"}[kind]
        cursor = self.conn.execute(f"SELECT {names} FROM diskengine.{kind} WHERE id = %s", [key])
        return dict(zip((column.name for column in cursor.description), cursor.fetchone()))

    def check_target(self):
        rows = self.site.rows()
        snapshots = self.conn.execute("SELECT id FROM diskengine.snapshot WHERE state = 'UP'").fetchall()
        assert {lvol["alias"] for lvol in self.site.target.call("bdev_lvol_get_lvols")} == {
            f"lvs-0/{name}" for name in [*(row["id"] for row in rows), *(f"snap_{number}" for (number,) in snapshots)]
        }
        assert set(self.site.target.exports()) == {row["nqn"] for row in rows}

    def disk(self, serial):
        """A row of a new disk."""
        ((key,),) = self.conn.execute("SELECT coalesce(max(id), 0) + 1 FROM diskengine.disk").fetchall()
        self.wish("disk", key, "NEW", node="storage-1", bdf=f"0000:0{key}:00.0", serial=serial)
        return key


def test_every_transition_there_and_back(make_site):
    site = make_site(lvols=5, lvol_bytes=SIZE)
    walk = Walk(site)
    first, never, deleted, resized, undone = site.estate.lvols
    for key in site.estate.lvols:
        walk.went("lvol", key, "GONE", "CREATING", "wish")
    up, faulty, idle = (walk.disk(serial) for serial in ("up", "faulty", "idle"))
    store = site.target.add_lvstore("lvs-up", 64 << 20)
    walk.record(up, "UP", lvstore_name="lvs-up", lvstore_uuid=store["uuid"])
    walk.record(faulty, "FAULTY")
    walk.wish("lvol", never, "DELETING")
    walk.wish("node", "storage-2", "cordoned", kind="storage")
    walk.wish("node", "storage-3", "active", kind="storage")
    walk.converge(
        *(("lvol", key, "CREATING", "UP") for key in (first, deleted, resized, undone)),
        ("lvol", never, "DELETING", "GONE"),
    )

    walk.wish("node", "storage-1", "cordoned")
    for key in (1, 2):
        walk.wish("snapshot", key, "CREATING", lvol_id=first)
    walk.wish("snapshot", 2, "DELETING")
    walk.wish("lvol", deleted, "DELETING")
    walk.wish("lvol", undone, "RESIZING", size_bytes=2 * SIZE)
    walk.wish("lvol", undone, "DELETING")
    walk.record(up, "FAULTY")
    walk.wish("disk", idle, "RETIRED")
    walk.converge(
        ("snapshot", 1, "CREATING", "UP"),
        ("snapshot", 2, "DELETING", "GONE"),
        ("lvol", deleted, "DELETING", "GONE"),
        ("lvol", undone, "DELETING", "GONE"),
    )

    walk.wish("node", "storage-1", "active")
    walk.wish("snapshot", 1, "DELETING")
    walk.record(up, "UP")
    walk.wish("disk", faulty, "RETIRED")
    for key in (idle, faulty):
        walk.wish("disk", key, "GONE", node="storage-1", bdf=f"0000:0{key}:00.0", serial="again")
    walk.wish("node", "storage-2", "GONE", kind="storage")
    walk.converge(("snapshot", 1, "DELETING", "GONE"))

    walk.wish("disk", up, "RETIRED")
    walk.wish("lvol", resized, "RESIZING", size_bytes=2 * SIZE)
    walk.converge(("lvol", resized, "RESIZING", "UP"))
    assert walk.seen == walk.table.keys()
