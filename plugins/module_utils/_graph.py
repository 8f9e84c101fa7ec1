# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one SPDK process has now, read in one round trip and indexed. Private.

The planner works on a copy of this graph and applies each planned action to it, so that what it says will be is
what a later reading finds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Optional

from ._errors import Unreachable
from ._naming import DISCOVERY_NQN, Address, is_uuid, observed_address
from ._releases import Release
from ._rpc import Call, Client

SUBSYSTEM_ATTRIBUTES = ("serial_number", "model_number", "max_namespaces", "min_cntlid", "max_cntlid")

LVOL_PRODUCT = "Logical Volume"
NVME_PRODUCT = "NVMe disk"
RAID_PRODUCT = "Raid Volume"
RATES = ("rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec")
UNKNOWN_PARENT = "?"

HOST_KEYS = ("dhchap_key", "dhchap_ctrlr_key", "psk")

_GETTERS = {
    "bdevs": Call("bdev_get_bdevs", subject="all bdevs"),
    "controllers": Call("bdev_nvme_get_controllers", subject="all NVMe controllers"),
    "bdev_config": Call("framework_get_config", {"name": "bdev"}, subject="the bdev configuration"),
    "lvstores": Call("bdev_lvol_get_lvstores", subject="all lvstores"),
    "lvols": Call("bdev_lvol_get_lvols", subject="all lvols"),
    "transports": Call("nvmf_get_transports", subject="all transports"),
    "subsystems": Call("nvmf_get_subsystems", subject="all subsystems"),
    "nvmf_config": Call("framework_get_config", {"name": "nvmf"}, subject="the nvmf configuration"),
    "raids": Call("bdev_raid_get_bdevs", {"category": "all"}, subject="all RAIDs"),
    "vhost": Call("vhost_get_controllers", subject="all vhost controllers"),
    "keys": Call("keyring_get_keys", subject="all keys"),
}


class Path(NamedTuple):
    """A path to a subsystem of another node; ``settings`` are the parameters of its attach as the target saves them.

    ``alternate`` paths are used only after a failover, which is how SPDK had several paths before it had multipath.
    """

    address: Address
    state: str
    settings: dict
    alternate: bool = False


class Controller(NamedTuple):
    """An NVMe controller that the target has attached: a local drive, whose ``traddr`` is its BDF, or a subsystem.

    ``trtype``, ``traddr`` and ``state`` are those of the first of its ``paths``, which only a subsystem has.
    """

    name: str
    trtype: str
    traddr: str
    state: str
    subnqn: str = ""
    hostnqn: str = ""
    paths: tuple = ()


class Bdev(NamedTuple):
    """A block device. ``size`` is in bytes and None while the bdev is only planned; ``claimed`` as SPDK says.

    ``drive`` is the BDF of the local drive that it is a namespace of, else empty; ``serial`` the drive's. ``md_size``
    counts the bytes of metadata with each block. ``multipath`` is how an NVMe bdev spreads its I/O over paths: the
    policy, and the selector if it has one.
    """

    name: str
    aliases: tuple
    uuid: Optional[str]
    product: str
    block_size: int
    size: Optional[int]
    claimed: bool
    drive: str = ""
    serial: str = ""
    md_size: int = 0
    multipath: tuple = ()

    @property
    def key(self) -> tuple:
        """How plans name this bdev: an lvol by its alias, because a planned one has no UUID yet."""
        return ("bdev", self.aliases[0] if self.product == LVOL_PRODUCT else self.name)


class Lvstore(NamedTuple):
    """A logical volume store; ``uuid`` and the cluster counts are None while it is only planned."""

    name: str
    uuid: Optional[str]
    base_bdev: str
    cluster_size: int
    total_clusters: Optional[int]
    free_clusters: Optional[int]


class Lvol(NamedTuple):
    """A logical volume; ``size`` in bytes is None when it has no bdev (half deleted, or missing its parent).

    ``parent`` is the name of the snapshot that it is a clone of (an lvol is one of its own snapshot), ``?`` when it is
    a clone of nobody knows which, else empty. ``allocated`` counts clusters of its own.
    """

    lvstore: str
    name: str
    uuid: Optional[str]
    size: Optional[int]
    thin: bool
    is_snapshot: bool
    parent: str = ""
    allocated: int = 0

    @property
    def alias(self) -> str:
        """``<lvstore>/<lvol>``, the name by which the bdev can be found before its UUID is known."""
        return f"{self.lvstore}/{self.name}"


