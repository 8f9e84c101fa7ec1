# SPDX-License-Identifier: GPL-3.0-or-later
"""The NVMe initiator (contract section 7).

A controller is attached to a subsystem of a reachable ``Target`` (itself, or one of ``peers``). What happens there is
noticed by ``refresh``, which compares what the controller knows with what the other side has now.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from . import bdevs, framework, keyring
from .bdevs import Bdev
from .decode import (
    ARGUMENT,
    BDEV,
    BOOL,
    HEALTH,
    I32,
    NVMF,
    STR,
    U16,
    U32,
    U64,
    Params,
    one_of,
    optional,
    required,
)
from .errors import INTERNAL_ERROR, RpcFailure, TargetCrash, failure
from .nvmf import ADRFAMS, KEYS, MAX_NQN, UUID_PREFIX, Subsystem
from .registry import method

MAX_NAME = 511
FABRICS = {"tcp": "TCP", "rdma": "RDMA"}
PATH_KEYS = ("trtype", "adrfam", "traddr", "trsvcid", "subnqn")
CONNECT_TIMEOUT_US = 500000
IO_QUEUES = 127
QUEUE_REQUESTS = 512
"""What io_queue_requests becomes with the first queue pair."""
MAX_IO = 131072
PURPOSES = ("psk", "dhchap_key", "dhchap_ctrlr_key")
KELVIN = 2**64 - 273
"""0 K in degrees Celsius as an unsigned number: the SPDK target reports no temperature."""


class Keys:
    """The keys of one connection of an initiator. A PSK is read when the controller is attached."""

    def __init__(self, target: Any, names: dict[str, str]) -> None:
        self.target = target
        self.held = {purpose: keyring.take(target, names[purpose]) for purpose in PURPOSES if purpose in names}
        self.psk = self._secret("psk", "NVMeTLSkey-1")

    def release(self) -> None:
        """Nothing holds them any more."""
        for key in self.held.values():
            keyring.give_back(self.target, key)
        self.held = {}

    def fit(self, server: Any, subsystem: Subsystem, address: dict[str, str], hostnqn: str) -> bool:
        """Whether both sides can prove what they have to."""
        if subsystem.listener(address).secure != ("psk" in self.held):
            return False
        if "psk" in self.held and self.psk != subsystem.psks.get(hostnqn, ""):
            return False
        theirs = subsystem.hosts.get(hostnqn, {})
        return all(
            purpose not in asking or (purpose in giving and self._same(server, theirs, purpose))
            for purpose, asking, giving in (
                ("dhchap_key", theirs, self.held),
                ("dhchap_ctrlr_key", self.held, theirs),
            )
        )

    def _same(self, server: Any, theirs: dict[str, keyring.Key], purpose: str) -> bool:
        ours = self._secret(purpose, "DHHC-1")
        return ours is not None and ours == keyring.secret(server, theirs[purpose], "DHHC-1")

    def _secret(self, purpose: str, kind: str) -> str | None:
        return keyring.secret(self.target, self.held[purpose], kind) if purpose in self.held else None


class Path:
    """One connection, with options of its own. ``alternates`` are further addresses (failover)."""

    def __init__(self, trid: dict[str, str], server: Any, subsystem: Subsystem, params: Params, keys: Keys) -> None:
        self.trid = trid
        self.server = server
        self.subsystem = subsystem
        self.cntlid = 0
        self.options = params.values
        self.hostaddr = params.hostaddr or ""
        self.hostsvcid = params.hostsvcid or ""
        self.loss_timeout = params.or_default("ctrlr_loss_timeout_sec", 0)
        self.keys = keys
        self.refused = False
        self.alternates: list[dict[str, str]] = []
        self.disabled = False
        self.lost_at: float | None = None
        self.given_up = False

    @property
    def address(self) -> dict[str, str]:
        """The listen address the path uses."""
        return {key: value for key, value in self.trid.items() if key != "subnqn"}

    def holds(self, hostnqn: str) -> bool:
        """Whether the other end still keeps this connection."""
        return self.reachable(hostnqn) and self.cntlid in self.subsystem.controllers

    def reachable(self, hostnqn: str) -> bool:
        """Whether the other end still serves this path."""
        served = self.server.nvmf.subsystems.get(self.subsystem.nqn)
        return (
            served is self.subsystem
            and not served.destroying
            and served.admits(hostnqn)
            and (served.listener(self.address) is not None)
        )

    @property
    def state(self) -> str:
        """The state as bdev_nvme_get_controllers names it."""
        if self.given_up:
            return "deleting"
        if self.disabled:
            return "disabled"
        if self.lost_at is None:
            return "enabled"
        return "reconnect_is_delayed" if self.loss_timeout else "failed"

    def disconnect(self) -> None:
        """Close the connection."""
        self.subsystem.controllers.pop(self.cntlid, None)

    def connect(self, hostnqn: str, in_use: Callable[[], bool]) -> None:
        """Connect (again); the controller id changes each time. Where keys do not fit the path stays lost.

        Authentication that failed once is never tried again on the same path (docs/spdk-facts.md).
        """
        self.disconnect()
        if self.refused or not self.keys.fit(self.server, self.subsystem, self.address, hostnqn):
            self.refused = self.refused or not self.subsystem.listener(self.address).secure
            raise failure(errno.EIO)
        self.cntlid = self.subsystem.connect(hostnqn, self.address, in_use)
        self.lost_at = None


def visible(trid: dict[str, str]) -> dict[str, str]:
    """A transport id as answers show it: a local drive has no more than its address."""
    return {key: value for key, value in trid.items() if value}


class InUse:
    """Tells the other end whether somebody does I/O through a controller."""

    def __init__(self, target: Any, controller: Controller) -> None:
        self.target = target
        self.controller = controller

    def __call__(self) -> bool:
        return any(bdev.has_channel(self.target) for bdev in self.controller.bdevs.values())


class Controller:
    """A named controller with its paths and bdevs by nsid."""

    def __init__(self, name: str, hostnqn: str, mode: str) -> None:
        self.name = name
        self.hostnqn = hostnqn
        self.mode = mode
        self.paths: list[Path] = []
        self.bdevs: dict[int, NvmeBdev] = {}
        self.hot_removed = False
        self.policy = {"policy": "active_passive"}

    def describe(self) -> dict[str, Any]:
        """The element of bdev_nvme_get_controllers."""
        out = []
        for path in self.paths:
            each: dict[str, Any] = {"state": path.state, "trid": visible(path.trid)}
            if path.alternates:
                each["alternate_trids"] = path.alternates
            each["cntlid"] = path.cntlid
            host = {"nqn": self.hostnqn, "addr": path.hostaddr, "svcid": path.hostsvcid}
            each["host"] = host | {"no_shn_notification": False}
            out.append(each)
        return {"name": self.name, "ctrlrs": out}

    def select(self, cntlid: int | None) -> list[Path]:
        """All paths, or the one with this controller id; -19 without any."""
        found = [path for path in self.paths if cntlid in (None, path.cntlid)]
        if not found:
            raise failure(errno.ENODEV)
        return found

    def bdev_removed(self, target: Any, bdev: Bdev) -> None:
        """Nothing to do: the controller itself unregisters its bdevs."""


class NvmeBdev(Bdev):
    """A namespace seen through a controller."""

    product = "NVMe disk"
    module = "nvme"
    io = bdevs.io_types(
        *"read write unmap flush reset nvme_admin nvme_io write_zeroes compare compare_and_write abort copy".split()
    )

    def __init__(self, controller: Controller, nsid: int, namespace: Any, defaults: dict[str, Any]) -> None:
        remote = namespace.bdev
        medium = remote.medium
        super().__init__(f"{controller.name}n{nsid}", namespace.uuid, remote.block_size, remote.num_blocks, medium)
        self.controller = controller
        self.nsid = nsid
        self.numa_id = -1
        self.policy = dict(controller.policy)
        self.policy_is_own = False
        self.chosen = False
        self.defaults = defaults
        if controller.paths[0].trid["trtype"] != "PCIe":
            self.preferred, self.optimal_write_size = 1, MAX_IO // self.block_size

    def used(self) -> None:
        """I/O makes the bdev choose a path."""
        self.chosen = True
        self.defaults["io_queue_requests"] = self.defaults["io_queue_requests"] or QUEUE_REQUESTS

    def memory_domains(self) -> list[str]:
        return ["DMA"] if self.controller.paths[0].trid["trtype"] != "PCIe" else []

    def driver_specific(self, target: Any) -> dict[str, Any]:
        paths = [self._describe_path(target, path) for path in self.controller.paths]
        out: dict[str, Any] = {"nvme": paths, "mp_policy": self.policy["policy"]}
        if self.policy["policy"] == "active_active":
            out["selector"] = self.policy["selector"]
            if out["selector"] == "round_robin":
                out["rr_min_io"] = self.policy["min_io"]
        return out

    def _describe_path(self, target: Any, path: Path) -> dict[str, Any]:
        subsystem = path.subsystem
        local = path.trid["trtype"] == "PCIe"
        out: dict[str, Any] = {"pci_address": path.trid["traddr"]} if local else {}
        out["trid"] = visible(path.trid)
        out["ctrlr_data"] = {
            "cntlid": path.cntlid,
            "vendor_id": "0x8086",
            "model_number": subsystem.model_number,
            "serial_number": subsystem.serial_number,
            "firmware_revision": f"{target.release[0]:02}.{target.release[1]:02}",
            "subnqn": subsystem.nqn,
            "oacs": {"security": 0, "format": 0, "firmware": 0, "ns_manage": 0},
            "multi_ctrlr": not local,
            "ana_reporting": subsystem.ana_reporting,
        }
        out["vs"] = {"nvme_version": "2.0"}
        data: dict[str, Any] = {"id": self.nsid}
        if subsystem.ana_reporting:
            data["ana_state"] = ana_state(path, self.nsid)
        out["ns_data"] = data | {"can_share": not local}
        return out


def ana_state(path: Path, nsid: int) -> str:
    """The ANA state of a namespace on a path."""
    listener = path.subsystem.listener(path.address)
    namespace = path.subsystem.namespaces.get(nsid)
    if listener is None or namespace is None:
        return "inaccessible"
    return listener.state_of(namespace.anagrpid)


def setup(target: Any) -> None:
    """Add this family's state to a target."""
    target.nvme_controllers = {}
    target.hostnqn = UUID_PREFIX + target.new_uuid()
    target.nvme_seen = None


