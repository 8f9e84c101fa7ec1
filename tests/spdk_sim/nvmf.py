# SPDX-License-Identifier: GPL-3.0-or-later
"""The NVMe-oF target (contract section 6)."""

from __future__ import annotations

import datetime
import errno
import ipaddress
import re
from collections.abc import Callable
from typing import Any

from . import bdevs, keyring
from .decode import (
    BOOL,
    NVMF,
    STR,
    U8,
    U16,
    U32,
    U64,
    UUID,
    UUID_RE,
    Params,
    array,
    nested,
    one_of,
    optional,
    required,
    text,
)
from .errors import INTERNAL_ERROR, INVALID_PARAMS, RpcFailure, failure
from .registry import STARTUP, method

DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery"
UUID_PREFIX = "nqn.2014-08.org.nvmexpress:uuid:"
LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
NQN_RE = re.compile(rf"nqn\.(\d{{4}})-(\d{{2}})\.({LABEL}(?:\.{LABEL})*):.+", re.I)
MAX_NQN = 223
MAX_LISTENERS = 16
LABEL_MIN, LABEL_MAX = 4, 256
AUTO = 4294967295

TRTYPES = {"tcp": "TCP", "rdma": "RDMA"}
ADRFAMS = {"ipv4": "IPv4", "ipv6": "IPv6", "ib": "IB", "fc": "FC", "intra_host": "Intra-host"}
ANA_STATES = ("optimized", "non_optimized", "inaccessible")
DIGESTS = ["sha256", "sha384", "sha512"]
DHGROUPS = ["null", "ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192"]
PASSTHRU = (
    "identify_ctrlr identify_uuid_list get_log_page get_set_features sanitize security_send_recv fw_update nvme_mi "
    "vendor_specific"
).split()


class Listener:
    """One address of a subsystem. ``states`` overrides ``ana_state`` per ANA group."""

    def __init__(self, address: dict[str, str], secure: bool, ana_state: str, sock_impl: str | None) -> None:
        self.address = address
        self.secure = secure
        self.ana_state = ana_state
        self.sock_impl = sock_impl
        self.states: dict[int, str] = {}

    def state_of(self, group: int) -> str:
        """The ANA state of one group."""
        return self.states.get(group, self.ana_state)


class Namespace(bdevs.Holder):
    """A bdev exported under an nsid."""

    def __init__(self, subsystem: Subsystem, nsid: int, bdev: bdevs.Bdev) -> None:
        self.subsystem = subsystem
        self.nsid = nsid
        self.bdev = bdev
        self.nguid = ""
        self.eui64: str | None = None
        self.uuid = bdev.uuid
        self.anagrpid = nsid
        self.no_auto_visible = False
        self.ptpl_file: str | None = None
        self.hosts: list[str] = []

    def visible_to(self, hostnqn: str) -> bool:
        """Whether a host sees this namespace."""
        return not self.no_auto_visible or hostnqn in self.hosts

    def bdev_removed(self, target: Any, bdev: bdevs.Bdev) -> None:
        """The bdev went away: the namespace is hot-removed."""
        self.subsystem.namespaces.pop(self.nsid, None)
        target.nvmf.version += 1

    def opens_channel(self, target: Any) -> bool:
        """The target's poll groups do I/O on every exported bdev."""
        return True


class Subsystem:
    """One subsystem with its listeners (newest first), namespaces, hosts and connected controllers."""

    def __init__(self, nqn: str, subtype: str = "NVMe") -> None:
        self.nqn = nqn
        self.subtype = subtype
        self.allow_any_host = subtype == "Discovery"
        self.serial_number = "0" * 20
        self.model_number = "SPDK bdev Controller"
        self.max_namespaces = 32
        self.ana_reporting = False
        self.min_cntlid = 1
        self.max_cntlid = 65519
        self.dmrsl = 2097152
        self.wzsl = 12
        self.passthrough = False
        self.enable_nssr = False
        self.admin_label: str | None = None
        self.health: dict[str, int] = {}
        self.listeners: list[Listener] = []
        self.namespaces: dict[int, Namespace] = {}
        self.hosts: dict[str, dict[str, keyring.Key]] = {}
        self.psks: dict[str, str] = {}
        self.next_cntlid = 0
        self.controllers: dict[int, dict[str, Any]] = {}
        self.destroying = False

    def listener(self, address: dict[str, str]) -> Listener | None:
        """The listener on an address."""
        return next((listener for listener in self.listeners if listener.address == address), None)

    def admits(self, hostnqn: str) -> bool:
        """Whether a host may connect."""
        return self.allow_any_host or hostnqn in self.hosts

    def connect(self, hostnqn: str, address: dict[str, str], in_use: Callable[[], bool]) -> int:
        """Accept a controller and return its cntlid; ``in_use`` tells whether its initiator does I/O."""
        self.next_cntlid = self.next_cntlid + 1 if self.next_cntlid < self.max_cntlid else self.min_cntlid
        self.next_cntlid = max(self.next_cntlid, self.min_cntlid)
        self.controllers[self.next_cntlid] = {
            "hostnqn": hostnqn,
            "address": address,
            "in_use": in_use,
            "auth": "dhchap_key" in self.hosts.get(hostnqn, ()),
        }
        return self.next_cntlid

    def describe(self, release: tuple[int, int]) -> dict[str, Any]:
        """The element of nvmf_get_subsystems."""
        out: dict[str, Any] = {
            "nqn": self.nqn,
            "subtype": self.subtype,
            "listen_addresses": [listener.address for listener in self.listeners],
            "allow_any_host": self.allow_any_host,
            "hosts": [{"nqn": nqn} | _visible_keys(keys) for nqn, keys in self.hosts.items()],
        }
        if self.subtype == "Discovery":
            return out
        out |= {"serial_number": self.serial_number, "model_number": self.model_number}
        if self.admin_label is not None:
            out["admin_label"] = self.admin_label
        out["max_namespaces"] = self.max_namespaces
        if release >= (24, 9):
            out["passthrough"] = self.passthrough
        out |= {"min_cntlid": self.min_cntlid, "max_cntlid": self.max_cntlid}
        if release >= (26, 5):
            out |= {"dmrsl": self.dmrsl, "wzsl": self.wzsl}
        out["namespaces"] = [self._describe_namespace(ns) for _nsid, ns in sorted(self.namespaces.items())]
        return out

    def _describe_namespace(self, ns: Namespace) -> dict[str, Any]:
        out: dict[str, Any] = {"nsid": ns.nsid, "bdev_name": ns.bdev.name, "name": ns.bdev.name, "nguid": ns.nguid}
        if ns.eui64 is not None:
            out["eui64"] = ns.eui64
        out["uuid"] = ns.uuid
        if self.ana_reporting:
            out["anagrpid"] = ns.anagrpid
        return out


