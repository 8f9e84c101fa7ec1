# SPDX-License-Identifier: GPL-3.0-or-later
"""Two storage nodes and a compute node: from rows to vhost-blk disks of VMs and back, by site.yml."""

from __future__ import annotations

import json
import os
import signal

import pytest
from support.secrets import dhchap

MIB = 1 << 20
TASK = "Converge the SPDK target"


def foretold(check):
    """The calls that a preview shows, of all nodes."""
    return [call for result in check.results(TASK) for call in result.get("actions", ())]


def in_order(calls):
    """Calls that can be compared: those to different objects may come in any order."""
    return sorted(json.dumps([call["method"], call["params"]], sort_keys=True) for call in calls)


def test_from_rows_to_attached_and_back_to_nothing(make_fleet):
    fleet = make_fleet()
    check = fleet.site(check=True)
    assert check.rc == 0 and not fleet.sent(), check.output
    run = fleet.site(times=2)
    assert run.rc == 0, run.output
    assert in_order(fleet.sent()) == in_order(foretold(check))
    assert fleet.states() == ["ATTACHED"] * 2
    assert [result["changed"] for result in run.results(TASK)] == [True] * 3 + [False] * 3
    fleet.check_served()
    first, second = fleet.estate.mappings
    fleet.wish("DETACHING", first)
    fleet.clear()
    check = fleet.site(check=True)
    assert check.rc == 0 and not fleet.sent(), check.output
    run = fleet.site(times=2)
    assert run.rc == 0, run.output
    assert in_order(fleet.sent()) == in_order(foretold(check))
    assert [result["changed"] for result in run.results(TASK)][3:] == [False] * 3
    assert fleet.states() == ["DETACHED", "ATTACHED"]
    fleet.check_served()
    fleet.wish("DETACHING", second)
    assert fleet.site().rc == 0
    fleet.conn.execute("DELETE FROM diskengine.mapping")
    fleet.conn.execute("UPDATE diskengine.lvol SET state = 'DELETING'")
    assert fleet.site().rc == 0
    assert fleet.rows("v_lvol") == []
    for name in ("storage-1", "storage-2"):
        assert fleet.targets[name].exports() == {} and not fleet.targets[name].call("bdev_lvol_get_lvols")
    assert not fleet.compute.call("bdev_nvme_get_controllers")


def test_all_comes_back_after_a_power_cut(make_fleet):
    """Every target dies; one run makes the exports, mirrors and the same vhost controllers again, and loses no leg."""
    fleet = make_fleet(3)
    assert fleet.site().rc == 0
    sockets = fleet.sockets()
    fleet.power_cut()
    fleet.clear()
    run = fleet.site(times=2)
    assert run.rc == 0, run.output
    assert [result["changed"] for result in run.results(TASK)] == [True] * 3 + [False] * 3
    assert not {"bdev_lvol_create", "bdev_raid_create"} & {call["method"] for call in fleet.sent()}
    assert fleet.sockets() == sockets and fleet.states() == ["ATTACHED"] * 3
    fleet.check_served()


def test_a_vm_that_is_connected_keeps_its_disk(make_fleet):
    """The row waits and the run says who is connected; the other mapping goes. When the VM is gone, so is its disk."""
    fleet = make_fleet()
    assert fleet.site().rc == 0
    connected, free = fleet.estate.mappings
    client = fleet.connect(connected)
    fleet.wish("DETACHING", connected, free)
    waits = fleet.site()
    assert waits.rc == 2
    assert "a client is connected (session" in waits.failure
    assert fleet.states() == ["DETACHING", "DETACHED"]
    assert [item["ctrlr"] for item in fleet.compute.call("vhost_get_controllers")] == [f"vhost{connected}"]
    assert len(fleet.compute.call("bdev_raid_get_bdevs", {"category": "online"})) == 1
    client.close()
    fleet.until_no_session(connected)
    assert fleet.site().rc == 0
    assert fleet.states() == ["DETACHED"] * 2
    assert not fleet.compute.call("vhost_get_controllers") and not fleet.compute.call("bdev_nvme_get_controllers")


def test_a_volume_that_is_not_whole_waits_and_the_others_are_served(make_fleet):
    fleet = make_fleet()
    lame, whole = fleet.estate.volumes
    fleet.conn.execute("UPDATE diskengine.volume SET size_bytes = size_bytes + 1 WHERE id = %s", [lame])
    run = fleet.site()
    message = run.failure
    assert run.rc == 2 and "Traceback" not in run.output
    assert f"volume {lame} has {11 * MIB + 1} bytes" in message and "a leg needs 1 MiB more" in message
    assert fleet.states() == ["ASSIGNED", "ATTACHED"]
    fleet.check_served()


