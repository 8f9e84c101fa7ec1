# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure core: releases, copies, determinism, and what was found on the real program beside the recordings."""

from __future__ import annotations

from typing import Any

import pytest
from spdk_sim import Blocked, RpcFailure, Target
from spdk_sim.files import FileInfo
from support.secrets import dhchap, psk

MIB = 2**20
NQN = "nqn.2016-06.io.spdk:x"


def with_store(**options: Any) -> Target:
    """A target with the store L of 16 clusters on a RAM disk."""
    target = Target(seed=1, **options)
    target.call("bdev_malloc_create", {"name": "d", "num_blocks": 16384, "block_size": 4096})
    target.call("bdev_lvol_create_lvstore", {"bdev_name": "d", "lvs_name": "L"})
    return target


def refused(target: Target, method: str, params: Any = None) -> tuple[int, str]:
    """Code and message of a call that must fail."""
    with pytest.raises(RpcFailure) as caught:
        target.call(method, params)
    return caught.value.code, caught.value.message


def test_the_same_seed_gives_the_same_answers() -> None:
    assert with_store().call("bdev_lvol_get_lvstores") == with_store().call("bdev_lvol_get_lvstores")


def test_a_copy_is_independent() -> None:
    target = with_store()
    target.call("bdev_lvol_create", {"lvs_name": "L", "lvol_name": "v", "size_in_mib": 4})
    twin = target.copy()
    assert twin.call("bdev_get_bdevs") == target.call("bdev_get_bdevs")
    twin.call("bdev_lvol_delete", {"name": "L/v"})
    assert twin.call("bdev_lvol_get_lvols") == []
    assert len(target.call("bdev_lvol_get_lvols")) == 1


UNKNOWN_PARAMETERS = [
    ("24.05", "24.09", "nvmf_create_subsystem", {"nqn": NQN, "passthrough": False}),
    ("25.05", "25.09", "nvmf_create_subsystem", {"nqn": NQN, "enable_nssr": False}),
    ("26.01", "26.05", "nvmf_create_subsystem", {"nqn": NQN, "dmrsl": 8}),
    ("26.05", "26.09", "nvmf_create_subsystem", {"nqn": NQN, "admin_label": "label"}),
    ("25.09", "26.01", "bdev_get_iostat", {"names": []}),
    ("24.09", "25.05", "bdev_get_iostat", {"reset_mode": "none"}),
    ("25.09", "26.01", "bdev_malloc_create", {"name": "m", "num_blocks": 8, "block_size": 512, "numa_id": -1}),
    ("24.05", "24.09", "bdev_raid_set_options", {"process_max_bandwidth_mb_sec": 8}),
    ("24.09", "25.05", "bdev_nvme_set_options", {"tcp_connect_timeout_ms": 8}),
    ("26.01", "26.05", "framework_get_config", {"name": "bdev", "with_batches": True}),
]


@pytest.mark.parametrize(("before", "since", "method", "params"), UNKNOWN_PARAMETERS)
def test_a_parameter_is_refused_before_its_release(before: str, since: str, method: str, params: Any) -> None:
    assert refused(Target(release=before), method, params)[0] in (-32600, -32602, -32603, -32700)
    Target(release=since).call(method, params)


def test_a_removed_parameter_is_refused_from_then_on() -> None:
    params = {"nqn": NQN, "max_discard_size_kib": 4}
    assert Target(release="26.05").call("nvmf_create_subsystem", params) is True
    assert refused(Target(release="26.09"), "nvmf_create_subsystem", params) == (-32602, "Invalid parameters")


@pytest.mark.parametrize("method", ["nvmf_subsystem_set_keys", "bdev_nvme_set_keys", "nvmf_subsystem_set_ns_ana_group"])
def test_a_method_is_unknown_before_its_release(method: str) -> None:
    old = Target(release="24.05")
    assert refused(old, method) == (-32601, "Method not found")
    assert method not in old.call("rpc_get_methods")
    assert method in Target(release="24.09").call("rpc_get_methods")