def next_event(target: Any) -> float | None:
    """When the next lost controller is given up."""
    times = [
        path.lost_at + path.loss_timeout
        for controller in target.nvme_controllers.values()
        for path in controller.paths
        if path.lost_at is not None and path.loss_timeout > 0 and not path.given_up
    ]
    return min(times, default=None)


def refresh(target: Any) -> None:
    """Notice what changed at the other ends: lost and returned paths, namespaces that came, grew or went."""
    if not target.nvme_controllers:
        return
    seen = [server.nvmf.version for server in (target, *target.peers)]
    expiry = next_event(target)
    if seen == target.nvme_seen and (expiry is None or target.now < expiry):
        return
    target.nvme_seen = seen
    for controller in list(target.nvme_controllers.values()):
        for path in list(controller.paths):
            _refresh_path(target, controller, path)
        if controller.paths:
            _refresh_namespaces(target, controller)
        else:
            _detach(target, controller)


def _refresh_path(target: Any, controller: Controller, path: Path) -> None:
    if path.disabled:
        return
    if path.lost_at is None:
        if path.holds(controller.hostnqn):
            return
        for bdev in controller.bdevs.values():
            bdev.chosen = False
        path.disconnect()
        path.lost_at = target.now
    if not path.given_up and path.reachable(controller.hostnqn) and _reconnects(target, controller, path):
        return
    if 0 < path.loss_timeout <= target.now - path.lost_at:
        if len(controller.paths) == 1 and _is_awaited(target, controller):
            path.given_up = True
            target.nvme_seen = None
            for bdev in controller.bdevs.values():
                target.bdevs.hide(bdev)
            return
        path.keys.release()
        controller.paths.remove(path)


