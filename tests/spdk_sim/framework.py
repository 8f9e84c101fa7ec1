# SPDX-License-Identifier: GPL-3.0-or-later
"""Version, method list, start-up, options, logging, saved configuration (contract sections 3 and 11)."""

from __future__ import annotations

import errno
import itertools
from typing import Any

from . import bdevs, catalogue, keyring, nvmf, vhost
from .bdevs import MallocBdev
from .decode import (
    ARGUMENTS,
    BDEV,
    BOOL,
    I32,
    IOBUF,
    NVMF,
    RAID,
    STR,
    U8,
    U16,
    U32,
    U64,
    Params,
    array,
    nested,
    one_of,
    optional,
    required,
)
from .errors import INTERNAL_ERROR, INVALID_PARAMS, RpcFailure, TargetCrash, failure
from .registry import BOTH, METHODS, RUNTIME, STARTUP, Wait, bare_method, method

SUBSYSTEMS = {
    "scheduler": [],
    "sock": [],
    "iobuf": [],
    "keyring": [],
    "vmd": [],
    "fsdev": [],
    "accel": ["iobuf"],
    "bdev": ["accel", "keyring", "vmd", "sock", "iobuf"],
    "nvmf": ["bdev", "keyring", "sock", "accel", "iobuf"],
    "nbd": ["bdev"],
    "vhost_blk": ["bdev"],
    "scsi": ["bdev"],
    "iscsi": ["scsi", "sock"],
    "vhost_scsi": ["scsi"],
}

