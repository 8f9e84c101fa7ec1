# SPDX-License-Identifier: GPL-3.0-or-later
"""Each module by the three steps: check mode predicts, the run does just that, and then there is nothing to do."""

from __future__ import annotations

import json
import time
from collections import Counter

from support.ansible import play, run_playbook
from support.modules import canonical, refusals, tasks_of, three_steps
from support.targets import free_port

NQN = "nqn.2024-01.io.excloud:storage.test"
HOST = "nqn.2024-01.io.excloud:host"
OTHER = "nqn.2024-01.io.excloud:other"
NO_UUID = "00000000-0000-4000-8000-000000000000"
MIB = 1 << 20
RUN_SECONDS = 60  # for a thousand objects in one task, on a busy machine


def lvols(target):
    """(Size in MiB, whether thin) of each lvol by alias."""
    sizes = {bdev["name"]: bdev["num_blocks"] * bdev["block_size"] // MIB for bdev in target.call("bdev_get_bdevs")}
    return {
        lvol["alias"]: (sizes[lvol["uuid"]], lvol["is_thin_provisioned"]) for lvol in target.call("bdev_lvol_get_lvols")
    }


def export(target, bdev, **more):
    target.call("nvmf_create_subsystem", {"nqn": NQN, "allow_any_host": False, **more})
    target.call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": bdev, "nsid": 1}})


def test_transports(target):
    wanted = {"trtype": "tcp", "max_queue_depth": 64}
    (one,) = three_steps(target, ("create", "spdk_transport", wanted, ["nvmf_create_transport"]))
    assert one["results"][0]["trtype"] == "TCP"
    (transport,) = target.call("nvmf_get_transports")
    assert (transport["trtype"], transport["max_queue_depth"]) == ("TCP", 64)
    same = {
        "name": "Same",
        "excloud.diskengine.spdk_transport": {"socket": target.socket, "transports": [{"trtype": "TCP"}]},
    }
    assert run_playbook(play(same)).result("Same")["changed"] is False
    absent, depth, nowhere = refusals(
        target,
        ("spdk_transport", {"trtype": "TCP", "state": "absent"}),
        ("spdk_transport", {"trtype": "TCP", "max_queue_depth": 128}),
        ("spdk_transport", {"transports": [{"trtype": "TCP", "max_queue_depth": 32}, {"trtype": "TCP"}]}),
    )
    assert "SPDK cannot delete a transport" in absent
    assert "max_queue_depth is 64, wanted 128" in depth
    assert "it is named 2 times" in nowhere


def test_transport_list(make_target):
    target = make_target()
    wanted = [{"trtype": "TCP", "in_capsule_data_size": 8192}]
    three_steps(target, ("list", "spdk_transport", {"transports": wanted}, ["nvmf_create_transport"]))
    assert target.call("nvmf_get_transports")[0]["in_capsule_data_size"] == 8192


def test_lvstores(make_target):
    target = make_target()
    for name in ("d0", "d1", "d2"):
        target.add_disk(name, 128 * MIB)
    create, delete = "bdev_lvol_create_lvstore", "bdev_lvol_delete_lvstore"
    runs = three_steps(
        target,
        ("one", "spdk_lvstore", {"name": "s0", "bdev": "d0", "cluster_size": "1MiB", "clear_method": "none"}, [create]),
        (
            "list",
            "spdk_lvstore",
            {"lvstores": [{"name": "s1", "bdev": "d1"}, {"name": "s2", "bdev": "d2", "max_lvols": 200}]},
            [create] * 2,
        ),
        ("absent", "spdk_lvstore", {"name": "s1", "state": "absent"}, [delete]),
        (
            "moved",
            "spdk_lvstore",
            {"lvstores": [{"name": "s2", "state": "absent"}, {"name": "s3", "bdev": "d1"}]},
            [create, delete],
        ),
    )
    stores = {store["name"]: store for store in target.call("bdev_lvol_get_lvstores")}
    assert set(stores) == {"s0", "s3"}
    assert stores["s0"]["cluster_size"] == MIB
    assert runs[0]["results"][0]["uuid"] == stores["s0"]["uuid"]
    assert stores["s3"]["base_bdev"] == "d1"
    target.call("bdev_lvol_create", {"lvs_name": "s0", "lvol_name": "x", "size_in_mib": 1})
    used, size, place, over = refusals(
        target,
        ("spdk_lvstore", {"name": "s0", "state": "absent"}),
        ("spdk_lvstore", {"name": "s0", "bdev": "d0", "cluster_size": "4MiB"}),
        ("spdk_lvstore", {"name": "s0", "bdev": "d2"}),
        ("spdk_lvstore", {"name": "s4", "bdev": "d0"}),
    )
    assert "it holds 1 lvol(s): x; delete them first" in used
    assert "its clusters are 1 MiB, wanted 4 MiB" in size
    assert "is on bdev d0, not on d2" in place
    assert "bdev d0 holds the lvstore s0; it is never overwritten" in over


def test_lvols(target):
    store = target.call("bdev_lvol_get_lvstores")[0]["uuid"]
    create, resize, delete = "bdev_lvol_create", "bdev_lvol_resize", "bdev_lvol_delete"
    several = [
        {"name": "b", "lvstore": store, "size": "10MiB"},
        {"name": "c", "lvstore": store.upper(), "size": 4 * MIB, "thin": True, "clear_method": "none"},
        {"name": "d", "lvstore": "lvs-0", "size": "0.0078125GiB", "thin": True, "clear_method": "write_zeroes"},
    ]
    runs = three_steps(
        target,
        ("one", "spdk_lvol", {"name": "a", "lvstore": "lvs-0", "size": "1GiB", "thin": True}, [create]),
        ("list", "spdk_lvol", {"lvols": several}, [create] * 3),
        ("grow", "spdk_lvol", {"name": "b", "lvstore": "lvs-0", "size": "20MiB", "growth": "plain"}, [resize]),
        ("shrink", "spdk_lvol", {"name": "b", "lvstore": "lvs-0", "size": "8MiB", "allow_shrink": True}, [resize]),
        ("absent", "spdk_lvol", {"name": "a", "lvstore": "lvs-0", "state": "absent"}, [delete]),
        (
            "both",
            "spdk_lvol",
            {
                "lvols": [
                    {"name": "c", "lvstore": "lvs-0", "state": "absent"},
                    {"name": "e", "lvstore": "lvs-0", "size": "4MiB"},
                    {"name": "d", "lvstore": "lvs-0", "size": "16MiB", "growth": "plain"},
                ]
            },
            [delete, create, resize],
        ),
    )
    assert lvols(target) == {"lvs-0/b": (8, False), "lvs-0/e": (4, False), "lvs-0/d": (16, True)}
    uuids = {lvol["name"]: lvol["uuid"] for lvol in target.call("bdev_lvol_get_lvols")}
    assert runs[1]["results"][0]["uuid"] == uuids["b"]
    assert "10 MiB was rounded up to 12 MiB, whole clusters of 4 MiB" in runs[1]["results"][0]["notes"]


def test_what_lvols_refuse(target):
    for name, thin in (("free", False), ("shown", True)):
        target.call(
            "bdev_lvol_create", {"lvs_name": "lvs-0", "lvol_name": name, "size_in_mib": 12, "thin_provision": thin}
        )
    target.call("bdev_lvol_snapshot", {"lvol_name": "lvs-0/free", "snapshot_name": "snap"})
    export(target, "lvs-0/shown")
    lvol = {"lvstore": "lvs-0"}
    messages = refusals(
        target,
        ("spdk_lvol", {**lvol, "name": "shown", "size": "4MiB"}),
        ("spdk_lvol", {**lvol, "name": "shown", "size": "4MiB", "allow_shrink": True}),
        ("spdk_lvol", {**lvol, "name": "shown", "state": "absent"}),
        ("spdk_lvol", {**lvol, "name": "shown", "thin": False}),
        ("spdk_lvol", {**lvol, "name": "snap", "size": "12MiB"}),
        ("spdk_lvol", {**lvol, "name": "snap", "state": "absent"}),
        ("spdk_lvol", {"lvstore": "gone", "name": "shown", "state": "absent"}),
    )
    says = [
        "shrinking from 12 MiB to 4 MiB gives up data; it is done only with allow_shrink: true",
        f"it is exported as namespace 1 of {NQN}",
        f"it is exported as namespace 1 of {NQN}; take that away first",
        "it is thin, wanted thick, as an lvol is that had snapshots",
        "a snapshot has that name",
        "it is a snapshot; this module deletes lvols only",
        "lvstore gone is not loaded on this target",
    ]
    assert [said in message for said, message in zip(says, messages)] == [True] * len(says), messages


def test_subsystems(target):
    target.call("nvmf_create_transport", {"trtype": "TCP"})
    for name in "abc":
        target.call("bdev_lvol_create", {"lvs_name": "lvs-0", "lvol_name": name, "size_in_mib": 4})
    ports = [str(free_port()) for _number in range(3)]
    one = {
        "nqn": NQN,
        "serial_number": "0815",
        "model_number": "test",
        "max_namespaces": 4,
        "listeners": [{"traddr": "127.0.0.1", "trsvcid": ports[0]}],
        "hosts": [HOST],
        "namespaces": [{"bdev": "lvs-0/a"}],
    }
    changed = {
        "nqn": NQN,
        "listeners": [{"traddr": "127.0.0.1", "trsvcid": ports[1]}],
        "hosts": [OTHER],
        "namespaces": [{"bdev": "lvs-0/a"}, {"bdev": "lvs-0/b", "nsid": 3}],
    }
    create, remove = "nvmf_subsystem_add_", "nvmf_subsystem_remove_"
    three_steps(
        target,
        (
            "create",
            "spdk_subsystem",
            one,
            ["nvmf_create_subsystem", *[create + part for part in ("ns", "host", "listener")]],
        ),
        ("add", "spdk_subsystem", changed, [create + part for part in ("ns", "host", "listener")]),
        (
            "purge",
            "spdk_subsystem",
            {**changed, "namespaces": [{"bdev": "lvs-0/b", "nsid": 3}], "purge": ["listeners", "hosts", "namespaces"]},
            [remove + part for part in ("ns", "host", "listener")],
        ),
        ("open", "spdk_subsystem", {"nqn": NQN, "allow_any_host": True}, ["nvmf_subsystem_allow_any_host"]),
        (
            "list",
            "spdk_subsystem",
            {"subsystems": [{"nqn": NQN}, {"nqn": OTHER, "namespaces": [{"bdev": "lvs-0/c"}], "ana_reporting": True}]},
            ["nvmf_subsystem_allow_any_host", "nvmf_create_subsystem", create + "ns"],
        ),
        ("absent", "spdk_subsystem", {"nqn": OTHER, "state": "absent"}, ["nvmf_delete_subsystem"]),
    )
    assert target.exports() == {NQN: ([f"127.0.0.1:{ports[1]}"], [OTHER], ["lvs-0/b"])}
    (shown,) = [item for item in target.call("nvmf_get_subsystems") if item["nqn"] == NQN]
    assert (shown["serial_number"], shown["model_number"], shown["max_namespaces"]) == ("0815", "test", 4)
    assert [item["nsid"] for item in shown["namespaces"]] == [3]
    assert shown["allow_any_host"] is False
    fixed, elsewhere, other = refusals(
        target,
        ("spdk_subsystem", {"nqn": NQN, "serial_number": "4711"}),
        ("spdk_subsystem", {"nqn": OTHER, "namespaces": [{"bdev": "lvs-0/b"}]}),
        ("spdk_subsystem", {"nqn": NQN, "namespaces": [{"bdev": "lvs-0/c", "nsid": 3}]}),
    )
    assert "serial_number is 0815, wanted 4711; SPDK cannot change that" in fixed
    assert f"bdev lvs-0/b is already exported as namespace 3 of {NQN}" in elsewhere
    assert "namespace 3 shows bdev lvs-0/b, wanted lvs-0/c" in other


def test_a_whole_node_and_its_removal(make_target):
    target = make_target()
    target.add_disk("d0", 128 * MIB)
    listener = {"traddr": "127.0.0.1", "trsvcid": str(free_port())}
    node = {
        "transports": [{"trtype": "TCP"}],
        "lvstores": [{"name": "s0", "bdev": "d0"}],
        "lvols": [{"name": "a", "lvstore": "s0", "size": "4MiB"}],
        "subsystems": [
            {"nqn": NQN, "listeners": [listener], "hosts": [HOST], "namespaces": [{"bdev": "s0/a", "nsid": 1}]}
        ],
    }
    gone = {"state": "absent"}
    away = {
        "lvstores": [{"name": "s0", **gone}],
        "lvols": [{"name": "a", "lvstore": "s0", **gone}],
        "subsystems": [{"nqn": NQN, **gone}],
    }
    assert target.exports() == {}
    calls = node_steps(target, node)
    assert target.exports() == {NQN: ([f"127.0.0.1:{listener['trsvcid']}"], [HOST], ["s0/a"])}
    assert calls == [
        "nvmf_create_transport",
        "bdev_lvol_create_lvstore",
        "bdev_lvol_create",
        "nvmf_create_subsystem",
        "nvmf_subsystem_add_ns",
        "nvmf_subsystem_add_host",
        "nvmf_subsystem_add_listener",
    ]
    assert node_steps(target, away) == ["nvmf_delete_subsystem", "bdev_lvol_delete", "bdev_lvol_delete_lvstore"]
    assert (target.exports(), target.call("bdev_lvol_get_lvstores")) == ({}, [])


def node_steps(target, desired):
    """Like three_steps() for spdk_node, whose results are brief; returns the methods in order."""
    target.recorder.clear()
    options = {"socket": target.socket, "desired": json.dumps(desired)}
    done = run_playbook(play(*tasks_of("node", "spdk_node", options)))
    assert done.rc == 0, done.output
    check, run, again = (done.result(f"node: {step}") for step in ("check", "run", "again"))
    assert (check["changed"], run["changed"], again["changed"]) == (True, True, False)
    assert check["diff"] == run["diff"] != []
    sent = target.recorder.mutations
    assert [canonical(call) for call in sent] == [canonical(call) for call in check["actions"]]
    return [call["method"] for call in sent]


def test_metadata_for_many_lvols(make_target):
    """Three hundred lvols on 64 clusters: with max_lvols there is room for them, without there is not."""
    target = make_target()
    for name in ("d0", "d1"):
        target.add_disk(name, 256 * MIB)
    many = {
        store: [{"name": str(number), "lvstore": store, "size": "4MiB", "thin": True} for number in range(300)]
        for store in ("roomy", "default")
    }
    stores = [{"name": "roomy", "bdev": "d0", "max_lvols": 300}, {"name": "default", "bdev": "d1"}]
    done = run_playbook(
        play(
            {"name": "Stores", "excloud.diskengine.spdk_lvstore": {"socket": target.socket, "lvstores": stores}},
            {"name": "Roomy", "excloud.diskengine.spdk_lvol": {"socket": target.socket, "lvols": many["roomy"]}},
            {"name": "Default", "excloud.diskengine.spdk_lvol": {"socket": target.socket, "lvols": many["default"]}},
        )
    )
    made = Counter(lvol["lvs"]["name"] for lvol in target.call("bdev_lvol_get_lvols"))
    assert done.result("Roomy")["changed"] is True and not done.result("Roomy").get("failed")
    assert made["roomy"] == 300
    # Where the store is full the task says for each of the rest what the target answered.
    full = done.result("Default")
    assert 32 <= made["default"] < 300
    assert sum(entry["failed"] for entry in full["results"]) == 300 - made["default"]
    assert full["msg"].startswith(f"{300 - made['default']} of 300 objects failed: ")
    assert full["msg"].endswith(f"; and {290 - made['default']} more")
    assert done.rc == 2


def test_a_thousand_objects_in_one_task(make_target):
    target = make_target()
    target.add_disk("d0", 1024 * MIB)
    lvols = [{"name": str(number), "lvstore": "s0", "size": "4MiB", "thin": True} for number in range(1000)]
    tasks = [
        {"name": "Store", "excloud.diskengine.spdk_lvstore": {"name": "s0", "bdev": "d0", "max_lvols": 1000}},
        {"name": "Make", "excloud.diskengine.spdk_lvol": {"lvols": lvols}},
    ]
    defaults = {"group/excloud.diskengine.spdk": {"socket": target.socket}}
    start = time.monotonic()
    done = run_playbook(play(*tasks, module_defaults=defaults))
    assert time.monotonic() - start < RUN_SECONDS
    assert done.rc == 0, done.output[-2000:]
    assert (
        len(done.result("Make")["results"]) == len({entry["uuid"] for entry in done.result("Make")["results"]}) == 1000
    )
    assert len(target.call("bdev_lvol_get_lvols")) == 1000
    created = [call for call in target.recorder.mutations if call["method"] == "bdev_lvol_create"]
    assert (len(created), len({call["connection"] for call in created})) == (1000, 1)

    target.recorder.clear()
    start = time.monotonic()
    again = run_playbook(play(*tasks, module_defaults=defaults))
    assert time.monotonic() - start < RUN_SECONDS
    assert (again.rc, again.changed["localhost"], target.recorder.mutations) == (0, 0, [])


def test_the_action_group_gives_the_socket(target):
    modules = {
        "spdk_lvol": {"name": "a", "lvstore": "lvs-0", "size": "4MiB"},
        "spdk_node": {"desired": "{}"},
        "spdk_info": {},
        "spdk_rpc": {"method": "bdev_lvol_get_lvols"},
    }
    tasks = [{"name": name, f"excloud.diskengine.{name}": options} for name, options in modules.items()]
    defaults = {"group/excloud.diskengine.spdk": {"socket": target.socket}}
    done = run_playbook(play(*tasks, module_defaults=defaults))
    assert done.rc == 0, done.output
    assert {call["connection"] for call in target.recorder.requests} == {1, 2, 3, 4}


def test_snapshots_and_clones(target):
    """In the order of a life: snapshots of exported lvols, clones, what depends on what, and the way back."""
    create, snapshot, clone = "bdev_lvol_create", "bdev_lvol_snapshot", "bdev_lvol_clone"
    inflate, decouple, delete = "bdev_lvol_inflate", "bdev_lvol_decouple_parent", "bdev_lvol_delete"
    within = {"lvstore": "lvs-0"}
    thick = {**within, "name": "a", "size": "8MiB", "thin": False}
    first, second = ({**within, "name": name, "lvol": "a"} for name in ("s1", "s2"))
    clones = [
        {**within, "name": "c1", "clone_of": "s1"},
        {**within, "name": "c2", "clone_of": "s1", "size": "16MiB"},
        {**within, "name": "c3", "clone_of": "s2", "size": "8MiB", "independent": "inflate"},
        {**within, "name": "c4", "clone_of": "s2", "independent": "decouple"},
    ]
    three_steps(
        target,
        ("lvol", "spdk_lvol", thick, [create]),
        ("one", "spdk_snapshot", first, [snapshot]),
        ("two", "spdk_snapshot", {"snapshots": [first, second]}, [snapshot]),
        ("grow", "spdk_lvol", {**thick, "size": "12MiB", "growth": "plain"}, ["bdev_lvol_resize"]),
        ("clones", "spdk_lvol", {"lvols": clones}, [clone] * 4 + ["bdev_lvol_resize", inflate, decouple, decouple]),
    )
    found = lvols(target)
    assert found == {
        **dict.fromkeys(("lvs-0/a",), (12, True)),
        **{"lvs-0/s1": (8, False), "lvs-0/s2": (8, True)},
        **{"lvs-0/c1": (8, True), "lvs-0/c2": (16, True), "lvs-0/c3": (8, False), "lvs-0/c4": (8, True)},
    }
    said = refusals(
        target,
        ("spdk_snapshot", {**first, "state": "absent"}),
        ("spdk_lvol", {**within, "name": "c1", "clone_of": "s2"}),
        ("spdk_lvol", {**within, "name": "c9", "clone_of": "a"}),
        ("spdk_lvol", {**within, "name": "c9", "clone_of": "s9"}),
        ("spdk_snapshot", {**within, "name": "a", "lvol": "c1"}),
        ("spdk_snapshot", {**within, "name": "s9", "lvol": "s1"}),
        ("spdk_snapshot", {**within, "name": "s9"}),
        ("spdk_snapshot", {**second, "state": "absent", "uuid": NO_UUID}),
        ("spdk_lvol", {**within, "name": "c1", "state": "absent", "uuid": NO_UUID}),
        ("spdk_snapshot", {**first, "state": "absent", "lvstore": "nope"}),
    )
    parts = [
        "c1, c2, s2 are clones of it; delete them, or make them independent of it",
        "it is a clone of s1, wanted a clone of s2",
        "lvs-0/a is no snapshot",
        "there is no snapshot lvs-0/s9 to clone",
        "an lvol that is no snapshot has that name",
        "lvs-0/s1 is a snapshot itself",
        "name the lvol to take it of",
        f"wanted {NO_UUID}; it is left alone",
        f"wanted {NO_UUID}; it is left alone",
        "lvstore nope is not loaded",
    ]
    for message, part in zip(said, parts):
        assert part in message
    gone = [{**each, "state": "absent"} for each in (first, second)]
    three_steps(
        target,
        ("detach", "spdk_lvol", {**within, "name": "c1", "independent": "decouple"}, [decouple]),
        ("clone away", "spdk_lvol", {**within, "name": "c2", "state": "absent"}, [delete]),
        ("snapshots away", "spdk_snapshot", {"snapshots": gone}, [delete, delete]),
    )
    assert sorted(lvols(target)) == ["lvs-0/a", "lvs-0/c1", "lvs-0/c3", "lvs-0/c4"]
    (thin,) = refusals(target, ("spdk_lvol", {**thick, "size": "12MiB"}))
    assert "it is thin, wanted thick, as an lvol is that had snapshots" in thin
    three_steps(target, ("thick", "spdk_lvol", {**within, "name": "a", "independent": "inflate"}, [inflate]))
    made = {
        "lvols": [{**thick, "name": "b"}, {**within, "name": "x", "clone_of": "s3"}],
        "snapshots": [{**within, "name": "s3", "lvol": "b"}],
    }
    steps = [{"name": "Plan", "excloud.diskengine.spdk_node": {"socket": target.socket, **made}}] * 2
    done = run_playbook(play(*steps))
    assert [result["changed"] for result in done.results("Plan")] == [True, False], done.output


def test_a_snapshot_in_use(target):
    target.call("bdev_lvol_create", {"lvs_name": "lvs-0", "lvol_name": "a", "size_in_mib": 8})
    target.call("bdev_lvol_snapshot", {"lvol_name": "lvs-0/a", "snapshot_name": "s1"})
    (used,) = refusals(target, ("spdk_lvol", {"name": "s1", "lvstore": "lvs-0", "state": "absent"}))
    assert "it is a snapshot" in used
    export(target, "lvs-0/s1")
    (shown,) = refusals(target, ("spdk_snapshot", {"name": "s1", "lvstore": "lvs-0", "state": "absent"}))
    assert f"it is exported as namespace 1 of {NQN}" in shown
