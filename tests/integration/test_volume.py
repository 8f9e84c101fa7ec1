# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes and mappings that somebody wishes for: rows, refusals, and the way to a VM's disk and back."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace

import psycopg
import pytest
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import read_room, wish, wishing
from support.ansible import play, run_playbook
from support.documented import differences, own_keys, returned
from support.estate import COMPUTE, MIB, invented_lvstores, make_estate, set_lvstores
from support.runs import at, playbook_of

GIB = 1 << 30


@pytest.fixture
def estate(conn):
    """Three storage nodes of two disks of 1 TiB each, each node a failure domain, and a compute node."""
    return make_estate(conn, 3, 2, lvols=0, lvstores=invented_lvstores(3))


class Desk:
    """Somebody who makes wishes, many tasks in one playbook."""

    def __init__(self, dsn, conn):
        self.dsn, self.conn = dsn, conn

    def wish(self, *tasks, **options):
        """The results of tasks, each ``(module, options)``, one after the other whatever became of those before."""
        listed = [
            {
                "name": "Wish",
                f"excloud.diskengine.{module}": {"dsn": self.dsn, **wanted},
                "ignore_errors": True,
            }
            for module, wanted in tasks
        ]
        done = run_playbook(play(*listed), **options)
        assert done.rc == 0 and "Traceback" not in done.output, done.output
        results = done.results("Wish")
        for (module, _wanted), result in zip(tasks, results):
            own, failed = own_keys(module, result), "msg" in result
            assert not differences(returned(module), own, failed, False, module)
        return results

    def table(self):
        return [
            self.conn.execute(f"SELECT * FROM diskengine.{name} ORDER BY id").fetchall()
            for name in ("volume", "lvol", "mapping")
        ]


@pytest.fixture
def desk(dsn, conn, estate):
    return Desk(dsn, conn)


def volume(name, **options):
    return "volume", {"name": name, **options}


def mapping(name, node=COMPUTE, **options):
    return "volume_mapping", {"volume": name, "node": node, **options}


def without_ids(results):
    for result in results:
        for row in result["results"]:
            row["id"] = None
            for replica in row.get("replicas", ()):
                replica["lvol"] = None
    return results


def converged(conn):
    """What convergence would record: everything that was wished for is there, or gone."""
    conn.execute("UPDATE diskengine.lvol SET state = 'UP', uuid = gen_random_uuid() WHERE state = 'CREATING'")
    conn.execute("UPDATE diskengine.lvol SET state = 'UP', zeroed_bytes = size_bytes WHERE state = 'RESIZING'")
    conn.execute("DELETE FROM diskengine.lvol WHERE state = 'DELETING'")
    conn.execute("UPDATE diskengine.mapping SET state = 'INITIALISED' WHERE state = 'ASSIGNED'")
    conn.execute("UPDATE diskengine.mapping SET state = 'ATTACHED' WHERE state = 'INITIALISED'")
    conn.execute("UPDATE diskengine.mapping SET state = 'DETACHED' WHERE state = 'DETACHING'")