BDEV_OPTIONS = {
    "bdev_io_pool_size": (U32, 65535),
    "bdev_io_cache_size": (U32, 256),
    "bdev_auto_examine": (BOOL, True),
    "iobuf_small_cache_size": (U32, 128),
    "iobuf_large_cache_size": (U32, 16),
}
IOBUF_OPTIONS = {
    "small_pool_count": (U64, 8192),
    "large_pool_count": (U64, 1024),
    "small_bufsize": (U32, 8192),
    "large_bufsize": (U32, 135168),
    "enable_numa": (BOOL, False),
}
NUMA = {"enable_numa": optional(BOOL, since=(25, 5))}
IOBUF_MINIMUM = {"small_pool_count": 64, "large_pool_count": 8, "small_bufsize": 4096, "large_bufsize": 8192}
ACCEL_OPTIONS = {
    "small_cache_size": (U32, 128),
    "large_cache_size": (U32, 16),
    "task_count": (U32, 2048),
    "sequence_count": (U32, 2048),
    "buf_count": (U32, 2048),
}
FSDEV_OPTIONS = {"fsdev_io_pool_size": (U32, 65535), "fsdev_io_cache_size": (U32, 256)}
ISCSI_OPTIONS = {
    "node_base": (STR, "iqn.2016-06.io.spdk"),
    "max_sessions": (U32, 128),
    "max_connections_per_session": (U32, 2),
    "max_queue_depth": (U32, 64),
    "default_time2wait": (U32, 2),
    "default_time2retain": (U32, 20),
    "first_burst_length": (U32, 8192),
    "immediate_data": (BOOL, True),
    "allow_duplicated_isid": (BOOL, False),
    "error_recovery_level": (U32, 0),
    "nop_timeout": (I32, 60),
    "nop_in_interval": (I32, 30),
    "disable_chap": (BOOL, False),
    "require_chap": (BOOL, False),
    "mutual_chap": (BOOL, False),
    "chap_group": (I32, 0),
    "max_large_datain_per_connection": (U32, 64),
    "max_r2t_per_connection": (U32, 4),
    "pdu_pool_size": (U32, 36864),
    "immediate_data_pool_size": (U32, 16384),
    "data_out_pool_size": (U32, 2048),
}
SOCK_OPTIONS = {
    "recv_buf_size": (U32, 2097152),
    "send_buf_size": (U32, 2097152),
    "enable_recv_pipe": (BOOL, True),
    "enable_quickack": (BOOL, False),
    "enable_placement_id": (U32, 0),
    "enable_zerocopy_send_server": (BOOL, True),
    "enable_zerocopy_send_client": (BOOL, False),
    "zerocopy_threshold": (U32, 0),
    "tls_version": (U32, 0),
    "enable_ktls": (BOOL, False),
}
NVME_OPTIONS = {
    "action_on_timeout": (one_of("none", "reset", "abort"), "none"),
    "timeout_us": (U64, 0),
    "timeout_admin_us": (U64, 0),
    "keep_alive_timeout_ms": (U32, 10000),
    "arbitration_burst": (U32, 0),
    "low_priority_weight": (U32, 0),
    "medium_priority_weight": (U32, 0),
    "high_priority_weight": (U32, 0),
    "nvme_adminq_poll_period_us": (U64, 10000),
    "nvme_ioq_poll_period_us": (U64, 0),
    "io_queue_requests": (U32, 0),
    "delay_cmd_submit": (BOOL, True),
    "transport_retry_count": (U8, 4),
    "bdev_retry_count": (I32, 3),
    "transport_ack_timeout": (U8, 0),
    "ctrlr_loss_timeout_sec": (I32, 0),
    "reconnect_delay_sec": (U32, 0),
    "fast_io_fail_timeout_sec": (U32, 0),
    "disable_auto_failback": (BOOL, False),
    "generate_uuids": (BOOL, False),
    "transport_tos": (U8, 0),
    "nvme_error_stat": (BOOL, False),
    "rdma_srq_size": (U32, 0),
    "io_path_stat": (BOOL, False),
    "allow_accel_sequence": (BOOL, False),
    "rdma_max_cq_size": (U32, 0),
    "rdma_cm_event_timeout_ms": (U16, 0),
    "dhchap_digests": (array(one_of(*nvmf.DIGESTS)), nvmf.DIGESTS),
    "dhchap_dhgroups": (array(one_of(*nvmf.DHGROUPS)), nvmf.DHGROUPS),
    "rdma_umr_per_io": (BOOL, False),
    "tcp_connect_timeout_ms": (U32, 0),
    "enable_flush": (BOOL, False),
    "multipath_opts": (None, {"policy": "active_passive"}),
}
NVME_OPTIONS_SINCE = {
    "rdma_umr_per_io": (25, 5),
    "tcp_connect_timeout_ms": (25, 5),
    "enable_flush": (25, 9),
    "multipath_opts": (26, 5),
}
MULTIPATH_OPTS = nested(
    {
        "policy": required(one_of("active_passive", "active_active")),
        "selector": optional(one_of("round_robin", "queue_depth")),
        "min_io": optional(U32),
    }
)
OPCODES = (
    "copy fill dualcast compare crc32c copy_crc32c compress decompress encrypt decrypt xor dif_verify "
    "dif_verify_copy dif_generate dif_generate_copy dix_generate dix_verify"
).split()
LEVELS = ("ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")
LOG_FLAGS = (
    "accel aio app_config app_rpc bdev bdev_ftl bdev_malloc bdev_null bdev_nvme bdev_raid bdev_raid0 bdev_raid1 "
    "bdev_raid5f bdev_raid_sb blob blob_esnap blob_rw blobfs keyring log lvol lvol_rpc nbd notify_rpc nvme nvmf "
    "nvmf_tcp reactor rpc rpc_client scsi sock sock_posix thread trace uring vbdev_lvol vhost vhost_blk vhost_ring "
    "vhost_rpc vhost_scsi virtio virtio_blk virtio_dev vmd"
).split()
EVENT_TYPES = ["fsdev_register", "fsdev_unregister", "bdev_register", "bdev_unregister", "bdev_resize"]


