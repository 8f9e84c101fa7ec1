# SPDX-License-Identifier: GPL-3.0-or-later
"""Local drives: attach, look, lvstore, detach. On the simulator, because the real program needs a drive for it."""

from __future__ import annotations

import pytest
from support.ansible import play, run_playbook
from support.modules import refusals, three_steps
from support.targets import is_real

pytestmark = pytest.mark.skipif(is_real(), reason="needs drives; the scenario host has them for the real program")

BDF, OTHER = "0000:01:00.0", "0000:02:00.0"
ATTACH, DETACH, EXAMINE = "bdev_nvme_attach_controller", "bdev_nvme_detach_controller", "bdev_examine"
CREATE_STORE, CREATE = "bdev_lvol_create_lvstore", "bdev_lvol_create"
DRIVES = ["--nvme", f"{BDF}=1GiB,512", "--nvme", f"{OTHER}=1GiB,512"]
STORE = {"name": "lvs-7", "bdev": "nvme7n1"}
NQN = "nqn.2024-01.io.excloud:storage.test"


def node(**lists):
    return {"name": "Node", "excloud.diskengine.spdk_node": lists, "diff": True}


def test_attach_and_detach(make_target):
    target = make_target(DRIVES)
    both = [{"name": "nvme7", "traddr": BDF.upper()}, {"name": "nvme8", "traddr": OTHER}]
    absent = [{"name": name, "state": "absent"} for name in ("nvme7", "nvme8", "nvme9")]
    attach, _store, detach = three_steps(
        target,
        ("attach", "spdk_nvme_controller", {"controllers": both}, [ATTACH, ATTACH]),
        ("store", "spdk_lvstore", STORE, [CREATE_STORE]),
        ("detach", "spdk_nvme_controller", {"controllers": absent}, [DETACH, DETACH]),
    )
    assert [entry["bdevs"] for entry in attach["results"]] == [["nvme7n1"], ["nvme8n1"]]
    assert "the lvstore lvs-7 on nvme7n1 is closed" in detach["results"][0]["notes"][0]
    assert target.call("bdev_lvol_get_lvstores") == target.call("bdev_nvme_get_controllers") == []


def test_what_is_refused(make_target):
    target = make_target(DRIVES)
    target.call(ATTACH, {"name": "nvme7", "trtype": "PCIe", "traddr": BDF})
    target.call(CREATE_STORE, {"bdev_name": "nvme7n1", "lvs_name": "lvs-7"})
    target.call(CREATE, {"lvs_name": "lvs-7", "lvol_name": "1", "size_in_mib": 8})
    target.call("nvmf_create_subsystem", {"nqn": NQN})
    target.call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "lvs-7/1"}})
    cases = [
        ({"name": "nvme7", "traddr": OTHER}, f"attached to PCIe {BDF}, not to PCIe {OTHER}"),
        ({"name": "nvme9", "traddr": BDF}, f"the drive at {BDF} is attached already, as controller nvme7"),
        ({"name": "nvme9", "traddr": ""}, "give the address of its drive"),
        ({"name": "nvme9", "traddr": "eth0"}, "'eth0' is not a PCI address"),
        ({"name": "nvme/9", "traddr": OTHER}, "controller name 'nvme/9' is not usable"),
        ({"name": "nvme7", "state": "absent"}, f"lvs-7/1 is exported as namespace 1 of {NQN}; take that away first"),
    ]
    said = refusals(target, *[("spdk_nvme_controller", options) for options, _part in cases])
    for message, (_options, part) in zip(said, cases):
        assert part in message
    target.call("nvmf_delete_subsystem", {"nqn": NQN})
    target.call("vhost_create_blk_controller", {"ctrlr": "vhost1", "dev_name": "lvs-7/1"})
    (served,) = refusals(target, ("spdk_nvme_controller", cases[-1][0]))
    assert "lvs-7/1 is served by the vhost controller vhost1" in served


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("00" * 510 + "55aa", "boot sector"),
        ("00" * 1080 + "53ef", "ext2, ext3 or ext4"),
        (b"SPDKBLOB".hex(), "lvstore"),
    ],
)
def test_a_drive_that_is_not_blank_is_not_overwritten(make_target, data, what):
    target = make_target(DRIVES)
    target.control("scribble", drive=BDF, data=data)
    target.call(ATTACH, {"name": "nvme7", "trtype": "PCIe", "traddr": BDF})
    serial = target.call("bdev_get_bdevs")[0]["driver_specific"]["nvme"][0]["ctrlr_data"]["serial_number"]
    without, wrong = refusals(target, ("spdk_lvstore", STORE), ("spdk_lvstore", {**STORE, "force": "S-OTHER"}))
    assert without == wrong
    assert f"the drive at {BDF} holds" in without and what in without
    assert f"only with force: {serial}, the serial of that drive" in without
    three_steps(target, ("forced", "spdk_lvstore", {**STORE, "force": serial}, [CREATE_STORE]))