def test_vhost_delete_with_a_client_waits_since_24_09() -> None:
    from spdk_sim import vhost

    for release in ("24.05", "24.09"):
        target = Target(release=release)
        target.call("bdev_malloc_create", {"name": "m", "num_blocks": 8, "block_size": 512})
        target.call("vhost_create_blk_controller", {"ctrlr": "v", "dev_name": "m"})
        vhost.connect(target, "v")
        if release == "24.05":
            assert refused(target, "vhost_delete_controller", {"ctrlr": "v"})[1] == "Device or resource busy"
        else:
            with pytest.raises(Blocked):
                target.call("vhost_delete_controller", {"ctrlr": "v"})


def test_thick_lvols_need_a_second_metadata_page() -> None:
    target = with_store()
    for number in range(7):
        target.call("bdev_lvol_create", {"lvs_name": "L", "lvol_name": f"v{number}", "size_in_mib": 4})
    more = {"lvs_name": "L", "lvol_name": "more", "size_in_mib": 4}
    assert refused(target, "bdev_lvol_create", more) == (-32602, "No space left on device")
    assert target.call("bdev_lvol_get_lvstores")[0]["free_clusters"] == 8
    target.call("bdev_lvol_create", more | {"thin_provision": True})
    assert refused(target, "bdev_lvol_create", more | {"lvol_name": "x"}) == (-32602, "Cannot allocate memory")


def test_the_parent_of_an_external_clone_cannot_be_deleted_under_it() -> None:
    target = with_store()
    target.call("bdev_malloc_create", {"name": "e", "num_blocks": 1024, "block_size": 4096})
    target.call("bdev_lvol_clone_bdev", {"bdev": "e", "lvs_name": "L", "clone_name": "c"})
    with pytest.raises(Blocked):
        target.call("bdev_malloc_delete", {"name": "e"})
    target.call("bdev_lvol_delete", {"name": "L/c"})
    assert target.call("bdev_malloc_delete", {"name": "e"}) is True


def test_a_mirror_on_lvols_of_this_node_is_assembled_here_unless_auto_examine_is_off() -> None:
    """Contract section 17, 1."""
    storage = with_store()
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"}
    storage.call("nvmf_create_transport", {"trtype": "TCP"})
    for name in "ab":
        storage.call("bdev_lvol_create", {"lvs_name": "L", "lvol_name": name, "size_in_mib": 8})
        storage.call("nvmf_create_subsystem", {"nqn": NQN + name, "allow_any_host": True})
        storage.call("nvmf_subsystem_add_ns", {"nqn": NQN + name, "namespace": {"bdev_name": f"L/{name}"}})
        storage.call("nvmf_subsystem_add_listener", {"nqn": NQN + name, "listen_address": address})
    compute = Target(seed=2, peers=[storage])
    for name in "ab":
        compute.call("bdev_nvme_attach_controller", address | {"name": name, "subnqn": NQN + name})
    legs = {"name": "r", "raid_level": "raid1", "superblock": True, "base_bdevs": ["an1", "bn1"]}
    compute.call("bdev_raid_create", legs)
    for auto in (True, False):
        again = storage.copy()
        for name in "ab":
            again.call("nvmf_delete_subsystem", {"nqn": NQN + name})
        again.bdevs.auto_examine = auto
        store = again.lvstores[next(iter(again.lvstores))]
        disk = store.base
        from spdk_sim import lvol

        lvol.unload(again, store)
        lvol.load(again, store, disk)
        assert [raid["state"] for raid in again.call("bdev_raid_get_bdevs", {"category": "all"})] == ["online"] * auto
        namespace = {"nqn": NQN + "c", "namespace": {"bdev_name": "L/a"}}
        again.call("nvmf_create_subsystem", {"nqn": NQN + "c"})
        if auto:
            assert refused(again, "nvmf_subsystem_add_ns", namespace) == (-32602, "Invalid parameters")
        else:
            assert again.call("nvmf_subsystem_add_ns", namespace) == 1