def test_the_preview_is_the_run(desk, conn):
    """Volumes that are placed beside each other, then a second run that finds nothing to do."""
    conn.execute("UPDATE diskengine.node SET state = 'cordoned' WHERE name = 'storage-3'")
    conn.execute("UPDATE diskengine.disk SET health = 'critical' WHERE id = 2")
    conn.execute("INSERT INTO diskengine.volume (name, size_bytes) VALUES ('bare', %s)", [GIB])
    wanted = [
        {"name": "a", "size": "100GiB", "rw_mbytes_per_sec": 500},
        {"name": "b", "size": "1GiB", "thin": True, "clear_method": "write_zeroes", "disks": [1, 4]},
        {"name": "bare"},
        {"name": "c", "size": "10TiB"},
        {"name": "d"},
    ]
    before = desk.table()
    preview = desk.wish(("volume", {"volumes": wanted}), check=True, diff=True)
    assert desk.table() == before
    assert [row["id"] for row in preview[0]["results"]] == [None, None, 1, None, None]
    done = desk.wish(("volume", {"volumes": wanted}), diff=True)
    placed = {row["name"]: [entry["disk"] for entry in row["placement"]] for row in done[0]["results"]}
    assert placed == {"a": [1, 3], "b": [4, 1], "bare": [4, 1], "c": [], "d": []}
    assert done[0]["rejected"] == [
        {"node": "storage-1", "disk": 2, "why": "the health of the disk is critical"},
        {"node": "storage-3", "disk": None, "why": "the node is cordoned"},
    ]
    assert done[0]["msg"].startswith("2 of 5 rows were not recorded: volume c: refused, no disk can take a replica of")
    assert "volume d: refused, it does not exist; give its size to create it" in done[0]["msg"]
    rows = conn.execute(
        "SELECT v.name, v.rw_mbytes_per_sec, l.disk_id, l.size_bytes, l.thin, l.clear_method, l.nqn IS NULL "
        "FROM diskengine.lvol AS l JOIN diskengine.volume AS v ON v.id = l.volume_id ORDER BY l.id"
    ).fetchall()
    assert rows[:4] == [
        ("a", 500, 1, 100 * GIB + MIB, False, "unmap", False),
        ("a", 500, 3, 100 * GIB + MIB, False, "unmap", False),
        ("b", 0, 4, GIB + MIB, True, "write_zeroes", False),
        ("b", 0, 1, GIB + MIB, True, "write_zeroes", False),
    ]
    assert done[0]["diff"]["before"]["volume a"] == {} and len(done[0]["diff"]["after"]["volume a"]["lvols"]) == 2
    assert without_ids(done) == without_ids(preview)
    now = desk.table()
    (again,) = desk.wish(("volume", {"volumes": wanted[:3]}))
    assert not again["changed"] and {row["outcome"] for row in again["results"]} == {"unchanged"}
    assert desk.table() == now


def test_the_life_of_a_volume(desk, conn):
    """Wishes one after the other, each with what it leads to; a refusal writes nothing."""
    first = desk.wish(volume("a", size="10GiB"), volume("a", size="12GiB"))
    assert [row["state"] for row in first[1]["results"][0]["replicas"]] == ["CREATING"] * 2
    converged(conn)
    grown, again, limits, shrunk, fewer, source, twice, huge, bad, more = desk.wish(
        volume("a", size="20GiB"),
        volume("a", size="20GiB"),
        volume("a", rw_ios_per_sec=1000, w_mbytes_per_sec=5),
        volume("a", size="1GiB"),
        volume("a", replicas=1),
        volume("a", source_snapshot=7),
        ("volume", {"volumes": [{"name": "a"}, {"name": "a", "state": "absent"}]}),
        volume("a", size="2TiB"),
        volume("a", size="large"),
        volume("a", replicas=3),
    )
    (grown_row,) = grown["results"]
    assert grown_row["state"] == "RESIZING" and grown["changed"]
    assert {(row["state"], row["size_bytes"]) for row in grown_row["replicas"]} == {("RESIZING", 20 * GIB + MIB)}
    assert not again["changed"] and limits["changed"]
    for result, said in (
        (shrunk, "it has 20 GiB, wanted 1 GiB; a volume only grows"),
        (fewer, "it has 2 replicas, wanted 1; none is taken away from here"),
        (source, "it was made empty; that cannot change"),
        (twice, "volume a, a: refused, it is named more than once"),
        (
            huge,
            "its replica on disk 1 of storage-1 cannot grow: it takes 2028 GiB, and the disk has room for 1028092 MiB",
        ),
        (bad, "size 'large' is not a size"),
    ):
        assert said in result["msg"] and not result["changed"], result["msg"]
    assert [entry["node"] for entry in more["results"][0]["placement"]] == ["storage-3"]
    row = conn.execute(
        "SELECT size_bytes, replicas, rw_ios_per_sec, w_mbytes_per_sec FROM diskengine.volume"
    ).fetchone()
    assert row == (20 * GIB, 3, 1000, 5)
    converged(conn)
    going, again, anew = desk.wish(volume("a", state="absent"), volume("a", state="absent"), volume("a", size="1GiB"))
    assert going["changed"] and going["results"][0]["state"] == "DELETING"
    assert not again["changed"] and again["results"][0]["state"] == "DELETING"
    assert "it is being deleted; converge its nodes" in anew["msg"]
    converged(conn)
    assert desk.table() == [[], [], []]
    gone, anew = desk.wish(volume("a", state="absent"), volume("a", size="1GiB"))
    assert not gone["changed"] and gone["results"][0]["state"] is None and anew["changed"]