class Nvmf:
    """The default NVMe-oF target. ``version`` counts changes an initiator could notice."""

    def __init__(self) -> None:
        self.subsystems: dict[str, Subsystem] = {DISCOVERY_NQN: Subsystem(DISCOVERY_NQN, "Discovery")}
        self.transports: list[dict[str, Any]] = []
        self.referrals: list[dict[str, Any]] = []
        self.max_subsystems = 1024
        self.max_subsystems_set = False
        self.crdt = [0, 0, 0]
        self.discovery_filters: list[str] = []
        self.passthru = dict.fromkeys(PASSTHRU, False)
        self.digests = list(DIGESTS)
        self.dhgroups = list(DHGROUPS)
        self.dup_host_policy = "allow"
        self.poll_groups_mask: str | None = None
        self.version = 0


def setup(target: Any) -> None:
    """Add this family's state to a target."""
    target.nvmf = Nvmf()


def _visible_keys(keys: dict[str, keyring.Key]) -> dict[str, str]:
    return {purpose: keys[purpose]["name"] for purpose in ("dhchap_key", "dhchap_ctrlr_key") if purpose in keys}


def is_nqn(nqn: str) -> bool:
    """Whether the real program takes this for a qualified name."""
    if nqn == DISCOVERY_NQN:
        return True
    if not len("nqn.2014-08") < len(nqn.encode()) <= MAX_NQN:
        return False
    if nqn.startswith(UUID_PREFIX):
        return UUID_RE.fullmatch(nqn[len(UUID_PREFIX) :]) is not None
    found = NQN_RE.fullmatch(nqn)
    if not found:
        return False
    try:
        datetime.date(int(found[1]), int(found[2]), 1)
    except ValueError:
        return False
    return all(len(label) <= 63 and label[0].isalpha() or label[0].isdigit() for label in found[3].split("."))


TGT = {"tgt_name": optional(STR)}
NQN = {"nqn": required(STR)}
ADDRESS_FIELDS = {
    "trtype": required(STR),
    "traddr": required(STR),
    "adrfam": optional(STR),
    "trsvcid": optional(STR),
}
ADDRESS = nested(ADDRESS_FIELDS)


def invalid() -> RpcFailure:
    """-32602 "Invalid parameters", the answer to nearly everything here."""
    return RpcFailure(INVALID_PARAMS, "Invalid parameters")


def internal() -> RpcFailure:
    """-32603 "Internal error"."""
    return RpcFailure(INTERNAL_ERROR, "Internal error")


def check_target(params: Params) -> None:
    """There is one target, the default one."""
    if params.tgt_name not in (None, "nvmf_tgt"):
        raise RpcFailure(INVALID_PARAMS, f"NVMf target '{params.tgt_name}' not found")


def find(target: Any, params: Params) -> Subsystem:
    """The subsystem named by ``nqn``."""
    check_target(params)
    subsystem = target.nvmf.subsystems.get(params.nqn)
    if subsystem is None:
        raise RpcFailure(INVALID_PARAMS, f"Subsystem with NQN '{params.nqn}' not found")
    return subsystem


def canonical(params: Params) -> dict[str, str]:
    """An address in the spelling of the answers; -32602 for unknown kinds."""
    trtype = TRTYPES.get(params.trtype.lower())
    adrfam = ADRFAMS.get((params.adrfam or "IPv4").lower())
    if trtype is None or adrfam is None:
        raise invalid()
    return {"trtype": trtype, "adrfam": adrfam, "traddr": params.traddr, "trsvcid": params.trsvcid or ""}


