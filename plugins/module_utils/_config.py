# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A saved configuration: what it says, how it differs from another, and in which order it is brought back. Private.

Pure. A configuration is what SPDK's own ``save_config`` writes: for each subsystem the calls that make it again. An
entry is one of them; its *key* tells which object or setting it is about, so that two configurations can be compared.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Optional

from ._errors import Refusal

START = "framework_start_init"

# Every method that SPDK writes into a configuration, with the parameters that name what it is about. What is not here
# (an lvstore, a RAID with a superblock) is found again on the disks and never made by a restore.
_ABOUT = {
    **dict.fromkeys(
        "framework_set_scheduler sock_set_default_impl iobuf_set_options keyring_linux_set_options vmd_enable "
        "fsdev_set_opts accel_set_options accel_set_driver ae4dma_scan_accel_module compressdev_scan_accel_module "
        "cuda_scan_accel_module dpdk_cryptodev_scan_accel_module dpdk_cryptodev_set_driver dsa_scan_accel_module "
        "iaa_scan_accel_module ioat_scan_accel_module mlx5_scan_accel_module bdev_set_options bdev_iscsi_set_options "
        "bdev_raid_set_options bdev_nvme_set_options bdev_nvme_set_hotplug bdev_wait_for_examine nvmf_set_config "
        "nvmf_set_max_subsystems nvmf_set_crdt iscsi_set_options ublk_create_target framework_start_init".split(),
        (),
    ),
    **dict.fromkeys(
        "keyring_file_add_key accel_crypto_key_create fsdev_aio_create bdev_examine bdev_aio_create "
        "bdev_malloc_create bdev_null_create bdev_uring_create bdev_xnvme_create bdev_passthru_create "
        "bdev_delay_create bdev_crypto_create bdev_ocf_create bdev_ftl_create bdev_iscsi_create bdev_rbd_create "
        "bdev_daos_create bdev_zone_block_create bdev_raid_create bdev_virtio_attach_controller "
        "bdev_nvme_start_discovery bdev_nvme_start_mdns_discovery bdev_nvme_cuse_register "
        "bdev_nvme_set_multipath_policy bdev_set_qos_limit bdev_enable_histogram iscsi_create_target_node "
        "iscsi_enable_histogram virtio_blk_create_transport".split(),
        ("name",),
    ),
    **dict.fromkeys("iscsi_create_portal_group iscsi_create_initiator_group iscsi_create_auth_group".split(), ("tag",)),
    **dict.fromkeys(
        "vhost_create_blk_controller vhost_controller_set_coalescing vhost_create_scsi_controller "
        "vhost_start_scsi_controller".split(),
        ("ctrlr",),
    ),
    "vhost_scsi_controller_add_target": ("ctrlr", "scsi_target_num"),
    "sock_impl_set_options": ("impl_name",),
    "accel_assign_opc": ("opname",),
    "bdev_split_create": ("base_bdev",),
    "bdev_error_create": ("base_name",),
    "bdev_compress_create": ("base_bdev_name",),
    "bdev_nvme_attach_controller": ("name", "trtype", "traddr", "trsvcid", "hostaddr"),
    "nbd_start_disk": ("nbd_device",),
    "ublk_start_disk": ("ublk_id",),
    "nvmf_create_transport": ("trtype",),
    "nvmf_discovery_add_referral": ("address.trtype", "address.traddr", "address.trsvcid"),
    "nvmf_create_subsystem": ("nqn",),
    "nvmf_subsystem_add_host": ("nqn", "host"),
    "nvmf_subsystem_add_ns": ("nqn", "namespace.nsid"),
    "nvmf_ns_add_host": ("nqn", "nsid", "host"),
    "nvmf_subsystem_add_listener": (
        "nqn",
        "listen_address.trtype",
        "listen_address.traddr",
        "listen_address.trsvcid",
    ),
}
_MAY_BE_MISSING = {"trsvcid", "address.trsvcid", "listen_address.trsvcid", "hostaddr"}

# These give a value to something that is there; all others make an object, which is never changed by making it again.
_SETTERS = {
    "framework_set_scheduler",
    "fsdev_set_opts",
    "bdev_raid_set_options",
    "bdev_nvme_set_options",
    "bdev_nvme_set_hotplug",
    "bdev_nvme_set_multipath_policy",
    "bdev_set_qos_limit",
    "bdev_enable_histogram",
    "vhost_controller_set_coalescing",
}

# Entries of one family are independent of each other unless the first part of their key is the same.
_FAMILIES = {
    "keyring_file_add_key": "keys",
    "bdev_examine": "examined bdevs",
    "bdev_aio_create": "disks",
    "bdev_malloc_create": "disks",
    "bdev_null_create": "disks",
    "bdev_nvme_attach_controller": "controllers",
    "bdev_set_qos_limit": "limits",
    "vhost_create_blk_controller": "vhost",
    "vhost_controller_set_coalescing": "vhost",
    "nvmf_create_subsystem": "subsystems",
    "nvmf_subsystem_add_host": "subsystems",
    "nvmf_subsystem_add_ns": "subsystems",
    "nvmf_ns_add_host": "subsystems",
    "nvmf_subsystem_add_listener": "subsystems",
}