class Transport(NamedTuple):
    """An NVMe-oF transport of the target with its option values as SPDK reports them."""

    trtype: str
    options: dict


class Namespace(NamedTuple):
    """A namespace of a subsystem: ``bdev`` is the bdev's own name (for an lvol its UUID, or its alias if planned)."""

    nsid: int
    bdev: str
    uuid: Optional[str]


class Key(NamedTuple):
    """A key of the keyring. ``path`` is that of its file, None if it has none.

    ``others`` counts who holds it beside the hosts of subsystems, such as NVMe controllers attached with it.
    """

    name: str
    path: Optional[str]
    others: int


class Subsystem(NamedTuple):
    """An NVMe-oF subsystem. ``attributes`` are those that are fixed at creation.

    ``secure`` are those of the listeners that want TLS, ``host_keys`` the names of keys by host and what they are for.
    """

    nqn: str
    allow_any_host: bool
    attributes: dict
    listeners: frozenset
    hosts: frozenset
    namespaces: dict
    secure: frozenset = frozenset()
    host_keys: dict = {}  # which nobody changes in place


class Member(NamedTuple):
    """A slot of a RAID. ``name`` is empty where nobody knows which bdev is missing; ``present``: it is part of it now.

    ``span`` is how many bytes of a bdev the RAID uses, the superblock included.
    """

    name: str
    uuid: str
    present: bool
    span: int = 0


class Raid(NamedTuple):
    """A RAID, ``online``, ``configuring`` (waits for members, is no bdev) or ``offline`` (lost too many).

    ``rebuilding`` is the member that is brought in sync, with ``percent`` done; empty when none is.
    """

    name: str
    uuid: Optional[str]
    level: str
    state: str
    superblock: bool
    strip_size_kb: int
    members: tuple
    rebuilding: str = ""
    percent: int = 0

    @property
    def present(self) -> list:
        """The names of the members that it has now."""
        return [member.name for member in self.members if member.present]

    @property
    def in_sync(self) -> bool:
        """Whether every slot has a member and all of them hold the data."""
        return self.state == "online" and len(self.present) == len(self.members) and not self.rebuilding


class Superblock(NamedTuple):
    """What a bdev remembers of the RAID it is or was a member of; a higher ``sequence`` is newer.

    ``data_size`` bytes of a mirror's data begin at ``data_offset``; other RAIDs have none that a member holds alone.
    """

    raid: str
    uuid: str
    sequence: int
    data_offset: int = 0
    data_size: int = 0


class Vhost(NamedTuple):
    """A vhost controller; ``bdev`` is the own name of what a vhost-blk one serves, None when that is gone.

    A vhost-scsi one has its bdevs in ``scsi``.

    ``sessions`` names the clients that are connected; ``socket`` is empty while it is only planned.
    """

    name: str
    bdev: Optional[str]
    socket: str
    cpumask: Optional[int]
    readonly: bool
    sessions: tuple = ()
    scsi: Optional[tuple] = None

    @property
    def bdevs(self) -> tuple:
        """The own names of all bdevs that it serves."""
        return self.scsi or ((self.bdev,) if self.bdev else ())