def _is_local(target: Any, address: dict[str, str]) -> bool:
    try:
        ip = ipaddress.ip_address(address["traddr"])
    except ValueError:
        return False
    if ip.version != (6 if address["adrfam"] == "IPv6" else 4):
        return False
    return ip.is_loopback or ip.is_unspecified or target.addresses is None or address["traddr"] in target.addresses


def _changing(target: Any, subsystem: Subsystem):
    """Wait until the subsystem is paused; fails when it is being destroyed meanwhile."""
    if subsystem.destroying:
        raise internal()
    yield
    if subsystem.destroying:
        raise internal()
    target.nvmf.version += 1


TRANSPORT_OPTIONS = {
    "max_queue_depth": (U16, 128, None),
    "max_io_qpairs_per_ctrlr": (U16, 127, None),
    "in_capsule_data_size": (U32, 4096, None),
    "max_io_size": (U32, 131072, None),
    "io_unit_size": (U32, None, None),
    "num_shared_buffers": (U32, None, None),
    "buf_cache_size": (U32, None, None),
    "max_aq_depth": (U32, 128, None),
    "iobuf_small_cache_size": (U32, AUTO, (26, 5)),
    "iobuf_large_cache_size": (U32, AUTO, (26, 5)),
    "dif_insert_or_strip": (BOOL, False, None),
    "zcopy": (BOOL, False, None),
    "c2h_success": (BOOL, True, None),
    "sock_priority": (U32, 0, None),
    "abort_timeout_sec": (U32, 1, None),
    "ack_timeout": (U32, 0, None),
    "data_wr_pool_size": (U32, 0, None),
    "disable_command_passthru": (BOOL, False, (24, 9)),
    "kas": (U16, 100, (25, 5)),
    "min_kato": (U32, 10000, (25, 5)),
}
OLD_BUFFER_OPTIONS = {"io_unit_size": 131072, "num_shared_buffers": 511, "buf_cache_size": AUTO}
UNREPORTED = {
    "acceptor_poll_rate": U32,
    "acceptor_backlog": U32,
    "control_msg_num": U32,
    "num_cqe": U32,
    "max_srq_depth": U32,
    "no_srq": BOOL,
    "no_wr_batching": BOOL,
}


@method(
    "nvmf_create_transport",
    NVMF,
    {"trtype": required(STR)}
    | TGT
    | {name: optional(kind, since) for name, (kind, _default, since) in TRANSPORT_OPTIONS.items()}
    | {name: optional(kind) for name, kind in UNREPORTED.items()},
    relaxed=True,
)
def create_transport(target: Any, params: Params) -> Any:
    """Create a transport. The check for a second one comes before the work, so two in one write both succeed."""
    check_target(params)
    trtype = TRTYPES.get(params.trtype.lower())
    if trtype is None:
        raise RpcFailure(INVALID_PARAMS, f"Invalid transport type '{params.trtype}'")
    if any(transport["trtype"] == trtype for transport in target.nvmf.transports):
        raise RpcFailure(INTERNAL_ERROR, f"Transport type '{params.trtype}' already exists")
    if trtype == "RDMA" and not target.rdma:
        raise RpcFailure(INTERNAL_ERROR, "Failed to create transport.")
    if params.or_default("max_io_size", 131072) < 8192 or params.or_default("max_io_size", 8192) % 8192:
        raise RpcFailure(INTERNAL_ERROR, f"Transport type '{params.trtype}' create failed")
    transport: dict[str, Any] = {"trtype": trtype}
    for name, (_kind, default, since) in TRANSPORT_OPTIONS.items():
        if since is not None and target.release < since:
            continue
        if name in OLD_BUFFER_OPTIONS:
            if target.release >= (26, 5):
                continue
            default = OLD_BUFFER_OPTIONS[name]
        if trtype != "TCP" and name in ("c2h_success", "sock_priority"):
            continue
        transport[name] = params.or_default(name, default)
    yield
    target.nvmf.transports.append(transport)
    return True


@method("nvmf_get_transports", NVMF, {"trtype": optional(STR)} | TGT)
def get_transports(target: Any, params: Params) -> Any:
    """The transports with their options, or one."""
    check_target(params)
    if params.trtype is None:
        return target.nvmf.transports
    found = [each for each in target.nvmf.transports if each["trtype"] == TRTYPES.get(params.trtype.lower())]
    if not found:
        raise failure(errno.ENODEV)
    return found[:1]


