# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that go, are replaced, and come back elsewhere; what is left of them is told, and removed when that is said."""

from __future__ import annotations

import pytest
from support.estate import set_lvstores
from support.targets import is_real

SPDK_TASK = "Converge the SPDK target"
STALE = {"storage_node_remove": [{"kind": "subsystem", "class": "stale"}]}
FIRST = {"storage_node_verify_first": True}
needs_drives = pytest.mark.skipif(is_real(), reason="needs drives; the scenario host has them for the real program")


def drift(done, number=0):
    """What the run found before it changed anything."""
    return done.results("Keep the differences")[number]["ansible_facts"]["storage_node_drift"]


def kinds(found):
    return sorted((entry["class"], entry["kind"], entry["object"]) for entry in found if entry["class"] != "counter")


def test_a_disk_is_gone_and_replaced(make_site):
    """The other disk is served all the time; the exports of the old one stay until their class is removed."""
    site = make_site(disks_per_node=2, lvols=4)
    assert site.converge().rc == 0
    gone, kept = (site.estate.disks[f"storage-1-disk-{number}"] for number in (0, 1))
    lost, served = ([row for row in site.rows() if row["disk_id"] == disk] for disk in (gone, kept))
    site.target.call("bdev_aio_delete", {"name": "disk-lvs-0"})
    site.target.call("nvmf_delete_subsystem", {"nqn": served[0]["nqn"]})
    partly = site.converge()
    assert partly.rc == 2 and f"/{lost[0]['id']} on this target" in partly.output
    assert served[0]["nqn"] in site.target.exports()

    # Another drive with another serial takes its place, and volumes are placed on it.
    site.conn.execute("UPDATE diskengine.disk SET state = 'RETIRED' WHERE id = %s", [gone])
    ((disk,),) = site.conn.execute(
        "INSERT INTO diskengine.disk (node, bdf, serial) SELECT node, bdf, 'another' FROM diskengine.disk "
        "WHERE id = %s RETURNING id",
        [gone],
    )
    site.conn.execute(
        "INSERT INTO diskengine.disk_listener (disk_id, trtype, traddr, trsvcid) "
        "SELECT %s, trtype, traddr, trsvcid FROM diskengine.disk_listener WHERE disk_id = %s",
        [disk, gone],
    )
    store = site.target.add_lvstore("lvs-new", 256 << 20)
    size = {"total_bytes": 1, "free_bytes": 1}
    set_lvstores(site.conn, {"another": {"name": "lvs-new", "uuid": store["uuid"], **size}})
    ((lvol,),) = site.conn.execute(
        "INSERT INTO diskengine.lvol (volume_id, disk_id, size_bytes) SELECT volume_id, %s, size_bytes "
        "FROM diskengine.lvol WHERE id = %s RETURNING id",
        [disk, lost[0]["id"]],
    )
    stranger = "nqn.2024-01.io.excloud:storage.storage-1.9.999"
    site.target.call("nvmf_create_subsystem", {"nqn": stranger})
    replaced = site.converge(host_vars=FIRST)
    assert replaced.rc == 0, replaced.output
    stale = sorted([stranger, *(row["nqn"] for row in lost)])
    assert kinds(drift(replaced)) == [("stale", "subsystem", nqn) for nqn in stale]
    causes = {entry["object"]: entry["cause"] for entry in drift(replaced)}
    assert causes[lost[0]["nqn"]] == f"its disk {gone} is RETIRED; it shows nothing"
    assert "it would belong to lvol 999; it shows nothing" in causes[stranger]
    assert set(stale) < set(site.target.exports())
    assert {row["id"]: row["state"] for row in site.rows()}[lvol] == "UP"

    site.clear()
    check = site.converge(check=True, host_vars=STALE)
    assert site.mutations() == []
    removed = site.converge(times=2, host_vars=STALE)
    assert (check.rc, removed.rc) == (0, 0), removed.output
    assert [result["changed"] for result in removed.results(SPDK_TASK)] == [True, False]
    methods = [(call["method"], call["params"]["nqn"]) for call in site.mutations()]
    assert sorted(methods) == [("nvmf_delete_subsystem", nqn) for nqn in stale]
    assert {call["params"]["nqn"] for call in check.result(SPDK_TASK)["actions"]} == set(stale)
    assert kinds(drift(removed, 1)) == []
    assert sorted(site.target.exports()) == sorted(row["nqn"] for row in site.rows() if row["disk_id"] != gone)


def test_a_stale_export_that_still_shows_its_lvol_goes_alone(make_site):
    """A disk can be RETIRED while it is there. Its exports go when that is said, its lvols stay and are no drift."""
    site = make_site(lvols=2)
    assert site.converge().rc == 0
    site.conn.execute("UPDATE diskengine.disk SET state = 'RETIRED'")
    site.clear()
    done = site.converge(times=2, host_vars=STALE)
    assert done.rc == 0, done.output
    assert {entry["cause"] for entry in drift(done)} == {
        f"its disk 1 is RETIRED; it shows lvs-0/{row['id']}" for row in site.rows()
    }
    assert [call["method"] for call in site.mutations()] == ["nvmf_delete_subsystem"] * 2
    assert drift(done, 1) == [] and len(site.target.call("bdev_lvol_get_lvols")) == 2


@needs_drives
def test_addresses_that_moved_are_found_by_serial(make_drive_site):
    """After a restart each drive is at the address of the other."""
    bdfs = ["0000:01:00.0", "0000:02:00.0"]
    site = make_drive_site(bdfs, lvols=2)
    assert site.converge().rc == 0
    site.check_served()
    before = site.target.exports()
    site.target.kill()
    swapped = "UPDATE diskengine.disk SET bdf = CASE bdf WHEN %s THEN %s ELSE %s END"
    site.conn.execute(swapped, [bdfs[0], bdfs[1], bdfs[0]])
    site.target.start()
    site.clear()
    back = site.converge(times=2)
    assert back.rc == 0, back.output
    assert [result["changed"] for result in back.results(SPDK_TASK)] == [True, False]
    assert site.target.exports() == before
    places = site.conn.execute("SELECT serial, bdf FROM diskengine.disk ORDER BY bdf").fetchall()
    assert places == [(site.target.control("drive_serial", drive=bdf)["ok"], bdf) for bdf in bdfs]


def test_what_differs_is_told_before_it_is_changed(make_site):
    """The first pass after a start: everything is missing, is told, and is there afterwards."""
    site = make_site(lvols=2)
    assert site.converge().rc == 0
    for row in site.rows():
        site.target.call("nvmf_delete_subsystem", {"nqn": row["nqn"]})
    site.clear()
    done = site.converge(times=2, host_vars=FIRST)
    assert done.rc == 0, done.output
    assert kinds(drift(done)) == [("missing", "subsystem", row["nqn"]) for row in site.rows()]
    assert kinds(drift(done, 1)) == []
    connections = [call["connection"] for call in site.target.recorder.requests]
    assert min(call["connection"] for call in site.mutations()) > connections[0]
    site.check_served()
