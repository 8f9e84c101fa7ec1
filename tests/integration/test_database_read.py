# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what should exist: one query per kind, split by node."""

from __future__ import annotations

import json

import psycopg
import pytest
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import (
    DatabaseError,
    UnknownNode,
    connected,
    read_desired,
)
from support.estate import COMPUTE, invented_lvstores, make_estate


@pytest.fixture
def estate(conn):
    return make_estate(conn, lvols=8, lvstores=invented_lvstores())


def test_split_by_node(conn, estate):
    desired = read_desired(conn)
    assert sorted(desired) == [COMPUTE, "storage-1", "storage-2"]
    for name in ("storage-1", "storage-2"):
        part = desired[name]
        assert [len(part[key]) for key in ("disks", "lvols", "volumes", "mappings")] == [2, 4, 4, 0]
        assert {row["node"] for row in part["lvols"]} == {name}
        assert [row["id"] for row in part["lvols"]] == sorted(row["id"] for row in part["lvols"])
    assert len(desired[COMPUTE]["mappings"]) == len(desired[COMPUTE]["volumes"]) == 4
    assert json.loads(json.dumps(desired)) == desired


def test_an_lvol_says_all_that_its_export_needs(conn, estate):
    row = read_desired(conn, ["storage-1"], ["lvol"])["storage-1"]["lvols"][0]
    store = invented_lvstores()["storage-1-disk-0"]
    assert row["listeners"] == [{"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "4421", "adrfam": "IPv4"}]
    assert row["hosts"] == ["nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"]
    assert row["nqn"] == f"nqn.2024-01.io.excloud:storage.storage-1.{row['disk_id']}.{row['id']}"
    assert (row["lvstore_uuid"], row["lvstore_name"]) == (store["uuid"], store["name"])
    assert (row["state"], row["uuid"], row["defect"], row["revision"]) == ("CREATING", None, None, 1)


def test_a_volume_names_its_legs_and_nodes(conn, estate):
    volume = read_desired(conn, [COMPUTE], ["volume"])[COMPUTE]["volumes"][0]
    assert volume["state"] == "CREATING"
    assert [leg["node"] for leg in volume["legs"]] == ["storage-1", "storage-2"]
    assert sorted(volume["nodes"]) == [COMPUTE, "storage-1", "storage-2"]


def test_hosts_follow_the_mappings(conn, estate):
    conn.execute("UPDATE diskengine.mapping SET state = 'DETACHING' WHERE id = %s", [estate.mappings[0]])
    assert len(read_desired(conn)["storage-1"]["lvols"][0]["hosts"]) == 1
    conn.execute("UPDATE diskengine.mapping SET state = 'DETACHED' WHERE id = %s", [estate.mappings[0]])
    assert read_desired(conn)["storage-1"]["lvols"][0]["hosts"] == []


@pytest.mark.parametrize(
    ("change", "defect"),
    [
        ("UPDATE diskengine.lvol SET nqn = NULL", "no NQN"),
        ("DELETE FROM diskengine.disk_listener", "no listener address"),
        ("UPDATE diskengine.disk_listener SET trsvcid = NULL", "a listener without a port"),
    ],
)
def test_a_row_without_placement_is_shown_as_such(conn, estate, change, defect):
    conn.execute(change)
    assert {row["defect"] for row in read_desired(conn)["storage-2"]["lvols"]} == {defect}


def test_ipv6_and_order_of_listeners(conn, estate):
    disk = estate.disks["storage-1-disk-0"]
    conn.execute(
        "INSERT INTO diskengine.disk_listener (disk_id, position, trtype, traddr, trsvcid) "
        "VALUES (%s, -1, 'RDMA', 'fd00::1', 4420)",
        [disk],
    )
    listeners = read_desired(conn)["storage-1"]["disks"][0]["listeners"]
    assert listeners[0] == {"trtype": "RDMA", "traddr": "fd00::1", "trsvcid": "4420", "adrfam": "IPv6"}
    assert len(listeners) == 2


def test_volume_states(conn, estate):
    def state():
        return conn.execute("SELECT state FROM diskengine.v_volume WHERE id = %s", [estate.volumes[0]]).fetchone()[0]

    first, second = (
        number
        for (number,) in conn.execute(
            "SELECT id FROM diskengine.lvol WHERE volume_id = %s ORDER BY id", [estate.volumes[0]]
        )
    )
    go = "UPDATE diskengine.lvol SET uuid = coalesce(uuid, gen_random_uuid()), state = %s WHERE id = %s"
    for lvol, to, expected in (
        (first, "UP", "CREATING"),
        (second, "UP", "UP"),
        (second, "RESIZING", "RESIZING"),
        (second, "DELETING", "DEGRADED"),
        (first, "DELETING", "DELETING"),
    ):
        conn.execute(go.replace("uuid = coalesce(uuid, gen_random_uuid()), ", "") if to != "UP" else go, [to, lvol])
        assert state() == expected


def test_an_unknown_node_is_named(conn, estate):
    with pytest.raises(UnknownNode, match=r"no node named storage-8, storage-9\.$"):
        read_desired(conn, ["storage-1", "storage-9", "storage-8"])


def test_no_node_at_all(conn, estate):
    assert read_desired(conn, []) == {}


def test_one_query_per_kind_and_one_snapshot(conn, dsn, estate, monkeypatch):
    statements = []
    execute = psycopg.Connection.execute
    monkeypatch.setattr(
        psycopg.Connection,
        "execute",
        lambda self, query, *args, **kw: (statements.append(query), execute(self, query, *args, **kw))[1],
    )
    with connected(dsn) as own:
        statements.clear()
        read_desired(own)
    assert len(statements) == 1 + 6  # the isolation level, the nodes, and five kinds


def test_columns_of_any_type_arrive_as_json(conn, dsn, estate):
    """A site's own views may have richer types than ours."""
    conn.execute(
        """
        DROP VIEW diskengine.v_snapshot CASCADE;
        CREATE VIEW diskengine.v_snapshot AS
        SELECT 1 AS id, 'storage-1' AS node, '10.0.0.1'::inet AS address, gen_random_uuid() AS plain_uuid,
               1.5::numeric AS number, now() AS at, '1 day'::interval AS span, 'a'::bytea AS bytes,
               ARRAY[1, 2] AS list, 9007199254740993::bigint AS large
        """
    )
    with connected(dsn) as own:
        row = read_desired(own, ["storage-1"], ["snapshot"])["storage-1"]["snapshots"][0]
    assert json.loads(json.dumps(row)) == row
    assert (row["address"], row["number"], row["list"], row["large"]) == ("10.0.0.1", 1.5, [1, 2], 9007199254740993)


def test_a_missing_schema(empty_dsn):
    with pytest.raises(DatabaseError, match="run the role database first"), connected(empty_dsn) as own:
        read_desired(own)