@method(
    "nvmf_create_subsystem",
    NVMF,
    {
        "serial_number": optional(text(20)),
        "model_number": optional(text(40)),
        "max_namespaces": optional(U32),
        "allow_any_host": optional(BOOL),
        "ana_reporting": optional(BOOL),
        "min_cntlid": optional(U16),
        "max_cntlid": optional(U16),
        "max_discard_size_kib": optional(U64, until=(26, 5)),
        "max_write_zeroes_size_kib": optional(U64, until=(26, 5)),
        "dmrsl": optional(U32, since=(26, 5)),
        "wzsl": optional(U8, since=(26, 5)),
        "passthrough": optional(BOOL, since=(24, 9)),
        "enable_nssr": optional(BOOL, since=(25, 9)),
        "admin_label": optional(STR, since=(26, 9)),
    }
    | NQN
    | TGT,
)
def create_subsystem(target: Any, params: Params) -> Any:
    """Create a subsystem. Every failure but a bad cntlid range reads the same."""
    if params.tgt_name not in (None, "nvmf_tgt"):
        raise RpcFailure(INTERNAL_ERROR, f"Unable to find target {params.tgt_name}")
    subsystems = target.nvmf.subsystems
    nqn = params.nqn
    if nqn in subsystems or not is_nqn(nqn) or len(subsystems) >= target.nvmf.max_subsystems:
        raise RpcFailure(INTERNAL_ERROR, f"Unable to create subsystem {nqn}")
    label = params.admin_label
    if label and (not LABEL_MIN <= len(label) <= LABEL_MAX or not (label.isascii() and label.isprintable())):
        raise RpcFailure(INVALID_PARAMS, "Invalid admin_label")
    subsystem = Subsystem(nqn)
    subsystem.allow_any_host = bool(params.allow_any_host)
    for name in ("serial_number", "model_number", "min_cntlid", "max_cntlid", "dmrsl", "wzsl", "admin_label"):
        if params.values.get(name) is not None:
            setattr(subsystem, name, params.values[name])
    subsystem.max_namespaces = params.max_namespaces or 32
    for name in ("ana_reporting", "passthrough", "enable_nssr"):
        setattr(subsystem, name, bool(params.values.get(name)))
    if not 1 <= subsystem.min_cntlid <= subsystem.max_cntlid <= 65519:
        raise RpcFailure(INVALID_PARAMS, f"Invalid cntlid range [{subsystem.min_cntlid}-{subsystem.max_cntlid}]")
    subsystems[nqn] = subsystem
    target.nvmf.version += 1
    yield
    return True


@method("nvmf_delete_subsystem", NVMF, NQN | TGT)
def delete_subsystem(target: Any, params: Params) -> Any:
    """Delete a subsystem with everything in it."""
    subsystem = find(target, params)
    if subsystem.destroying:
        raise RpcFailure(INTERNAL_ERROR, "Subsystem is already being destroyed.")
    subsystem.destroying = True
    yield
    for namespace in list(subsystem.namespaces.values()):
        bdevs.release(namespace.bdev, namespace)
    for key in [key for keys in subsystem.hosts.values() for key in keys.values()]:
        keyring.give_back(target, key)
    subsystem.namespaces.clear()
    subsystem.listeners.clear()
    target.nvmf.subsystems.pop(subsystem.nqn, None)
    target.nvmf.version += 1
    return True


@method("nvmf_get_subsystems", NVMF, {"nqn": optional(STR)} | TGT)
def get_subsystems(target: Any, params: Params) -> Any:
    """All subsystems sorted by NQN, or one."""
    check_target(params)
    if params.nqn is not None:
        return [find(target, params).describe(target.release)]
    return [each.describe(target.release) for _nqn, each in sorted(target.nvmf.subsystems.items())]


@method(
    "nvmf_subsystem_add_listener",
    NVMF,
    {
        "listen_address": required(ADDRESS),
        "secure_channel": optional(BOOL),
        "ana_state": optional(one_of(*ANA_STATES)),
        "sock_impl": optional(STR, since=(24, 9)),
    }
    | NQN
    | TGT,
    relaxed=True,
)
def add_listener(target: Any, params: Params) -> Any:
    """Listen on an address; at most 16 per subsystem."""
    subsystem = find(target, params)
    address = canonical(params.listen_address)
    if params.secure_channel and subsystem.allow_any_host:
        raise RpcFailure(INTERNAL_ERROR, "Cannot establish secure channel, when 'allow_any_host' is set")
    return _add_listener(target, subsystem, address, params)


def _add_listener(target: Any, subsystem: Subsystem, address: dict[str, str], params: Params) -> Any:
    yield from _changing(target, subsystem)
    port = address["trsvcid"]
    transport = any(transport["trtype"] == address["trtype"] for transport in target.nvmf.transports)
    if not transport or not (port.isdigit() and 0 < int(port) < 65536) or not _is_local(target, address):
        raise invalid()
    if (address["traddr"], port) in target.busy_ports:
        raise invalid()
    if subsystem.listener(address) or len(subsystem.listeners) >= MAX_LISTENERS:
        raise invalid()
    state = params.or_default("ana_state", "optimized")
    subsystem.listeners.insert(0, Listener(address, bool(params.secure_channel), state, params.sock_impl))
    if target.on_listen:
        target.on_listen(address)
    return True


@method("nvmf_subsystem_remove_listener", NVMF, {"listen_address": required(ADDRESS)} | NQN | TGT)
def remove_listener(target: Any, params: Params) -> Any:
    """Stop listening; connections through it are lost."""
    subsystem = find(target, params)
    address = canonical(params.listen_address)
    return _remove_listener(target, subsystem, address)