def test_a_replica_that_was_lost_is_placed_anew(desk, conn):
    desk.wish(volume("a", size="10GiB"))
    converged(conn)
    conn.execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE disk_id = 1")
    (done,) = desk.wish(volume("a"))
    assert [entry["disk"] for entry in done["results"][0]["placement"]] == [2]
    states = [(row["disk"], row["state"]) for row in done["results"][0]["replicas"]]
    assert states == [(1, "DELETING"), (3, "UP"), (2, "CREATING")]


def test_mappings(desk, conn):
    conn.execute(
        "INSERT INTO diskengine.node (name, kind, state, hostnqn) VALUES "
        "('compute-2', 'compute', 'active', 'nqn.2014-08.org.nvmexpress:uuid:2'), "
        "('nameless', 'compute', 'active', NULL), "
        "('closed', 'compute', 'cordoned', 'nqn.2014-08.org.nvmexpress:uuid:3')"
    )
    desk.wish(
        ("volume", {"volumes": [{"name": name, "size": "1GiB"} for name in ("a", "b", "gone")]}),
        volume("single", size="1GiB", replicas=1),
        volume("gone", state="absent"),
    )
    before = desk.table()
    (preview,) = desk.wish(mapping("a", vm="db"), check=True, diff=True)
    assert desk.table() == before
    (first,) = desk.wish(mapping("a", vm="db"), diff=True)
    assert without_ids([first]) == [preview]
    assert (first["results"][0]["state"], first["changed"]) == ("ASSIGNED", True)
    same, unnamed, *refused = desk.wish(
        mapping("a", vm="db"),
        mapping("a"),
        mapping("a", vm="other"),
        mapping("a", node="compute-2"),
        mapping("a", node="compute-2", allow_shared=True),
        mapping("b", node="nowhere"),
        mapping("b", node="storage-1"),
        mapping("b", node="closed"),
        mapping("b", node="nameless"),
        mapping("nothing"),
        mapping("gone"),
        mapping("single"),
        volume("a", state="absent"),
    )
    assert not same["changed"] and not unnamed["changed"] and unnamed["results"][0]["id"] == same["results"][0]["id"]
    for result, said in zip(
        refused,
        (
            "mapping a on compute-1: refused, it is mapped on compute-1 for VM db (ASSIGNED); detach it there first",
            "it is mapped on compute-1 for VM db (ASSIGNED)",
            "it is mapped on compute-1 for VM db (ASSIGNED)",
            "there is no node nowhere",
            "storage-1 is no compute node",
            "node closed is cordoned",
            "node nameless has no host NQN (hostnqn)",
            "there is no such volume",
            "the volume is being deleted",
            "a compute node serves mirrors of two replicas, and the volume has 1",
            "volume a: refused, it is mapped on compute-1 for VM db (ASSIGNED); detach it first",
        ),
    ):
        assert said in result["msg"] and not result["changed"], result["msg"]
    shared, which, off, off_too, again, back, still, elsewhere = desk.wish(
        mapping("a", vm="other", allow_shared=True),
        mapping("a"),
        mapping("a", vm="db", state="absent"),
        mapping("a", vm="other", state="absent"),
        mapping("a", vm="db", state="absent"),
        mapping("a", vm="db"),
        volume("a", state="absent"),
        mapping("a", node="compute-2"),
    )
    assert elsewhere["results"][0]["state"] == "ASSIGNED"
    assert shared["changed"] and "it is mapped there for several VMs; say for which one (vm)" in which["msg"]
    assert off["changed"] and off_too["changed"] and off["results"][0]["state"] == "DETACHING"
    assert not again["changed"] and again["results"][0]["state"] == "DETACHING"
    assert "it is being detached there; converge the node, then map it again" in back["msg"]
    assert "it is still being detached on compute-1; converge that node first" in still["msg"]
    converged(conn)
    removed, again = desk.wish(mapping("a", vm="db", state="absent"), mapping("a", vm="db", state="absent"))
    assert removed["changed"] and removed["results"][0]["state"] is None and not again["changed"]
    rows = conn.execute("SELECT node, state FROM diskengine.mapping ORDER BY id").fetchall()
    assert rows == [(COMPUTE, "DETACHED"), ("compute-2", "ATTACHED")]