class Options:
    """Everything the option methods set."""

    def __init__(self) -> None:
        self.bdev = _defaults(BDEV_OPTIONS)
        self.iobuf = _defaults(IOBUF_OPTIONS)
        self.accel = _defaults(ACCEL_OPTIONS)
        self.accel_opcodes: dict[str, str] = {}
        self.fsdev = _defaults(FSDEV_OPTIONS)
        self.iscsi = _defaults(ISCSI_OPTIONS)
        self.iscsi_given = False
        self.nvme = _defaults(NVME_OPTIONS)
        small = {"recv_buf_size": 4096, "send_buf_size": 4096}
        self.sock = {"ssl": _defaults(SOCK_OPTIONS) | small, "posix": _defaults(SOCK_OPTIONS)}
        self.sock_default = "posix"
        self.hotplug = {"period_us": 100000, "enable": False}
        self.scheduler: str | None = None
        self.scheduler_period = 0
        self.dynamic = {"load_limit": 20, "core_limit": 80, "core_busy": 95}
        self.log_level = "NOTICE"
        self.print_level = "INFO"
        self.log_flags: set[str] = set()
        self.starting = False


def _defaults(options: dict[str, Any]) -> dict[str, Any]:
    return {name: default for name, (_kind, default) in options.items()}


def _fields(options: dict[str, Any]) -> dict[str, Any]:
    return {name: optional(kind) for name, (kind, _default) in options.items()}


def setup(target: Any) -> None:
    """Add this family's state to a target."""
    target.options = Options()
    if target.state == RUNTIME:
        target.options.scheduler = "static"


def undecoded(params: Any) -> Params:
    """Parameters of a method that takes none: only whether there were any matters."""
    return Params({}, params is not None)


@bare_method("spdk_get_version", "spdk_get_version method requires no parameters", states=BOTH)
def get_version(target: Any) -> Any:
    """The release as text and in parts."""
    return catalogue.version(target.release)


@method("rpc_get_methods", NVMF, {"current": optional(BOOL), "include_aliases": optional(BOOL)}, states=BOTH)
def get_methods(target: Any, params: Params) -> list[str]:
    """The methods, or only those that may be called in the present state."""
    return [name for name in target.methods() if not params.current or METHODS[name].states & target.state]


@bare_method("framework_start_init", "framework_start_init requires no parameters", states=STARTUP)
def start_init(target: Any) -> Any:
    """Leave the STARTUP state. A second one before the first is done kills the target (contract section 12, 2)."""
    if target.options.starting:
        raise TargetCrash(2, "SIGSEGV", "framework_start_init while the framework is being initialized")
    target.options.starting = True
    return _start_init(target)


def _start_init(target: Any) -> Any:
    yield
    target.state = RUNTIME
    target.options.scheduler = target.options.scheduler or "static"
    if target.on_start is not None:
        target.on_start()
    return True


@bare_method("framework_wait_init", None, states=BOTH)
def wait_init(target: Any) -> Any:
    """Answers when the target is in the RUNTIME state."""
    while target.state != RUNTIME:
        yield Wait(ready=lambda: target.state == RUNTIME)
    return True


@bare_method("framework_get_subsystems", "'framework_get_subsystems' requires no arguments")
def get_subsystems(target: Any) -> Any:
    """The subsystems in order of initialization."""
    return [{"subsystem": name, "depends_on": needs} for name, needs in SUBSYSTEMS.items()]


@method("framework_get_config", ARGUMENTS, {"name": required(STR), "with_batches": optional(BOOL, since=(26, 5))})
def get_config(target: Any, params: Params) -> Any:
    """What re-creates a subsystem's state, as a list of calls; null where a subsystem has no such thing."""
    if params.name not in SUBSYSTEMS:
        raise RpcFailure(INVALID_PARAMS, f"Subsystem '{params.name}' not found")
    return _as_written(_CONFIG[params.name](target, bool(params.with_batches)), target.release)


def _as_written(config: Any, release: Any) -> Any:
    """Without the parameters that the release does not know."""
    if isinstance(config, list):
        return [_as_written(entry, release) for entry in config]
    if not config or "params" not in config:
        return config
    fields = METHODS[config["method"]].fields
    known = {
        name: value for name, value in config["params"].items() if name not in fields or fields[name].known(release)
    }
    return config | {"params": known}


def _entry(name: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"method": name, "params": params}