def _remove_listener(target: Any, subsystem: Subsystem, address: dict[str, str]) -> Any:
    yield from _changing(target, subsystem)
    listener = subsystem.listener(address)
    if listener is None:
        raise invalid()
    subsystem.listeners.remove(listener)
    return True


@method("nvmf_subsystem_get_listeners", NVMF, NQN | TGT)
def get_listeners(target: Any, params: Params) -> Any:
    """The listeners, newest first, with their ANA states."""
    subsystem = find(target, params)
    out = []
    for listener in subsystem.listeners:
        each: dict[str, Any] = {"address": listener.address}
        if subsystem.ana_reporting:
            each["ana_states"] = [
                {"ana_group": group, "ana_state": listener.state_of(group)}
                for group in range(1, subsystem.max_namespaces + 1)
            ]
        out.append(each)
    return out


@method(
    "nvmf_subsystem_listener_set_ana_state",
    NVMF,
    {"listen_address": required(ADDRESS), "ana_state": required(one_of(*ANA_STATES)), "anagrpid": optional(U32)}
    | NQN
    | TGT,
)
def set_ana_state(target: Any, params: Params) -> Any:
    """Set the ANA state of a listener, for one group or all."""
    subsystem = find(target, params)
    address = canonical(params.listen_address)
    return _set_ana_state(target, subsystem, address, params)


def _set_ana_state(target: Any, subsystem: Subsystem, address: dict[str, str], params: Params) -> Any:
    yield from _changing(target, subsystem)
    listener = subsystem.listener(address)
    group = params.anagrpid
    known = group is None or 1 <= group <= subsystem.max_namespaces
    if listener is None or not subsystem.ana_reporting or not known:
        raise RpcFailure(INTERNAL_ERROR, "error setting ANA state: -22")
    if group is None:
        listener.ana_state = params.ana_state
        listener.states.clear()
    else:
        listener.states[group] = params.ana_state
    return True


NAMESPACE = nested(
    {
        "bdev_name": required(STR),
        "nsid": optional(U32),
        "nguid": optional(STR),
        "eui64": optional(STR),
        "uuid": optional(UUID),
        "ptpl_file": optional(STR),
        "anagrpid": optional(U32),
        "no_auto_visible": optional(BOOL),
        "hide_metadata": optional(BOOL),
    }
)
HEX_RE = re.compile(r"[0-9a-fA-F]+")


def _check_hex(value: str | None, length: int, name: str) -> None:
    if value is not None and (len(value) != length or not HEX_RE.fullmatch(value)):
        raise RpcFailure(INVALID_PARAMS, f"Invalid {name}")


@method("nvmf_subsystem_add_ns", NVMF, {"namespace": required(NAMESPACE)} | NQN | TGT, relaxed=True)
def add_ns(target: Any, params: Params) -> Any:
    """Export a bdev; the answer is the nsid. Without one, the lowest free nsid is taken."""
    want = params.namespace
    _check_hex(want.nguid, 32, "nguid")
    _check_hex(want.eui64, 16, "eui64")
    return _add_ns(target, find(target, params), want)


def _add_ns(target: Any, subsystem: Subsystem, want: Params) -> Any:
    yield from _changing(target, subsystem)
    bdev = target.bdevs.find(want.bdev_name)
    taken = subsystem.namespaces
    nsid = want.nsid or next((n for n in range(1, subsystem.max_namespaces + 1) if n not in taken), 0)
    group = want.anagrpid or nsid
    if bdev is None or bdev.claim is not None or bdev.separate_metadata() or nsid in taken:
        raise invalid()
    if not 1 <= nsid <= subsystem.max_namespaces or group > subsystem.max_namespaces:
        raise invalid()
    namespace = Namespace(subsystem, nsid, bdev)
    namespace.nguid = (want.nguid or bdev.uuid.replace("-", "")).upper()
    namespace.eui64 = want.eui64.upper() if want.eui64 else None
    namespace.uuid = want.uuid or bdev.uuid
    namespace.anagrpid = group
    namespace.no_auto_visible = bool(want.no_auto_visible)
    namespace.ptpl_file = want.ptpl_file
    taken[nsid] = namespace
    bdevs.hold(bdev, namespace, bdevs.EXCLUSIVE)
    return nsid


@method("nvmf_subsystem_remove_ns", NVMF, {"nsid": required(U32)} | NQN | TGT)
def remove_ns(target: Any, params: Params) -> Any:
    """Take a namespace away."""
    return _remove_ns(target, find(target, params), params.nsid)


def _remove_ns(target: Any, subsystem: Subsystem, nsid: int) -> Any:
    yield from _changing(target, subsystem)
    namespace = subsystem.namespaces.pop(nsid, None)
    if namespace is None:
        raise invalid()
    bdevs.release(namespace.bdev, namespace)
    return True


@method(
    "nvmf_subsystem_set_ns_ana_group",
    NVMF,
    {"nsid": required(U32), "anagrpid": required(U32)} | NQN | TGT,
    since=(24, 9),
)
def set_ns_ana_group(target: Any, params: Params) -> Any:
    """Move a namespace to another ANA group."""
    return _set_ns_ana_group(target, find(target, params), params)