def test_an_lvstore_that_is_there_is_imported(make_target):
    target = make_target(DRIVES)
    target.call(ATTACH, {"name": "nvme7", "trtype": "PCIe", "traddr": BDF})
    target.call(CREATE_STORE, {"bdev_name": "nvme7n1", "lvs_name": "older"})
    target.recorder.clear()
    imported = run_playbook(
        play(
            {
                "name": "Import",
                "excloud.diskengine.spdk_lvstore": {"socket": target.socket, **STORE, "import_existing": True},
            }
        )
    ).result("Import")
    assert (imported["changed"], imported["results"][0]["name"]) == (False, "older")
    assert target.recorder.mutations == []


@pytest.mark.parametrize("auto_examine", [True, False])
def test_one_task_goes_from_a_drive_to_an_export(make_target, auto_examine):
    """What is on the drive is not known before; check mode says so, the run looks and goes on."""
    target = make_target([*DRIVES, *([] if auto_examine else ["--wait-for-rpc"])])
    if not auto_examine:
        target.call("bdev_set_options", {"bdev_auto_examine": False})
        target.call("framework_start_init")
    wanted = {
        "socket": target.socket,
        "controllers": [{"name": "nvme7", "traddr": BDF}],
        "lvstores": [STORE],
        "lvols": [{"name": "1", "lvstore": "lvs-7", "size": "8MiB"}],
        "subsystems": [{"nqn": NQN, "namespaces": [{"bdev": "lvs-7/1"}]}],
    }
    steps = [{**node(**wanted), "check_mode": True}, node(**wanted), node(**wanted)]
    done = run_playbook(play(*steps))
    assert done.rc == 0, done.output
    check, run, again = done.results("Node")
    looks = [] if auto_examine else [EXAMINE]
    assert [call["method"] for call in check["actions"]] == [ATTACH, *looks]
    assert [entry.get("deferred", False) for entry in check["results"]] == [False, True, True, True]
    assert "known when the drives were looked at" in check["results"][1]["notes"][0]
    assert run["changed"] and all(entry["changed"] for entry in run["results"])
    assert not again["changed"]
    sent = [call["method"] for call in target.recorder.mutations]
    assert sent[: len(looks) + 1] == [ATTACH, *looks]
    assert {CREATE_STORE, CREATE, "nvmf_create_subsystem"} < set(sent) and len(sent) == len(set(sent))
    target.call("nvmf_delete_subsystem", {"nqn": NQN})
    target.call(DETACH, {"name": "nvme7"})
    back = run_playbook(play(node(**wanted))).result("Node")
    assert [entry["changed"] for entry in back["results"]] == [True, False, False, True]
    assert target.exports()[NQN][2] == ["lvs-7/1"]


def test_a_drive_that_does_not_attach_fails_what_needs_it(make_target):
    target = make_target(DRIVES)
    wanted = {
        "socket": target.socket,
        "controllers": [{"name": "nvme7", "traddr": BDF}, {"name": "nvme9", "traddr": "0000:09:00.0"}],
        "lvstores": [STORE, {"name": "lvs-9", "bdev": "nvme9n1"}],
        "lvols": [{"name": "1", "lvstore": "lvs-9", "size": "8MiB"}, {"name": "2", "lvstore": "lvs-7", "size": "8MiB"}],
    }
    done = run_playbook(play(node(**wanted)))
    failed = {entry["name"]: entry.get("msg", "") for entry in done.result("Node")["results"]}
    assert {name for name, message in failed.items() if message} == {"nvme9", "lvs-9", "1"}
    assert "no such device" in failed["nvme9"].lower()
    assert "there is no bdev nvme9n1" in failed["lvs-9"]
    assert "Traceback" not in done.output


def test_a_disk_by_itself(make_target):
    """spdk_disk, without what is on it: shown in part, made, found again, and found again after a restart."""
    target = make_target(DRIVES)
    serial = target.control("drive_serial", drive=BDF)["ok"]
    wanted = {"socket": target.socket, "serial": serial, "bdf": BDF, "lvstore": "lvs-7", "create": True}
    task = {"name": "Disk", "excloud.diskengine.spdk_disk": wanted, "diff": True}
    done = run_playbook(play({**task, "check_mode": True}, task, task))
    assert done.rc == 0, done.output
    check, run, again = (result["results"][0] for result in done.results("Disk"))
    assert (check["deferred"], check["actions"]) == (True, [f"attach the drive at {BDF}"])
    assert run["actions"] == [f"attach the drive at {BDF}", f"create the lvstore on bdev nvme_{serial}n1"]
    (store,) = target.call("bdev_lvol_get_lvstores")
    assert (run["lvstore_uuid"], run["lvstore"], run["bdf"]) == (store["uuid"], "lvs-7", BDF)
    assert not again["changed"] and again["lvstore_uuid"] == store["uuid"]
    assert [call["method"] for call in target.recorder.mutations] == [ATTACH, CREATE_STORE]
    target.kill()
    target.start()
    known = {"socket": target.socket, "serial": serial, "bdf": BDF, "lvstore_uuid": store["uuid"]}
    back = run_playbook(play({"name": "Disk", "excloud.diskengine.spdk_disk": known})).result("Disk")
    assert (back["changed"], back["results"][0]["lvstore_uuid"]) == (True, store["uuid"])
    assert back["results"][0]["actions"] == [f"attach the drive at {BDF}"]