def _is_awaited(target: Any, controller: Controller) -> bool:
    """Whether a RAID cannot let go of a controller's bdevs (docs/spdk-facts.md).

    It first writes into the superblocks of its other legs that one is gone, and waits for those that are lost too.
    """
    for raid in target.raids.values():
        legs = [slot.bdev for slot in raid.present] if raid.superblock else []
        if any(bdev in legs for bdev in controller.bdevs.values()):
            others = [leg for leg in legs if isinstance(leg, NvmeBdev) and leg.controller is not controller]
            return any(all(path.lost_at is not None for path in leg.controller.paths) for leg in others)
    return False


def _reconnects(target: Any, controller: Controller, path: Path) -> bool:
    try:
        path.connect(controller.hostnqn, InUse(target, controller))
    except RpcFailure:
        return False
    return True


def _refresh_namespaces(target: Any, controller: Controller) -> None:
    wanted: dict[int, Any] = {}
    connected = [path for path in controller.paths if path.lost_at is None]
    for path in connected:
        for nsid, namespace in sorted(path.subsystem.namespaces.items()):
            if namespace.visible_to(controller.hostnqn):
                wanted.setdefault(nsid, namespace)
    if connected:
        for nsid in [nsid for nsid in controller.bdevs if nsid not in wanted]:
            bdevs.unregister(target, controller.bdevs.pop(nsid))
            controller.hot_removed = True
    for nsid, namespace in wanted.items():
        bdev = controller.bdevs.get(nsid)
        if bdev is None:
            bdev = NvmeBdev(controller, nsid, namespace, target.options.nvme)
            if not target.bdevs.taken(bdev.uuid) and not target.bdevs.taken(bdev.name):
                controller.bdevs[nsid] = bdev
                bdevs.register(target, bdev)
        elif bdev.num_blocks != namespace.bdev.num_blocks:
            bdevs.resize(target, bdev, namespace.bdev.num_blocks)