def test_a_disk_is_taken_out_of_use(desk, conn):
    """Replicas move while a healthy one stays elsewhere; what would cost the last one is named and stays."""
    names = ("mapped", "unmapped", "unused", "lame", "untold")
    desk.wish(
        ("volume", {"volumes": [{"name": name, "size": "1GiB", "disks": [1, 3]} for name in names]}),
        ("volume_mapping", {"mappings": [{"volume": name, "node": COMPUTE} for name in ("mapped", "lame", "untold")]}),
    )
    converged(conn)
    conn.execute("UPDATE diskengine.node SET state = 'cordoned' WHERE name = 'storage-3'")
    conn.execute(
        "UPDATE diskengine.lvol AS l SET membership = CASE WHEN v.name = 'lame' AND l.disk_id = 3 THEN 'JOINING' "
        "ELSE 'IN_SYNC' END FROM diskengine.volume AS v WHERE v.id = l.volume_id AND v.name NOT IN ('unused', 'untold')"
    )
    drained = ("disk", {"serial": "storage-1-disk-0", "state": "drained"})
    before = desk.table()
    (preview,) = desk.wish(drained, check=True, diff=True)
    assert desk.table() == before
    done, again = desk.wish(drained, ("disk", {"id": 1, "state": "drained", "allow_unmapped": True}), diff=True)
    for result in (preview, done):
        assert [row["outcome"] for row in result["moved"]] == ["changed", "refused", "changed", "refused", "refused"]
    assert preview["moved"] == done["moved"] and preview["diff"] == done["diff"] and done["disk"]["draining"]
    assert "volume unmapped: refused, it is not mapped, so nothing would give a new replica its data" in done["msg"]
    assert "volume lame: refused, no other replica is UP and IN_SYNC on a disk that is UP (others: lvol" in done["msg"]
    assert {entry["disk"] for row in done["moved"] for entry in row["placement"]} == {2}
    assert done["diff"]["before"]["volume mapped"] == ["disk 1 of storage-1"]
    assert done["diff"]["after"]["volume mapped"] == ["disk 2 of storage-1"]
    assert "volume untold: refused, no other replica is UP and IN_SYNC" in done["msg"]
    assert [(row["volume"], row["outcome"]) for row in again["moved"]] == [
        ("unmapped", "changed"),
        ("lame", "refused"),
        ("untold", "refused"),
    ]
    held = {row["state"]: row["held"] for row in again["left"] if row["membership"] == "IN_SYNC" and row["held"]}
    assert held == {"DELETING": "mapping 1 on compute-1 has it as a leg"}
    early, lost, unknown, nowhere = desk.wish(
        ("disk", {"id": 1, "state": "retired"}),
        ("disk", {"id": 1, "state": "retired", "lost": True}),
        ("disk", {"id": 99, "state": "retired"}),
        ("volume", {"name": "new", "size": "1GiB", "disks": [1, 3]}),
    )
    assert "there are replicas or snapshots on it" in early["msg"]
    assert "mapping 1 on compute-1 has it as a leg" in lost["msg"]
    assert unknown["msg"] == "The database knows no disk with id 99."
    assert "the disk is being drained: disk 1" in nowhere["msg"]
    conn.execute("UPDATE diskengine.lvol SET membership = 'NONE' WHERE disk_id = 1")
    conn.execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE disk_id = 1 AND state <> 'DELETING'")
    retired, twice, drained, revived, gone, gone_too = desk.wish(
        ("disk", {"id": 1, "state": "retired", "lost": True}),
        ("disk", {"id": 1, "state": "retired"}),
        ("disk", {"id": 1, "state": "drained"}),
        ("disk", {"id": 1, "state": "present"}),
        ("disk", {"serial": "storage-1-disk-0", "state": "absent"}),
        ("disk", {"serial": "storage-1-disk-0", "state": "absent"}),
    )
    assert retired["disk"]["state"] == "RETIRED" and retired["left"] == [] and not twice["changed"]
    assert not drained["changed"]
    assert revived["msg"] == "Disk 1 is RETIRED; make it absent, then its drive can be registered again."
    assert gone["changed"] and gone["disk"] is None and not gone_too["changed"]


