# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of disks, lvols and snapshots by converge.yml: each transition of convergence, and what stops it."""

from __future__ import annotations

import pytest
from support.targets import is_real

DRIVES = ("0000:01:00.0", "0000:02:00.0")
needs_drives = pytest.mark.skipif(is_real(), reason="needs drives; the scenario host has them for the real program")


def check_then_run(site, **options):
    """Preview, run and run again; returns the run. The preview sends nothing, the second run has nothing to send."""
    site.clear()
    check = site.converge(check=True, **options)
    assert not site.mutations(), check.output
    run = site.converge(times=2, **options)
    assert run.rc == check.rc == 0, run.output
    first, again = (result for result in run.results("Converge the SPDK target"))
    preview = check.result("Converge the SPDK target")
    assert not again["changed"]
    assert preview["changed"] == first["changed"]
    sent = [(call["method"], call["params"]) for call in site.mutations()]
    foretold = [(call["method"], call["params"]) for call in preview["actions"]]
    assert sorted(map(str, sent)) == sorted(map(str, foretold))
    return run


def wish(site, table, number, state, **fields):
    changes = ", ".join(f"{name} = %s" for name in ("state", *fields))
    site.conn.execute(f"UPDATE diskengine.{table} SET {changes} WHERE id = %s", [state, *fields.values(), number])


def rows_of(site, view):
    cursor = site.conn.execute(f"SELECT * FROM diskengine.{view} ORDER BY id")
    return [dict(zip([column.name for column in cursor.description], row)) for row in cursor.fetchall()]


def free_bytes(site):
    """What each lvstore has free, as the target says."""
    return {
        store["uuid"]: store["free_clusters"] * store["cluster_size"]
        for store in site.target.call("bdev_lvol_get_lvstores")
    }


def recorded_free_bytes(site):
    return {row["lvstore_uuid"]: row["free_bytes"] for row in rows_of(site, "v_disk")}


def test_lvols_and_snapshots_come_and_go(make_site):
    """CREATING to UP to DELETING to gone for both, and the free space follows."""
    site = make_site(lvols=4, thin=False)
    check_then_run(site)
    site.check_served()
    first, second, *_others = site.estate.lvols
    assert recorded_free_bytes(site) == free_bytes(site)
    for number in (1, 2):
        site.conn.execute("INSERT INTO diskengine.snapshot (id, lvol_id) VALUES (%s, %s)", [number, first])
    run = check_then_run(site)
    snapshots = rows_of(site, "v_snapshot")
    alias = {lvol["alias"]: lvol for lvol in site.target.call("bdev_lvol_get_lvols")}
    for row in snapshots:
        lvol = alias[f"{row['lvstore_name']}/snap_{row['id']}"]
        assert (row["state"], row["uuid"], lvol["is_snapshot"]) == ("UP", lvol["uuid"], True)
    wish(site, "snapshot", 1, "DELETING")
    wish(site, "lvol", second, "DELETING")
    run = check_then_run(site)
    methods = [call["method"] for call in site.mutations()]
    assert methods.index("nvmf_delete_subsystem") < len(methods) - 1
    assert sorted(methods) == ["bdev_lvol_delete", "bdev_lvol_delete", "nvmf_delete_subsystem"]
    assert [row["id"] for row in rows_of(site, "v_snapshot")] == [2]
    assert second not in [row["id"] for row in rows_of(site, "v_lvol")], run.output
    assert recorded_free_bytes(site) == free_bytes(site)
    wish(site, "lvol", first, "DELETING")
    check_then_run(site)
    (left,) = rows_of(site, "v_snapshot")
    assert (left["id"], left["lvol_id"], left["state"]) == (2, None, "UP")
    wish(site, "snapshot", 2, "DELETING")
    check_then_run(site)
    assert rows_of(site, "v_snapshot") == []
    site.check_served()


def test_what_is_used_is_deferred_and_says_by_what(make_site):
    """A clone, a vhost controller, another UUID and a lost lvstore stop a delete; the others go on."""
    site = make_site(lvols=5)
    assert site.converge().rc == 0
    served, strange, free, cloned, last = site.estate.lvols
    site.conn.execute("INSERT INTO diskengine.snapshot (id, lvol_id) VALUES (1, %s)", [cloned])
    assert site.converge().rc == 0
    rows = {row["id"]: row for row in site.rows()}
    store = rows[served]["lvstore_name"]
    site.target.call("bdev_lvol_clone", {"snapshot_name": f"{store}/snap_1", "clone_name": "by-hand"})
    site.target.call("nvmf_delete_subsystem", {"nqn": rows[served]["nqn"]})
    site.target.call("vhost_create_blk_controller", {"ctrlr": "vhost9", "dev_name": f"{store}/{served}"})
    site.target.call("nvmf_delete_subsystem", {"nqn": rows[strange]["nqn"]})
    site.target.call("bdev_lvol_delete", {"name": f"{store}/{strange}"})
    site.target.call("bdev_lvol_create", {"lvs_name": store, "lvol_name": str(strange), "size_in_mib": 12})
    for number in (served, strange, free):
        wish(site, "lvol", number, "DELETING")
    wish(site, "snapshot", 1, "DELETING")
    done = site.converge()
    message = done.failure
    assert done.rc == 2
    assert f"lvol {store}/{served}: it is served by the vhost controller vhost9; take that away first" in message
    assert f"wanted {rows[strange]['uuid']}; it is left alone" in message
    assert f"snapshot {store}/snap_1: {cloned}, by-hand are clones of it" in message
    states = {row["id"]: row["state"] for row in site.rows()}
    assert states == {served: "DELETING", strange: "DELETING", cloned: "UP", last: "UP"}
    assert rows_of(site, "v_snapshot")[0]["state"] == "DELETING"