# Parameters that SPDK writes only when they are set, so that one that is not written says something.
_WRITTEN_WHEN_SET = {
    "poll_groups_mask",
    "key2",
    "psk",
    "dhchap_key",
    "dhchap_ctrlr_key",
    "ptpl_file",
    "sock_impl",
    "admin_label",
    "rw_ios_per_sec",
    "rw_mbytes_per_sec",
    "r_mbytes_per_sec",
    "w_mbytes_per_sec",
}
_ANY_CASE = {"trtype", "adrfam", "nguid", "eui64", "uuid"}
_SECRETS = {"key", "key2", "secret", "msecret"}
_HIDDEN = "(hidden)"
_MIRRORS = {"raid1", "1", "raid5f", "5f"}
_WAIT_FOR_EXAMINE = "bdev_wait_for_examine"


class Entry(NamedTuple):
    """One call of a configuration."""

    subsystem: str
    method: str
    params: dict

    @property
    def key(self) -> tuple:
        """What it is about: the method, and the values that name the object."""
        values = _flat(self.params)
        named = _ABOUT.get(self.method, ("name",))
        return (self.method, *(str(_folded(path, values.get(path, ""))) for path in named))

    @property
    def object(self) -> str:
        """What it is about, for users; a setting of a whole subsystem is named by that."""
        return " ".join(filter(None, self.key[1:])) or self.subsystem

    @property
    def lane(self) -> Optional[tuple]:
        """Entries of one lane are sent one after the other; None: after all before it, and before all after it."""
        family = _FAMILIES.get(self.method)
        return (family, self.key[1]) if family else None

    @property
    def makes_object(self) -> bool:
        """Whether it makes something that a target which was just started does not have."""
        return len(self.key) > 1 and self.method not in (*_SETTERS, "sock_impl_set_options", "accel_assign_opc")

    @property
    def begins_lane(self) -> bool:
        """Whether the other entries of its lane cannot do without it."""
        return self.method in ("nvmf_create_subsystem", "vhost_create_blk_controller")

    def describe(self) -> dict:
        """Return the call as users see it."""
        return {
            "object": self.object,
            "method": self.method,
            "params": hidden(self.params),
            "summary": "start the framework" if self.method == START else "bring back what was saved",
            "risk": "safe",
        }


class Difference(NamedTuple):
    """One difference: ``kind`` is ``missing`` or ``extra`` on the target, or ``different`` in ``parameter``."""

    kind: str
    entry: Entry
    parameter: Optional[str]
    saved: Any
    live: Any

    def describe(self) -> dict:
        """Return it as users see it."""
        secret = self.parameter is not None and self.parameter.rpartition(".")[2] in _SECRETS
        return {
            "kind": self.kind,
            "subsystem": self.entry.subsystem,
            "method": self.entry.method,
            "object": self.entry.object,
            "parameter": self.parameter,
            "file": _HIDDEN if secret else hidden(self.saved),
            "live": _HIDDEN if secret else hidden(self.live),
        }


def parse(document: Any, path: str) -> list:
    """Return the entries of a saved document. Raises Refusal when it is none."""
    subsystems = document.get("subsystems") if isinstance(document, dict) else None
    if not isinstance(subsystems, list):
        raise Refusal(f"{path} is not a saved configuration: it has no list of subsystems")
    entries = []
    for item in subsystems:
        try:
            for call in _calls(item["config"]):
                entries.append(Entry(item["subsystem"], call["method"], dict(call.get("params") or {})))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Refusal(f"{path} is not a saved configuration: one of its subsystems is no list of calls") from None
    return entries


def check(entries: list, where: str) -> None:
    """Raise Refusal unless each entry is of a method that configurations have and names what it is about."""
    unknown = sorted({entry.method for entry in entries if entry.method not in _ABOUT or entry.method == START})
    if unknown:
        raise Refusal(f"{where} has {', '.join(unknown)}, which is not restored from a configuration; take it out")
    for entry in entries:
        named = {path for path, value in _flat(entry.params).items() if isinstance(value, (str, int)) and value != ""}
        missing = [path for path in _ABOUT[entry.method] if path not in named and path not in _MAY_BE_MISSING]
        if missing:
            raise Refusal(f"{where} has a {entry.method} without {' and '.join(missing)}")


def with_startup(entries: list, startup: dict) -> list:
    """Return ``entries`` with the parameters of ``startup`` ({method: parameters}) in the place of what they say."""
    wrong = [method for method, params in startup.items() if not isinstance(params, dict)]
    if wrong:
        raise Refusal(f"startup has {', '.join(wrong)} without its parameters; write them as a dictionary")
    given = [Entry(method.partition("_")[0], method, params) for method, params in startup.items()]
    check(given, "startup")
    wanted = {entry.key: entry for entry in given}
    merged = []
    for entry in entries:
        over = wanted.pop(entry.key, None)
        merged.append(entry._replace(params={**entry.params, **over.params}) if over else entry)
    return [*wanted.values(), *merged]


