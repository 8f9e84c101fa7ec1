# SPDX-License-Identifier: GPL-3.0-or-later
"""Random states of a simulated target and random desired states, from a random.Random."""

from __future__ import annotations

import random

from ansible_collections.excloud.diskengine.plugins.module_utils._graph import HOST_KEYS
from ansible_collections.excloud.diskengine.plugins.module_utils._naming import controller_of
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import (
    MIB,
    add_disk,
    nqn,
    tcp,
    want,
)
from spdk_sim import RpcFailure, Target, vhost
from spdk_sim.fabric import add_drive, add_subsystem, outside
from spdk_sim.files import FileInfo
from support.secrets import dhchap, psk

DISKS = ("d0", "d1", "d2")
STORES = ("s0", "s1")
NAMES = ("a", "b", "c", "d")
SNAPSHOTS = ("x", "y")
CONTROLLERS = ("n0", "n1")
REMOTE = (nqn("far0"), nqn("far1"))
PATHS = (4420, 4421, 4422, 4423)  # of which the last is dead
DRIVES = ("0000:01:00.0", "0000:02:00.0", "0000:03:00.0")  # of which there are two
SUBSYSTEMS = (nqn(0), nqn(1), nqn(2))
HOSTS = (nqn("host0"), nqn("host1"))
LEGS = ("m0", "m1", "m2")
RAIDS = ("r0", "r1")
VHOSTS = ("v0", "v1")
KEYS = ("k0", "k1", "tls")
LVOLS = tuple(f"{store}/{name}" for store in STORES for name in NAMES)
BDEVS = (*DISKS, *LVOLS)
DRIVE_BDEVS = (*DISKS, "n0n1")
PORTS = (4420, 4421, 4422)
CLUSTERS = ("1MiB", "1GiB", "512KiB")
PARTS = ("listeners", "hosts", "namespaces")


def listen_address(port: int) -> dict:
    return {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)}


def _path(port: int) -> dict:
    return {"traddr": "127.0.0.1", "trsvcid": str(port)}


def base_calls() -> list:
    """What states begin with, so that random calls find something to act on."""
    return [
        ("bdev_lvol_create_lvstore", {"bdev_name": "d0", "lvs_name": "s0", "cluster_sz": MIB}),
        ("nvmf_create_transport", {"trtype": "TCP"}),
        ("bdev_lvol_create", {"lvs_name": "s0", "lvol_name": "a", "size_in_mib": 8, "thin_provision": False}),
        ("bdev_lvol_create", {"lvs_name": "s0", "lvol_name": "b", "size_in_mib": 16, "thin_provision": True}),
        ("bdev_lvol_snapshot", {"lvol_name": "s0/b", "snapshot_name": "x"}),
        ("nvmf_create_subsystem", {"nqn": SUBSYSTEMS[0]}),
        ("nvmf_subsystem_add_ns", {"nqn": SUBSYSTEMS[0], "namespace": {"bdev_name": "s0/a"}}),
        ("nvmf_subsystem_add_listener", {"nqn": SUBSYSTEMS[0], "listen_address": listen_address(4420)}),
        ("nvmf_subsystem_add_host", {"nqn": SUBSYSTEMS[0], "host": HOSTS[0]}),
    ]