def _detach(target: Any, controller: Controller) -> None:
    for path in controller.paths:
        path.disconnect()
        path.keys.release()
    for bdev in controller.bdevs.values():
        bdevs.unregister(target, bdev)
    controller.bdevs.clear()
    if target.nvme_controllers.get(controller.name) is controller:
        del target.nvme_controllers[controller.name]


def _lookup(target: Any, trid: dict[str, str], hostnqn: str) -> tuple[Any, Subsystem]:
    """Who serves an address; -5 when nobody does, or not for this host."""
    address = {key: value for key, value in trid.items() if key != "subnqn"}
    for server in (target, *target.peers):
        subsystem = server.nvmf.subsystems.get(trid["subnqn"])
        if trid["trtype"] == "PCIe":
            subsystem = next((each for each in server.nvmf.subsystems.values() if each.listener(address)), None)
        if subsystem and subsystem.listener(address) and subsystem.admits(hostnqn) and not subsystem.destroying:
            return server, subsystem
    raise failure(errno.EIO)


def _invalid(text: str) -> RpcFailure:
    return RpcFailure(-errno.EINVAL, text)


def _trid(params: Params) -> dict[str, str]:
    if params.trtype.lower() == "pcie":
        if not params.traddr:
            raise TargetCrash("17.2", "SIGSEGV", "attach of a PCIe controller without an address")
        return {"trtype": "PCIe", "adrfam": "", "traddr": params.traddr.lower(), "trsvcid": "", "subnqn": ""}
    if params.trtype.lower() not in FABRICS:
        raise failure(errno.ENODEV)
    adrfam = ADRFAMS.get((params.adrfam or "IPv4").lower())
    if adrfam is None:
        raise _invalid(f"Failed to parse adrfam: {params.adrfam}")
    subnqn = params.subnqn or ""
    if len(subnqn) > MAX_NQN:
        raise _invalid(f"subnqn too long: {subnqn}")
    trid = {"trtype": FABRICS[params.trtype.lower()], "adrfam": adrfam, "traddr": params.traddr}
    return trid | {"trsvcid": params.trsvcid or "", "subnqn": subnqn}


def _network_path(trid: dict[str, str]) -> tuple[str, ...]:
    return trid["trtype"], trid["adrfam"], trid["traddr"], trid["trsvcid"]


def _check_values(target: Any, params: Params) -> None:
    if params.max_bdevs == 0:
        raise _invalid("max_bdevs cannot be zero")
    if params.num_io_queues is not None and not 1 <= params.num_io_queues <= 65536:
        raise _invalid("num_io_queues out of bounds, min: 1 max: 65536")
    if not 1 <= len(params.name) <= MAX_NAME:
        raise failure(errno.EINVAL)
    times = [params.or_default(key, 0) for key in ("ctrlr_loss_timeout_sec", "reconnect_delay_sec")]
    if not framework.timeouts_fit(*times, params.or_default("fast_io_fail_timeout_sec", 0)):
        raise failure(errno.EINVAL)
    for key in PURPOSES:
        if params.values.get(key) is not None and not keyring.usable(target, params.values[key]):
            raise failure(errno.ENOKEY)