def test_two_runs_at_once_give_away_no_more_than_there_is(desk, conn):
    """Two disks with room for 20 volumes, two runs that want 15 each: 20 get their place, and each is whole."""
    conn.execute("UPDATE diskengine.disk SET state = 'FAULTY' WHERE id NOT IN (1, 3)")
    conn.execute("UPDATE diskengine.disk SET free_bytes = %s WHERE id IN (1, 3)", [20 * 12 * MIB])
    results: list = []

    def run(first):
        wanted = [{"name": f"v{first + number}", "size": "11MiB"} for number in range(15)]
        results.extend(desk.wish(("volume", {"volumes": wanted})))

    runs = [threading.Thread(target=run, args=(first,)) for first in (0, 100)]
    for each in runs:
        each.start()
    for each in runs:
        each.join()
    outcomes = sorted(row["outcome"] for result in results for row in result["results"])
    assert outcomes == ["changed"] * 20 + ["refused"] * 10
    assert {row["room_bytes"] for row in read_room(conn) if row["state"] == "UP"} == {0}
    placed = conn.execute("SELECT count(*), array_agg(DISTINCT disk_id) FROM diskengine.lvol GROUP BY volume_id")
    assert set(map(str, placed.fetchall())) == {"(2, [1, 3])"}


def replica(disk, size=GIB, **changes):
    return {"disk_id": disk, "size_bytes": size, "thin": False, "clear_method": "unmap", **changes}


def new(*lvols):
    limits = dict.fromkeys(("rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec"), 0)
    return {"name": "a", "size_bytes": GIB, "replicas": 2, "lvols": list(lvols), **limits}


def test_the_database_itself_refuses_what_no_placement_may_be(conn, estate):
    def refused(row):
        with wishing(conn):
            (result,) = wish(conn, "volume", [row])
        assert conn.execute("SELECT count(*) FROM diskengine.lvol WHERE size_bytes <> %s", [2 * MIB]).fetchone() == (0,)
        return result["outcome"], result["reason"]

    assert refused(new(replica(1), replica(2))) == ("refused", "node storage-1 would have 2 replicas of the volume")
    conn.execute("UPDATE diskengine.disk SET state = 'FAULTY' WHERE id = 2")
    conn.execute("UPDATE diskengine.node SET state = 'cordoned' WHERE name = 'storage-3'")
    for disk, said in ((2, "the disk is FAULTY, the node active"), (5, "the disk is UP, the node cordoned")):
        outcome, reason = refused(new(replica(disk)))
        assert outcome == "refused" and said in reason
    with pytest.raises(psycopg.errors.CheckViolation, match="there is not so much room on disk 1 of node storage-1"):
        refused(new(replica(1, 1025 * GIB)))
    with wishing(conn):
        (made,) = wish(conn, "volume", [new(replica(1, 2 * MIB))])
    assert made["outcome"] == "changed"
    there = {"id": made["id"], "revision": 1}
    (lvol,) = conn.execute("SELECT id FROM diskengine.lvol").fetchone()
    assert refused({**there, "revision": 7, "size_bytes": 1}) == ("stale", "what is wanted changed since it was read")
    assert refused({**there, "lvols": [{"id": lvol, "revision": 7, "size_bytes": GIB}]}) == (
        "stale",
        "what is wanted of a replica changed since it was read",
    )
    conn.execute("INSERT INTO diskengine.mapping (volume_id, node) VALUES (%s, %s)", [made["id"], COMPUTE])
    assert refused({**there, "state": "GONE"}) == (
        "refused",
        "mapping 1 on compute-1 is ASSIGNED; detach it first",
    )


