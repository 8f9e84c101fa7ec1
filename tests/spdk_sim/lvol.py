# SPDX-License-Identifier: GPL-3.0-or-later
"""Lvol stores and logical volumes (contract section 5).

Allocation is a count: no I/O is simulated, so the allocated clusters of a blob are always its first ones.
"""

from __future__ import annotations

import errno
from typing import Any

from . import bdevs
from .bdevs import MANY_NONE, MANY_ONE, Bdev
from .decode import BDEV, BOOL, STR, U32, U64, UUID_RE, Params, one_of, optional, required
from .disks import Medium, freeze
from .errors import INTERNAL_ERROR, INVALID_PARAMS, RpcFailure, TargetCrash, failure
from .registry import method

MAX_NAME = 63
PAGE = 4096
MASK_HEADER = 5
EXTENTS_PER_PAGE = 512
"""Clusters whose addresses fit into one metadata page (seen on the real program)."""
MAX_IN_FLIGHT = 512
"""Operations one store has room for; what is beyond them goes wrong as recorded in scenario 19."""
DELETES_FINE = 404
DELETES_STUCK = 446
DELETES_LUCKY = 553


class Lvol:
    """One blob. ``size`` and ``allocated`` in clusters; ``parent`` a uuid in the store; ``external`` a bdev's uuid."""

    def __init__(self, uuid: str, name: str, size: int, thin: bool) -> None:
        self.uuid = uuid
        self.name = name
        self.size = size
        self.thin = thin
        self.allocated = 0
        self.read_only = False
        self.snapshot = False
        self.parent: str | None = None
        self.external: str | None = None
        self.clones: list[str] = []
        self.refuses_writes = False
        self.busy: str | None = None
        self.listed = True
        self.degraded = False

    FIELDS = ("uuid", "name", "size", "thin", "allocated", "read_only", "snapshot", "parent", "external")

    @property
    def pages(self) -> int:
        """Metadata pages: one, and one for each 512 clusters that are allocated."""
        return 1 + -(-self.allocated // EXTENTS_PER_PAGE)

    def record(self) -> dict[str, Any]:
        """What is on disk."""
        return {field: getattr(self, field) for field in self.FIELDS}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Lvol:
        """The lvol a journal record describes."""
        lvol = cls(record["uuid"], record["name"], record["size"], record["thin"])
        for field in cls.FIELDS:
            setattr(lvol, field, record[field])
        return lvol


class Lvstore(bdevs.Holder):
    """A store as it lies on a disk, and, while loaded, its base bdev and what is in flight on it."""

    kind = "lvstore"
    FIELDS = ("uuid", "name", "cluster_size", "total_clusters", "metadata_clusters", "metadata_pages", "unloadable")

    def __init__(self, uuid: str, name: str, cluster_size: int, total_clusters: int, metadata_pages: int) -> None:
        self.uuid = uuid
        self.name = name
        self.cluster_size = cluster_size
        self.total_clusters = total_clusters
        self.metadata_pages = metadata_pages
        self.metadata_clusters = metadata_clusters(cluster_size, total_clusters, metadata_pages)
        self.unloadable = False
        self.lvols: dict[str, Lvol] = {}
        self.by_name: dict[str, Lvol] = {}
        self.allocated = 0
        self.pages_used = 1
        self.base: Bdev | None = None
        self.in_flight = 0
        self.deletes = 0
        self.burst = 0
        self.names_pending: set[str] = set()
        self.deleting = False

    def header(self) -> dict[str, Any]:
        """The record of the store itself."""
        return {"kind": self.kind} | {field: getattr(self, field) for field in self.FIELDS}

    def parts(self) -> list[str]:
        """The parts with records of their own: lvols."""
        return list(self.lvols)

    def part(self, uuid: str) -> dict[str, Any] | None:
        """The record of one lvol, None when it is gone."""
        lvol = self.lvols.get(uuid)
        return {"store": self.uuid} | lvol.record() if lvol else None

    @classmethod
    def from_records(cls, header: dict[str, Any], parts: list[dict[str, Any]]) -> Lvstore:
        """The store that journal records describe; parts of an older store on the same disk are skipped."""
        store = cls(
            header["uuid"], header["name"], header["cluster_size"], header["total_clusters"], header["metadata_pages"]
        )
        store.metadata_clusters = header["metadata_clusters"]
        store.unloadable = header["unloadable"]
        for record in parts:
            if record["store"] == store.uuid:
                store.add(Lvol.from_record(record))
        for lvol in store.lvols.values():
            if lvol.parent:
                store.lvols[lvol.parent].clones.append(lvol.uuid)
        return store

    @property
    def data_clusters(self) -> int:
        """Clusters that lvols can use."""
        return self.total_clusters - self.metadata_clusters

    @property
    def free_clusters(self) -> int:
        """Clusters nobody uses."""
        return self.data_clusters - self.allocated

    @property
    def max_growable_size(self) -> int:
        """Bytes the cluster mask has room for."""
        pages = -(-(MASK_HEADER + -(-self.total_clusters // 8)) // PAGE)
        return (pages * PAGE - MASK_HEADER) * 8 * self.cluster_size

    def add(self, lvol: Lvol) -> None:
        """Put an lvol into the store."""
        self.lvols[lvol.uuid] = lvol
        self.by_name[lvol.name] = lvol
        self.allocated += lvol.allocated
        self.pages_used += lvol.pages

    def remove(self, lvol: Lvol) -> None:
        """Take an lvol out of the store."""
        del self.lvols[lvol.uuid]
        if self.by_name.get(lvol.name) is lvol:
            del self.by_name[lvol.name]
        self.allocated -= lvol.allocated
        self.pages_used -= lvol.pages

    def allocate(self, lvol: Lvol, clusters: int) -> None:
        """Let an lvol own its first ``clusters`` clusters; -32602 "No space left on device" without room.

        What runs out may be the metadata pages rather than the clusters.
        """
        before, own = lvol.pages, lvol.allocated
        lvol.allocated = clusters
        if clusters - own > self.free_clusters or lvol.pages - before > self.metadata_pages - self.pages_used:
            lvol.allocated = own
            raise failure(errno.ENOSPC, INVALID_PARAMS)
        self.allocated += clusters - own
        self.pages_used += lvol.pages - before

    def need_metadata_page(self) -> None:
        """Each lvol needs a page, the store itself one (contract section 5, "how many lvols fit")."""
        if self.pages_used >= self.metadata_pages:
            raise failure(errno.ENOMEM, INVALID_PARAMS)

    def clusters_for(self, size_in_mib: int) -> int:
        """Clusters for a size in MiB, rounded up; the multiplication overflows as in the real program."""
        size = size_in_mib * 2**20 % 2**64
        return (size + self.cluster_size - 1) % 2**64 // self.cluster_size

    def changed(self, *lvols: Lvol) -> None:
        """Note for the journal that these lvols (or the store itself) differ now."""
        if not lvols:
            self.base.medium.mark()
        for lvol in lvols:
            self.base.medium.mark(lvol.uuid)

    def describe(self) -> dict[str, Any]:
        """The element of bdev_lvol_get_lvstores."""
        return {
            "uuid": self.uuid,
            "name": self.name,
            "base_bdev": self.base.name,
            "total_data_clusters": self.data_clusters,
            "free_clusters": self.free_clusters,
            "block_size": self.base.block_size,
            "cluster_size": self.cluster_size,
            "max_growable_size": self.max_growable_size,
        }

    def describe_lvol(self, lvol: Lvol) -> dict[str, Any]:
        """The element of bdev_lvol_get_lvols."""
        return {
            "alias": f"{self.name}/{lvol.name}",
            "uuid": lvol.uuid,
            "name": lvol.name,
            "is_thin_provisioned": lvol.thin,
            "is_snapshot": lvol.snapshot,
            "is_clone": lvol.parent is not None,
            "is_esnap_clone": lvol.external is not None,
            "is_degraded": lvol.degraded,
            "num_allocated_clusters": lvol.allocated,
            "lvs": {"name": self.name, "uuid": self.uuid},
        }

    def bdev_removed(self, target: Any, bdev: Bdev) -> None:
        """The disk below went away: close the store, nothing on the disk is lost."""
        unload(target, self)

    def opens_channel(self, target: Any) -> bool:
        """The store always does I/O on its base."""
        return True


class ExternalParent(bdevs.Holder):
    """What holds the bdev that an external clone reads from. The clone does not notice that it is to be removed."""

    keeps = True

    def __init__(self, store: Lvstore, lvol: Lvol) -> None:
        self.store = store
        self.lvol = lvol

    def bdev_removed(self, target: Any, bdev: Bdev) -> None:
        """Without its parent the clone is degraded and has no bdev."""
        self.lvol.degraded = True
        own = target.bdevs.find(self.lvol.uuid)
        if own is not None:
            bdevs.unregister(target, own)

    def opens_channel(self, target: Any) -> bool:
        """Reading through a clone is not simulated."""
        return False


class LvolBdev(Bdev):
    """The bdev of an lvol; its name is the lvol's uuid."""

    product = "Logical Volume"
    module = "lvol"
    io = bdevs.io_types("read", "write", "unmap", "reset", "write_zeroes", "seek_hole", "seek_data")
    read_only_io = bdevs.io_types("read", "reset", "seek_hole", "seek_data")

    def __init__(self, store: Lvstore, lvol: Lvol) -> None:
        block_size = store.base.block_size
        super().__init__(
            lvol.uuid,
            lvol.uuid,
            block_size,
            lvol.size * (store.cluster_size // block_size),
            Medium(store.base.medium.disks, f"lvol:{lvol.uuid}"),
            [f"{store.name}/{lvol.name}"],
        )
        self.store = store
        self.lvol = lvol
        self.numa_id = store.base.numa_id
        self.io_boundary = store.cluster_size // block_size
        self.parent: Bdev | None = None

    def supported_io(self) -> dict[str, bool]:
        return self.read_only_io if self.lvol.refuses_writes else self.io

    def memory_domains(self) -> list[str]:
        domains = self.store.base.inherited_domains()
        return domains + self.parent.inherited_domains() if self.parent else domains

    def driver_specific(self, target: Any) -> dict[str, Any]:
        store, lvol = self.store, self.lvol
        out: dict[str, Any] = {
            "lvol_store_uuid": store.uuid,
            "base_bdev": store.base.name,
            "thin_provision": lvol.thin,
            "num_allocated_clusters": lvol.allocated,
            "snapshot": lvol.snapshot,
            "clone": lvol.parent is not None,
        }
        if lvol.parent is not None:
            out["base_snapshot"] = store.lvols[lvol.parent].name
        if lvol.clones:
            out["clones"] = [store.lvols[clone].name for clone in lvol.clones]
        out["esnap_clone"] = lvol.external is not None
        if lvol.external is not None:
            out["external_snapshot_name"] = lvol.external
        return {"lvol": out}


def setup(target: Any) -> None:
    """Add this family's state to a target: loaded stores by uuid, shallow copies by operation id."""
    target.lvstores = {}
    target.shallow_copies = {}
    target.shallow_copy_count = 0


def metadata_clusters(cluster_size: int, total_clusters: int, pages: int) -> int:
    """Clusters that super block, masks and metadata pages take (blobstore layout)."""
    page_mask = -(-(MASK_HEADER + -(-pages // 8)) // PAGE)
    cluster_mask = -(-(MASK_HEADER + -(-total_clusters // 8)) // PAGE)
    return -(-(1 + 2 * page_mask + cluster_mask + pages) * PAGE // cluster_size)


def examine(target: Any, bdev: Bdev) -> None:
    """Load the store on a bdev, if there is one and it is not loaded already."""
    store = bdev.medium.read() if bdev.medium else None
    if not isinstance(store, Lvstore) or store.unloadable or store.uuid in target.lvstores or store.base is not None:
        return
    if any(other.name == store.name for other in target.lvstores.values()):
        return
    if bdev.size < store.total_clusters * store.cluster_size:
        return
    load(target, store, bdev)


def load(target: Any, store: Lvstore, base: Bdev) -> None:
    """Open a store and its lvols."""
    bdevs.hold(base, store, MANY_ONE)
    store.base = base
    target.lvstores[store.uuid] = store
    for lvol in list(store.lvols.values()):
        lvol.refuses_writes = lvol.read_only
        lvol.degraded = lvol.external is not None and target.bdevs.find(lvol.external) is None
        if not lvol.degraded:
            open_lvol(target, store, lvol)
    for other in target.lvstores.values():
        for lvol in other.lvols.values():
            if lvol.degraded and target.bdevs.find(lvol.external) is not None:
                lvol.degraded = False
                open_lvol(target, other, lvol)


def open_lvol(target: Any, store: Lvstore, lvol: Lvol) -> None:
    """Register the bdev of an lvol."""
    bdev = LvolBdev(store, lvol)
    if lvol.external is not None:
        hold_parent(target, bdev)
    bdevs.register(target, bdev)


def hold_parent(target: Any, bdev: LvolBdev) -> None:
    """Open the bdev an external clone reads from."""
    bdev.parent = target.bdevs.get(bdev.lvol.external)
    bdevs.hold(bdev.parent, ExternalParent(bdev.store, bdev.lvol), MANY_NONE)


def close_lvol(target: Any, lvol: Lvol) -> None:
    """Unregister the bdev of an lvol and let go of an external parent."""
    bdev = target.bdevs.by_name.get(lvol.uuid)
    if bdev is not None:
        bdevs.unregister(target, bdev)
    release_parent(target, lvol)


def release_parent(target: Any, lvol: Lvol) -> None:
    """Close the bdev an external clone read from."""
    parent = target.bdevs.find(lvol.external) if lvol.external else None
    if parent is not None:
        for holder in [h for h in parent.holders if isinstance(h, ExternalParent) and h.lvol is lvol]:
            bdevs.release(parent, holder)
    bdev = target.bdevs.by_name.get(lvol.uuid)
    if bdev is not None:
        bdev.parent = None


def unload(target: Any, store: Lvstore) -> None:
    """Close a store; what was only in memory is forgotten."""
    target.lvstores.pop(store.uuid, None)
    for lvol in list(store.lvols.values()):
        close_lvol(target, lvol)
        lvol.busy = None
        lvol.listed = True
    bdevs.release(store.base, store)
    store.base = None
    store.in_flight = store.deletes = store.burst = 0
    store.names_pending.clear()
    store.deleting = False


def find_store(target: Any, uuid: str | None, name: str | None) -> Lvstore:
    """The store by uuid xor name; -22 when both or neither is given, -19 when unknown."""
    if (uuid is None) == (name is None):
        raise failure(errno.EINVAL)
    if uuid is not None:
        store = target.lvstores.get(uuid.lower())
    else:
        store = next((store for store in target.lvstores.values() if store.name == name), None)
    if store is None:
        raise failure(errno.ENODEV)
    return store


def find_bdev(target: Any, name: str) -> LvolBdev:
    """The lvol bdev by name or alias, -19 when there is none or it is no lvol."""
    bdev = target.bdevs.find(name)
    if not isinstance(bdev, LvolBdev):
        raise failure(errno.ENODEV)
    return bdev


def check_name(name: str, code: int | None = None) -> None:
    """-22 for an empty or over-long name."""
    if not 1 <= len(name) <= MAX_NAME:
        raise failure(errno.EINVAL, code)


class InFlight:
    """One operation on a store: counted while it runs, with the lvol marked busy."""

    def __init__(
        self, store: Lvstore, lvol: Lvol | None = None, what: str | None = None, code: int = INVALID_PARAMS
    ) -> None:
        if lvol is not None and lvol.busy:
            raise failure(errno.EBUSY, code)
        if store.in_flight >= MAX_IN_FLIGHT:
            raise failure(errno.ENOMEM, code)
        self.store = store
        self.lvol = lvol
        self.what = what

    def __enter__(self) -> None:
        self.store.in_flight += 1
        if self.lvol is not None:
            self.lvol.busy = self.what

    def __exit__(self, *_exc: object) -> None:
        self.store.in_flight = max(0, self.store.in_flight - 1)
        if self.lvol is not None and self.lvol.busy == self.what:
            self.lvol.busy = None


def still_there(target: Any, store: Lvstore) -> None:
    """-32602 "No such device" when the store went away meanwhile."""
    if store.deleting or store.uuid not in target.lvstores:
        raise failure(errno.ENODEV, INVALID_PARAMS)


SELECTOR = {"uuid": optional(STR), "lvs_name": optional(STR)}
CLEAR = one_of("unmap", "write_zeroes", "none")
CLEAR_LVOL = one_of("default", "none", "unmap", "write_zeroes")


@method(
    "bdev_lvol_create_lvstore",
    BDEV,
    {
        "bdev_name": required(STR),
        "lvs_name": required(STR),
        "cluster_sz": optional(U32),
        "clear_method": optional(CLEAR),
        "num_md_pages_per_cluster_ratio": optional(U32),
        "md_page_size": optional(U32, since=(25, 5)),
    },
)
def create_lvstore(target: Any, params: Params) -> Any:
    """Make a store on a bdev."""
    base = target.bdevs.get(params.bdev_name)
    check_name(params.lvs_name)
    cluster_size = params.cluster_sz or 4 * 2**20
    page = params.md_page_size or PAGE
    if cluster_size % page or cluster_size < page or page % base.block_size or page & (page - 1):
        raise failure(errno.EINVAL)
    if base.claim is not None:
        raise failure(errno.EPERM)
    if any(store.name == params.lvs_name for store in target.lvstores.values()):
        raise failure(errno.EEXIST)
    if base.metadata():
        raise failure(errno.EINVAL)
    total = base.size // cluster_size
    if total == 0:
        raise failure(errno.EINVAL, INVALID_PARAMS)
    pages = (params.num_md_pages_per_cluster_ratio or 100) * total // 100
    if metadata_clusters(cluster_size, total, pages) > total:
        raise failure(errno.ENOMEM, INVALID_PARAMS)
    store = Lvstore(target.new_uuid(), params.lvs_name, cluster_size, total, pages)
    store.base = base
    bdevs.hold(base, store, MANY_ONE)
    yield
    if base.medium is not None:
        base.medium.write(store)
    target.lvstores[store.uuid] = store
    return store.uuid


@method("bdev_lvol_get_lvstores", BDEV, SELECTOR)
def get_lvstores(target: Any, params: Params) -> Any:
    """All stores, or one; an empty params object is an error."""
    if not params.given:
        return [store.describe() for store in target.lvstores.values()]
    return [find_store(target, params.uuid, params.lvs_name).describe()]


@method("bdev_lvol_rename_lvstore", BDEV, {"old_name": required(STR), "new_name": required(STR)})
def rename_lvstore(target: Any, params: Params) -> Any:
    """Rename a store; longer names are cut at 63 characters without a word."""
    store = next((store for store in target.lvstores.values() if store.name == params.old_name), None)
    if store is None:
        raise RpcFailure(-errno.ENOENT, f"Lvol store {params.old_name} not found")
    if params.new_name == store.name:
        return True
    if not params.new_name or any(other.name == params.new_name for other in target.lvstores.values()):
        raise failure(errno.EEXIST, INVALID_PARAMS)
    return _rename_lvstore(target, store, params.new_name[:MAX_NAME])


def _rename_lvstore(target: Any, store: Lvstore, name: str) -> Any:
    for lvol in store.lvols.values():
        bdev = target.bdevs.by_name.get(lvol.uuid)
        if bdev is not None:
            bdevs.replace_alias(target, bdev, bdev.aliases[0], f"{name}/{lvol.name}")
    store.name = name
    store.changed()
    yield
    return True


@method("bdev_lvol_delete_lvstore", BDEV, SELECTOR)
def delete_lvstore(target: Any, params: Params) -> Any:
    """Delete a store with all its lvols."""
    store = find_store(target, params.uuid, params.lvs_name)
    if store.deleting:
        raise failure(errno.ENODEV, INVALID_PARAMS)
    if store.deletes:
        raise TargetCrash(3, "SIGSEGV", f"delete of store {store.name} while lvols of it are being deleted")
    if any(lvol.busy == "stuck" for lvol in store.lvols.values()):
        raise TargetCrash(5, "SIGABRT", f"delete of store {store.name} with half-deleted lvols")
    store.deleting = True
    yield
    base = store.base
    if base is not None:
        for lvol in list(store.lvols.values()):
            close_lvol(target, lvol)
            target.disks.erase(f"lvol:{lvol.uuid}")
        unload(target, store)
        if base.medium is not None:
            base.medium.erase()
    return True


@method("bdev_lvol_grow_lvstore", BDEV, SELECTOR)
def grow_lvstore(target: Any, params: Params) -> Any:
    """Take over the base bdev's present size; true also when there is nothing to grow."""
    store = find_store(target, params.uuid, params.lvs_name)
    with InFlight(store):
        yield
        total = store.base.size // store.cluster_size
        if total > store.total_clusters:
            if total * store.cluster_size > store.max_growable_size:
                raise failure(errno.ENOSPC, INVALID_PARAMS)
            store.total_clusters = total
            store.changed()
    return True


@method(
    "bdev_lvol_create",
    BDEV,
    {
        "lvol_name": required(STR),
        "size_in_mib": required(U64),
        "thin_provision": optional(BOOL),
        "clear_method": optional(CLEAR_LVOL),
    }
    | SELECTOR,
)
def create(target: Any, params: Params) -> Any:
    """Create an lvol; the size is rounded up to clusters."""
    store = find_store(target, params.uuid, params.lvs_name)
    name = params.lvol_name
    check_name(name)
    if name in store.by_name or name in store.names_pending:
        raise failure(errno.EEXIST)
    lvol = Lvol(target.new_uuid(), name, store.clusters_for(params.size_in_mib), bool(params.thin_provision))
    with InFlight(store):
        store.names_pending.add(name)
        try:
            yield
        finally:
            store.names_pending.discard(name)
        still_there(target, store)
        store.need_metadata_page()
        store.add(lvol)
        if not lvol.thin:
            try:
                store.allocate(lvol, lvol.size)
            except RpcFailure:
                store.remove(lvol)
                raise
        open_lvol(target, store, lvol)
        store.changed(lvol)
    return lvol.uuid


def _add(target: Any, store: Lvstore, lvol: Lvol) -> None:
    store.add(lvol)
    open_lvol(target, store, lvol)
    store.changed(lvol)


@method("bdev_lvol_get_lvols", BDEV, {"lvs_uuid": optional(STR), "lvs_name": optional(STR)})
def get_lvols(target: Any, params: Params) -> Any:
    """The lvols of all stores, or of one; an empty params object is an error."""
    stores = target.lvstores.values()
    if params.given:
        stores = [find_store(target, params.lvs_uuid, params.lvs_name)]
    return [store.describe_lvol(lvol) for store in stores for lvol in store.lvols.values() if lvol.listed]


@method("bdev_lvol_resize", BDEV, {"name": required(STR), "size_in_mib": required(U64)})
def resize(target: Any, params: Params) -> Any:
    """Change the size. Shrinking an open lvol frees its clusters and fails then (contract section 12, 6)."""
    bdev = find_bdev(target, params.name)
    store, lvol = bdev.store, bdev.lvol
    clusters = store.clusters_for(params.size_in_mib)
    if lvol.read_only:
        raise failure(errno.EPERM, INVALID_PARAMS)
    with InFlight(store, lvol, "resize"):
        yield
        still_there(target, store)
        if not lvol.thin:
            store.allocate(lvol, clusters)
        elif clusters < lvol.allocated:
            store.allocate(lvol, clusters)
        lvol.size = clusters
        store.changed(lvol)
        bdevs.resize(target, bdev, clusters * (store.cluster_size // bdev.block_size))
    return True


@method("bdev_lvol_rename", BDEV, {"old_name": required(STR), "new_name": required(STR)})
def rename(target: Any, params: Params) -> Any:
    """Rename an lvol. The alias changes first, and stays changed when the rest fails (contract section 12, 8)."""
    bdev = find_bdev(target, params.old_name)
    store, lvol = bdev.store, bdev.lvol
    alias = f"{store.name}/{params.new_name}"
    if target.bdevs.taken(alias):
        raise failure(errno.EEXIST, INVALID_PARAMS)
    old = bdev.aliases[0]
    bdevs.replace_alias(target, bdev, old, alias)
    if params.new_name == lvol.name:
        return True
    if params.new_name in store.by_name:
        bdevs.replace_alias(target, bdev, alias, old)
        raise failure(errno.EEXIST, INVALID_PARAMS)
    return _rename(store, lvol, params.new_name)


def _rename(store: Lvstore, lvol: Lvol, name: str) -> Any:
    if lvol.read_only:
        yield
        raise failure(errno.EPERM, INVALID_PARAMS)
    del store.by_name[lvol.name]
    lvol.name = name[:MAX_NAME]
    store.by_name[lvol.name] = lvol
    if len(name) > MAX_NAME:
        store.unloadable = True
        store.changed()
    store.changed(lvol)
    yield
    return True


@method("bdev_lvol_set_read_only", BDEV, {"name": required(STR)})
def set_read_only(target: Any, params: Params) -> Any:
    """Write-protect an lvol; supported_io_types shows it after the next load only."""
    bdev = find_bdev(target, params.name)
    with InFlight(bdev.store, bdev.lvol, "set_read_only"):
        yield
        bdev.lvol.read_only = True
        bdev.store.changed(bdev.lvol)
    return True


@method("bdev_lvol_snapshot", BDEV, {"lvol_name": required(STR), "snapshot_name": required(STR)})
def snapshot(target: Any, params: Params) -> Any:
    """Freeze an lvol's clusters into a snapshot; the lvol becomes its thin clone."""
    bdev = find_bdev(target, params.lvol_name)
    store, origin = bdev.store, bdev.lvol
    name = params.snapshot_name
    check_name(name, INVALID_PARAMS)
    if name in store.by_name or name in store.names_pending:
        raise failure(errno.EEXIST, INVALID_PARAMS)
    if origin.read_only:
        raise failure(errno.EINVAL, INVALID_PARAMS)
    frozen = Lvol(target.new_uuid(), name, origin.size, origin.thin)
    with InFlight(store, origin, "snapshot"):
        yield
        still_there(target, store)
        store.need_metadata_page()
        frozen.size, frozen.thin = origin.size, origin.thin
        frozen.read_only = frozen.snapshot = frozen.refuses_writes = True
        release_parent(target, origin)
        frozen.external, origin.external = origin.external, None
        frozen.parent = origin.parent
        if origin.parent:
            siblings = store.lvols[origin.parent].clones
            siblings[siblings.index(origin.uuid)] = frozen.uuid
        frozen.clones = [origin.uuid]
        moved = origin.allocated
        store.allocate(origin, 0)
        frozen.allocated = moved
        origin.parent, origin.thin = frozen.uuid, True
        _add(target, store, frozen)
        freeze(bdev.medium, target.bdevs.get(frozen.uuid).medium)
        store.changed(origin)
    return frozen.uuid


@method("bdev_lvol_clone", BDEV, {"snapshot_name": required(STR), "clone_name": required(STR)})
def clone(target: Any, params: Params) -> Any:
    """Make a writable thin clone of a snapshot."""
    bdev = find_bdev(target, params.snapshot_name)
    store, parent = bdev.store, bdev.lvol
    check_name(params.clone_name, INVALID_PARAMS)
    if params.clone_name in store.by_name or params.clone_name in store.names_pending:
        raise failure(errno.EEXIST, INVALID_PARAMS)
    if not parent.read_only:
        raise failure(errno.EINVAL, INVALID_PARAMS)
    lvol = Lvol(target.new_uuid(), params.clone_name, parent.size, True)
    with InFlight(store, parent, "clone"):
        store.names_pending.add(lvol.name)
        try:
            yield
        finally:
            store.names_pending.discard(lvol.name)
        still_there(target, store)
        store.need_metadata_page()
        lvol.parent = parent.uuid
        parent.clones.append(lvol.uuid)
        parent.snapshot = True
        _add(target, store, lvol)
    return lvol.uuid


@method("bdev_lvol_clone_bdev", BDEV, {"bdev": required(STR), "lvs_name": required(STR), "clone_name": required(STR)})
def clone_bdev(target: Any, params: Params) -> Any:
    """Make a clone whose unwritten clusters come from another bdev."""
    source = target.bdevs.find(params.bdev)
    if source is None:
        raise RpcFailure(INVALID_PARAMS, "bdev does not exist")
    store = next((store for store in target.lvstores.values() if store.name == params.lvs_name), None)
    if store is None:
        raise RpcFailure(INVALID_PARAMS, "lvs does not exist")
    if isinstance(source, LvolBdev) and source.store is store:
        raise RpcFailure(INVALID_PARAMS, "bdev is an lvol in same lvs as clone; use bdev_lvol_clone instead")
    check_name(params.clone_name, INVALID_PARAMS)
    if params.clone_name in store.by_name:
        raise failure(errno.EEXIST, INVALID_PARAMS)
    if source.size % store.cluster_size:
        raise failure(errno.EINVAL, INVALID_PARAMS)
    if source.claim not in (None, MANY_NONE):
        raise failure(errno.EPERM, INVALID_PARAMS)
    lvol = Lvol(target.new_uuid(), params.clone_name, source.size // store.cluster_size, True)
    with InFlight(store):
        yield
        still_there(target, store)
        store.need_metadata_page()
        lvol.external = source.uuid
        _add(target, store, lvol)
    return lvol.uuid


def _detach(store: Lvstore, lvol: Lvol, parent: str | None) -> None:
    """Give an lvol another parent (None: none)."""
    if lvol.parent:
        store.lvols[lvol.parent].clones.remove(lvol.uuid)
    lvol.parent = parent
    if parent:
        store.lvols[parent].clones.append(lvol.uuid)


@method("bdev_lvol_inflate", BDEV, {"name": required(STR)})
def inflate(target: Any, params: Params) -> Any:
    """Allocate every cluster and cut the lvol off its parent."""
    bdev = find_bdev(target, params.name)
    store, lvol = bdev.store, bdev.lvol
    if lvol.busy:
        raise failure(errno.EBUSY, INVALID_PARAMS)
    if lvol.allocated == lvol.size and not lvol.thin:
        return True
    return _inflate(target, store, lvol)


def _inflate(target: Any, store: Lvstore, lvol: Lvol) -> Any:
    with InFlight(store, lvol, "inflate"):
        yield
        still_there(target, store)
        store.allocate(lvol, lvol.size)
        _detach(store, lvol, None)
        lvol.thin = False
        release_parent(target, lvol)
        lvol.external = None
        store.changed(lvol)
    return True


@method("bdev_lvol_decouple_parent", BDEV, {"name": required(STR)})
def decouple_parent(target: Any, params: Params) -> Any:
    """Copy the parent's clusters and become a child of the grandparent, if any."""
    bdev = find_bdev(target, params.name)
    store, lvol = bdev.store, bdev.lvol
    if lvol.parent is None and lvol.external is None:
        raise failure(errno.EINVAL, INVALID_PARAMS)
    with InFlight(store, lvol, "decouple"):
        yield
        still_there(target, store)
        if lvol.external is not None:
            store.allocate(lvol, lvol.size)
            release_parent(target, lvol)
            lvol.external = None
        else:
            parent = store.lvols[lvol.parent]
            store.allocate(lvol, max(lvol.allocated, min(parent.allocated, lvol.size)))
            _detach(store, lvol, parent.parent)
        store.changed(lvol)
    return True


@method("bdev_lvol_set_parent", BDEV, {"lvol_name": required(STR), "parent_name": required(STR)})
def set_parent(target: Any, params: Params) -> Any:
    """Hang an lvol under another snapshot of the same store and size."""
    bdev, parent = find_bdev(target, params.lvol_name), find_bdev(target, params.parent_name)
    store, lvol = bdev.store, bdev.lvol
    if not parent.lvol.snapshot or parent.store is not store or parent.lvol.size != lvol.size or not lvol.thin:
        raise failure(errno.EINVAL, INVALID_PARAMS)
    if lvol.parent == parent.lvol.uuid:
        raise failure(errno.EEXIST, INVALID_PARAMS)
    with InFlight(store, lvol, "set_parent"):
        yield
        still_there(target, store)
        _detach(store, lvol, parent.lvol.uuid)
        release_parent(target, lvol)
        lvol.external = None
        store.changed(lvol)
    return True


@method("bdev_lvol_set_parent_bdev", BDEV, {"lvol_name": required(STR), "parent_name": required(STR)})
def set_parent_bdev(target: Any, params: Params) -> Any:
    """Hang an lvol under a bdev outside the store."""
    bdev, parent = find_bdev(target, params.lvol_name), bdevs.find_by_name(target, params.parent_name)
    store, lvol = bdev.store, bdev.lvol
    if isinstance(parent, LvolBdev) and parent.store is store:
        return (yield from set_parent(target, params))
    if lvol.external == parent.uuid:
        raise failure(errno.EEXIST, INVALID_PARAMS)
    if parent.num_blocks * parent.block_size != lvol.size * store.cluster_size or not lvol.thin:
        raise failure(errno.EINVAL, INVALID_PARAMS)
    with InFlight(store, lvol, "set_parent"):
        yield
        still_there(target, store)
        _detach(store, lvol, None)
        lvol.external = parent.uuid
        hold_parent(target, bdev)
        store.changed(lvol)
    return True


@method("bdev_lvol_start_shallow_copy", BDEV, {"src_lvol_name": required(STR), "dst_bdev_name": required(STR)})
def start_shallow_copy(target: Any, params: Params) -> Any:
    """Copy the allocated clusters to a bdev in the background; most failures show only in the check."""
    lvol = find_bdev(target, params.src_lvol_name).lvol
    target.shallow_copy_count += 1
    number = target.shallow_copy_count
    destination = target.bdevs.find(params.dst_bdev_name)
    if destination is None:
        raise failure(errno.ENODEV, INVALID_PARAMS)
    store = find_bdev(target, params.src_lvol_name).store
    copy: dict[str, Any] = {"copied_clusters": 0, "total_clusters": lvol.allocated, "state": "in progress"}
    if not lvol.read_only:
        copy |= {"state": "error", "error": "Operation not permitted"}
    elif destination.size < lvol.size * store.cluster_size:
        copy |= {"state": "error", "error": "Invalid argument"}
    target.shallow_copies[number] = copy
    return _shallow_copy(copy, number)


def _shallow_copy(copy: dict[str, Any], number: int) -> Any:
    yield
    if copy["state"] == "in progress":
        copy |= {"copied_clusters": copy["total_clusters"], "state": "complete"}
    return {"operation_id": number}


@method("bdev_lvol_check_shallow_copy", BDEV, {"operation_id": required(U32)})
def check_shallow_copy(target: Any, params: Params) -> dict[str, Any]:
    """The state of a shallow copy; a finished one is reported once."""
    copy = target.shallow_copies.get(params.operation_id)
    if copy is None:
        raise failure(errno.ENODEV)
    if copy["state"] != "in progress":
        del target.shallow_copies[params.operation_id]
    return copy


def _find_for_delete(target: Any, name: str) -> tuple[Lvstore, Lvol]:
    """By bdev first, then among the lvols that have none."""
    bdev = target.bdevs.find(name)
    if isinstance(bdev, LvolBdev):
        return bdev.store, bdev.lvol
    for store in target.lvstores.values():
        lvol = store.lvols.get(name.lower()) if UUID_RE.fullmatch(name) else None
        if lvol is None and name.startswith(store.name + "/"):
            lvol = store.by_name.get(name[len(store.name) + 1 :])
        if lvol is not None and bdev is None:
            return store, lvol
    raise failure(errno.ENODEV)


@method("bdev_lvol_delete", BDEV, {"name": required(STR)})
def delete(target: Any, params: Params) -> Any:
    """Delete an lvol. The bdev goes at once, the blob later (contract section 12 lists what that breaks)."""
    store, lvol = _find_for_delete(target, params.name)
    if store.deleting:
        raise failure(errno.ENODEV, INTERNAL_ERROR)
    if lvol.busy == "resize":
        raise TargetCrash(4, "SIGABRT", f"delete of {lvol.name} while it is being resized")
    if lvol.busy:
        if lvol.busy not in ("delete", "stuck"):
            close_lvol(target, lvol)
            lvol.listed = False
        raise failure(errno.EBUSY, INTERNAL_ERROR)
    if len(lvol.clones) > 1:
        raise failure(errno.EPERM, INTERNAL_ERROR)
    heir = store.lvols[lvol.clones[0]] if lvol.clones else None
    if heir and heir.busy == "delete":
        raise TargetCrash("snapshot", "SIGSEGV", f"delete of {lvol.name} while its only clone is being deleted")
    if heir:
        heir.busy = "heir"
    close_lvol(target, lvol)
    lvol.busy = "delete"
    place = store.deletes
    store.deletes = store.burst = place + 1
    yield
    store.deletes -= 1
    crowded = store.burst > MAX_IN_FLIGHT
    if not store.deletes:
        store.burst = 0
    still_there(target, store)
    if crowded and not (place < DELETES_FINE or DELETES_STUCK <= place < DELETES_LUCKY):
        lvol.busy = "stuck"
        lvol.listed = place < DELETES_LUCKY
        raise failure(errno.ENOMEM, INTERNAL_ERROR)
    _remove(target, store, lvol)
    if heir:
        heir.busy = None
    return True


def _remove(target: Any, store: Lvstore, lvol: Lvol) -> None:
    """Take an lvol off the disk; a snapshot's clusters go to its one clone."""
    if lvol.clones:
        heir = store.lvols[lvol.clones[0]]
        heir.parent, heir.external = lvol.parent, lvol.external
        own = target.bdevs.by_name.get(heir.uuid)
        if heir.external is not None and own is not None:
            hold_parent(target, own)
        if lvol.parent:
            siblings = store.lvols[lvol.parent].clones
            siblings[siblings.index(lvol.uuid)] = heir.uuid
        inherited = max(heir.allocated, lvol.allocated)
        store.allocate(lvol, 0)
        store.allocate(heir, inherited)
        store.changed(heir)
    elif lvol.parent:
        store.lvols[lvol.parent].clones.remove(lvol.uuid)
    store.remove(lvol)
    store.changed(lvol)
    target.disks.erase(f"lvol:{lvol.uuid}")
