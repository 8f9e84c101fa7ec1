# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules return is what they document, what spdk_info reads can be asked for, and raw calls are honest."""

from __future__ import annotations

import json

import yaml
from support.ansible import ROOT, play, run_playbook
from support.documented import EVERYWHERE, differences, own_keys, returned
from support.secrets import dhchap
from support.targets import free_port

MODULES = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]["spdk"]
NQN = "nqn.2024-01.io.excloud:storage.test"
LVOL = {"name": "a", "lvstore": "lvs-0", "size": "5MiB"}
SNAPSHOT = {"name": "snap", "lvstore": "lvs-0", "lvol": "a"}
FILE = {"path": "{{ playbook_dir }}/config.json"}
RAID = {"bdev_raid_set_options": {"process_window_size_kb": 512}}
KEY = {"name": "k", "path": "{{ playbook_dir }}/key", "key": dhchap("k")}
SUBSYSTEM = {"nqn": NQN, "namespaces": [{"bdev": "lvs-0/a"}]}

# Tasks of one play; each name begins with the module. Those that end in "fails" do.
TASKS = {
    "transport one": {"trtype": "TCP"},
    "transport again": {"transports": [{"trtype": "TCP"}]},
    "transport fails": {"trtype": "TCP", "state": "absent"},
    "key one": KEY,
    "key again": {"keys": [KEY]},
    "key fails": {**KEY, "name": "k2"},
    "key away": {"name": "k", "state": "absent"},
    "key gone": {"name": "k", "state": "absent"},
    "disk fails": {"serial": "S1", "bdf": "the second one"},
    "nvme_controller gone": {"name": "nvme7", "state": "absent"},
    "nvme_controller fails": {"name": "nvme7", "traddr": "the second one"},
    "lvstore one": {"name": "new", "bdev": "ram"},
    "lvstore again": {"lvstores": [{"name": "new", "bdev": "ram"}, {"name": "lvs-0"}]},
    "lvstore away": {"name": "new", "state": "absent"},
    "lvstore gone": {"name": "new", "state": "absent"},
    "lvstore fails": {"name": "new", "bdev": "disk-lvs-0"},
    "lvol one": LVOL,
    "lvol again": {"lvols": [LVOL]},
    "lvol fails": {"lvols": [LVOL, {**LVOL, "name": "b", "size": "1TiB"}]},
    "lvol gone": {"name": "b", "lvstore": "lvs-0", "state": "absent"},
    "snapshot one": SNAPSHOT,
    "snapshot again": {"snapshots": [SNAPSHOT]},
    "snapshot fails": {"name": "a", "lvstore": "lvs-0"},
    "snapshot away": {**SNAPSHOT, "state": "absent"},
    "subsystem one": SUBSYSTEM,
    "subsystem again": {"subsystems": [SUBSYSTEM]},
    "subsystem fails": {"nqn": NQN, "serial_number": "other"},
    "subsystem away": {"nqn": NQN, "state": "absent"},
    "raid one": {"name": "r", "base_bdevs": ["leg0", "leg1"]},
    "raid again": {"raids": [{"name": "r", "base_bdevs": ["leg0", "leg1"]}]},
    "raid fails": {"name": "r", "base_bdevs": ["leg0"]},
    "qos one": {"bdev": "r", "rw_ios_per_sec": 1500},
    "qos later": {"qos": [{"bdev": "r", "rw_ios_per_sec": 5000}]},
    "qos fails": {"bdev": "r"},
    "vhost one": {"name": "v", "bdev": "r"},
    "vhost again": {"vhosts": [{"name": "v", "bdev": "r"}]},
    "vhost fails": {"name": "w", "bdev": "r"},
    "vhost away": {"name": "v", "state": "absent"},
    "raid away": {"name": "r", "state": "absent"},
    "node one": {"transports": [{"trtype": "TCP"}], "lvols": [{**LVOL, "name": "c"}], "subsystems": [SUBSYSTEM]},
    "node again": {"lvols": [LVOL], "lvstores": [{"name": "lvs-0"}], "subsystems": [SUBSYSTEM]},
    "node document": {"desired": json.dumps({"lvols": [LVOL, {**LVOL, "name": "e"}]})},
    "node fails": {"lvols": [{**LVOL, "name": "d", "size": "1TiB"}, LVOL]},
    "service one": {"root": "{{ lookup('env', 'HOME') }}/image", "program": "/usr/bin/spdk_tgt"},
    "service fails": {"program": "spdk_tgt"},
    "config one": {"state": "saved", **FILE},
    "config again": {"state": "saved", **FILE},
    "config restored": {"state": "restored", "startup": RAID, **FILE},
    "config replaced": {"state": "saved", **FILE},
    "config fails": {"state": "started", "startup": {"bdev_set_options": {"bdev_auto_examine": False}}},
    "config_info one": {"path": "{{ playbook_dir }}/config.json.previous"},
    "info one": {},
    "drift_info one": {"desired": json.dumps({"lvols": [{**LVOL, "name": "never"}], "subsystems": [SUBSYSTEM]})},
    "health_info one": {},
    "iostat_info one": {"bdevs": ["disk-lvs-0"]},
    "iostat_info fails": {"bdevs": ["nothing"]},
    "metrics one": {"path": "{{ playbook_dir }}/new.prom", "node": "storage-1"},
    "metrics fails": {"path": "new.prom", "node": "storage-1"},
    "rpc reads": {"method": "bdev_get_bdevs"},
    "rpc changes": {"method": "bdev_malloc_create", "params": {"name": "ram2", "num_blocks": 8, "block_size": 4096}},
    "rpc fails": {"method": "bdev_malloc_delete", "params": {"name": "nothing"}},
}