def test_not_found_ends_a_delete_only_while_the_lvstore_is_loaded(make_site):
    site = make_site(lvols=2)
    assert site.converge().rc == 0
    first, second = site.estate.lvols
    site.target.call("nvmf_delete_subsystem", {"nqn": site.rows()[0]["nqn"]})
    site.target.call("bdev_lvol_delete", {"name": f"{site.rows()[0]['lvstore_name']}/{first}"})
    site.conn.execute("INSERT INTO diskengine.snapshot (id, lvol_id, state) VALUES (1, %s, 'CREATING')", [second])
    for table, number in (("lvol", first), ("lvol", second), ("snapshot", 1)):
        wish(site, table, number, "DELETING")
    disk = site.target.call("bdev_lvol_get_lvstores")[0]["base_bdev"]
    site.target.call("bdev_aio_delete", {"name": disk})
    lost = site.converge()
    assert lost.rc == 2 and "is not loaded on this target (loaded: none)" in lost.output
    assert [row["state"] for row in site.rows()] == ["DELETING", "DELETING"]
    assert rows_of(site, "v_snapshot")[0]["state"] == "DELETING"
    site.target.readd_disk(disk)
    assert site.converge().rc == 0
    assert site.rows() == rows_of(site, "v_snapshot") == []


@needs_drives
def test_new_disks_come_up_with_all_that_is_on_them(make_drive_site):
    """From a blank drive to exported lvols in one run, and back after the target was restarted."""
    site = make_drive_site(DRIVES, lvols=4, thin=False, lvol_bytes=12 << 20)
    check = site.converge(check=True, diff=True)
    assert check.rc == 0, check.output
    assert not site.mutations()
    foretold = [call["method"] for call in check.result("Converge the SPDK target")["actions"]]
    assert sorted(foretold) == ["bdev_nvme_attach_controller"] * 2 + ["nvmf_create_transport"]
    run = site.converge(times=2)
    assert run.rc == 0, run.output
    assert [result["changed"] for result in run.results("Converge the SPDK target")] == [True, False]
    site.check_served()
    disks = rows_of(site, "v_disk")
    assert [(row["state"], row["bdf"], row["lvstore_name"]) for row in disks] == [
        ("UP", bdf, f"lvs-{row['id']}") for bdf, row in zip(DRIVES, disks)
    ]
    assert recorded_free_bytes(site) == free_bytes(site)
    before = site.target.exports()
    site.target.kill()
    site.target.start()
    site.clear()
    back = site.converge(times=2)
    assert back.rc == 0, back.output
    assert [result["changed"] for result in back.results("Converge the SPDK target")] == [True, False]
    assert site.target.exports() == before
    assert not {"bdev_lvol_create", "bdev_lvol_create_lvstore"} & {call["method"] for call in site.mutations()}


@needs_drives
def test_drives_that_are_not_as_the_database_says(make_drive_site):
    """Not blank, swapped, without the lvstore that it had: each is named, and the disk beside it comes up."""
    bdfs = [f"0000:0{number}:00.0" for number in range(1, 6)]
    site = make_drive_site(bdfs, lvols=0)
    marked, swapped, bare, imported, fine = site.estate.disks.values()
    site.target.control("scribble", drive=bdfs[0], data="00" * 1080 + "53ef")
    site.conn.execute("UPDATE diskengine.disk SET serial = 'ANOTHER' WHERE id = %s", [swapped])
    lost = "00000000-0000-4000-8000-000000000000"
    site.conn.execute("UPDATE diskengine.disk SET lvstore_uuid = %s, state = 'UP' WHERE id = %s", [lost, bare])
    site.target.call("bdev_nvme_attach_controller", {"name": "byhand", "trtype": "PCIe", "traddr": bdfs[3]})
    uuid = site.target.call("bdev_lvol_create_lvstore", {"bdev_name": "byhandn1", "lvs_name": "older"})
    done = site.converge()
    message = done.failure
    assert done.rc == 2 and "Traceback" not in done.output
    rows = {row["id"]: row for row in rows_of(site, "v_disk")}
    assert f"the drive at {bdfs[0]} holds an ext2, ext3 or ext4 file system; it is overwritten only with" in message
    assert f"at {bdfs[1]} there is a drive with serial" in message
    assert f"its lvstore {lost} is not on it" in message
    states = [rows[disk]["state"] for disk in (marked, swapped, bare, imported, fine)]
    assert states == ["NEW", "NEW", "UP", "UP", "UP"]
    assert (rows[imported]["lvstore_name"], rows[imported]["lvstore_uuid"]) == ("older", uuid)
    assert site.converge().rc == 2


@needs_drives
def test_a_target_that_waits_is_started_and_gets_everything_back(make_drive_site):
    """With auto-examine off it looks at its own drives only. No saved configuration is needed."""
    site = make_drive_site(DRIVES[:1], options=["--wait-for-rpc"], lvols=2, lvol_bytes=12 << 20)
    startup = {"storage_node_startup": {"bdev_set_options": {"bdev_auto_examine": False}}}
    check = site.converge(check=True, host_vars=startup)
    assert check.rc == 0 and not site.mutations(), check.output
    for _start in range(2):
        done = site.converge(times=2, host_vars=startup)
        assert done.rc == 0, done.output
        assert [result["changed"] for result in done.results("Converge the SPDK target")] == [True, False]
        site.check_served()
        assert "bdev_examine" in [call["method"] for call in site.mutations()]
        site.clear()
        site.target.kill()
        site.target.start()