def _set_ns_ana_group(target: Any, subsystem: Subsystem, params: Params) -> Any:
    yield from _changing(target, subsystem)
    namespace = subsystem.namespaces.get(params.nsid)
    if namespace is None or not 1 <= params.anagrpid <= subsystem.max_namespaces:
        raise invalid()
    namespace.anagrpid = params.anagrpid
    return True


KEYS = {"dhchap_key": optional(STR), "dhchap_ctrlr_key": optional(STR)}


def _check_keys(target: Any, params: Params) -> dict[str, str]:
    keys = {name: params.values[name] for name in KEYS if params.values.get(name) is not None}
    if any(not keyring.usable(target, key) for key in keys.values()):
        raise invalid()
    return keys


@method("nvmf_subsystem_add_host", NVMF, {"host": required(STR), "psk": optional(STR)} | KEYS | NQN | TGT, relaxed=True)
def add_host(target: Any, params: Params) -> bool:
    """Admit a host; keys are names in the keyring. A PSK is read now, and lost where there is no TCP transport yet."""
    subsystem = find(target, params)
    names = _check_keys(target, params)
    if params.host in subsystem.hosts or not is_nqn(params.host) or list(names) == ["dhchap_ctrlr_key"]:
        raise internal()
    if params.psk is not None and any(transport["trtype"] == "TCP" for transport in target.nvmf.transports):
        psk = target.keys.get(params.psk) and keyring.secret(target, target.keys[params.psk], "NVMeTLSkey-1")
        if psk is None:
            raise internal()
        subsystem.psks[params.host] = psk
        names["psk"] = params.psk
    keys = {purpose: keyring.take(target, name) for purpose, name in names.items()}
    subsystem.hosts = {params.host: keys} | subsystem.hosts
    target.nvmf.version += 1
    return True


@method(
    "nvmf_subsystem_remove_host",
    NVMF,
    {"host": required(STR), "timeout_ms": optional(U64, since=(26, 5))} | NQN | TGT,
)
def remove_host(target: Any, params: Params) -> Any:
    """Stop admitting a host; answers when its connections are gone."""
    subsystem = find(target, params)
    keys = subsystem.hosts.pop(params.host, None)
    if keys is None:
        raise internal()
    for key in keys.values():
        keyring.give_back(target, key)
    subsystem.psks.pop(params.host, None)
    left = {cntlid: each for cntlid, each in subsystem.controllers.items() if each["hostnqn"] != params.host}
    subsystem.controllers = left
    target.nvmf.version += 1
    return _after_disconnect()


def _after_disconnect() -> Any:
    yield
    return True


@method("nvmf_subsystem_set_keys", NVMF, {"host": required(STR)} | KEYS | NQN | TGT, since=(24, 9))
def set_keys(target: Any, params: Params) -> bool:
    """Replace the DH-HMAC-CHAP keys of a host; who is connected stays so."""
    subsystem = find(target, params)
    names = _check_keys(target, params)
    host = subsystem.hosts.get(params.host)
    if host is None or list(names) == ["dhchap_ctrlr_key"]:
        raise failure(errno.EINVAL)
    keys = {purpose: keyring.take(target, name) for purpose, name in names.items()}
    for purpose in KEYS:
        if purpose in host:
            keyring.give_back(target, host.pop(purpose))
    host |= keys
    return True


@method("nvmf_subsystem_allow_any_host", NVMF, {"allow_any_host": required(BOOL)} | NQN | TGT)
def allow_any_host(target: Any, params: Params) -> bool:
    """Admit every host, or only the listed ones."""
    find(target, params).allow_any_host = params.allow_any_host
    target.nvmf.version += 1
    return True


def _change_ns_host(add: bool):
    def handler(target: Any, params: Params) -> Any:
        return change(target, find(target, params), params)

    def change(target: Any, subsystem: Subsystem, params: Params) -> Any:
        yield from _changing(target, subsystem)
        namespace = subsystem.namespaces.get(params.nsid)
        if namespace is None or not namespace.no_auto_visible or not is_nqn(params.host):
            raise invalid()
        if add and params.host not in namespace.hosts:
            namespace.hosts.append(params.host)
        if not add and params.host in namespace.hosts:
            namespace.hosts.remove(params.host)
        return True

    return handler


for _name, _add in (("nvmf_ns_add_host", True), ("nvmf_ns_remove_host", False)):
    method(_name, NVMF, {"nsid": required(U32), "host": required(STR)} | NQN | TGT)(_change_ns_host(_add))


def _qpairs(connection: dict[str, Any]) -> int:
    """One for admin commands, and one for I/O once the initiator uses a bdev of the controller."""
    return 2 if connection["in_use"]() else 1


@method("nvmf_subsystem_get_controllers", NVMF, NQN | TGT)
def get_controllers(target: Any, params: Params) -> Any:
    """The connected controllers."""
    return [
        {
            "cntlid": cntlid,
            "cntrltype": "io",
            "hostnqn": each["hostnqn"],
            "hostid": each["hostnqn"].removeprefix(UUID_PREFIX),
            "num_io_qpairs": _qpairs(each),
        }
        for cntlid, each in find(target, params).controllers.items()
    ]