def _check_existing(controller: Controller, trid: dict[str, str], hostnqn: str, mode: str, params: Params) -> None:
    head = f"A controller named {controller.name} already exists"
    if mode == "disable":
        raise RpcFailure(-errno.EALREADY, f"{head} and multipath is disabled")
    first = controller.paths[0].trid
    here = controller.paths[0].hostaddr, controller.paths[0].hostsvcid
    if _network_path(first) == _network_path(trid) and here == (params.hostaddr or "", params.hostsvcid or ""):
        raise RpcFailure(-errno.EALREADY, f"{head} with the specified network path")
    if first["subnqn"] != trid["subnqn"]:
        raise _invalid(f"{head}, but uses a different subnqn ({first['subnqn']})")
    if controller.hostnqn != hostnqn:
        raise _invalid(f"{head}, but uses a different hostnqn ({controller.hostnqn})")
    if controller.mode != mode:
        raise failure(errno.EINVAL)


@method(
    "bdev_nvme_attach_controller",
    BDEV,
    {
        "name": required(STR),
        "trtype": required(STR),
        "traddr": required(STR),
        "adrfam": optional(STR),
        "trsvcid": optional(STR),
        "subnqn": optional(STR),
        "hostnqn": optional(STR),
        "hostaddr": optional(STR),
        "hostsvcid": optional(STR),
        "priority": optional(STR),
        "psk": optional(STR),
        "dhchap_key": optional(STR),
        "dhchap_ctrlr_key": optional(STR),
        "hdgst": optional(BOOL),
        "ddgst": optional(BOOL),
        "prchk_reftag": optional(BOOL),
        "prchk_guard": optional(BOOL),
        "fabrics_connect_timeout_us": optional(U64),
        "num_io_queues": optional(U32),
        "multipath": optional(one_of("disable", "failover", "multipath")),
        "multipath_opts": optional(framework.MULTIPATH_OPTS, since=(26, 5)),
        "max_bdevs": optional(U32),
        "ctrlr_loss_timeout_sec": optional(I32),
        "reconnect_delay_sec": optional(U32),
        "fast_io_fail_timeout_sec": optional(U32),
        "allow_unrecognized_csi": optional(BOOL, since=(24, 9)),
        "disable_sq_flow_control": optional(BOOL, since=(26, 9)),
    },
)
def attach(target: Any, params: Params) -> Any:
    """Attach a controller or add a path; answers the names of its bdevs.

    What exists is looked at when the request comes, so that the same request twice in one write succeeds twice and
    makes two connections on one path (contract section 12, 10).
    """
    _check_values(target, params)
    trid = _trid(params)
    hostnqn = params.hostnqn or target.hostnqn
    mode = params.multipath or ("multipath" if target.release >= (25, 5) else "failover")
    existing = target.nvme_controllers.get(params.name)
    if existing is not None:
        _check_existing(existing, trid, hostnqn, mode, params)
    else:
        for other in target.nvme_controllers.values():
            if other.hostnqn == hostnqn and any(path.trid == trid for path in other.paths):
                raise failure(errno.EEXIST)
    return _attach(target, params, trid, hostnqn, mode, existing)


def _attach(
    target: Any, params: Params, trid: dict[str, str], hostnqn: str, mode: str, existing: Controller | None
) -> Any:
    yield
    try:
        server, subsystem = _lookup(target, trid, hostnqn)
    except RpcFailure:
        if trid["trtype"] == "PCIe":
            raise failure(errno.ENODEV) from None
        raise
    policy = _policy(**(params.multipath_opts.values if params.multipath_opts else {}))
    if existing is not None:
        if mode == "failover":
            alternates = existing.paths[0].alternates
            if trid in alternates:
                raise failure(errno.EALREADY)
            alternates.append(trid)
            return []
        if any(path.trid == trid for path in existing.paths):
            raise failure(errno.EEXIST)
        if existing.policy != policy:
            raise failure(errno.EINVAL)
    controller = target.nvme_controllers.get(params.name) or Controller(params.name, hostnqn, mode)
    path = Path(trid, server, subsystem, params, Keys(target, params.values))
    try:
        path.connect(hostnqn, InUse(target, controller))
    except RpcFailure:
        path.keys.release()
        raise
    if not controller.paths:
        controller.policy = policy
        target.nvme_controllers[params.name] = controller
    controller.paths.append(path)
    _refresh_namespaces(target, controller)
    names = [bdev.name for _name, bdev in sorted(controller.bdevs.items())]
    if len(names) > params.or_default("max_bdevs", 128):
        raise failure(errno.ERANGE)
    return names