def test_a_login_for_each_purpose(desk, dsn, conn, postgres):
    """The role of the collection makes both; operators cannot record, convergence cannot wish."""
    logins = {"database_login_role": "converger", "database_operator_role": "wisher"}
    role = {"name": "excloud.diskengine.database", "vars": {"database_dsn": dsn, **logins}}
    role["vars"] |= {"database_login_password": "one", "database_operator_password": "two"}
    plays = [{"name": "Twice", "hosts": "localhost", "gather_facts": False, "roles": [role]}] * 2
    try:
        done = run_playbook(plays)
        assert done.rc == 0, done.output
        assert [result.get("role_changes") for result in done.results("Make the login role of operators")] == [
            ["create role", "set password", "grant privileges"],
            [],
        ]
        as_wisher = {"dsn": dsn.replace("user=postgres", "user=wisher"), "password": "two"}
        as_converger = {"dsn": dsn.replace("user=postgres", "user=converger"), "password": "one"}
        state = {"rows": [{"kind": "lvol", "id": 1, "from": "CREATING", "to": "UP"}]}
        made, mapped, recorded, wished, assigned = desk.wish(
            ("volume", {"name": "a", "size": "1GiB", **as_wisher}),
            ("volume_mapping", {"volume": "a", "node": COMPUTE, **as_wisher}),
            ("record_state", {**state, **as_wisher}),
            ("volume", {"name": "b", "size": "1GiB", **as_converger}),
            ("volume_mapping", {"volume": "a", "node": COMPUTE, "state": "absent", **as_converger}),
        )
        assert made["changed"] and mapped["changed"]
        for result in (recorded, wished, assigned):
            assert "a privilege is missing" in result["msg"]
    finally:
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute("DROP OWNED BY converger, wisher")
            admin.execute("DROP ROLE converger; DROP ROLE wisher")


def test_from_wishes_to_a_disk_of_a_vm_and_back(make_fleet, dsn, conn):
    """Created and mapped, grown, unmapped and deleted by tasks and site.yml; at the end nothing is left."""
    fleet = make_fleet(1)
    desk = Desk(dsn, conn)
    conn.execute("UPDATE diskengine.mapping SET state = 'DETACHING'")
    conn.execute("UPDATE diskengine.mapping SET state = 'DETACHED'")
    conn.execute("UPDATE diskengine.lvol SET state = 'DELETING'")
    conn.execute("DELETE FROM diskengine.lvol")
    assert desk.table() == [[], [], []]
    made, mapped = desk.wish(volume("a", size="11MiB"), mapping("a", vm="db"))
    assert made["changed"] and mapped["changed"]
    done = fleet.site(times=2)
    assert done.rc == 0, done.output
    assert fleet.states() == ["ATTACHED"]
    fleet.check_served()
    again = desk.wish(volume("a", size="11MiB"), mapping("a", vm="db"))
    assert [result["changed"] for result in again] == [False, False]
    fleet.estate.volumes[:] = [made["results"][0]["id"]]
    desk.wish(volume("a", size="23MiB"))
    done = fleet.site(times=2)
    assert done.rc == 0, done.output
    assert [row["state"] for row in fleet.rows("v_lvol")] == ["UP", "UP"]
    fleet.until(lambda: fleet.volume_mib() == 23)
    unmapped, too_early = desk.wish(mapping("a", state="absent"), volume("a", state="absent"))
    assert unmapped["changed"] and "it is still being detached on compute-1" in too_early["msg"]
    assert fleet.site().rc == 0
    assert fleet.states() == ["DETACHED"]
    (going,) = desk.wish(volume("a", state="absent"))
    assert going["results"][0]["state"] == "DELETING"
    assert fleet.site().rc == 0
    assert desk.table() == [[], [], []]
    assert not fleet.compute.call("bdev_raid_get_bdevs", {"category": "all"})
    for name in ("storage-1", "storage-2"):
        assert not fleet.targets[name].call("bdev_lvol_get_lvols")
        (disk,) = [row for row in fleet.rows("v_disk") if row["node"] == name]
        assert disk["free_bytes"] == disk["total_bytes"]


def with_spare(make_fleet, conn):
    """A fleet of one volume, which a VM has, whose first storage node has a second disk with nothing on it."""
    fleet = make_fleet(1)
    store = fleet.targets["storage-1"].add_lvstore("lvs-1", 256 * MIB)
    size, free = (store[key] * store["cluster_size"] for key in ("total_data_clusters", "free_clusters"))
    conn.execute("INSERT INTO diskengine.disk (node, bdf, serial) VALUES ('storage-1', '0000:77:00.0', 'spare')")
    set_lvstores(conn, {"spare": {"name": "lvs-1", "uuid": store["uuid"], "total_bytes": size, "free_bytes": free}})
    conn.execute(
        "INSERT INTO diskengine.disk_listener SELECT d.id, l.position, l.trtype, l.traddr, l.trsvcid "
        "FROM diskengine.disk_listener AS l, diskengine.disk AS d WHERE l.disk_id = 1 AND d.serial = 'spare'"
    )
    assert fleet.site().rc == 0
    return fleet