def _scheduler_config(target: Any, _batches: bool) -> Any:
    options = target.options
    params: dict[str, Any] = {"name": options.scheduler}
    if options.scheduler == "dynamic":
        params |= {"period": options.scheduler_period} | options.dynamic
    return [_entry("framework_set_scheduler", params)]


def _sock_config(target: Any, _batches: bool) -> Any:
    out = [_entry("sock_set_default_impl", {"impl_name": target.options.sock_default})]
    return out + [
        _entry("sock_impl_set_options", {"impl_name": name} | values) for name, values in target.options.sock.items()
    ]


def _accel_config(target: Any, _batches: bool) -> Any:
    out = [_entry("accel_set_options", target.options.accel)]
    for opcode, module in target.options.accel_opcodes.items():
        out.append(_entry("accel_assign_opc", {"opname": opcode, "module": module}))
    return out


def _bdev_config(target: Any, batches: bool) -> Any:
    from . import nvme, raid

    registry = target.bdevs
    mallocs = [bdev.config_entry() for bdev in registry if isinstance(bdev, MallocBdev)]
    controllers = nvme.config(target)
    out = [_entry("bdev_set_options", target.options.bdev | {"bdev_auto_examine": registry.auto_examine})]
    out += [_entry("bdev_examine", {"name": name}) for name in registry.examine_names]
    out.append(_entry("bdev_raid_set_options", raid.options(target)))
    out += [mallocs, []] if batches else mallocs
    out.append(_entry("bdev_nvme_set_options", target.options.nvme))
    out += [controllers] if batches else controllers
    out += nvme.policies(target)
    out.append(_entry("bdev_nvme_set_hotplug", target.options.hotplug))
    out += bdevs.config(target)
    out.append({"method": "bdev_wait_for_examine"})
    return out


_CONFIG = {
    "scheduler": _scheduler_config,
    "sock": _sock_config,
    "iobuf": lambda target, _batches: [_entry("iobuf_set_options", target.options.iobuf)],
    "keyring": lambda target, _batches: keyring.config(target),
    "vmd": lambda _target, _batches: [],
    "fsdev": lambda target, _batches: [_entry("fsdev_set_opts", target.options.fsdev)],
    "accel": _accel_config,
    "bdev": _bdev_config,
    "nvmf": nvmf.config,
    "nbd": lambda _target, _batches: [],
    "vhost_blk": lambda target, _batches: vhost.config(target, "blk"),
    "scsi": lambda _target, _batches: None,
    "iscsi": lambda target, _batches: [_entry("iscsi_set_options", target.options.iscsi)],
    "vhost_scsi": lambda target, _batches: vhost.config(target, "scsi"),
}


@method("bdev_set_options", NVMF, _fields(BDEV_OPTIONS), states=STARTUP)
def set_bdev_options(target: Any, params: Params) -> bool:
    """Pool sizes and auto-examine."""
    wanted = target.options.bdev | params.values
    pool, cache = wanted["bdev_io_pool_size"], wanted["bdev_io_cache_size"]
    if pool < cache * (target.cpumask.bit_count() + 1):
        raise RpcFailure(INVALID_PARAMS, f"Pool size {pool} too small for cache size {cache}")
    target.options.bdev = wanted
    target.bdevs.auto_examine = wanted["bdev_auto_examine"]
    return True


@method("iobuf_set_options", IOBUF, _fields(IOBUF_OPTIONS) | NUMA, states=STARTUP, needed=True)
def set_iobuf_options(target: Any, params: Params) -> bool:
    """Buffer pools."""
    wanted = target.options.iobuf | params.values
    if any(wanted[name] < least for name, least in IOBUF_MINIMUM.items()):
        raise failure(errno.EINVAL)
    target.options.iobuf = wanted
    return True


@method("accel_set_options", RAID, _fields(ACCEL_OPTIONS), states=STARTUP)
def set_accel_options(target: Any, params: Params) -> bool:
    """Sizes of the acceleration framework."""
    if not all(value for name, value in params.values.items() if name.endswith("_count")):
        raise failure(errno.EINVAL)
    target.options.accel |= params.values
    return True