def some_call(chance: random.Random) -> tuple[str, dict]:
    """One raw call that may or may not work."""
    store, name, lvol = chance.choice(STORES), chance.choice(NAMES), chance.choice(LVOLS)
    nqn_, bdev, number = chance.choice(SUBSYSTEMS), chance.choice(BDEVS), chance.randint(1, 40)
    namespace = {"bdev_name": bdev, **({"nsid": chance.randint(1, 3)} if chance.random() < 0.4 else {})}
    size = {"lvs_name": store, "lvol_name": name, "size_in_mib": number}
    calls = (
        (3, "bdev_lvol_create_lvstore", {"bdev_name": chance.choice(DISKS), "lvs_name": store, "cluster_sz": MIB}),
        (1, "bdev_lvol_create_lvstore", {"bdev_name": chance.choice(DISKS), "lvs_name": store}),
        (8, "bdev_lvol_create", {**size, "thin_provision": chance.random() < 0.4}),
        (2, "bdev_lvol_snapshot", {"lvol_name": lvol, "snapshot_name": chance.choice([name, *SNAPSHOTS])}),
        (2, "bdev_lvol_clone", {"snapshot_name": f"{store}/{chance.choice(SNAPSHOTS)}", "clone_name": name}),
        (1, "bdev_nvme_attach_controller", {"name": chance.choice(CONTROLLERS), "trtype": "PCIe", "traddr": DRIVES[0]}),
        (3, "bdev_nvme_attach_controller", some_attach(chance)),
        (1, "bdev_nvme_detach_controller", {"name": controller_of(chance.choice(REMOTE))}),
        (1, "bdev_lvol_create_lvstore", {"bdev_name": f"{CONTROLLERS[0]}n1", "lvs_name": "s1", "cluster_sz": MIB}),
        (1, "nvmf_create_transport", {"trtype": "TCP"}),
        (3, "nvmf_create_subsystem", {"nqn": nqn_, "max_namespaces": chance.choice([1, 2, 32])}),
        (1, "nvmf_create_subsystem", {"nqn": nqn_, "allow_any_host": True}),
        (6, "nvmf_subsystem_add_ns", {"nqn": nqn_, "namespace": namespace}),
        (4, "nvmf_subsystem_add_listener", {"nqn": nqn_, "listen_address": listen_address(chance.choice(PORTS))}),
        (2, "nvmf_subsystem_add_host", {"nqn": nqn_, "host": chance.choice(HOSTS)}),
        (1, "vhost_create_blk_controller", {"ctrlr": f"v{number % 2}", "dev_name": bdev}),
        (1, "vhost_create_blk_controller", {"ctrlr": chance.choice(VHOSTS), "dev_name": chance.choice(RAIDS)}),
        (1, "bdev_raid_create", {"name": "raid", "raid_level": "raid1", "base_bdevs": chance.sample(BDEVS, 2)}),
        (2, "bdev_raid_create", {**_mirror(chance), "superblock": chance.random() < 0.8}),
        (1, "bdev_raid_remove_base_bdev", {"name": chance.choice(LEGS)}),
        (1, "bdev_raid_add_base_bdev", {"raid_bdev": chance.choice(RAIDS), "base_bdev": chance.choice(LEGS)}),
        (1, "bdev_raid_delete", {"name": chance.choice(RAIDS)}),
        (1, "bdev_raid_set_options", {"process_max_bandwidth_mb_sec": number}),
        (1, "bdev_set_qos_limit", {"name": chance.choice((*RAIDS, *BDEVS)), "r_mbytes_per_sec": number % 3}),
        (1, "bdev_malloc_delete", {"name": chance.choice(DISKS)}),
    )
    _weight, method, params = chance.choices(calls, [weight for weight, _method, _params in calls])[0]
    return method, params


def _mirror(chance: random.Random) -> dict:
    return {"name": chance.choice(RAIDS), "raid_level": "raid1", "base_bdevs": chance.sample(LEGS, 2)}


def some_keys(chance: random.Random) -> dict:
    """Names of keys for a host."""
    keys = {} if chance.random() < 0.5 else {"dhchap_key": chance.choice(KEYS[:2])}
    if keys and chance.random() < 0.3:
        keys["dhchap_ctrlr_key"] = chance.choice(KEYS[:2])
    return keys if chance.random() < 0.8 else {**keys, "psk": "tls"}


def some_call_about_keys(chance: random.Random) -> tuple[str, dict]:
    """One raw call that is about keys or TLS, or both."""
    key, nqn_ = chance.choice(KEYS), chance.choice(SUBSYSTEMS)
    host = {"nqn": nqn_, "host": chance.choice(HOSTS)}
    secure = {"nqn": nqn_, "listen_address": listen_address(chance.choice(PORTS)), "secure_channel": True}
    calls = (
        (4, "keyring_file_add_key", {"name": key, "path": f"/{key}"}),
        (1, "keyring_file_remove_key", {"name": key}),
        (3, "nvmf_subsystem_add_host", {**host, **some_keys(chance)}),
        (1, "nvmf_subsystem_remove_host", host),
        (2, "nvmf_subsystem_set_keys", {**host, "dhchap_key": chance.choice(KEYS[:2])}),
        (1, "nvmf_subsystem_add_listener", secure),
    )
    _weight, method, params = chance.choices(calls, [weight for weight, _method, _params in calls])[0]
    return method, params


def apart(chance: random.Random) -> random.Random:
    """Another stream of chances, which takes nothing from the first one."""
    other = random.Random()
    other.setstate(chance.getstate())
    return other


def add_secrets(target: Target) -> None:
    """The files of the keys."""
    secrets = {"/k0": dhchap("k0"), "/k1": dhchap("k1"), "/tls": psk("tls")}
    target.files.files.update({path: FileInfo("file", content=text) for path, text in secrets.items()})