def test_results_are_as_documented(target):
    target.call("bdev_malloc_create", {"name": "ram", "num_blocks": 8192, "block_size": 4096})
    for name in ("leg0", "leg1"):
        target.call("bdev_malloc_create", {"name": name, "num_blocks": 4096, "block_size": 4096})
    tasks = []
    for name, options in TASKS.items():
        module = f"excloud.diskengine.spdk_{name.split()[0]}"
        task = {module: {"socket": target.socket, **options}, "ignore_errors": True}
        if not name.endswith(("again", "gone")):
            tasks.append({"name": f"{name} check", "check_mode": True, **task})
        tasks.append({"name": name, **task})
    done = run_playbook(play(*tasks))
    assert "Traceback" not in done.output
    wrong, seen = [], set()
    for event in done.events:
        name, check = event["task"].removesuffix(" check"), event["task"].endswith(" check")
        module = "spdk_" + name.split()[0]
        failed = event["event"] == "ignored"
        if failed != name.endswith("fails") and not (check and module == "spdk_rpc"):
            wrong.append(f"{event['task']}: {event['result'].get('msg', 'it did not fail')}")
        own = own_keys(module, event["result"])
        wrong += differences(returned(module), own, failed, check, event["task"])
        seen |= {module}
        seen |= {f"{module}.{key}" for key in own}
    assert not wrong, "\n".join(wrong)
    assert set(MODULES) <= seen
    # Every top-level key that is documented came at least once.
    assert {f"{module}.{key}" for module in sorted(seen) if "." not in module for key in returned(module)} <= seen


def test_an_unreachable_target_returns_only_a_message(tmp_path):
    task = {"name": "Try", "excloud.diskengine.spdk_lvol": {**LVOL, "socket": str(tmp_path / "none")}}
    result = run_playbook(play(task)).result("Try")
    assert {key for key in result if not key.startswith("_ansible")} <= EVERYWHERE


def furnish(target):
    """Some of everything that spdk_info describes."""
    call = target.call
    call("bdev_malloc_create", {"name": "ram", "num_blocks": 8192, "block_size": 512})
    call("bdev_malloc_create", {"name": "ram1", "num_blocks": 16384, "block_size": 4096})
    call("bdev_lvol_create_lvstore", {"bdev_name": "ram1", "lvs_name": "small", "cluster_sz": 1 << 20})
    for store, name, thin in (("lvs-0", "thick", False), ("lvs-0", "thin", True), ("small", "1", True)):
        params = {"lvs_name": store, "lvol_name": name, "size_in_mib": 8, "thin_provision": thin}
        call("bdev_lvol_create", params)
    call("bdev_lvol_snapshot", {"lvol_name": "lvs-0/thick", "snapshot_name": "snap"})
    call("bdev_lvol_clone", {"snapshot_name": "lvs-0/snap", "clone_name": "clone"})
    call("nvmf_create_transport", {"trtype": "TCP", "max_queue_depth": 64})
    port = str(free_port())
    call("nvmf_create_subsystem", {"nqn": NQN, "serial_number": "1", "max_namespaces": 3, "allow_any_host": False})
    for nsid, bdev in ((1, "lvs-0/thin"), (3, "ram")):
        call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": bdev, "nsid": nsid}})
    call("nvmf_subsystem_add_host", {"nqn": NQN, "host": NQN + ".host"})
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port}
    call("nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": address})
    call("nvmf_create_subsystem", {"nqn": NQN + ".open", "allow_any_host": True})
    for name in ("leg0", "leg1"):
        call("bdev_malloc_create", {"name": name, "num_blocks": 4096, "block_size": 4096})
    call("bdev_raid_create", {"name": "mirror", "raid_level": "raid1", "base_bdevs": ["leg0", "leg1"]})
    call("bdev_set_qos_limit", {"name": "mirror", "rw_ios_per_sec": 2000})
    call("vhost_create_blk_controller", {"ctrlr": "vm", "dev_name": "mirror"})