def test_two_equal_requests_in_one_write_both_succeed() -> None:
    """Contract section 12, 10 and 11."""
    target = Target(seed=1)
    answers: list[Any] = []
    for _time in range(2):
        target.submit("nvmf_create_transport", {"trtype": "TCP"}, answers.append)
    while target.poll():
        pass
    assert answers == [True, True]
    assert len(target.call("nvmf_get_transports")) == 2


def test_a_mirror_grows_with_its_last_leg_and_loses_a_cluster_to_the_superblock_on_lvols() -> None:
    """Seen on the real program: the offset is rounded up to the lvol's cluster; slots keep the names given."""
    target = with_store()
    for name in "ab":
        target.call("bdev_lvol_create", {"lvs_name": "L", "lvol_name": name, "size_in_mib": 8})
    legs = {"name": "r", "raid_level": "raid1", "superblock": True, "base_bdevs": ["L/a", "L/b"]}
    target.call("bdev_raid_create", legs)
    sizes = []
    for leg in ("L/a", "L/b"):
        sizes.append(target.call("bdev_get_bdevs", {"name": "r"})[0]["num_blocks"] * 4096 // MIB)
        target.call("bdev_lvol_resize", {"name": leg, "size_in_mib": 12})
    sizes.append(target.call("bdev_get_bdevs", {"name": "r"})[0]["num_blocks"] * 4096 // MIB)
    assert sizes == [4, 4, 8]
    slots = target.call("bdev_raid_get_bdevs", {"category": "all"})[0]["base_bdevs_list"]
    assert [(slot["name"], slot["data_offset"]) for slot in slots] == [("L/a", 1024), ("L/b", 1024)]


def test_set_parent_bdev_with_a_snapshot_of_the_same_store_is_set_parent() -> None:
    target = with_store()
    target.call("bdev_lvol_create", {"lvs_name": "L", "lvol_name": "v", "size_in_mib": 4, "thin_provision": True})
    for name in "st":
        target.call("bdev_lvol_snapshot", {"lvol_name": "L/v", "snapshot_name": name})
    assert target.call("bdev_lvol_set_parent_bdev", {"lvol_name": "L/v", "parent_name": "L/s"}) is True
    lvol = target.call("bdev_get_bdevs", {"name": "L/v"})[0]["driver_specific"]["lvol"]
    assert lvol["base_snapshot"] == "s" and not lvol["esnap_clone"]


def test_health_of_a_controller_that_is_not_connected() -> None:
    """Seen on the real program, over TCP on loopback: disabled, and while it waits to connect again."""
    target = Target()
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"}
    target.call("nvmf_create_transport", {"trtype": "TCP"})
    target.call("nvmf_create_subsystem", {"nqn": NQN, "allow_any_host": True})
    target.call("nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": address})
    wait = {"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1}
    target.call("bdev_nvme_attach_controller", {"name": "N", "subnqn": NQN, **address, **wait})
    health = ("bdev_nvme_get_controller_health_info", {"name": "N"})
    assert target.call(*health)["serial_number"] == "0" * 20
    target.call("bdev_nvme_disable_controller", {"name": "N"})
    assert refused(target, *health) == (-32603, "Internal error.")
    target.call("bdev_nvme_enable_controller", {"name": "N"})
    target.call(*health)
    target.call("nvmf_subsystem_remove_listener", {"nqn": NQN, "listen_address": address})
    assert refused(target, *health) == (-32603, "Internal error.")


# --- keys: what two processes of the real program did (docs/spdk-facts.md)

HOST = "nqn.2016-06.io.spdk:h"
LISTENER = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"}
SECURE = LISTENER | {"trsvcid": "4421"}
CHAP = {"dhchap_key": "k0", "dhchap_ctrlr_key": "k1"}


def store(target: Target, **texts: str) -> None:
    """Write the files of keys."""
    target.files.files.update({f"/{name}": FileInfo("file", content=text) for name, text in texts.items()})


def two(**keys: str) -> tuple[Target, Target]:
    """A target that lets a host in with keys, and the host, both with the same key files."""
    target = Target(seed=1)
    host = Target(seed=2, peers=[target])
    for each in (target, host):
        store(each, k0=dhchap("k0"), k1=dhchap("k1"), tls=psk("tls"), bad="garbage")
        for name in ("k0", "k1", "tls", "bad"):
            each.call("keyring_file_add_key", {"name": name, "path": f"/{name}"})
    target.call("nvmf_create_transport", {"trtype": "TCP"})
    target.call("nvmf_create_subsystem", {"nqn": NQN})
    target.call("nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": LISTENER})
    target.call("nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": SECURE, "secure_channel": True})
    target.call("nvmf_subsystem_add_host", {"nqn": NQN, "host": HOST, **keys})
    return target, host