FILTER = {key: optional(STR) for key in ("trtype", "traddr", "adrfam", "trsvcid", "subnqn", "hostaddr", "hostsvcid")}


def _get(target: Any, name: str) -> Controller:
    controller = target.nvme_controllers.get(name)
    if controller is None:
        raise failure(errno.ENODEV)
    return controller


@method("bdev_nvme_detach_controller", BDEV, {"name": required(STR)} | FILTER)
def detach(target: Any, params: Params) -> Any:
    """Detach a controller, or the paths that match every given field."""
    controller = _get(target, params.name)
    return _detach_paths(target, controller, params)


def _matches(trid: dict[str, str], path: Path, params: Params) -> bool:
    ours = trid | {"hostaddr": path.hostaddr, "hostsvcid": path.hostsvcid}
    wanted = {key: value for key, value in params.values.items() if key in FILTER}
    return all(ours[key].lower() == value.lower() for key, value in wanted.items())


def _detach_paths(target: Any, controller: Controller, params: Params) -> Any:
    hit = False
    for path in controller.paths:
        matching = [trid for trid in path.alternates if _matches(trid, path, params)]
        hit = hit or bool(matching) or _matches(path.trid, path, params)
    if not hit:
        raise failure(errno.ENXIO)
    yield
    for path in list(controller.paths):
        path.alternates = [trid for trid in path.alternates if not _matches(trid, path, params)]
        if not _matches(path.trid, path, params):
            continue
        path.disconnect()
        if path.alternates:
            path.trid = path.alternates.pop(0)
            path.connect(controller.hostnqn, InUse(target, controller))
        elif len(controller.paths) > 1:
            path.keys.release()
            controller.paths.remove(path)
        else:
            _detach(target, controller)
    return True


@method("bdev_nvme_get_controllers", BDEV, {"name": optional(STR)})
def get_controllers(target: Any, params: Params) -> Any:
    """All controllers with their paths, or one."""
    if params.name is None:
        return [controller.describe() for controller in target.nvme_controllers.values()]
    controller = target.nvme_controllers.get(params.name)
    if controller is None:
        raise _invalid(f"Controller {params.name} does not exist")
    return [controller.describe()]


@method(
    "bdev_nvme_get_io_paths",
    NVMF._replace(message="bdev_nvme_get_io_paths requires no parameters"),
    {"name": optional(STR)},
)
def get_io_paths(target: Any, params: Params) -> Any:
    """The I/O paths of bdevs in use. Kills the initiator after a namespace was hot-removed (section 12, 1)."""
    for controller in target.nvme_controllers.values():
        if controller.hot_removed:
            message = f"bdev_nvme_get_io_paths after a namespace of {controller.name} was hot-removed"
            raise TargetCrash(1, "SIGSEGV", message)
    return _io_paths(target, params.name)


def _io_paths(target: Any, name: str | None) -> Any:
    yield
    paths = []
    for bdev in target.bdevs:
        if not isinstance(bdev, NvmeBdev) or name not in (None, bdev.name) or not bdev.has_channel(target):
            continue
        usable = [path for path in bdev.controller.paths if _usable(path, bdev)]
        for path in bdev.controller.paths:
            transport = {key: path.trid[key] for key in ("trtype", "traddr", "trsvcid", "adrfam")}
            paths.append(
                {
                    "bdev_name": bdev.name,
                    "cntlid": path.cntlid,
                    "current": bdev.chosen and usable[:1] == [path],
                    "connected": path.lost_at is None and not path.disabled,
                    "accessible": ana_state(path, bdev.nsid) != "inaccessible" or path.lost_at is not None,
                    "transport": transport,
                }
            )
    return {"poll_groups": [{"thread": "app_thread", "io_paths": paths}] if paths else []}


def _usable(path: Path, bdev: NvmeBdev) -> bool:
    return path.lost_at is None and not path.disabled and ana_state(path, bdev.nsid) != "inaccessible"