@dataclass
class Graph:
    """Everything of one target that the planner looks at; keys are the names people use.

    ``lvstores`` by name, ``lvols`` by (lvstore name, lvol name), ``bdevs`` by own name, ``names`` from any alias or
    UUID to a bdev's own name, ``exports`` from a bdev's own name to the (NQN, nsid) that shows it, ``vhost`` from a
    bdev's own name to the name of the vhost controller that serves it, ``legs`` from a bdev's own name to the RAID that
    it is in. ``raids`` and ``vhosts`` by name; ``limits`` are the rate limits of the bdevs that have any. Two things
    are looked at only where it matters (``superblocks`` of bdevs, None: there is none; ``idle`` bdevs, that nobody
    uses). ``copying`` names, by what it is copied to, the source of each copy that is asked for.
    ``max_subsystems`` counts the discovery subsystem too and can be set at startup only. ``freed`` counts, by lvstore
    name, the clusters that planned actions give back.
    ``auto_examine`` tells whether the target looks for lvstores on each new bdev by itself, ``examined`` the names of
    the bdevs that it was told to look at. ``contents`` holds, by own name, what was found on bdevs of local drives
    that were looked into: names of signatures, or the reason why that failed. ``files`` holds, by path, the files on
    the node that were looked at (``File``, None where there is none, or why it cannot be read), and ``runs_as``
    the ID of the user that the target runs as. ``sources`` holds the local addresses that somebody wants to connect
    from, each with why it cannot be, or None.
    """

    release: Release
    controllers: dict = field(default_factory=dict)
    auto_examine: bool = True
    examined: dict = field(default_factory=dict)
    contents: dict = field(default_factory=dict)
    sources: dict = field(default_factory=dict)
    bdevs: dict = field(default_factory=dict)
    names: dict = field(default_factory=dict)
    lvstores: dict = field(default_factory=dict)
    lvols: dict = field(default_factory=dict)
    transports: dict = field(default_factory=dict)
    subsystems: dict = field(default_factory=dict)
    exports: dict = field(default_factory=dict)
    raids: dict = field(default_factory=dict)
    legs: dict = field(default_factory=dict)
    superblocks: dict = field(default_factory=dict)
    limits: dict = field(default_factory=dict)
    idle: dict = field(default_factory=dict)
    copying: dict = field(default_factory=dict)
    vhosts: dict = field(default_factory=dict)
    vhost: dict = field(default_factory=dict)
    keys: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)
    runs_as: int = 0
    max_subsystems: Optional[int] = None
    freed: dict = field(default_factory=dict)

    def copy(self) -> Graph:
        """Return a graph that can be changed without changing this one (its objects are immutable)."""
        copies: dict[str, Any] = {key: dict(value) for key, value in vars(self).items() if isinstance(value, dict)}
        return replace(self, **copies)

    def lvstore(self, name_or_uuid: str) -> Optional[Lvstore]:
        """Find an lvstore by name or UUID."""
        found = self.lvstores.get(name_or_uuid)
        if found is None and is_uuid(name_or_uuid):
            wanted = name_or_uuid.lower()
            return next((store for store in self.lvstores.values() if store.uuid == wanted), None)
        return found

    def store_on(self, bdev: str) -> Optional[Lvstore]:
        """Find the lvstore on a bdev by the bdev's own name."""
        return next((store for store in self.lvstores.values() if store.base_bdev == bdev), None)

    def controller_at(self, bdf: str) -> Optional[Controller]:
        """Find the controller of the local drive at an address."""
        return next((c for c in self.controllers.values() if c.trtype == "PCIe" and c.traddr == bdf), None)

    def unconnected(self, own_name: str) -> Optional[str]:
        """Return the state of a bdev's controller none of whose paths is connected; None for any other bdev."""
        controller = self.controllers.get(own_name.rpartition("n")[0])
        if controller is None:
            return None
        states = [path.state for path in controller.paths] or [controller.state]
        return None if "enabled" in states or "" in states else states[0]

    def attached(self, subnqn: str) -> Optional[Controller]:
        """Find the controller of a subsystem."""
        return next((c for c in self.controllers.values() if subnqn and c.subnqn == subnqn and c.paths), None)

    def bdevs_of(self, controller: str) -> list:
        """Return the bdevs of a controller's namespaces."""
        return [
            bdev
            for bdev in self.bdevs.values()
            if bdev.product == NVME_PRODUCT and bdev.name.rpartition("n")[0] == controller
        ]

    def bdev(self, reference: str) -> Optional[Bdev]:
        """Find a bdev by own name, alias, UUID, or ``<lvstore UUID>/<lvol>``."""
        return self.bdevs.get(self.names.get(self.canonical(reference), ""))

    def key(self, own_name: str) -> tuple:
        """Return how plans name the bdev with that own name, whether or not it is there."""
        bdev = self.bdevs.get(own_name)
        return bdev.key if bdev else ("bdev", own_name)

    def canonical(self, reference: str) -> str:
        """Return ``reference`` with an lvstore's UUID before the slash replaced by its name, UUIDs in lower case."""
        if is_uuid(reference):
            return reference.lower()
        store, slash, lvol = reference.partition("/")
        if slash and is_uuid(store):
            found = self.lvstore(store)
            return f"{found.name}/{lvol}" if found else reference
        return reference

    def clones(self, snapshot: Lvol) -> list:
        """Return the lvols and snapshots that depend on a snapshot, and those that may."""
        return [
            lvol
            for lvol in self.lvols.values()
            if lvol.lvstore == snapshot.lvstore and lvol.parent in (snapshot.name, UNKNOWN_PARENT)
        ]

    def user(self, own_name: str) -> Optional[str]:
        """Return what a bdev is used for within the target, to follow "it is"; None if for nothing."""
        if own_name in self.exports:
            return "exported as namespace {1} of {0}".format(*self.exports[own_name])
        if own_name in self.vhost:
            return f"served by the vhost controller {self.vhost[own_name]}"
        if own_name in self.legs:
            return f"part of the RAID {self.legs[own_name]}"
        bdev = self.bdevs.get(own_name)
        if bdev is not None and bdev.claimed:
            return "claimed by another user within the target, such as an lvstore"
        return None

    def key_users(self, name: str) -> list:
        """Return (NQN, host, what for) of each host of a subsystem that names a key."""
        return [
            (subsystem.nqn, host, purpose)
            for subsystem in self.subsystems.values()
            for host, named in subsystem.host_keys.items()
            for purpose, key in named.items()
            if key == name
        ]

    def add_bdev(self, bdev: Bdev) -> None:
        """Add or replace a bdev and make it found by each of its names."""
        self.bdevs[bdev.name] = bdev
        for name in (bdev.name, bdev.uuid, *bdev.aliases):
            if name:
                self.names[name] = bdev.name

    def remove_bdev(self, name: str) -> None:
        """Remove a bdev by its own name."""
        bdev = self.bdevs.pop(name)
        self.limits.pop(name, None)
        for alias in (bdev.name, bdev.uuid, *bdev.aliases):
            self.names.pop(alias, None)

    def put_raid(self, raid: Raid) -> None:
        """Add or replace a RAID; ``legs`` and what is claimed follow."""
        self.remove_raid(raid.name)
        self.raids[raid.name] = raid
        for name in raid.present:
            self.legs[name] = raid.name
            self._claim(name, True)

    def remove_raid(self, name: str) -> None:
        """Remove a RAID if it is there, but not its bdev; ``legs`` and what is claimed follow."""
        raid = self.raids.pop(name, None)
        for leg in raid.present if raid else ():
            self.legs.pop(leg, None)
            self._claim(leg, False)

    def _claim(self, name: str, claimed: bool) -> None:
        if name in self.bdevs:
            self.bdevs[name] = self.bdevs[name]._replace(claimed=claimed)

    def put_vhost(self, controller: Vhost) -> None:
        """Add or replace a vhost controller; ``vhost`` follows."""
        self.remove_vhost(controller.name)
        self.vhosts[controller.name] = controller
        for bdev in controller.bdevs:
            self.vhost[bdev] = controller.name

    def remove_vhost(self, name: str) -> None:
        """Remove a vhost controller if it is there; ``vhost`` follows."""
        controller = self.vhosts.pop(name, None)
        for bdev in controller.bdevs if controller else ():
            if self.vhost.get(bdev) == name:  # two may serve one bdev
                del self.vhost[bdev]

    def remove_lvol(self, lvol: Lvol) -> None:
        """Remove an lvol or a snapshot with its bdev."""
        del self.lvols[lvol.lvstore, lvol.name]
        if lvol.uuid and lvol.uuid in self.bdevs:
            self.remove_bdev(lvol.uuid)

    def put_subsystem(self, subsystem: Subsystem) -> None:
        """Add or replace a subsystem; ``exports`` follows."""
        self.remove_subsystem(subsystem.nqn)
        self.subsystems[subsystem.nqn] = subsystem
        for namespace in subsystem.namespaces.values():
            self.exports[namespace.bdev] = (subsystem.nqn, namespace.nsid)

    def remove_subsystem(self, nqn: str) -> None:
        """Remove a subsystem if it is there; ``exports`` follows."""
        subsystem = self.subsystems.pop(nqn, None)
        for namespace in subsystem.namespaces.values() if subsystem else ():
            self.exports.pop(namespace.bdev, None)