def some_attach(chance: random.Random) -> dict:
    """A path to a subsystem of another node, now and then under a name that is not its own."""
    names = [*map(controller_of, REMOTE), "n1"]
    subnqn = chance.choice(REMOTE)
    name = chance.choice(names) if chance.random() < 0.1 else controller_of(subnqn)
    more = {"hostnqn": HOSTS[0]} if chance.random() < 0.9 else {}
    return {"name": name, "subnqn": subnqn, "multipath": "multipath", **listen_address(chance.choice(PATHS)), **more}


def some_target(chance: random.Random) -> Target:
    """A target in a state that somebody could have left behind."""
    target = Target(release=chance.choice(["26.09", "26.09", "25.05", "24.05"]), seed=1, addresses=None)
    for name in DISKS:
        add_disk(target, name, 64 * MIB, chance.choice([512, 4096]))
    for name in LEGS:
        add_disk(target, name, chance.choice([16, 16, 16, 32]) * MIB, chance.choice([512, 4096, 4096, 4096]))
    other = outside(target)
    for bdf in DRIVES[:2]:
        add_drive(other, bdf, 64 * MIB, 4096, "test")
    for subnqn in REMOTE:
        addresses = [listen_address(port) for port in PATHS[:-1]]
        add_subsystem(other, {"nqn": subnqn, "addresses": addresses, "namespaces": [{"size": 64 * MIB}]})
    target.bdevs.auto_examine = chance.random() < 0.7
    base = base_calls()
    calls = base[: chance.randint(0, len(base))] if chance.random() < 0.3 else base
    add_secrets(target)
    calls = calls + [some_call(chance) for _number in range(chance.randint(0, 15))]
    other = apart(chance)
    for method, params in calls + [some_call_about_keys(other) for _number in range(other.randint(0, 10))]:
        try:
            target.call(method, params)
        except RpcFailure:
            pass
    for raid in target.call("bdev_raid_get_bdevs", {"category": "configuring"}):  # it would take bdevs as they appear
        target.call("bdev_raid_delete", {"name": raid["name"]})
    for name in target.vhost:
        if chance.random() < 0.4:
            vhost.connect(target, name, started=chance.random() < 0.5)
    return target