@method("nvmf_subsystem_get_qpairs", NVMF, NQN | TGT)
def get_qpairs(target: Any, params: Params) -> Any:
    """The queue pairs of the connected controllers."""
    return [
        {
            "cntlid": cntlid,
            "qid": qid,
            "state": "enabled",
            "thread": "nvmf_tgt_poll_group_000",
            "hostnqn": each["hostnqn"],
            "listen_address": each["address"],
            "peer_address": each["address"] | {"trsvcid": str(30000 + 2 * cntlid + qid)},
        }
        | ({"auth": {"state": "completed", "digest": "sha512", "dhgroup": "ffdhe8192"}} if each["auth"] else {})
        for cntlid, each in find(target, params).controllers.items()
        for qid in range(_qpairs(each))
    ]


REFERRAL = {"address": required(ADDRESS), "subnqn": optional(STR)} | TGT


def _referral(params: Params) -> dict[str, Any]:
    check_target(params)
    return {
        "address": canonical(params.address),
        "secure_channel": bool(params.secure_channel),
        "subnqn": params.subnqn or DISCOVERY_NQN,
    }


@method("nvmf_discovery_add_referral", NVMF, REFERRAL | {"secure_channel": optional(BOOL)}, relaxed=True)
def add_referral(target: Any, params: Params) -> bool:
    """Add a discovery referral; again is fine."""
    referral = _referral(params)
    if not any(each["address"] == referral["address"] for each in target.nvmf.referrals):
        target.nvmf.referrals.insert(0, referral)
    return True


@method("nvmf_discovery_remove_referral", NVMF, REFERRAL)
def remove_referral(target: Any, params: Params) -> bool:
    """Remove a discovery referral."""
    address = _referral(params)["address"]
    kept = [each for each in target.nvmf.referrals if each["address"] != address]
    if len(kept) == len(target.nvmf.referrals):
        raise RpcFailure(INTERNAL_ERROR, "Unable to remove a referral.")
    target.nvmf.referrals = kept
    return True


@method("nvmf_discovery_get_referrals", NVMF, TGT)
def get_referrals(target: Any, params: Params) -> Any:
    """The discovery referrals."""
    check_target(params)
    return target.nvmf.referrals


@method("nvmf_get_stats", NVMF, TGT)
def get_stats(target: Any, params: Params) -> Any:
    """Counters of the one poll group; without I/O they stay zero."""
    check_target(params)
    group: dict[str, Any] = {"name": "nvmf_tgt_poll_group_000"}
    counters = "admin_qpairs io_qpairs current_admin_qpairs current_io_qpairs current_unassociated_qpairs"
    for counter in (counters + " pending_bdev_io completed_nvme_io").split():
        group[counter] = 0
    group["transports"] = [{"trtype": transport["trtype"]} for transport in target.nvmf.transports]
    return {"tick_rate": 2596100000, "poll_groups": [group]}


@method("nvmf_set_max_subsystems", NVMF, {"max_subsystems": required(U32)}, states=STARTUP)
def set_max_subsystems(target: Any, params: Params) -> bool:
    """Limit the number of subsystems, the discovery one included. Once only."""
    if target.nvmf.max_subsystems_set:
        raise RpcFailure(INTERNAL_ERROR, "Must not call more than once")
    target.nvmf.max_subsystems = params.max_subsystems
    target.nvmf.max_subsystems_set = True
    return True


FILTERS = ("transport", "address", "svcid")


def _old_filter(value: Any) -> list[str]:
    names = [] if value == "match_any" else STR(value).split(",")
    return [one_of(*FILTERS)(name) for name in names]


@method(
    "nvmf_set_config",
    NVMF,
    {
        "admin_cmd_passthru": optional(nested({name: optional(BOOL) for name in PASSTHRU})),
        "poll_groups_mask": optional(STR),
        "discovery_filters": optional(array(one_of(*FILTERS)), since=(26, 9)),
        "discovery_filter": optional(_old_filter),
        "dhchap_digests": optional(array(one_of(*DIGESTS))),
        "dhchap_dhgroups": optional(array(one_of(*DHGROUPS))),
        "dup_host_policy": optional(one_of("allow", "restrict_per_listener"), since=(26, 5)),
    },
    states=STARTUP,
)
def set_config(target: Any, params: Params) -> bool:
    """Set what holds for the whole NVMe-oF target."""
    nvmf = target.nvmf
    if params.poll_groups_mask is not None:
        try:
            mask = int(params.poll_groups_mask, 16)
        except ValueError:
            raise invalid() from None
        if not mask & target.cpumask:
            raise invalid()
        nvmf.poll_groups_mask = params.poll_groups_mask
    filters = params.discovery_filters if params.discovery_filters is not None else params.discovery_filter
    nvmf.discovery_filters = nvmf.discovery_filters if filters is None else filters
    if params.admin_cmd_passthru:
        nvmf.passthru |= params.admin_cmd_passthru.values
    nvmf.digests = params.or_default("dhchap_digests", nvmf.digests)
    nvmf.dhgroups = params.or_default("dhchap_dhgroups", nvmf.dhgroups)
    nvmf.dup_host_policy = params.or_default("dup_host_policy", nvmf.dup_host_policy)
    return True


