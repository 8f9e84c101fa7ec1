# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of each kind of object, apart from what is done with them. Private to the collection.

The module for a whole target needs the options of all kinds and the resources of those only that it is asked for:
each kilobyte that it imports costs time in every run.
"""

from __future__ import annotations

# Options of a transport that can be set at its creation, by type.
TUNABLE = {
    "max_queue_depth": "int",
    "max_io_qpairs_per_ctrlr": "int",
    "in_capsule_data_size": "int",
    "max_io_size": "int",
    "max_aq_depth": "int",
    "io_unit_size": "int",
    "num_shared_buffers": "int",
    "buf_cache_size": "int",
    "iobuf_small_cache_size": "int",
    "iobuf_large_cache_size": "int",
    "zcopy": "bool",
    "abort_timeout_sec": "int",
    "acceptor_poll_rate": "int",
    "ack_timeout": "int",
    "disable_command_passthru": "bool",
    "kas": "int",
    "min_kato": "int",
    "c2h_success": "bool",
    "dif_insert_or_strip": "bool",
    "sock_priority": "int",
    "num_cqe": "int",
    "max_srq_depth": "int",
    "no_srq": "bool",
    "no_wr_batching": "bool",
    "data_wr_pool_size": "int",
}

TRANSPORT = {
    "trtype": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    **{name: {"type": kind} for name, kind in TUNABLE.items()},
}

KEY = {
    "name": {"type": "str", "required": True},
    "path": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

# What every path of a controller is attached with, and nothing can change later.
SETTINGS = (
    "reconnect_delay_sec",
    "ctrlr_loss_timeout_sec",
    "fast_io_fail_timeout_sec",
    "hdgst",
    "ddgst",
    "psk",
    "dhchap_key",
    "dhchap_ctrlr_key",
)

CONTROLLER = {
    "name": {"type": "str"},
    "trtype": {"type": "str", "choices": ["PCIe", "TCP", "RDMA"], "default": "PCIe"},
    "traddr": {"type": "str"},
    "subnqn": {"type": "str"},
    "hostnqn": {"type": "str"},
    "paths": {
        "type": "list",
        "elements": "dict",
        "options": {
            "traddr": {"type": "str", "required": True},
            "trsvcid": {"type": "str", "default": "4420"},
            "adrfam": {"type": "str"},
            "hostaddr": {"type": "str"},
        },
    },
    "source_addresses": {"type": "list", "elements": "str"},
    "multipath_policy": {"type": "str", "choices": ["active_passive", "active_active"]},
    "multipath_selector": {"type": "str", "choices": ["round_robin", "queue_depth"]},
    "reconnect_delay_sec": {"type": "int", "default": 1},
    "ctrlr_loss_timeout_sec": {"type": "int", "default": 10},
    "fast_io_fail_timeout_sec": {"type": "int", "default": 0},
    "hdgst": {"type": "bool"},
    "ddgst": {"type": "bool"},
    "psk": {"type": "str", "no_log": False},
    "dhchap_key": {"type": "str", "no_log": False},
    "dhchap_ctrlr_key": {"type": "str", "no_log": False},
    "purge": {"type": "list", "elements": "str", "choices": ["paths"], "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

LVSTORE = {
    "name": {"type": "str", "required": True},
    "bdev": {"type": "str"},
    "cluster_size": {"type": "str"},
    "clear_method": {"type": "str", "choices": ["none", "unmap", "write_zeroes"]},
    "max_lvols": {"type": "int"},
    "import_existing": {"type": "bool", "default": False},
    "force": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

DISK = {
    "serial": {"type": "str", "required": True},
    "bdf": {"type": "str", "required": True},
    "lvstore": {"type": "str"},
    "lvstore_uuid": {"type": "str"},
    "create": {"type": "bool", "default": False},
    "max_lvols": {"type": "int"},
    "clear_method": {"type": "str", "choices": ["none", "unmap", "write_zeroes"]},
    "force": {"type": "str"},
}

LVOL = {
    "name": {"type": "str", "required": True},
    "lvstore": {"type": "str", "required": True},
    "size": {"type": "str"},
    "thin": {"type": "bool"},
    "clear_method": {"type": "str", "choices": ["default", "none", "unmap", "write_zeroes"]},
    "allow_shrink": {"type": "bool", "default": False},
    "growth": {"type": "str", "choices": ["zeroed", "plain"], "default": "zeroed"},
    "zero_limit": {"type": "str", "default": "64GiB"},
    "clone_of": {"type": "str"},
    "independent": {"type": "str", "choices": ["inflate", "decouple"]},
    "uuid": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

SNAPSHOT = {
    "name": {"type": "str", "required": True},
    "lvstore": {"type": "str", "required": True},
    "lvol": {"type": "str"},
    "uuid": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

RAID = {
    "name": {"type": "str", "required": True},
    "level": {"type": "str", "choices": ["raid1", "raid0", "concat", "raid5f"], "default": "raid1"},
    "base_bdevs": {"type": "list", "elements": "str"},
    "superblock": {"type": "bool"},
    "strip_size": {"type": "str"},
    "source": {"type": "str"},
    "stale": {"type": "list", "elements": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

COPY = {
    "bdev": {"type": "str", "required": True},
    "source": {"type": "str"},
    "hostnqn": {"type": "str"},
    "offset": {"type": "int", "default": 0},
    "limit": {"type": "str", "default": "64GiB"},
    "port": {"type": "str", "default": "4419"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

QOS = {
    "bdev": {"type": "str", "required": True},
    "rw_ios_per_sec": {"type": "int"},
    "rw_mbytes_per_sec": {"type": "int"},
    "r_mbytes_per_sec": {"type": "int"},
    "w_mbytes_per_sec": {"type": "int"},
}

VHOST = {
    "name": {"type": "str", "required": True},
    "bdev": {"type": "str"},
    "cpumask": {"type": "str"},
    "readonly": {"type": "bool", "default": False},
    "allow_sessions": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

SUBSYSTEM = {
    "nqn": {"type": "str", "required": True},
    "serial_number": {"type": "str"},
    "model_number": {"type": "str"},
    "max_namespaces": {"type": "int"},
    "min_cntlid": {"type": "int"},
    "max_cntlid": {"type": "int"},
    "ana_reporting": {"type": "bool"},
    "allow_any_host": {"type": "bool", "default": False},
    "listeners": {
        "type": "list",
        "elements": "dict",
        "options": {
            "trtype": {"type": "str", "default": "TCP"},
            "traddr": {"type": "str", "required": True},
            "trsvcid": {"type": "str", "default": "4420"},
            "adrfam": {"type": "str"},
            "secure_channel": {"type": "bool"},
        },
    },
    "hosts": {"type": "list", "elements": "str"},
    "host_keys": {
        "type": "list",
        "elements": "dict",
        "no_log": False,
        "options": {
            "host": {"type": "str", "required": True},
            "dhchap_key": {"type": "str", "no_log": False},
            "dhchap_ctrlr_key": {"type": "str", "no_log": False},
            "psk": {"type": "str", "no_log": False},
        },
    },
    "namespaces": {
        "type": "list",
        "elements": "dict",
        "options": {
            "bdev": {"type": "str", "required": True},
            "nsid": {"type": "int"},
            "bdev_uuid": {"type": "str"},
        },
    },
    "purge": {"type": "list", "elements": "str", "choices": ["listeners", "hosts", "namespaces"], "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

# By the name that lists of them have, in the order in which they build on each other.
KINDS = {
    "transports": TRANSPORT,
    "keys": KEY,
    "controllers": CONTROLLER,
    "disks": DISK,
    "lvstores": LVSTORE,
    "lvols": LVOL,
    "snapshots": SNAPSHOT,
    "raids": RAID,
    "copies": COPY,
    "subsystems": SUBSYSTEM,
    "qos": QOS,
    "vhosts": VHOST,
}
