# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of one bdev copied into another, as a new volume is initialised from a snapshot. Private.

The target exports both to this node alone for as long as it takes, and this process is the host: what goes wrong ends
a connection, never the target (docs/spdk-facts.md). Writes go through the bdev, so a mirror keeps its legs equal. Only
what differs is written, and all that was written is read again; so cut off anywhere, doing it again is right.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Optional

from .. import _naming, _options
from .._errors import DiskengineError, Refusal
from .._graph import Bdev, Graph
from .._plan import COPY, Action, Change, Missing
from .._sizes import format_size, parse_size

_STEP = 1 << 30
_ADDRESS = "127.0.0.1"
_AT_ONCE = 16
_PIECE = 1 << 20
_UNREAD = "what is copied is attached or made by this run; what is shown follows if the copy fits"


class CopyResource:
    """A copy goes on from where an earlier one ended, as far as its limit; nothing serves the bdev before its end."""

    kind = "copy"
    plural = "copies"
    rank = 6
    removal_rank = -7
    gates = True
    options = _options.COPY

    @staticmethod
    def identity(options: dict) -> dict:
        """Return what names the object in results."""
        return {"bdev": options["bdev"]}

    @staticmethod
    def title(options: dict, graph: Graph) -> str:
        """Return the object's name for messages."""
        return options["bdev"]

    @staticmethod
    def keys(options: dict, graph: Graph) -> list:
        """Return the keys under which others rely on this object: whoever uses the bdev relies on its content."""
        return [("bdev", options["bdev"])]

    @staticmethod
    def look(client: Any, given: list, graph: Graph) -> None:
        """Read the superblocks of what is copied: a leg of a mirror has its data behind one."""
        graph.copying = {o["bdev"]: o["source"] for o in given if o["state"] == "present"}
        sources = {bdev.name: bdev for bdev in map(graph.bdev, filter(None, graph.copying.values())) if bdev}
        if sources:
            from .._content import read_superblocks  # rarely needed, and importing costs time in every run

            graph.superblocks.update(read_superblocks(client, list(sources.values()), graph))

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        chain = _Chain(graph)
        if options["state"] == "absent":
            chain.unexport(options["bdev"])
            return chain.change(None, None)
        if not options["source"] or not options["hostnqn"]:
            raise Refusal("name the bdev that is copied (source) and the NQN that this node connects with (hostnqn)")
        target, source = (_found(options[name], graph) for name in ("bdev", "source"))
        raid = graph.raids.get(target.name)
        if raid and not raid.in_sync:
            return Change(None, None, later="it is copied when its legs are in sync")
        if target.name in graph.vhost:
            raise Refusal(f"it is served by the vhost controller {graph.vhost[target.name]}; it is not written over")
        unread = target.size is None or source.size is None
        start, size = (0, target.size) if unread else _extent(source, target, graph)
        done = options["offset"]
        limit = 0 if options["limit"] == "0" else parse_size(options["limit"], "limit")
        if done < 0 or limit % _PIECE:
            raise Refusal(f"offset has to be 0 or more, and limit a multiple of {format_size(_PIECE)}")
        goal = done + limit if size is None else min(size, done + limit)
        if done < goal:
            chain.export(options)
            chain.copy(_Extent(options, source, target, start), done, goal, goal - done if unread else _STEP)
        chain.unexport(options["bdev"])
        later = None
        if size is not None and goal < size:
            later = f"{format_size(size - goal)} are left for the next run (limit {options['limit']})"
        else:
            chain.finish(options)
        fields = {"bdev": options["bdev"], "source": options["source"]}
        change = chain.change({**fields, "copied_bytes": min(done, goal)}, {**fields, "copied_bytes": goal})
        change.facts = {"copied_bytes": min(done, goal), "size_bytes": size}
        change.later, change.unread = later, _UNREAD if unread else None
        return change


def _found(reference: str, graph: Graph) -> Bdev:
    bdev = graph.bdev(reference)
    if bdev is None:
        raise Missing(("bdev", graph.canonical(reference)), f"there is no bdev {reference} on this target")
    return bdev


def _extent(source: Bdev, target: Bdev, graph: Graph) -> tuple:
    """Return where the data of the source begins and how much it is, in bytes. Raises Refusal where it does not fit."""
    if source.name not in graph.superblocks:
        raise Refusal(f"bdev {source.name} cannot be read now, so nobody knows where its data begins")
    held = graph.superblocks[source.name]
    start, size = (held.data_offset, held.data_size) if held else (0, source.size or 0)
    if start + size > (source.size or 0) or not size:
        raise Refusal(f"bdev {source.name} holds the superblock of {held.raid}, which is no mirror, or was cut off")
    if size > (target.size or 0) or size % target.block_size:
        raise Refusal(
            f"bdev {source.name} holds {format_size(size)} of data, which do not fit into "
            f"{format_size(target.size or 0)} with blocks of {target.block_size} B; make the volume larger"
        )
    return start, size