@method("nvmf_set_crdt", NVMF, {f"crdt{n}": optional(U16) for n in (1, 2, 3)}, states=STARTUP)
def set_crdt(target: Any, params: Params) -> bool:
    """Set the command retry delay times."""
    target.nvmf.crdt = [params.values.get(f"crdt{n}") or 0 for n in (1, 2, 3)]
    return True


def config(target: Any, batches: bool) -> list[Any]:
    """The framework_get_config entries of subsystem nvmf; with ``batches`` those of one kind are an array."""
    nvmf = target.nvmf
    general: dict[str, Any] = {"discovery_filters": nvmf.discovery_filters, "admin_cmd_passthru": nvmf.passthru}
    if target.release < (26, 9):
        general["discovery_filter"] = ",".join(nvmf.discovery_filters) or "match_any"
    general |= {"dhchap_digests": nvmf.digests, "dhchap_dhgroups": nvmf.dhgroups}
    general["dup_host_policy"] = nvmf.dup_host_policy
    if nvmf.poll_groups_mask is not None:
        general = {"poll_groups_mask": nvmf.poll_groups_mask} | general
    out = [
        {"method": "nvmf_set_config", "params": general},
        {"method": "nvmf_set_max_subsystems", "params": {"max_subsystems": nvmf.max_subsystems}},
        {"method": "nvmf_set_crdt", "params": {f"crdt{n}": value for n, value in enumerate(nvmf.crdt, 1)}},
    ]
    out += [{"method": "nvmf_create_transport", "params": transport} for transport in nvmf.transports]
    out += [{"method": "nvmf_discovery_add_referral", "params": referral} for referral in nvmf.referrals]
    groups: tuple[list[dict[str, Any]], ...] = ([], [], [], [], [])
    for _nqn, subsystem in sorted(nvmf.subsystems.items()):
        if subsystem.subtype == "Discovery":
            continue
        for group, entries in zip(groups, _subsystem_config(subsystem, target.release), strict=True):
            group += entries
    return out + (list(groups) if batches else [entry for group in groups for entry in group])


def _names(keys: dict[str, keyring.Key]) -> dict[str, str]:
    return {purpose: keys[purpose]["name"] for purpose in (*KEYS, "psk") if purpose in keys}


def _subsystem_config(subsystem: Subsystem, release: tuple[int, int]) -> tuple[list[dict[str, Any]], ...]:
    nqn = {"nqn": subsystem.nqn}
    create: dict[str, Any] = nqn | {"allow_any_host": subsystem.allow_any_host}
    create |= {"serial_number": subsystem.serial_number, "model_number": subsystem.model_number}
    create |= {"max_namespaces": subsystem.max_namespaces, "min_cntlid": subsystem.min_cntlid}
    create |= {"max_cntlid": subsystem.max_cntlid, "ana_reporting": subsystem.ana_reporting}
    if release >= (26, 5):
        create |= {"dmrsl": subsystem.dmrsl, "wzsl": subsystem.wzsl}
    if release >= (24, 9):
        create["passthrough"] = subsystem.passthrough
    if release >= (25, 9):
        create["enable_nssr"] = subsystem.enable_nssr
    if subsystem.admin_label is not None:
        create["admin_label"] = subsystem.admin_label
    hosts = [
        {"method": "nvmf_subsystem_add_host", "params": nqn | {"host": host} | _names(keys)}
        for host, keys in subsystem.hosts.items()
    ]
    namespaces: list[dict[str, Any]] = []
    visible: list[dict[str, Any]] = []
    for _nsid, ns in sorted(subsystem.namespaces.items()):
        params: dict[str, Any] = {"nsid": ns.nsid, "bdev_name": ns.bdev.name, "nguid": ns.nguid}
        if ns.eui64 is not None:
            params["eui64"] = ns.eui64
        params["uuid"] = ns.uuid
        if subsystem.ana_reporting:
            params["anagrpid"] = ns.anagrpid
        params["no_auto_visible"] = ns.no_auto_visible
        if ns.ptpl_file is not None:
            params["ptpl_file"] = ns.ptpl_file
        namespaces.append({"method": "nvmf_subsystem_add_ns", "params": nqn | {"namespace": params}})
        visible += [
            {"method": "nvmf_ns_add_host", "params": nqn | {"nsid": ns.nsid, "host": host}} for host in ns.hosts
        ]
    listeners = []
    for listener in subsystem.listeners:
        entry = nqn | {"listen_address": listener.address, "secure_channel": listener.secure}
        if listener.sock_impl is not None:
            entry["sock_impl"] = listener.sock_impl
        listeners.append({"method": "nvmf_subsystem_add_listener", "params": entry})
    return [{"method": "nvmf_create_subsystem", "params": create}], hosts, namespaces, visible, listeners
