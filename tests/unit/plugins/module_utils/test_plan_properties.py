# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every plan: random states of the simulated target, random desired states, random timing.

A state is reached by raw calls to the simulator's core, which answers and breaks like the real program. The actions
are then sent as their ``needs`` allow, in a random order and with random overlap; a combination of the contract's
section 12 ends in TargetCrash, which no test here catches.
"""

from __future__ import annotations

import copy
import random

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._apply import made_up_for, next_try
from ansible_collections.excloud.diskengine.plugins.module_utils._graph import HOST_KEYS
from ansible_collections.excloud.diskengine.plugins.module_utils._plan import Plan, make_plan
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import (
    KINDS,
    MIB,
    add_disk,
    read,
    want,
)
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.states import (
    DISKS,
    DRIVES,
    PATHS,
    SUBSYSTEMS,
    add_secrets,
    base_calls,
    some_desired,
    some_target,
)
from hypothesis import event, given
from hypothesis import strategies as st
from spdk_sim import RpcFailure, Target
from spdk_sim.lvol import LvolBdev

CREATING = {f"bdev_lvol_{verb}" for verb in ("create", "snapshot", "clone", "inflate", "decouple_parent")}

chances = st.integers(0, 2**64 - 1).map(random.Random)


class Run:
    """Sends the actions of a plan with random timing; ``failed`` maps actions to errors, ``skipped`` lists the rest."""

    def __init__(self, target: Target, plan: Plan, chance: random.Random, broken: object = None) -> None:
        self.target = target
        self.chance = chance
        self.broken = broken
        self.failed: dict = {}
        self.skipped: list = []
        self.done: set = set()
        waiting = list(plan.actions)
        out = 0
        while waiting or out:
            for action in list(waiting):
                if self._is_lost(action):
                    waiting.remove(action)
                    self.skipped.append(action)
            ended = self.done | set(map(id, self.failed))
            ready = [each for each in waiting if all(id(need) in ended for need in each.needs)]
            if ready and (not out or chance.random() < 0.7):
                action = chance.choice(ready)
                waiting.remove(action)
                self._send(action)
            elif out:
                target.poll()
            elif waiting:
                raise AssertionError(f"the needs of {waiting} can never be met")
            out = len(target.pending)

    def _is_lost(self, action) -> bool:
        return any(need in self.skipped or need in self.failed and self._stops(action, need) for need in action.needs)

    @staticmethod
    def _stops(action, need) -> bool:
        return not next_try(action, need) and not made_up_for(need)

    def _send(self, action) -> None:
        if action is self.broken:
            self.failed[action] = RpcFailure(-32603, "injected")
            return
        refuse_what_gives_up_data(self.target, action)

        def reply(answer) -> None:
            if isinstance(answer, RpcFailure):
                self.failed[action] = answer
            else:
                action.state = "done"
                self.done.add(id(action))

        self.target.submit(action.method, action.params, reply)

    def disturbed(self) -> set:
        """The subjects that are not as planned."""
        return {action.subject for action in (*self.failed, *self.skipped)}


def refuse_what_gives_up_data(target: Target, action) -> None:
    """What an action must find at the moment it is sent."""
    if action.method in ("bdev_lvol_delete", "bdev_lvol_resize"):
        bdev = target.bdevs.find(action.params["name"])
        grows = action.method == "bdev_lvol_resize" and action.params["size_in_mib"] * MIB >= bdev.size
        assert grows or not bdev.holders, f"{action.method} of {action.subject}, which is in use"
        assert bdev.lvol.snapshot == action.subject.startswith("snapshot ")
        assert len(clones(target, bdev)) < 2
    elif action.method == "vhost_delete_controller":
        assert not target.vhost[action.params["ctrlr"]].sessions, "a client is connected"
    elif action.method == "vhost_create_blk_controller":
        assert not target.bdevs.find(action.params["dev_name"]).holders
    elif action.method == "bdev_raid_create":
        legs = [target.bdevs.find(name) for name in action.params["base_bdevs"]]
        assert None not in legs and not any(leg.holders for leg in legs)
        assert len({(leg.block_size, leg.num_blocks) for leg in legs}) == 1
    elif action.method == "bdev_raid_delete":
        raid = target.raids[action.params["name"]]
        own = target.bdevs.by_name.get(raid.name)
        assert own is None or not own.holders, f"RAID {raid.name} is in use"
        in_sync = raid.state == "online" and len(raid.healthy) == len(raid.slots)
        assert in_sync or not action.params.get("clear_sb")
    elif action.method == "bdev_raid_add_base_bdev":
        assert target.raids[action.params["raid_bdev"]].state == "online"
    elif action.method == "bdev_raid_remove_base_bdev":
        (raid,) = (r for r in target.raids.values() if action.params["name"] in [slot.name for slot in r.slots])
        assert raid.rebuild is None and len(raid.healthy) == len(raid.slots) > 1
    elif action.method == "bdev_nvme_detach_controller" and "traddr" in action.params:
        controller = target.nvme_controllers[action.params["name"]]
        assert len(controller.paths) > 1, f"{action.summary} of {action.subject}, its last path"
    elif action.method == "bdev_nvme_detach_controller":
        for bdev in on_drive(target, action.params["name"]):
            assert not bdev.holders, f"{bdev.aliases[0]} is in use"
    elif action.method == "bdev_lvol_delete_lvstore":
        assert not target.lvstores[action.params["uuid"]].lvols
    elif action.method == "bdev_lvol_create_lvstore":
        assert not target.bdevs.find(action.params["bdev_name"]).holders
    elif action.method == "nvmf_subsystem_add_ns":
        bdev = target.bdevs.find(action.params["namespace"]["bdev_name"])
        assert bdev is None or not bdev.holders, f"{action.summary} of {action.subject}, but it is in use"


def clones(target: Target, bdev: LvolBdev) -> list:
    """The names of the clones of a snapshot."""
    return bdev.driver_specific(target)["lvol"].get("clones", [])


def on_drive(target: Target, controller: str) -> list:
    """The bdevs of the lvols on a local drive."""
    mine = {bdev.name for bdev in target.nvme_controllers[controller].bdevs.values()}
    return [bdev for bdev in target.bdevs if isinstance(bdev, LvolBdev) and bdev.store.base.name in mine]


def is_explained(target: Target, action, error: RpcFailure) -> bool:
    """Failures that no getter foretells: nobody counts metadata pages, nor the clusters of a store yet to be made."""
    if action.method == "bdev_nvme_attach_controller":
        return action.params["traddr"] == DRIVES[2] or action.params.get("trsvcid") == str(PATHS[-1])
    if action.method in ("bdev_raid_create", "bdev_raid_add_base_bdev"):  # a superblock, on what is not NVMe
        return error.message.endswith("File exists")
    if action.method not in CREATING:
        return False
    if error.message == "Cannot allocate memory":
        return any(len(store.lvols) + 1 >= store.metadata_pages for store in target.lvstores.values())
    unknown = "lvs_name" in action.params or action.method == "bdev_lvol_decouple_parent" or in_new_store(action)
    return error.message == "No space left on device" and unknown


def in_new_store(action) -> bool:
    """Whether the plan makes the lvstore that an action names with its lvol."""
    store = action.params.get("name", "").partition("/")[0]
    needs = list(action.needs)
    for need in needs:
        if need.method == "bdev_lvol_create_lvstore" and need.params["lvs_name"] == store:
            return True
        needs += need.needs
    return False


def picture(graph) -> dict:
    """A graph by the names people use, without UUIDs and counts."""
    bdevs = graph.bdevs.values()
    return {
        "lvstores": {s.name: (s.base_bdev, s.cluster_size) for s in graph.lvstores.values()},
        "controllers": {c.name: (c.traddr, {path.address for path in c.paths}) for c in graph.controllers.values()},
        "lvols": {v.alias: (v.size, v.thin, v.is_snapshot, v.parent) for v in graph.lvols.values()},
        "bdevs": {b.key: (b.size if b.product != "Raid Volume" else "as its legs", b.claimed) for b in bdevs},
        "transports": set(graph.transports),
        "keys": graph.keys,
        "subsystems": {
            s.nqn: (
                s.allow_any_host,
                s.listeners,
                s.hosts,
                s.secure,
                s.host_keys,
                {nsid: graph.key(ns.bdev) for nsid, ns in s.namespaces.items()},
            )
            for s in graph.subsystems.values()
        },
        "raids": {r.name: (r.state, sorted(r.present), r.superblock) for r in graph.raids.values()},
        "limits": {graph.key(bdev): limits for bdev, limits in graph.limits.items()},
        "exports": {graph.key(bdev): export for bdev, export in graph.exports.items()},
        "vhost": {graph.key(bdev): name for bdev, name in graph.vhost.items()},
    }


def described(plan: Plan) -> list:
    """All that a plan says, as plain data."""
    position = {id(action): number for number, action in enumerate(plan.actions)}
    return [
        (
            item.subject,
            item.refusal,
            item.deferred,
            item.change.before,
            item.change.after,
            item.change.notes,
            [(a.describe(), sorted(position[id(need)] for need in a.needs)) for a in item.change.actions],
        )
        for item in plan.objects
    ]


def refused(plan: Plan) -> set:
    """The subjects that nothing is done for, or not yet."""
    return {item.subject for item in plan.objects if item.refusal is not None or item.deferred}


def converged(desired: list, target: Target, skip: set) -> None:
    """A new plan leaves every object alone but those in ``skip``."""
    again = make_plan(desired, read(target, desired))
    snapshots = [
        item.wanted.options for item in again.objects if item.subject.startswith("snapshot ") and item.subject in skip
    ]
    skip = skip | {f"lvol {each['lvstore']}/{each['lvol']}" for each in snapshots}  # it would be a clone of that
    closes = any(e.resource.kind == "controller" and e.options["state"] == "absent" for e in desired)
    for item in again.objects:
        if closes and "is not loaded on this target" in (item.refusal or ""):
            continue  # what is on a drive that is detached cannot be seen to be gone
        if item.subject not in skip:
            assert item.refusal is None, f"{item.subject}: {item.refusal}"
            if item.change.later:
                continue
            assert not item.change.actions, f"{item.subject}: {[a.describe() for a in item.change.actions]}"
            assert item.change.before == item.change.after


@given(chances)
def test_a_plan_does_what_it_says(chance):
    target, desired = some_target(chance), some_desired(chance)
    plan = make_plan(desired, read(target, desired))
    run = Run(target, plan, chance)
    event("actions" if plan.actions else "no actions")
    for action, error in run.failed.items():
        assert is_explained(target, action, error), f"{action.describe()}: {error.message}"
    converged(desired, target, refused(plan) | run.disturbed())
    if run.failed or any(action.reveals for action in plan.actions):
        return
    found = read(target)
    assert picture(found) == picture(plan.predicted)
    for store in plan.predicted.lvstores.values():
        if store.free_clusters is not None:
            free = store.free_clusters + plan.predicted.freed.get(store.name, 0)
            assert found.lvstores[store.name].free_clusters >= free


@given(chances)
def test_planning_is_pure(chance):
    target, desired = some_target(chance), some_desired(chance)
    observed = read(target, desired)
    before = copy.deepcopy(observed)
    wanted_before = copy.deepcopy([each.options for each in desired])
    first = make_plan(desired, observed)
    assert observed == before
    assert [each.options for each in desired] == wanted_before
    assert described(make_plan(desired, observed)) == described(first)
    assert {id(item.wanted) for item in first.objects} == {id(each) for each in desired}


@given(chances)
def test_one_failure_stops_only_what_depends_on_it(chance):
    target, desired = some_target(chance), some_desired(chance)
    plan = make_plan(desired, read(target, desired))
    if not plan.actions:
        return
    broken = chance.choice(plan.actions)
    run = Run(target, plan, chance, broken)
    for action, error in run.failed.items():
        assert action is broken or is_explained(target, action, error), f"{action.describe()}: {error.message}"
    converged(desired, target, refused(plan) | run.disturbed())


# --- the order, stated a second time from the methods alone


def touched(action, graph) -> tuple[set, set]:
    """What a call changes and what it only relies on (contract sections 5, 6 and 12)."""
    method, params = action.method, action.params

    def bdev(name: str) -> tuple:
        found = graph.bdev(name)
        return ("bdev", found.aliases[0] if found and found.product == "Logical Volume" else name)

    if method == "nvmf_create_transport":
        return {("transport", params["trtype"])}, set()
    if method == "bdev_lvol_create_lvstore":
        return {("store", params["lvs_name"]), bdev(params["bdev_name"])}, set()
    if method == "bdev_lvol_delete_lvstore":
        store = graph.lvstore(params["uuid"])
        return {("store", store.name), bdev(store.base_bdev)}, set()
    if method == "bdev_lvol_create":
        store = graph.lvstore(params["uuid"]).name if "uuid" in params else params["lvs_name"]
        return {("bdev", f"{store}/{params['lvol_name']}")}, {("store", store)}
    if method == "bdev_nvme_set_multipath_policy":
        return {("controller", params["name"].rpartition("n")[0]), bdev(params["name"])}, set()
    if method == "bdev_nvme_detach_controller" and "traddr" in params:
        return {("controller", params["name"])}, set()
    if method == "bdev_nvme_attach_controller" and params["name"] in graph.controllers:
        return {("controller", params["name"])}, set()
    if method == "bdev_nvme_attach_controller":
        where = ("attached", params.get("subnqn", params["traddr"]))
        return {("controller", params["name"]), where, ("bdev", f"{params['name']}n1")}, set()
    if method == "bdev_examine":
        return {("controller", params["name"][:2]), ("bdev", params["name"])}, set()
    if method == "bdev_nvme_detach_controller":
        mine = {bdev.name for bdev in graph.bdevs.values() if bdev.name.startswith(f"{params['name']}n")}
        stores = {store.name for store in graph.lvstores.values() if store.base_bdev in mine}
        lvols = {("bdev", lvol.alias) for lvol in graph.lvols.values() if lvol.lvstore in stores}
        found = graph.controllers[params["name"]]
        own = {("controller", found.name), ("attached", found.subnqn or found.traddr)}
        return {*own, *map(bdev, mine), *(("store", name) for name in stores), *lvols}, set()
    if method == "bdev_lvol_snapshot":
        store = params["lvol_name"].split("/")[0]
        return {("bdev", params["lvol_name"]), ("bdev", f"{store}/{params['snapshot_name']}")}, {("store", store)}
    if method == "bdev_lvol_clone":
        store = params["snapshot_name"].split("/")[0]
        return {("bdev", params["snapshot_name"]), ("bdev", f"{store}/{params['clone_name']}")}, {("store", store)}
    if method in ("bdev_lvol_inflate", "bdev_lvol_decouple_parent"):
        return {("bdev", params["name"])}, {("store", params["name"].split("/")[0])}
    if method == "bdev_lvol_delete":
        store, name = params["name"].split("/")
        lvol = graph.lvols.get((store, name))  # not there yet if the plan makes and deletes it
        parent = lvol.parent if lvol else ""
        family = {("bdev", f"{store}/{parent}")} if parent else set()
        return {("bdev", params["name"]), *family}, {("store", store)}
    if method == "bdev_lvol_resize":
        return {("bdev", params["name"])}, {("store", params["name"].split("/")[0])}
    if method == "bdev_raid_create":
        return {("bdev", params["name"]), *map(bdev, params["base_bdevs"])}, set()
    if method == "bdev_raid_delete":
        return {("bdev", params["name"]), *map(bdev, graph.raids[params["name"]].present)}, set()
    if method == "bdev_raid_add_base_bdev":
        return {("bdev", params["raid_bdev"]), bdev(params["base_bdev"])}, set()
    if method == "bdev_raid_remove_base_bdev":
        return {("bdev", graph.legs[params["name"]]), bdev(params["name"])}, set()
    if method == "bdev_set_qos_limit":
        return {bdev(params["name"])}, set()
    if method == "vhost_create_blk_controller":
        return {("vhost", params["ctrlr"]), bdev(params["dev_name"])}, set()
    if method == "vhost_delete_controller":
        served = graph.vhosts[params["ctrlr"]].bdev
        return {("vhost", params["ctrlr"]), *([bdev(served)] if served else [])}, set()
    if method.startswith("keyring_file_"):
        return {("key", params["name"])}, set()
    changed, relied = {("subsystem", params["nqn"])}, set()
    shown = graph.subsystems.get(params["nqn"])
    relied.update(("key", params[purpose]) for purpose in HOST_KEYS if purpose in params)
    if "psk" in params:
        relied.add(("transport", "TCP"))
    if shown and method in ("nvmf_subsystem_remove_host", "nvmf_subsystem_set_keys"):
        relied.update(("key", name) for name in shown.host_keys.get(params["host"], {}).values())
    if method == "nvmf_subsystem_add_ns":
        changed.add(bdev(params["namespace"]["bdev_name"]))
    elif method == "nvmf_subsystem_remove_ns":
        changed.add(bdev(shown.namespaces[params["nsid"]].bdev))
    elif method == "nvmf_delete_subsystem":
        changed.update(bdev(ns.bdev) for ns in shown.namespaces.values())
        relied.update(("key", name) for keys in shown.host_keys.values() for name in keys.values())
    elif method == "nvmf_subsystem_add_listener":
        relied.add(("transport", params["listen_address"]["trtype"]))
    return changed, relied


@given(chances)
def test_what_must_not_overlap_is_ordered(chance):
    target, desired = some_target(chance), some_desired(chance)
    observed = read(target, desired)
    plan = make_plan(desired, observed)
    before: dict = {}
    for action in plan.actions:
        before[id(action)] = set().union({id(n) for n in action.needs}, *(before[id(n)] for n in action.needs))
    for number, later in enumerate(plan.actions):
        changed, relied = touched(later, observed)
        for earlier in plan.actions[:number]:
            other_changed, other_relied = touched(earlier, observed)
            if changed & (other_changed | other_relied) or relied & other_changed:
                assert id(earlier) in before[id(later)], f"{earlier.describe()} and {later.describe()} may overlap"


# --- nothing is lost


def contents(target: Target) -> dict:
    """What hosts and users see, by identity, as plain data."""
    return {
        "lvols": {
            bdev.uuid: (bdev.aliases[0], bdev.num_blocks, bdev.lvol.thin, bdev.store.uuid)
            for bdev in target.bdevs
            if isinstance(bdev, LvolBdev)
        },
        "stores": {uuid: (store.name, store.base.name) for uuid, store in target.lvstores.items()},
        "subsystems": {
            item["nqn"]: {
                "listeners": {str(a) for a in item["listen_addresses"]},
                "hosts": {host["nqn"] for host in item["hosts"]},
                "namespaces": {(ns["nsid"], ns["bdev_name"]) for ns in item.get("namespaces", ())},
                "rest": {key: item.get(key) for key in ("allow_any_host", "serial_number", "max_namespaces")},
            }
            for item in copy.deepcopy(target.call("nvmf_get_subsystems"))
        },
        "vhost": {name: (c.bdev.name if c.bdev else None) for name, c in target.vhost.items()},
        "raids": set(target.raids),
    }


@given(chances)
def test_only_what_is_named_for_removal_is_removed(chance):
    target, desired = some_target(chance), some_desired(chance)
    before = contents(target)
    plan = make_plan(desired, read(target, desired))
    Run(target, plan, chance)
    after = contents(target)
    by_kind: dict = {kind: {} for kind in KINDS}
    for each in desired:
        by_kind[each.resource.kind][tuple(each.resource.identity(each.options).values())] = each.options
    detached = {name for (name,), options in by_kind["controller"].items() if options["state"] == "absent"}
    closed = {uuid for uuid, (_name, base) in before["stores"].items() if base in {f"{name}n1" for name in detached}}
    for uuid, (alias, blocks, thin, store) in before["lvols"].items():
        key = tuple(alias.split("/", 1))
        options = by_kind["lvol"].get(key, {}) | by_kind["snapshot"].get(key, {})
        if store in closed and uuid not in after["lvols"]:
            continue
        if uuid not in after["lvols"]:
            assert options.get("state") == "absent", f"{alias} is gone"
            continue
        assert after["lvols"][uuid][0] == alias
        assert after["lvols"][uuid][2] == thin or by_kind["snapshot"] or options.get("independent")
        if not options.get("size"):
            assert after["lvols"][uuid][1] == blocks
        if not options.get("allow_shrink"):
            assert after["lvols"][uuid][1] >= blocks
    for uuid, (name, _base) in before["stores"].items():
        gone = uuid in closed or by_kind["lvstore"].get((name,), {}).get("state") == "absent"
        assert uuid in after["stores"] or gone
    for name, bdev in before["vhost"].items():
        options = by_kind["vhost"].get((name,), {})
        if name not in after["vhost"]:
            assert options.get("state") == "absent", f"vhost controller {name} is gone"
        else:
            assert bdev in (after["vhost"][name], None), f"vhost controller {name} serves another bdev"
    for name in before["raids"] - after["raids"]:
        assert by_kind["raid"].get((name,), {}).get("state") == "absent", f"RAID {name} is gone"
    for name, parts in before["subsystems"].items():
        options = by_kind["subsystem"].get((name,))
        if options is None:
            assert after["subsystems"][name] == parts
        elif name not in after["subsystems"]:
            assert options["state"] == "absent"
        else:
            now = after["subsystems"][name]
            for part in ("listeners", "hosts", "namespaces"):
                if part not in options["purge"]:
                    assert now[part] >= parts[part], f"{part} of {name}"


def test_the_states_are_worth_it():
    """The properties above are about something: the base state exports an lvol, and plans for it have actions."""
    target = Target(seed=1, addresses=None)
    for name in DISKS:
        add_disk(target, name, 64 * MIB)
    add_secrets(target)
    for method, params in base_calls():
        target.call(method, params)
    graph = read(target)
    assert graph.exports and graph.lvols
    plan = make_plan(
        [
            want("subsystem", nqn=SUBSYSTEMS[0], state="absent"),
            want("lvol", lvstore="s0", name="a", state="absent"),
            want("lvstore", name="s0", state="absent"),
        ],
        graph,
    )
    assert [action.method for action in plan.actions] == ["nvmf_delete_subsystem", "bdev_lvol_delete"]
    with pytest.raises(AssertionError, match="in use"):
        refuse_what_gives_up_data(target, plan.actions[1])