def test_what_is_read_can_be_asked_for(target):
    furnish(target)
    lists = ("transports", "lvstores", "lvols", "subsystems")
    done = run_playbook(
        play(
            {"name": "Read", "excloud.diskengine.spdk_info": {}, "register": "found"},
            {
                "name": "Lists",
                "excloud.diskengine.spdk_node": {kind: "{{ found.desired.%s }}" % kind for kind in lists},
                "diff": True,
            },
            {"name": "Document", "excloud.diskengine.spdk_node": {"desired": "{{ found.desired | to_json }}"}},
            {"name": "Alone", "excloud.diskengine.spdk_subsystem": {"subsystems": "{{ found.desired.subsystems }}"}},
            module_defaults={"group/excloud.diskengine.spdk": {"socket": target.socket}},
        )
    )
    assert done.rc == 0, done.output
    assert done.changed["localhost"] == 0
    assert target.recorder.mutations == []
    found = done.result("Read")
    assert {kind: len(found["desired"][kind]) for kind in lists} == {
        "transports": 1,
        "lvstores": 2,
        "lvols": 4,
        "subsystems": 2,
    }
    assert {lvol["alias"]: lvol["exported_as"] for lvol in found["lvols"]} == {
        "lvs-0/thick": None,
        "lvs-0/thin": {"nqn": NQN, "nsid": 1},
        "lvs-0/snap": None,
        "lvs-0/clone": None,
        "small/1": None,
    }
    assert done.result("Lists")["diff"] == []
    assert done.result("Lists")["unmanaged"] == {
        "lvols": ["lvs-0/snap"],
        "subsystems": [],
        "raids": ["mirror"],
        "vhosts": ["vm"],
    }


def raw(target, *calls):
    """Make the calls (options of the module, whether in check mode); returns (result, requests sent) of each."""
    target.recorder.clear()
    tasks = [
        {"name": "Call", "excloud.diskengine.spdk_rpc": options, "check_mode": check, "ignore_errors": True}
        for options, check in calls
    ]
    done = run_playbook(play(*tasks, module_defaults={"group/excloud.diskengine.spdk": {"socket": target.socket}}))
    assert "Traceback" not in done.output
    sent = {}
    for request in target.recorder.requests:
        sent.setdefault(request["connection"], []).append(request["method"])
    methods = [options["method"] for options, _check in calls]
    assert len(sent) == len(calls)
    return [
        (result, requests.count(method))
        for result, requests, method in zip(done.results("Call"), sent.values(), methods)
    ]


def test_a_raw_call_that_reads(target):
    read = {"method": "bdev_lvol_get_lvstores", "params": {"lvs_name": "lvs-0"}}
    store = target.call("bdev_lvol_get_lvstores", {"lvs_name": "lvs-0"})
    for result, sent in raw(target, (read, False), (read, True)):
        assert (result["changed"], result["result"], sent) == (False, store, 1)


def test_a_raw_call_that_changes(target):
    disk = {"method": "bdev_malloc_create", "params": {"name": "ram", "num_blocks": 8, "block_size": 4096}}
    look = {"method": "bdev_get_bdevs"}
    check, found, run, again = raw(target, (disk, True), (look, False), (disk, False), (disk, False))
    assert (check[0]["changed"], check[0]["result"], check[1]) == (True, None, 0)
    assert [bdev["name"] for bdev in found[0]["result"]] == ["disk-lvs-0"]
    assert (run[0]["changed"], run[0]["result"], run[1]) == (True, "ram", 1)
    assert (again[0]["code"], again[1]) == (-17, 1)
    assert "bdev_malloc_create was answered with error -17" in again[0]["msg"]


def test_a_raw_call_whose_name_misleads(target):
    wait = {"method": "bdev_wait_for_examine"}
    claims = {"method": "bdev_get_bdevs", "changes": True}
    denies = {"method": "log_set_level", "params": {"level": "NOTICE"}, "changes": False}
    results = raw(target, (wait, True), (wait, False), (claims, True), (denies, True))
    assert [(result["changed"], sent) for result, sent in results] == [(False, 1), (False, 1), (True, 0), (False, 1)]


def test_numbers_stay_numbers_and_ports_strings(target):
    """Ansible's templating must not turn a port into a number, nor a number into a string."""
    target.call("nvmf_create_transport", {"trtype": "TCP"})
    target.call("nvmf_create_subsystem", {"nqn": NQN, "allow_any_host": True})
    port = str(free_port())
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "{{ port }}"}
    task = {
        "name": "Call",
        "excloud.diskengine.spdk_rpc": {
            "socket": target.socket,
            "method": "nvmf_subsystem_add_listener",
            "params": {"nqn": NQN, "listen_address": address},
        },
        "vars": {"port": port},
    }
    assert run_playbook(play(task)).rc == 0
    (call,) = target.recorder.mutations
    assert json.dumps(call["params"]["listen_address"]["trsvcid"]) == f'"{port}"'