def _bdev(target: Any, name: str) -> NvmeBdev:
    bdev = target.bdevs.find(name)
    if not isinstance(bdev, NvmeBdev):
        raise failure(errno.ENODEV)
    return bdev


@method(
    "bdev_nvme_set_multipath_policy",
    BDEV,
    {
        "name": required(STR),
        "policy": required(one_of("active_passive", "active_active")),
        "selector": optional(one_of("round_robin", "queue_depth")),
        "rr_min_io": optional(U32),
    },
)
def set_multipath_policy(target: Any, params: Params) -> Any:
    """How a bdev spreads I/O over its paths."""
    if params.policy == "active_passive" and params.selector is not None:
        raise RpcFailure(BDEV.code, BDEV.message)
    bdev = _bdev(target, params.name)
    if params.rr_min_io == 0:
        raise failure(errno.EINVAL)
    return _set_policy(bdev, params)


def _set_policy(bdev: NvmeBdev, params: Params) -> Any:
    yield
    bdev.chosen = False
    bdev.policy = _policy(params.policy, params.selector, params.rr_min_io)
    bdev.policy_is_own = True
    return True


def _policy(policy: str = "active_passive", selector: str | None = None, min_io: int | None = None) -> dict[str, Any]:
    if policy == "active_passive":
        return {"policy": policy}
    out: dict[str, Any] = {"policy": policy, "selector": selector or "round_robin"}
    return out | {"min_io": min_io or 1} if out["selector"] == "round_robin" else out


@method("bdev_nvme_set_preferred_path", BDEV, {"name": required(STR), "cntlid": required(U16)})
def set_preferred_path(target: Any, params: Params) -> Any:
    """Prefer one path."""
    bdev = _bdev(target, params.name)
    bdev.controller.select(params.cntlid)
    return _set_preferred(bdev)


def _set_preferred(bdev: NvmeBdev) -> Any:
    yield
    bdev.chosen = False
    return True


def _on_paths(action: str):
    def handler(target: Any, params: Params) -> Any:
        controller = _get(target, params.name)
        return change(target, controller, controller.select(params.cntlid))

    def change(target: Any, controller: Controller, paths: list[Path]) -> Any:
        yield
        for bdev in controller.bdevs.values():
            bdev.chosen = False
        for path in paths:
            if action == "disable":
                path.disabled = True
                path.disconnect()
            elif action == "reset" or path.disabled:
                path.disabled = False
                if path.reachable(controller.hostnqn) and not _reconnects(target, controller, path):
                    path.lost_at = target.now
                    raise failure(errno.EPERM)
        return True

    return handler


for _action in ("reset", "enable", "disable"):
    method(f"bdev_nvme_{_action}_controller", ARGUMENT, {"name": required(STR), "cntlid": optional(U16)})(
        _on_paths(_action)
    )


@method("bdev_nvme_get_controller_health_info", HEALTH, {"name": optional(STR)})
def get_health(target: Any, params: Params) -> Any:
    """The health log of a controller."""
    if params.name is None:
        raise RpcFailure(INTERNAL_ERROR, "Missing device name")
    controller = target.nvme_controllers.get(params.name)
    if controller is None:
        raise RpcFailure(INTERNAL_ERROR, "Device not found")
    return _health(target, controller)


def _health(target: Any, controller: Controller) -> Any:
    yield
    path = controller.paths[0]
    if path.disabled or path.lost_at is not None:
        raise RpcFailure(INTERNAL_ERROR, "Internal error.")
    out: dict[str, Any] = {
        "model_number": path.subsystem.model_number,
        "serial_number": path.subsystem.serial_number,
        "firmware_revision": f"{target.release[0]:02}.{target.release[1]:02}",
        "traddr": path.trid["traddr"],
        "critical_warning": 0,
        "temperature_celsius": KELVIN,
    }
    counters = (
        "available_spare_percentage available_spare_threshold_percentage percentage_used data_units_read "
        "data_units_written host_read_commands host_write_commands controller_busy_time power_cycles power_on_hours "
        "unsafe_shutdowns media_errors num_err_log_entries warning_temperature_time_minutes "
        "critical_composite_temperature_time_minutes"
    )
    return out | dict.fromkeys(counters.split(), 0) | path.subsystem.health