@method("accel_assign_opc", IOBUF, {"opname": required(one_of(*OPCODES)), "module": required(STR)}, states=STARTUP)
def assign_opcode(target: Any, params: Params) -> bool:
    """Name the module that executes an operation."""
    target.options.accel_opcodes[params.opname] = params.module
    return True


@method("fsdev_set_opts", NVMF, _fields(FSDEV_OPTIONS))
def set_fsdev_options(target: Any, params: Params) -> bool:
    """Pools of the fsdev layer; stored for the saved configuration."""
    target.options.fsdev |= params.values
    return True


@method("iscsi_set_options", NVMF, _fields(ISCSI_OPTIONS), states=STARTUP)
def set_iscsi_options(target: Any, params: Params) -> bool:
    """iSCSI limits, once; stored for the saved configuration."""
    if target.options.iscsi_given:
        raise RpcFailure(INTERNAL_ERROR, "Must not call more than once")
    target.options.iscsi |= params.values
    target.options.iscsi_given = True
    return True


@bare_method("sock_get_default_impl", "sock_get_default_impl requires no parameters", states=BOTH)
def get_default_sock(target: Any) -> Any:
    """The socket implementation in use."""
    return {"impl_name": target.options.sock_default}


IMPL = {"impl_name": required(STR)}


def _sock(target: Any, params: Params) -> str:
    if params.impl_name not in target.options.sock:
        raise RpcFailure(INVALID_PARAMS, "Invalid parameters")
    return params.impl_name


@method("sock_set_default_impl", NVMF, IMPL, states=STARTUP)
def set_default_sock(target: Any, params: Params) -> bool:
    """Choose posix or ssl."""
    target.options.sock_default = _sock(target, params)
    return True


@method("sock_impl_get_options", NVMF, IMPL, states=BOTH)
def get_sock_options(target: Any, params: Params) -> Any:
    """Options of one implementation."""
    return target.options.sock[_sock(target, params)]


@method("sock_impl_set_options", NVMF, IMPL | _fields(SOCK_OPTIONS), states=STARTUP)
def set_sock_options(target: Any, params: Params) -> bool:
    """Change options of one implementation."""
    values = {name: value for name, value in params.values.items() if name != "impl_name"}
    target.options.sock[_sock(target, params)] |= values
    return True


def timeouts_fit(loss: int, delay: int, fast: int) -> bool:
    """Whether ctrlr_loss_timeout, reconnect_delay and fast_io_fail_timeout (seconds) go together (section 7)."""
    if loss < -1:
        return False
    if loss == 0:
        return delay == 0 and fast == 0
    if delay == 0:
        return False
    if loss > 0 and (delay > loss or fast > loss):
        return False
    return not fast or delay <= fast


@method(
    "bdev_nvme_set_options",
    BDEV,
    {
        name: optional(MULTIPATH_OPTS if kind is None else kind, NVME_OPTIONS_SINCE.get(name))
        for name, (kind, _default) in NVME_OPTIONS.items()
    }
    | {"retry_count": optional(U32, until=(24, 5))},
    states=BOTH,
)
def set_nvme_options(target: Any, params: Params) -> bool:
    """Defaults of the NVMe initiator; each call replaces the keys given. Not with a controller attached."""
    if target.nvme_controllers:
        raise RpcFailure(-errno.EPERM, "RPC not permitted with nvme controllers already attached")
    given = dict(params.values)
    if "retry_count" in given:
        given["transport_retry_count"] = given.pop("retry_count")
    if "multipath_opts" in given:
        given["multipath_opts"] = dict(given["multipath_opts"].values)
    wanted = target.options.nvme | given
    times = (wanted["ctrlr_loss_timeout_sec"], wanted["reconnect_delay_sec"], wanted["fast_io_fail_timeout_sec"])
    if wanted["bdev_retry_count"] < -1 or (wanted["timeout_admin_us"] and not wanted["timeout_us"]):
        raise failure(errno.EINVAL)
    if not timeouts_fit(*times):
        raise failure(errno.EINVAL)
    target.options.nvme = wanted
    return True


