# SPDX-License-Identifier: GPL-3.0-or-later
"""Legs of a mirror are replaced by other replicas, one at a time, by site.yml and rows alone."""

from __future__ import annotations

import os
import signal

MIB = 1 << 20
TASK = "Converge the SPDK target"
RECORD = "Record the mappings that are served, those that are gone, and the legs of the mirrors"


def lvols(fleet):
    """The names of all lvols by node, as the targets have them."""
    names = sorted(name for name in fleet.targets if name.startswith("storage"))
    return {
        name: sorted(int(each["name"]) for each in fleet.targets[name].call("bdev_lvol_get_lvols")) for name in names
    }


def converge_until(fleet, condition, runs=12):
    """Run site.yml until it is so; never is there no leg."""
    for _run in range(runs):
        run = fleet.site()
        assert run.rc == 0, run.output
        assert fleet.operational_legs() >= 1
        if condition():
            return run
    raise AssertionError(f"not after {runs} runs: {fleet.legs()}")


def test_both_legs_are_replaced_under_a_connected_vm(make_fleet):
    """Two replicas of a mapped volume that are to go stay until others are in sync, and the VM keeps its disk."""
    fleet = make_fleet(1, storage=3)
    assert fleet.site().rc == 0
    first, second = fleet.estate.lvols
    assert fleet.legs() == {first: "UP IN_SYNC", second: "UP IN_SYNC"}
    client = fleet.connect(fleet.estate.mappings[0])
    fleet.give_up(first, second)
    fleet.clear()
    run = fleet.site()
    assert run.rc == 0 and not fleet.sent(), run.output
    assert f"lvol {first} is DELETING and kept for now: mapping" in run.output
    assert lvols(fleet) == {"storage-1": [first], "storage-2": [second], "storage-3": []}

    third, fourth = fleet.add_replica("storage-3"), fleet.add_replica("storage-1")
    run = fleet.site()
    assert run.rc == 0, run.output
    legs = fleet.legs()
    assert legs[third] in ("UP JOINING", "UP IN_SYNC") and legs[fourth] == "UP CONNECTED", legs
    assert sorted(legs[each] for each in (first, second)) == ["DELETING CONNECTED", "DELETING IN_SYNC"]
    converge_until(fleet, lambda: set(fleet.legs()) == {third, fourth})
    converge_until(fleet, lambda: fleet.legs() == {third: "UP IN_SYNC", fourth: "UP IN_SYNC"})
    assert lvols(fleet) == {"storage-1": [fourth], "storage-2": [], "storage-3": [third]}
    run = fleet.site()
    assert [result["changed"] for result in run.results(TASK) + run.results(RECORD)] == [False] * 5
    client.close()
    fleet.check_served()


def test_a_third_replica_is_connected_and_waits(make_fleet):
    """It gets its place when one of the others is to go. Too large a one is refused, and the old leg stays."""
    fleet = make_fleet(1, storage=3)
    assert fleet.site().rc == 0
    first, second = fleet.estate.lvols
    large = fleet.add_replica("storage-3", 16 * MIB)
    run = fleet.site()
    assert run.rc == 0 and f"lvol {large} is connected and waits for a place" in run.output, run.output
    assert fleet.legs()[large] == "UP CONNECTED"
    assert len(fleet.compute.call("bdev_nvme_get_controllers")) == 3
    fleet.give_up(first)
    run = fleet.site()
    assert run.rc == 2 and "the legs of this mirror have 12 MiB" in run.output, run.output
    assert fleet.operational_legs() == 2 and first in fleet.legs()
    fleet.give_up(large)
    third = fleet.add_replica("storage-3")
    for _run in range(6):
        fleet.site()
        fleet.until(lambda: fleet.operational_legs() == 2)
    assert fleet.legs() == {second: "UP IN_SYNC", third: "UP IN_SYNC"}
    fleet.check_served()


def test_a_leg_that_is_dead_is_replaced_and_a_run_that_was_cut_off_goes_on(make_fleet):
    """A storage node is gone for good; the run that replaces its leg dies before it records anything."""
    fleet = make_fleet(1, storage=3)
    assert fleet.site().rc == 0
    first, second = fleet.estate.lvols
    (dead,) = [row["node"] for row in fleet.rows("v_lvol") if row["id"] == first]
    export = next(row["nqn"] for row in fleet.rows("v_lvol") if row["id"] == first)
    fleet.targets[dead].call("nvmf_delete_subsystem", {"nqn": export})
    fleet.until(lambda: fleet.operational_legs() == 1)
    fleet.conn.execute("UPDATE diskengine.disk SET state = 'RETIRED' WHERE node = %s", [dead])
    fleet.give_up(first)
    third = fleet.add_replica("storage-3")
    recorder, killed = fleet.compute.recorder, []

    def die(number):
        request = recorder.requests[number - 1]
        if number and not killed and request["method"] == "bdev_raid_add_base_bdev":
            killed.append(request)
            os.kill(request["pid"], signal.SIGKILL)

    recorder.before_answer = die
    assert fleet.site().rc != 0 and killed
    recorder.before_answer = lambda number: None
    assert fleet.legs()[third] == "UP JOINING"
    for _run in range(4):
        fleet.site()
        fleet.until(lambda: fleet.operational_legs() == 2)
    legs = fleet.legs()
    assert (legs[second], legs[third]) == ("UP IN_SYNC", "UP IN_SYNC")
    assert legs.get(first) in (None, "DELETING NONE")
    assert fleet.states() == ["ATTACHED"]