def read_lvstores(client: Client) -> list:
    """Read the lvstores alone. Raises RpcError, UnknownOutcome."""
    return [_lvstore(item) for item in client.read([_GETTERS["lvstores"]])[0]]


def read_graph(client: Client, kinds: tuple = tuple(_GETTERS)) -> Graph:
    """Read the target, or these kinds of it, in one round trip. Raises Unreachable, RpcError, UnknownOutcome."""
    release = client.release
    release.require_started(client.path)
    wanted = {kind: _GETTERS[kind] for kind in kinds if _GETTERS[kind].method in release.methods}
    if "subsystems" not in wanted:  # the program vhost has no NVMe-oF
        wanted.pop("nvmf_config", None)
    if "bdevs" in wanted and not release.may_read_bdevs("RDMA", ""):
        for item in client.read([_GETTERS["controllers"]])[0]:
            for path in item["ctrlrs"]:
                if not release.may_read_bdevs(path["trid"]["trtype"], path["state"]):
                    raise Unreachable(
                        f"SPDK {release} may crash when its bdevs are read while controller {item['name']} is in state "
                        f"{path['state']}: wait until its path is back or given up, or detach it"
                    )
    return build_graph(release, dict(zip(wanted, client.read(list(wanted.values())))))


def build_graph(release: Release, answers: dict) -> Graph:
    """Build a Graph from the getters' answers by kind; a kind that was not read is empty."""
    graph = Graph(release)
    attached: dict[str, dict] = {}
    for item in answers.get("bdev_config", ()):
        if item["method"] == "bdev_nvme_attach_controller":
            params = item["params"]
            attached.setdefault(params["name"], {})[observed_address(params)] = params
        elif item["method"] == "bdev_set_options":
            graph.auto_examine = item["params"]["bdev_auto_examine"]
        elif item["method"] == "bdev_examine":
            graph.examined[item["params"]["name"]] = None
    for item in answers.get("controllers", ()):
        graph.controllers[item["name"]] = _controller(item, attached.get(item["name"], {}))
    parents = {}
    for item in answers.get("bdevs", ()):
        graph.add_bdev(_bdev(item))
        if any((item.get("assigned_rate_limits") or {}).values()):
            graph.limits[item["name"]] = {rate: item["assigned_rate_limits"].get(rate, 0) for rate in RATES}
        parents[item["name"]] = _parent(item)
    for item in answers.get("lvstores", ()):
        graph.lvstores[item["name"]] = _lvstore(item)
    for item in answers.get("lvols", ()):
        bdev = graph.bdevs.get(item["uuid"])
        lvol = Lvol(
            item["lvs"]["name"],
            item["name"],
            item["uuid"],
            bdev.size if bdev else None,
            item["is_thin_provisioned"],
            item["is_snapshot"],
            parents.get(item["uuid"], UNKNOWN_PARENT if item["is_clone"] else ""),
            item["num_allocated_clusters"],
        )
        graph.lvols[lvol.lvstore, lvol.name] = lvol
    for item in answers.get("transports", ()):
        graph.transports[item["trtype"].upper()] = Transport(item["trtype"].upper(), item)
    configured = _Configured(answers)
    for item in answers.get("subsystems", ()):
        if item["nqn"] != DISCOVERY_NQN and item.get("subtype") == "NVMe":
            graph.put_subsystem(_subsystem(item, configured))
    graph.max_subsystems = configured.max_subsystems
    graph.keys = configured.keys
    for item in answers.get("raids", ()):
        graph.put_raid(_raid(item, graph))
    for item in answers.get("vhost", ()):
        graph.put_vhost(_vhost(item))
    return graph