def check_replaced(fleet):
    """The spare disk has what the first one had, under a mirror of two legs."""
    disks = {row["serial"]: row["state"] for row in fleet.rows("v_disk")}
    assert disks == {"storage-1-disk-0": "RETIRED", "storage-2-disk-0": "UP", "spare": "UP"}
    rows = fleet.rows("v_lvol")
    assert [(row["disk_id"], row["state"]) for row in rows] == [(2, "UP"), (3, "UP")]
    (lvol,) = fleet.targets["storage-1"].call("bdev_lvol_get_lvols")
    assert lvol["alias"] == f"lvs-1/{rows[1]['id']}"
    assert fleet.states() == ["ATTACHED"]
    fleet.check_served()


def test_a_disk_is_replaced_by_a_playbook(make_fleet, dsn, conn):
    """A second disk of the node takes over under the mirror of a VM; the second run finds nothing to do."""
    fleet = with_spare(make_fleet, conn)
    options = {"replace_disk_serial": "storage-1-disk-0", "replace_disk_dsn": dsn}
    before = conn.execute("SELECT * FROM diskengine.lvol ORDER BY id").fetchall()
    preview = fleet.run("replace_disk", extra_vars=options, check=True)
    assert preview.rc == 0 and "disk 3 of storage-1, the emptiest disk that can take it" in preview.output
    assert conn.execute("SELECT * FROM diskengine.lvol ORDER BY id").fetchall() == before
    done = fleet.run("replace_disk", times=2, extra_vars=options)
    assert done.rc == 0, done.output
    check_replaced(fleet)


def test_a_dead_disk_is_replaced_by_a_second_run(make_fleet, dsn, conn):
    """The first run is killed when the mirror takes the new leg; the second one ends what it began."""
    fleet = with_spare(make_fleet, conn)
    fleet.targets["storage-1"].call("bdev_aio_delete", {"name": "disk-lvs-0"})
    fleet.until(lambda: fleet.operational_legs() == 1)
    options = {"replace_disk_serial": "storage-1-disk-0", "replace_disk_dsn": dsn, "replace_disk_lost": True}
    short = {kind: {"lease": 1} for kind in ("storage", "compute")}

    def kill(_site, request):
        for pid in playbook_of(request["pid"]):
            os.kill(pid, signal.SIGKILL)

    killed = at(SimpleNamespace(target=fleet.compute), "bdev_raid_add_base_bdev", kill)
    cut = fleet.run("replace_disk", kinds=short, extra_vars=options)
    assert killed and cut.rc == -signal.SIGKILL, cut.output
    done = fleet.run("replace_disk", kinds=short, extra_vars=options)
    assert done.rc == 0, done.output
    check_replaced(fleet)


def test_a_node_that_is_lost_for_good_is_given_up(make_fleet, dsn, conn):
    """It is not reached and in no run; what was on it comes to another node, and its rows go."""
    fleet = make_fleet(1, storage=3)
    assert fleet.site().rc == 0
    lost = fleet.targets["storage-1"]
    for nqn in lost.exports():
        lost.call("nvmf_delete_subsystem", {"nqn": nqn})
    fleet.until(lambda: fleet.operational_legs() == 1)
    options = {"replace_disk_serial": "storage-1-disk-0", "replace_disk_dsn": dsn, "replace_disk_lost": True}
    done = fleet.run("replace_disk", extra_vars=options, args=["--limit", "!storage-1"])
    assert done.rc == 0, done.output
    assert [(row["node"], row["state"]) for row in fleet.rows("v_lvol")] == [("storage-2", "UP"), ("storage-3", "UP")]
    assert fleet.states() == ["ATTACHED"]
    fleet.check_served()
    desk = Desk(dsn, conn)
    desk.wish(
        ("disk", {"serial": "storage-1-disk-0", "state": "absent"}),
        ("node", {"name": "storage-1", "cordoned": True}),
        ("node", {"name": "storage-1", "state": "absent"}),
    )
    assert conn.execute("SELECT name FROM diskengine.v_node WHERE name = 'storage-1'").fetchall() == []