@method(
    "framework_set_scheduler",
    NVMF,
    {
        "name": required(STR),
        "period": optional(U64),
        "load_limit": optional(U8),
        "core_limit": optional(U8),
        "core_busy": optional(U8),
        "mappings": optional(STR),
    },
    states=BOTH,
    relaxed=True,
)
def set_scheduler(target: Any, params: Params) -> bool:
    """Choose static or dynamic; gscheduler needs a governor that is not there."""
    options = target.options
    if params.name not in ("static", "dynamic"):
        number = 1 if params.name == "gscheduler" else 22
        raise RpcFailure(INTERNAL_ERROR, f"Unknown error -{number}")
    options.scheduler = params.name
    options.scheduler_period = params.or_default("period", 1000000) if params.name == "dynamic" else 0
    if params.name == "dynamic":
        options.dynamic |= {name: value for name, value in params.values.items() if name in options.dynamic}
    return True


@bare_method("framework_get_scheduler", "'rpc_get_scheduler' requires no arguments", states=BOTH)
def get_scheduler(target: Any) -> Any:
    """The scheduler and its settings."""
    options = target.options
    out = {} if options.scheduler is None else {"scheduler_name": options.scheduler}
    first_core = (target.cpumask & -target.cpumask).bit_length() - 1
    out |= {"scheduler_period": options.scheduler_period, "isolated_core_mask": "0", "scheduling_core": first_core}
    return out | options.dynamic if options.scheduler == "dynamic" else out


@bare_method("log_get_level", "log_get_level requires no parameters", states=BOTH)
def log_get_level(target: Any) -> str:
    """What goes to the system log."""
    return target.options.log_level


@bare_method("log_get_print_level", "log_get_print_level requires no parameters", states=BOTH)
def log_get_print_level(target: Any) -> str:
    """What goes to standard error."""
    return target.options.print_level


def _level(params: Params) -> str:
    if params.level not in LEVELS:
        raise RpcFailure(BDEV.code, BDEV.message)
    return params.level


@method("log_set_level", BDEV, {"level": required(STR)}, states=BOTH)
def log_set_level(target: Any, params: Params) -> bool:
    """Set what goes to the system log."""
    target.options.log_level = _level(params)
    return True


@method("log_set_print_level", BDEV, {"level": required(STR)}, states=BOTH)
def log_set_print_level(target: Any, params: Params) -> bool:
    """Set what goes to standard error."""
    target.options.print_level = _level(params)
    return True


def _flag(params: Params) -> str:
    if params.flag not in (*LOG_FLAGS, "all"):
        raise RpcFailure(INVALID_PARAMS, "invalid log flag")
    return params.flag


@method("log_set_flag", BDEV, {"flag": required(STR)}, states=BOTH)
def log_set_flag(target: Any, params: Params) -> bool:
    """Switch a debug flag on."""
    target.options.log_flags |= set(LOG_FLAGS) if _flag(params) == "all" else {params.flag}
    return True


@method("log_clear_flag", BDEV, {"flag": required(STR)}, states=BOTH)
def log_clear_flag(target: Any, params: Params) -> bool:
    """Switch a debug flag off."""
    target.options.log_flags -= set(LOG_FLAGS) if _flag(params) == "all" else {params.flag}
    return True


@bare_method("notify_get_types", "No parameters required")
def get_notification_types(target: Any) -> Any:
    """The kinds of events."""
    return EVENT_TYPES


@method("notify_get_notifications", BDEV, {"id": optional(U64), "max": optional(U64)})
def get_notifications(target: Any, params: Params) -> Any:
    """Events from ``id`` on, at most ``max``."""
    known = target.bdevs.notifications
    last = len(known) if params.max is None else params.or_default("id", 0) + params.max
    out = []
    for event, following in itertools.zip_longest(known, known[1:], fillvalue={"type": ""}):
        overlong = len(event["ctx"]) == bdevs.EVENT_NAME
        out.append(event | {"ctx": event["ctx"] + following["type"]} if overlong else event)
    return out[params.or_default("id", 0) : last]