def test_a_leg_that_was_lost_comes_back(make_fleet):
    """A storage node takes an export away: the mirror serves on with one leg, and is whole again when it is back."""
    fleet = make_fleet(1)
    assert fleet.site().rc == 0
    row = fleet.rows("v_lvol")[0]
    storage = fleet.targets[row["node"]]
    storage.call("nvmf_delete_subsystem", {"nqn": row["nqn"]})
    fleet.until(lambda: fleet.operational_legs() == 1)
    done = fleet.site()
    assert fleet.states() == ["ATTACHED"], done.output
    fleet.until(lambda: fleet.site().rc == 0 and fleet.operational_legs() == 2)
    fleet.check_served()


def test_hosts_authenticate_with_keys(make_fleet, tmp_path):
    """Storage nodes let in who has the key, compute nodes have it, and it is shown nowhere."""
    fleet = make_fleet(1)
    secret = dhchap("fleet")
    options = {
        f"{kind}_vars": {"keys": [{"name": "fleet", "path": str(tmp_path / kind), "key": secret}]}
        for kind in ("storage", "compute")
    }
    options["storage_vars"]["host_keys"] = [{"dhchap_key": "fleet"}]
    options["compute_vars"]["controller_options"] = {"dhchap_key": "fleet"}
    check = fleet.site(check=True, diff=True, **options)
    assert check.rc == 0 and not fleet.sent(), check.output
    run = fleet.site(times=2, **options)
    assert run.rc == 0, run.output
    assert [result["changed"] for result in run.results(TASK)] == [True] * 3 + [False] * 3
    assert fleet.states() == ["ATTACHED"]
    assert secret not in check.output + run.output + repr(check.events) + repr(run.events)
    fleet.check_served()


def test_a_volume_grows_under_its_vm(make_fleet):
    """Both legs grow by zeroed clusters, the mirror follows, and the vhost controller stays as it is."""
    fleet = make_fleet(1)
    assert fleet.site().rc == 0
    assert fleet.volume_mib() == 11
    fleet.conn.execute("UPDATE diskengine.volume SET size_bytes = %s", [23 * MIB])
    fleet.conn.execute("UPDATE diskengine.lvol SET state = 'RESIZING', size_bytes = %s", [24 * MIB])
    fleet.clear()
    run = fleet.site(times=2)
    assert run.rc == 0, run.output
    assert [call["method"] for call in fleet.compute.recorder.mutations] == []
    assert [row["state"] for row in fleet.rows("v_lvol")] == ["UP", "UP"]
    fleet.until(lambda: fleet.volume_mib() == 23)
    assert fleet.states() == ["ATTACHED"]
    fleet.check_served()


CALLS = {  # each of a mapping's; both of two alike
    "there": [
        ("bdev_nvme_attach_controller", 1),
        ("bdev_nvme_attach_controller", 2),
        ("bdev_raid_create", 1),
        ("bdev_set_qos_limit", 1),
        ("vhost_create_blk_controller", 1),
    ],
    "back": [
        ("vhost_delete_controller", 1),
        ("bdev_raid_delete", 1),
        ("bdev_nvme_detach_controller", 1),
        ("bdev_nvme_detach_controller", 2),
    ],
}


def cut(recorder, victim, method, occurrence):
    """Kill the module at a call, or lose its answer; returns the list of the requests at which that was done."""
    done = []

    def before_answer(number):
        earlier = [request["method"] for request in recorder.requests[: number - 1]]
        request = recorder.requests[number - 1]
        if number and not done and request["method"] == method and earlier.count(method) == occurrence - 1:
            done.append(request)
            if victim == "module":
                os.kill(request["pid"], signal.SIGKILL)
            raise ConnectionResetError

    recorder.clear()
    recorder.before_answer = before_answer
    return done


@pytest.mark.parametrize("victim", ["module", "answer"])
def test_a_run_that_was_cut_off(make_fleet, victim):
    """At every call, each on a node of its own, in both directions; the next run ends as any other."""
    fleet = make_fleet(5, computes=5)
    fleet.conn.execute("UPDATE diskengine.volume SET rw_ios_per_sec = 2000")
    recorders = [target.recorder for name, target in fleet.targets.items() if name.startswith("compute-")]
    for way, state in (("there", "ATTACHED"), ("back", "DETACHED")):
        if way == "back":
            fleet.wish("DETACHING", *fleet.estate.mappings)
        done = [cut(recorder, victim, *call) for recorder, call in zip(recorders, CALLS[way])]
        run = fleet.site()
        assert [len(requests) for requests in done] == [1] * len(CALLS[way])
        assert (run.rc == 0) == (victim == "answer"), run.output
        for recorder in recorders:
            recorder.before_answer = lambda number: None
        again = fleet.site(times=2)
        assert again.rc == 0, again.output
        assert [result["changed"] for result in again.results(TASK)][len(fleet.targets) :] == [False] * 7
        assert fleet.states() == [state] * 5
        fleet.check_served()