class _Configured:
    """What of the NVMe-oF target no getter shows: keys of hosts, listeners with TLS, the limit of subsystems.

    A key that was removed while hosts named it is of no use to them any more, even if there is one of that name again:
    it is called so that it differs from any that is wanted.
    """

    def __init__(self, answers: dict) -> None:
        self.max_subsystems: Optional[int] = None
        self.secure: dict[str, set] = {}
        self.host_keys: dict[str, dict] = {}
        named: list[str] = []
        for item in answers.get("nvmf_config", ()):
            method, params = item["method"], item["params"]
            if method == "nvmf_set_max_subsystems":
                self.max_subsystems = params["max_subsystems"]
            elif method == "nvmf_subsystem_add_listener" and params.get("secure_channel"):
                self.secure.setdefault(params["nqn"], set()).add(observed_address(params["listen_address"]))
            elif method == "nvmf_subsystem_add_host":
                keys = {purpose: params[purpose] for purpose in HOST_KEYS if purpose in params}
                if keys:
                    self.host_keys.setdefault(params["nqn"], {})[params["host"]] = keys
                    named += keys.values()
        held = {key["name"]: key["refcnt"] - 1 for key in answers.get("keys", ()) if not key["removed"]}
        removed = {key["name"] for key in answers.get("keys", ()) if key["removed"]}
        lost = {name for name in removed if held.get(name, 0) < named.count(name)}
        for keys in (keys for hosts in self.host_keys.values() for keys in hosts.values()) if lost else ():
            keys.update((purpose, f"{name} (removed)") for purpose, name in keys.items() if name in lost)
        self.keys = {
            key["name"]: Key(key["name"], key.get("path"), max(0, held[key["name"]] - named.count(key["name"])))
            for key in answers.get("keys", ())
            if not key["removed"]
        }