@method("bdev_nvme_set_hotplug", ARGUMENT, {"enable": required(BOOL), "period_us": optional(U64)})
def set_hotplug(target: Any, params: Params) -> Any:
    """Look for local drives that come and go."""
    target.options.hotplug = {"period_us": params.period_us or 100000, "enable": params.enable}
    return _after_hotplug()


def _after_hotplug() -> Any:
    yield
    return True


@method(
    "bdev_nvme_set_keys",
    ARGUMENT,
    {"name": required(STR), "dhchap_key": optional(STR), "dhchap_ctrlr_key": optional(STR)},
    since=(24, 9),
)
def set_keys(target: Any, params: Params) -> bool:
    """Replace the DH-HMAC-CHAP keys of a controller."""
    for key in KEYS:
        name = params.values.get(key)
        if name is not None and not keyring.usable(target, name):
            raise failure(errno.ENOKEY)
    controller = _get(target, params.name)
    return _set_keys(target, controller, {key: params.values[key] for key in KEYS if key in params.values})


def _set_keys(target: Any, controller: Controller, names: dict[str, str]) -> Any:
    """Authenticate again with other keys; where that fails the connection is lost."""
    if list(names) == ["dhchap_ctrlr_key"]:
        raise failure(errno.EINVAL)
    yield
    for path in controller.paths:
        psk = {"psk": path.keys.held["psk"]["name"]} if "psk" in path.keys.held else {}
        if any(key not in target.keys for key in psk.values()):
            raise failure(errno.ENOKEY)
        path.keys.release()
        path.keys = Keys(target, psk | names)
        fit = path.keys.fit(path.server, path.subsystem, path.address, controller.hostnqn)
        if path.lost_at is not None or (names and not fit):
            path.refused = True
            path.disconnect()
            path.lost_at = path.lost_at if path.lost_at is not None else target.now
            raise failure(errno.EACCES)
        path.options = {key: value for key, value in path.options.items() if key not in KEYS} | names
    return True


def config(target: Any) -> list[dict[str, Any]]:
    """framework_get_config entries of the attached controllers, one per path."""
    return [
        {"method": "bdev_nvme_attach_controller", "params": _path_config(target, controller, path, trid)}
        for controller in target.nvme_controllers.values()
        for path in controller.paths
        for trid in (path.trid, *path.alternates)
    ]


def policies(target: Any) -> list[dict[str, Any]]:
    """framework_get_config entries of bdevs that do not spread I/O as by default."""
    return [
        {"method": "bdev_nvme_set_multipath_policy", "params": {"name": bdev.name} | _as_parameters(bdev.policy)}
        for controller in target.nvme_controllers.values()
        for bdev in controller.bdevs.values()
        if bdev.policy_is_own or bdev.policy["policy"] != "active_passive"
    ]


def _as_parameters(policy: dict[str, Any]) -> dict[str, Any]:
    return {"rr_min_io" if key == "min_io" else key: value for key, value in policy.items()}


def _path_config(target: Any, controller: Controller, path: Path, trid: dict[str, str]) -> dict[str, Any]:
    options = path.options
    out: dict[str, Any] = {"name": controller.name} | visible(trid)
    for key in ("prchk_reftag", "prchk_guard"):
        out[key] = options.get(key, False)
    for key in ("ctrlr_loss_timeout_sec", "reconnect_delay_sec", "fast_io_fail_timeout_sec"):
        out[key] = options.get(key, target.options.nvme[key])
    out |= {key: options[key] for key in ("psk", "dhchap_key", "dhchap_ctrlr_key") if key in options}
    out["hostnqn"] = controller.hostnqn
    for key in ("hdgst", "ddgst"):
        out[key] = options.get(key, False)
    out |= {key: options[key] for key in ("hostaddr", "hostsvcid") if options.get(key)}
    if controller.mode == "multipath":
        out["multipath"] = "multipath"
    out["fabrics_connect_timeout_us"] = options.get("fabrics_connect_timeout_us", CONNECT_TIMEOUT_US)
    out["num_io_queues"] = options.get("num_io_queues", IO_QUEUES)
    if target.release >= (26, 9):
        out["disable_sq_flow_control"] = options.get("disable_sq_flow_control", False)
    if target.release >= (26, 5):
        out["multipath_opts"] = controller.policy
    return out