def require_settings(startup: dict, waiting: bool, callable_now: frozenset) -> None:
    """Raise Refusal unless all of ``startup`` can be set before the framework starts."""
    late = [name for name in startup if (name in callable_now) != waiting and name not in _SETTERS]
    if late:
        raise Refusal(f"startup has {', '.join(late)}, which cannot be called before the framework starts")


def differences(saved: list, live: list) -> list:
    """Return every Difference between two configurations."""
    there = {entry.key: entry for entry in live}
    found = []
    for entry in saved:
        twin = there.get(entry.key)
        if twin is None:
            found.append(Difference("missing", entry, None, entry.params, None))
        else:
            found += changed(entry, twin)
    named = {entry.key for entry in saved}
    found += [Difference("extra", entry, None, None, entry.params) for entry in live if entry.key not in named]
    return [item for item in found if item.entry.method != _WAIT_FOR_EXAMINE]


def changed(saved: Entry, live: Entry) -> list:
    """Return the Differences between two entries about the same thing, one for each parameter.

    One that only one of them has is compared only if that says something; else the file leaves it to SPDK, or is of
    another release.
    """
    wanted, there = _flat(saved.params), _flat(live.params)
    return [
        Difference("different", saved, path, wanted.get(path), there.get(path))
        for path in {**wanted, **there}
        if (path in wanted and path in there or _last(path) in _WRITTEN_WHEN_SET)
        and _folded(path, wanted.get(path)) != _folded(path, there.get(path))
    ]


def work(saved: list, live: list, callable_now: frozenset) -> tuple[list, dict]:
    """Return what a target lacks that has ``live``, and by entry key why the others cannot be as saved."""
    there = {entry.key: entry for entry in live}
    todo: list[Entry] = []
    conflicts = {}
    for entry in saved:
        twin = there.get(entry.key)
        different = changed(entry, twin) if twin else []
        if entry.method == _WAIT_FOR_EXAMINE:
            todo.append(entry)
        elif twin is None and entry.params.get("raid_level") in _MIRRORS:
            conflicts[entry.key] = (
                f"{_as_found(entry, different)}, and without a superblock nothing tells whether a member of it is "
                f"stale; create it by hand when you know that none is"
            )
        elif twin is None or different:
            if entry.method not in callable_now:
                conflicts[entry.key] = (
                    f"{_as_found(entry, different)}; {entry.method} can be called only before the framework starts, so "
                    f"restart the target with --wait-for-rpc, or save its configuration as it is"
                )
            elif different and entry.method not in _SETTERS:
                conflicts[entry.key] = f"{_as_found(entry, different)}; remove it from the target, or save it as it is"
            else:
                todo.append(entry)
    if all(entry.method == _WAIT_FOR_EXAMINE for entry in todo):
        return [], conflicts
    return todo, conflicts


def stages(entries: list) -> list:
    """Return the entries as a list of lists: those of one list are independent, and need all that is before them."""
    found: list[list[Entry]] = []
    depth: dict[Optional[tuple], int] = {}
    family, begin = None, 0
    for entry in entries:
        lane = entry.lane
        if lane is None or lane[0] != family:
            family, begin, depth = lane and lane[0], len(found), {}
        place = begin + depth.get(lane, 0)
        depth[lane] = place - begin + 1
        if place == len(found):
            found.append([])
        found[place].append(entry)
    return found


def by_object(entries: list) -> dict:
    """Return the entries for a diff: {method and object: parameters}, secrets hidden."""
    return {f"{entry.method} {entry.object}": hidden(entry.params) for entry in entries}


def unequal(before: list, after: list) -> dict:
    """Return the diff of two configurations: what is only in one of them, or not the same in both."""
    was, is_now = ({entry.key: entry for entry in entries} for entries in (before, after))
    return {
        "before": by_object([entry for entry in before if is_now.get(entry.key) != entry]),
        "after": by_object([entry for entry in after if was.get(entry.key) != entry]),
    }


def hidden(value: Any) -> Any:
    """Return ``value`` without key material; paths and names of keys are none."""
    if isinstance(value, dict):
        return {key: _HIDDEN if key in _SECRETS else hidden(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hidden(item) for item in value]
    return value


def _calls(config: Optional[list]) -> list:
    """Return the calls of a subsystem; since v26.05 some of them may stand in arrays."""
    return [call for item in config or [] for call in (item if isinstance(item, list) else [item])]


def _flat(params: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in params.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _folded(path: str, value: Any) -> Any:
    return value.lower() if isinstance(value, str) and _last(path) in _ANY_CASE else value


def _as_found(entry: Entry, different: list) -> str:
    if not different:
        return f"the target does not have {entry.method} {entry.object}"
    told = [item.describe() for item in different]
    return f"{entry.method} {entry.object}: " + ", ".join(
        f"{each['parameter']} is {json.dumps(each['live'])}, saved as {json.dumps(each['file'])}" for each in told
    )