def _lvstore(item: dict) -> Lvstore:
    return Lvstore(
        item["name"],
        item["uuid"],
        item["base_bdev"],
        item["cluster_size"],
        item["total_data_clusters"],
        item["free_clusters"],
    )


def _bdev(item: dict) -> Bdev:
    return Bdev(
        item["name"],
        tuple(item["aliases"]),
        item.get("uuid"),
        item["product_name"],
        item["block_size"],
        item["block_size"] * item["num_blocks"],
        item["claimed"],
        *_drive(item),
        item.get("md_size", 0),
        multipath=_multipath(item.get("driver_specific") or {}),
    )


def _parent(item: dict) -> str:
    lvol = (item.get("driver_specific") or {}).get("lvol") or {}
    return lvol.get("base_snapshot") or lvol.get("external_snapshot_name") or ""


def _drive(item: dict) -> tuple[str, str]:
    for path in (item.get("driver_specific") or {}).get("nvme") or ():
        if path.get("pci_address"):
            return path["pci_address"].lower(), path.get("ctrlr_data", {}).get("serial_number", "").strip()
    return "", ""


def _multipath(specific: dict) -> tuple:
    return tuple(specific[name] for name in ("mp_policy", "selector") if name in specific)


def _controller(item: dict, attached: dict) -> Controller:
    first = item["ctrlrs"][0] if item["ctrlrs"] else {}
    trid = first.get("trid", {})
    about = (item["name"], trid.get("trtype", ""), trid.get("traddr", "").lower(), first.get("state", ""))
    if about[1] == "PCIe":
        return Controller(*about)
    paths = []
    for path in item["ctrlrs"]:
        for number, where in enumerate([path["trid"], *path.get("alternate_trids", ())]):
            address = observed_address(where)
            paths.append(Path(address, path["state"], attached.get(address, {}), number > 0))
    return Controller(*about, trid.get("subnqn", ""), first.get("host", {}).get("nqn", ""), tuple(paths))


def _subsystem(item: dict, configured: _Configured) -> Subsystem:
    return Subsystem(
        nqn=item["nqn"],
        allow_any_host=item["allow_any_host"],
        attributes={key: item.get(key) for key in SUBSYSTEM_ATTRIBUTES},
        listeners=frozenset(observed_address(address) for address in item["listen_addresses"]),
        hosts=frozenset(host["nqn"] for host in item["hosts"]),
        namespaces={ns["nsid"]: Namespace(ns["nsid"], ns["bdev_name"], ns.get("uuid")) for ns in item["namespaces"]},
        secure=frozenset(configured.secure.get(item["nqn"], ())),
        host_keys=configured.host_keys.get(item["nqn"], {}),
    )


def _raid(item: dict, graph: Graph) -> Raid:
    progress = item.get("process") or {}
    return Raid(
        item["name"],
        item["uuid"],
        item["raid_level"],
        item["state"],
        item["superblock"],
        item["strip_size_kb"],
        tuple(_member(slot, graph) for slot in item["base_bdevs_list"]),
        progress.get("target") or "",
        progress.get("progress", {}).get("percent", 0),
    )


def _member(slot: dict, graph: Graph) -> Member:
    bdev = graph.bdev(slot["name"] or "")  # a RAID keeps the name that it was given, which may be an alias
    span = (slot["data_offset"] + slot["data_size"]) * bdev.block_size if bdev else 0
    return Member(bdev.name if bdev else slot["name"] or "", slot["uuid"], slot["is_configured"], span)


def _vhost(item: dict) -> Vhost:
    backend = item.get("backend_specific", {})
    block = backend.get("block", {})
    return Vhost(
        item["ctrlr"],
        block.get("bdev"),
        item["socket"],
        int(item["cpumask"], 16),
        block.get("readonly", False),
        tuple(session["name"] for session in item["sessions"]),
        tuple(lun["bdev_name"] for target in backend["scsi"] for lun in target["luns"]) if "scsi" in backend else None,
    )