def attach(host: Target, address: dict[str, str] | None = None, **keys: str) -> tuple[int, str] | None:
    """Attach as the host, and be detached before; the error, if there is one."""
    if host.call("bdev_nvme_get_controllers"):
        host.call("bdev_nvme_detach_controller", {"name": "n0"})
    params = {"name": "n0", "subnqn": NQN, "hostnqn": HOST, "ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1}
    try:
        host.call("bdev_nvme_attach_controller", {**params, **(address or LISTENER), **keys})
    except RpcFailure as error:
        return error.code, error.message
    return None


def state(host: Target) -> str:
    """The state of the only path."""
    return host.call("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["state"]


LOST = (-5, "Input/output error")
STALE = (-1, "Operation not permitted")
RESET = ("bdev_nvme_reset_controller", {"name": "n0"})


def test_authentication() -> None:
    target, host = two(**CHAP)
    assert attach(host) == attach(host, dhchap_key="k1") == attach(host, dhchap_key="bad") == LOST
    assert attach(host, dhchap_key="k0", dhchap_ctrlr_key="k0") == LOST
    assert attach(host, dhchap_key="k0") is None
    assert attach(host, **CHAP) is None
    (pair,) = target.call("nvmf_subsystem_get_qpairs", {"nqn": NQN})
    assert pair["auth"] == {"state": "completed", "digest": "sha512", "dhgroup": "ffdhe8192"}
    assert [key["refcnt"] for key in host.call("keyring_get_keys")] == [2, 2, 1, 1]
    host.call("bdev_nvme_detach_controller", {"name": "n0"})
    assert [key["refcnt"] for key in host.call("keyring_get_keys")] == [1, 1, 1, 1]


@pytest.mark.parametrize("in_place", [True, False])
def test_a_rotated_key_interrupts_nobody_and_refuses_the_old_one(in_place: bool) -> None:
    target, host = two(dhchap_key="k0")
    attach(host, dhchap_key="k0")
    if in_place:
        store(target, k0=dhchap("new"))
    else:
        target.call("nvmf_subsystem_set_keys", {"nqn": NQN, "host": HOST, "dhchap_key": "k1"})
    assert state(host) == "enabled"
    assert refused(host, *RESET) == STALE
    store(host, k0=dhchap("new" if in_place else "k1"))
    assert state(host) == "reconnect_is_delayed"  # it never tries again
    assert attach(host, dhchap_key="k0") is None


def test_a_host_follows_while_it_is_connected() -> None:
    target, host = two(dhchap_key="k0")
    attach(host, dhchap_key="k0")
    target.call("nvmf_subsystem_set_keys", {"nqn": NQN, "host": HOST, "dhchap_key": "k1"})
    host.call("bdev_nvme_set_keys", {"name": "n0", "dhchap_key": "k1"})
    host.call(*RESET)
    assert state(host) == "enabled"
    keys = {"name": "n0", "dhchap_key": "k0"}
    assert refused(host, "bdev_nvme_set_keys", keys) == (-13, "Permission denied")
    assert state(host) == "reconnect_is_delayed"


def test_a_host_that_is_removed_and_added_comes_back() -> None:
    target, host = two(dhchap_key="k0")
    attach(host, dhchap_key="k0")
    target.call("nvmf_subsystem_remove_host", {"nqn": NQN, "host": HOST})
    assert target.call("nvmf_subsystem_get_qpairs", {"nqn": NQN}) == []
    target.call("nvmf_subsystem_add_host", {"nqn": NQN, "host": HOST, "dhchap_key": "k0"})
    assert state(host) == "enabled"
    assert host.call("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["cntlid"] == 2


def test_a_key_that_was_removed_is_gone_for_its_hosts() -> None:
    target, host = two(dhchap_key="k0")
    attach(host, dhchap_key="k0")
    target.call("keyring_file_remove_key", {"name": "k0"})
    target.call("keyring_file_add_key", {"name": "k0", "path": "/k0"})
    assert state(host) == "enabled"
    assert attach(host, dhchap_key="k0") == LOST
    shown = [(key["name"], key["removed"], key["refcnt"]) for key in target.call("keyring_get_keys")]
    assert shown[-2:] == [("k0", False, 1), ("k0", True, 1)]
    target.call("nvmf_subsystem_set_keys", {"nqn": NQN, "host": HOST, "dhchap_key": "k0"})
    assert attach(host, dhchap_key="k0") is None
    assert len(target.call("keyring_get_keys")) == 4


def test_tls() -> None:
    target, host = two(psk="tls")
    assert attach(host, SECURE) == attach(host, psk="tls") == LOST
    assert attach(host, SECURE, psk="tls") is None
    store(target, tls=psk("new"))
    host.call(*RESET)
    assert attach(host, SECURE, psk="tls") is None  # the target has read it when it was given to the host
    store(host, tls=psk("new"))
    assert attach(host, SECURE, psk="tls") == LOST
    target.call("nvmf_subsystem_remove_host", {"nqn": NQN, "host": HOST})
    target.call("nvmf_subsystem_add_host", {"nqn": NQN, "host": HOST, "psk": "tls"})
    assert attach(host, SECURE, psk="tls") is None


def test_what_is_refused_about_keys() -> None:
    target, _host = two()
    other = {"nqn": NQN, "host": NQN}
    for keys in ({"dhchap_ctrlr_key": "k0"}, {"psk": "bad"}, {"psk": "k0"}):
        assert refused(target, "nvmf_subsystem_add_host", other | keys) == (-32603, "Internal error")
    keys = {"nqn": NQN, "host": HOST, "dhchap_ctrlr_key": "k0"}
    assert refused(target, "nvmf_subsystem_set_keys", keys) == (-22, "Invalid argument")
    assert refused(target, "nvmf_subsystem_set_keys", keys | {"psk": "tls"})[0] == -32602


def test_a_psk_is_lost_without_the_transport() -> None:
    target = Target(seed=1)
    store(target, tls=psk("tls"))
    target.call("keyring_file_add_key", {"name": "tls", "path": "/tls"})
    target.call("nvmf_create_subsystem", {"nqn": NQN})
    target.call("nvmf_subsystem_add_host", {"nqn": NQN, "host": HOST, "psk": "tls"})
    added = [e for e in target.call("framework_get_config", {"name": "nvmf"}) if e["method"].endswith("add_host")]
    assert added == [{"method": "nvmf_subsystem_add_host", "params": {"nqn": NQN, "host": HOST}}]
    assert target.call("keyring_get_keys")[0]["refcnt"] == 1