class _Extent(NamedTuple):
    """What is copied where to; ``start`` is where the data of the source begins, in bytes."""

    options: dict
    source: Bdev
    target: Bdev
    start: int


class _Chain:
    """Collects the changes of other objects that a copy is made of, each planned on what the one before leaves."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph.copy()
        self._changes: list[Change] = []
        self._done: list[str] = []

    def export(self, options: dict) -> None:
        """Export both bdevs to this node alone."""
        self._subsystem(
            options["bdev"],
            max_namespaces=2,
            listeners=[_listener(options["port"])],
            hosts=[options["hostnqn"]],
            namespaces=[
                {"bdev": options[name], "nsid": nsid, "bdev_uuid": None}
                for nsid, name in enumerate(("source", "bdev"), 1)
            ],
            purge=["listeners", "hosts", "namespaces"],
        )

    def unexport(self, bdev: str) -> None:
        """Take that away."""
        self._subsystem(bdev, state="absent")

    def _subsystem(self, bdev: str, **given: Any) -> None:
        from ._subsystem import SubsystemResource

        self._add(SubsystemResource, _options.SUBSYSTEM, nqn=_naming.copy_nqn(bdev), **given)

    def finish(self, options: dict) -> None:
        """Detach the source when nothing else is copied from it."""
        self._done.append(options["bdev"])
        del self._graph.copying[options["bdev"]]
        if options["source"] in self._graph.copying.values():
            return
        controller = options["source"].rpartition("n")[0]
        if controller in self._graph.controllers:
            from ._controller import ControllerResource

            self._add(ControllerResource, _options.CONTROLLER, name=controller, state="absent")

    def copy(self, extent: _Extent, done: int, goal: int, step: int) -> None:
        """Add the steps from ``done`` to ``goal``."""
        options = extent.options
        nqn = _naming.copy_nqn(options["bdev"])
        for first in range(done, goal, step):
            last = min(first + step, goal)
            action = Action(
                COPY,
                {"bdev": options["bdev"], "source": options["source"], "from": first, "to": last},
                f"copy what differs from {format_size(first)} to {format_size(last)} of {options['source']}",
                holds=(("subsystem", nqn), extent.target.key),
                uses=(extent.source.key,),
                learns="copied_bytes",
                perform=partial(_copy, extent, first, last),
            )
            self._changes.append(Change(None, None, [action]))

    def _add(self, resource: Any, specification: dict, **given: Any) -> None:
        options = {name: option.get("default") for name, option in specification.items()}
        change = resource.plan({**options, **given}, self._graph)
        change.predict(self._graph)
        self._changes.append(change)

    def change(self, before: Optional[dict], after: Optional[dict]) -> Change:
        """Return all of it as one change."""

        def predict(world: Graph) -> None:
            for change in self._changes:
                change.predict(world)
            for target in self._done:
                world.copying.pop(target, None)

        actions = [action for change in self._changes for action in change.actions]
        notes = [note for change in self._changes for note in change.notes]
        return Change(before, after, actions, predict=predict, notes=notes)


def _listener(port: str) -> dict:
    return {"trtype": "TCP", "traddr": _ADDRESS, "trsvcid": port, "adrfam": None, "secure_channel": None}


def _copy(extent: _Extent, first: int, last: int) -> int:
    """Make the bytes from ``first`` to ``last`` those of the source; return ``last``. Raises DiskengineError."""
    from .._nvme_tcp import Host, Read, Write

    def read(place: tuple, at: int) -> Read:
        nsid, bdev, start = place
        length = min(host.most, last - at)
        return Read(nsid, (start + at) // bdev.block_size, length // bdev.block_size, length)

    source, target = (1, extent.source, extent.start), (2, extent.target, 0)
    address = (_ADDRESS, int(extent.options["port"]))
    with Host(address, _naming.copy_nqn(extent.options["bdev"]), extent.options["hostnqn"]) as host:
        for begin in range(first, last, host.most * _AT_ONCE):
            pieces = range(begin, min(last, begin + host.most * _AT_ONCE), host.most)
            found = host.run([read(place, at) for place in (source, target) for at in pieces])
            wanted = dict(zip(pieces, found))
            different = [at for at, there in zip(pieces, found[len(pieces) :]) if there != wanted[at]]
            reads = [read(target, at) for at in different]
            host.run([Write(2, r.lba, r.blocks, bytes(wanted[at])) for r, at in zip(reads, different)])
            for at, there in zip(different, host.run(reads)):
                if there != wanted[at]:
                    raise DiskengineError(f"bdev {extent.target.name} returns other bytes at {at} than were written")
    return last