def some_desired(chance: random.Random) -> list:
    """A desired state as an estate could have it, with a few objects that nobody can have."""

    def sometimes(probability: float, **options) -> dict:
        return {name: value() for name, value in options.items() if chance.random() < probability}

    def bad(probability: float = 0.03) -> bool:
        return chance.random() < probability

    def state(probability: float) -> dict:
        return {"state": "absent"} if chance.random() < probability else {}

    out = []
    if chance.random() < 0.8:
        options = sometimes(0.2, max_queue_depth=lambda: chance.choice([64, 128]), kas=lambda: 50)
        options |= sometimes(0.2, io_unit_size=lambda: 16384)
        out.append(want("transport", trtype=chance.choice(["TCP", "tcp", "FC"] if bad(0.1) else ["TCP"]), **options))
    for name in chance.sample(CONTROLLERS, chance.choice([0, 0, 1, 2])):
        options = state(0.4) | sometimes(0.8, traddr=lambda: "nowhere" if bad() else chance.choice(DRIVES))
        out.append(want("controller", name=name, **options))
    for subnqn in chance.sample(REMOTE, chance.choice([0, 0, 1, 2])):
        ports = chance.sample(PATHS if bad(0.2) else PATHS[:-1], chance.randint(1, 3))
        options = state(0.3) | sometimes(0.9, paths=lambda given=ports: [_path(port) for port in given])
        options |= sometimes(0.8, hostnqn=lambda: HOSTS[0]) | sometimes(0.2, name=lambda: "n1")
        options |= sometimes(0.3, multipath_policy=lambda: chance.choice(["active_active", "active_passive"]))
        out.append(want("controller", trtype="TCP", subnqn=subnqn, **options))
    for store in chance.sample(STORES, chance.randint(0, 2)):
        options = state(0.3) | sometimes(0.8, bdev=lambda: "nowhere" if bad() else chance.choice(DRIVE_BDEVS))
        options |= sometimes(0.2, import_existing=lambda: True)
        options |= sometimes(0.3, cluster_size=lambda: "many" if bad(0.1) else chance.choice(CLUSTERS))
        options |= sometimes(0.2, max_lvols=lambda: chance.choice([1, 100]))
        out.append(want("lvstore", name="bad/name" if bad() else store, **options))
    wanted_lvols = chance.sample(LVOLS, chance.randint(0, 6))
    independent = set()  # nobody wants snapshots of them at the same time
    for lvol in wanted_lvols:
        store, name = lvol.split("/")
        options = state(0.5) | sometimes(0.2, thin=lambda: True) | sometimes(0.4, allow_shrink=lambda: True)
        options |= sometimes(0.9, size=lambda: chance.choice(["0", "big"]) if bad() else f"{chance.randint(1, 50)}MiB")
        options |= sometimes(0.5, growth=lambda: "plain")
        options |= sometimes(0.2, clone_of=lambda: chance.choice(SNAPSHOTS))
        options |= sometimes(0.2, independent=lambda: chance.choice(["inflate", "decouple"]))
        independent |= {name} if "independent" in options else set()
        options |= sometimes(0.03, uuid=lambda: "00000000-0000-4000-8000-000000000000")
        out.append(want("lvol", lvstore="nowhere" if bad() else store, name="a/b" if bad() else name, **options))
    for store, name in {(chance.choice(STORES), chance.choice(SNAPSHOTS)) for _number in range(chance.randint(0, 4))}:
        options = state(0.5) | sometimes(0.9, lvol=lambda: chance.choice(sorted({*NAMES, *SNAPSHOTS} - independent)))
        out.append(want("snapshot", lvstore=store, name=name, **options))
    for name in chance.sample(RAIDS, chance.choice([0, 0, 1, 2])):
        legs = chance.sample(LEGS, 2) + (["nowhere"] if bad() else [])
        options = state(0.4) | sometimes(0.9, base_bdevs=lambda given=legs: given)
        options |= sometimes(0.2, superblock=lambda: chance.random() < 0.5)
        out.append(want("raid", name=name, **options))
    for bdev in chance.sample((*RAIDS, "d2", "s0/a"), chance.choice([0, 0, 1, 2])):
        options = sometimes(0.7, rw_ios_per_sec=lambda: chance.choice([0, 1500, 3000]))
        options |= sometimes(0.7, r_mbytes_per_sec=lambda: -1 if bad() else chance.randint(0, 2))
        out.append(want("qos", bdev=bdev, **options))
    for name in chance.sample(VHOSTS, chance.choice([0, 0, 1, 2])):
        options = state(0.4) | sometimes(0.9, bdev=lambda: chance.choice((*RAIDS, *RAIDS, "s0/a", "d2", "nowhere")))
        options |= sometimes(0.1, readonly=lambda: True, cpumask=lambda: chance.choice(["1", "0x1", "none"]))
        out.append(want("vhost", name=name, **options))
    for nqn_ in chance.sample(SUBSYSTEMS, chance.randint(0, 3)):
        bdevs = chance.sample([*LVOLS, *wanted_lvols, "s0/a", "s0/b", "d2", *RAIDS], chance.choice([0, 1, 1, 2, 3]))
        namespaces = [{"bdev": bdev, **sometimes(0.5, nsid=lambda: chance.randint(1, 3))} for bdev in bdevs]
        options = state(0.3) | sometimes(0.8, namespaces=lambda given=namespaces: given)
        options |= sometimes(0.7, listeners=lambda: [tcp(port) for port in chance.sample(PORTS, chance.randint(0, 3))])
        options |= sometimes(0.7, hosts=lambda: ["bad"] if bad() else chance.sample(HOSTS, chance.randint(0, 2)))
        options |= sometimes(0.4, purge=lambda: chance.sample(PARTS, chance.randint(1, 3)))
        options |= sometimes(0.1, allow_any_host=lambda: True, max_namespaces=lambda: chance.choice([1, 2, 32]))
        out.append(want("subsystem", nqn="nqn.bad" if bad() else nqn_, **options))
    _ask_for_keys(out, apart(chance))
    if out and bad(0.1):
        out.append(chance.choice(out)._replace())
    chance.shuffle(out)
    return out


def _ask_for_keys(out: list, chance: random.Random) -> None:
    for each in out:
        options = each.options
        if each.resource.kind == "subsystem" and chance.random() < 0.5:
            hosts = chance.sample(HOSTS, chance.randint(0, 2))
            options["host_keys"] = [{"host": host, **dict.fromkeys(HOST_KEYS), **some_keys(chance)} for host in hosts]
            for listener in (options["listeners"] or ()) if chance.random() < 0.3 else ():
                listener["secure_channel"] = chance.random() < 0.5
    for name in chance.sample(KEYS, chance.randint(0, 3)):
        state = "absent" if chance.random() < 0.3 else "present"
        name = "a:b" if chance.random() < 0.03 else name
        out.append(want("key", name=name, state=state, path=f"/{name}" if chance.random() < 0.9 else None))
