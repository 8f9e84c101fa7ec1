# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""RAIDs of a compute node, of which mirrors matter most. Private to the collection.

What is never done, because SPDK would do it without a word (contract section 8, docs/spdk-facts.md): create a mirror
of legs that are missing, that differ, or of which one may be stale; take away the last good leg, or one while another
is rebuilt; complete a RAID that waits for a leg with one that its superblock does not vouch for.
"""

from __future__ import annotations

from typing import Any, Optional

from .. import _naming, _options
from .._errors import Refusal
from .._graph import NVME_PRODUCT, RAID_PRODUCT, Bdev, Graph, Member, Raid, Superblock
from .._plan import DESTRUCTIVE, DISRUPTIVE, Action, Change, Missing
from .._sizes import format_size, parse_size
from ._named import Named

_LEAST = {"raid1": 2, "raid0": 1, "concat": 1, "raid5f": 3}
_REDUNDANT = ("raid1", "raid5f")
_UNREAD = "its legs are attached by this run; what is shown follows if they hold no superblock of a RAID"
_UNREAD_STALE = "its legs are attached by this run; then it is made of {}, and the other one is brought in sync"


class RaidResource(Named):
    """A RAID keeps its level and the number of its legs for life; legs that are lost or unwanted are replaced."""

    kind = "raid"
    plural = "raids"
    rank = 6
    options = _options.RAID

    @staticmethod
    def keys(options: dict, graph: Graph) -> list:
        """Return the keys under which others rely on this object."""
        return [("bdev", options["name"])]

    @staticmethod
    def look(client: Any, given: list, graph: Graph) -> None:
        """Read the superblocks on which a decision may rest: where a RAID is not complete, or gets another leg."""
        bdevs: dict[str, Bdev] = {}
        for options in given:
            found = graph.raids.get(options["name"])
            if options["state"] == "absent" or not options["base_bdevs"]:
                continue
            legs = [bdev for bdev in map(graph.bdev, options["base_bdevs"] + (found.present if found else [])) if bdev]
            if not (found and found.in_sync and {bdev.name for bdev in legs} <= set(found.present)):
                bdevs.update((bdev.name, bdev) for bdev in legs)
        if bdevs:
            from .._content import read_superblocks  # rarely needed, and importing costs time in every run

            graph.superblocks.update(read_superblocks(client, list(bdevs.values()), graph))

    @staticmethod
    def facts(options: dict, graph: Graph) -> dict:
        """Return what is known of the RAID besides its fields."""
        found = graph.raids.get(options["name"])
        return _facts(found, graph) if found else {}

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        name = _naming.raid_name(options["name"])
        found = graph.raids.get(name)
        if options["state"] == "absent":
            return _delete(found, graph) if found else Change(None, None)
        if not options["base_bdevs"]:
            if found:
                return Change(_fields(found, graph), _fields(found, graph), facts=_facts(found, graph))
            raise Refusal("the RAID does not exist; name the bdevs to make it of (base_bdevs)")
        wanted = _Spec(options, graph)
        if found is None:
            if name in graph.bdevs:
                raise Refusal("another bdev has that name; choose another one")
            return _create(wanted, graph)
        return _compare(found, wanted, graph)


class _Spec:
    """The options, checked against each other."""

    def __init__(self, options: dict, graph: Graph) -> None:
        self.name: str = options["name"]
        self.level: str = options["level"]
        self.superblock: bool = self.level == "raid1" if options["superblock"] is None else options["superblock"]
        self.strip_size_kb = self._strip_size_kb(options["strip_size"])
        self.references: list = options["base_bdevs"]
        found = [graph.bdev(reference) for reference in self.references]
        self.legs = [bdev.name if bdev else reference for bdev, reference in zip(found, self.references)]
        self.source: Optional[str] = None
        if options["source"]:
            self.source = dict(zip(self.references, self.legs)).get(options["source"])
            if self.level != "raid1" or len(self.legs) != 2 or not self.source:
                raise Refusal("source has to be one of the two base_bdevs of a mirror")
        stale = set(options["stale"] or ())
        good = [leg for leg, reference in zip(self.legs, self.references) if reference not in stale]
        if stale and (self.level != "raid1" or len(self.legs) != 2 or len(good) != 1):
            raise Refusal("stale has to be one of the two base_bdevs of a mirror")
        self.good: Optional[str] = good[0] if stale else None
        if len(set(self.legs)) < len(self.legs):
            raise Refusal("base_bdevs names a bdev twice")
        if len(self.legs) < _LEAST[self.level]:
            raise Refusal(f"{self.level} needs at least {_LEAST[self.level]} base_bdevs")

    def _strip_size_kb(self, given: Optional[str]) -> int:
        if self.level == "raid1":
            if given:
                raise Refusal("a mirror has no strips; strip_size is for the other levels")
            return 0
        if not given:
            raise Refusal(f"{self.level} needs a strip_size, such as 64KiB")
        size = parse_size(given, "strip_size")
        if size % 1024 or size & (size - 1):
            raise Refusal(f"strip_size {format_size(size)} is not a power of two of at least 1 KiB")
        return size // 1024


def _fields(raid: Raid, graph: Graph) -> dict:
    return {
        "name": raid.name,
        "level": raid.level,
        "base_bdevs": sorted(graph.key(leg)[1] for leg in raid.present),
        "superblock": raid.superblock,
        "strip_size_kb": raid.strip_size_kb,
    }


def _facts(raid: Raid, graph: Graph) -> dict:
    bdev = graph.bdevs.get(raid.name)
    online = raid.state == "online"
    return {
        "uuid": raid.uuid if bdev else None,
        "raid_state": raid.state,
        "size_bytes": bdev.size if bdev else None,
        "rebuilding": raid.rebuilding or None,
        "rebuild_percent": raid.percent if raid.rebuilding else None,
        "in_sync": sorted(graph.key(leg)[1] for leg in raid.present if leg != raid.rebuilding) if online else None,
    }


def _create(wanted: _Spec, graph: Graph, instead_of: Optional[Raid] = None) -> Change:
    """Make the RAID of legs that are all there, ``instead_of`` one that never was complete."""
    legs = [_leg(reference, wanted.name, graph, ours=instead_of) for reference in wanted.references]
    unread = any(leg.size is None for leg in legs)
    if wanted.source and not unread:
        return _create_from(wanted, wanted.source, legs, instead_of, graph)
    if not unread:
        _require_equal(legs, wanted)
        _require_read(legs, graph)
    for leg in legs:
        held = graph.superblocks.get(leg.name)
        if held:
            return _examine(leg, held, wanted, graph)
    if wanted.good and not unread:
        return _create_from(wanted, wanted.good, legs, instead_of, graph)
    params: dict = {"name": wanted.name, "raid_level": wanted.level, "base_bdevs": [leg.name for leg in legs]}
    if wanted.superblock:
        params["superblock"] = True
    if wanted.strip_size_kb:
        params["strip_size_kb"] = wanted.strip_size_kb
    named = " and ".join(wanted.references)
    actions = [_action(wanted.name, legs, "bdev_raid_create", params, f"create a {wanted.level} of {named}")]
    if instead_of:
        summary = "delete the RAID that waits for legs and never was complete"
        actions.insert(0, _action(wanted.name, legs, "bdev_raid_delete", {"name": wanted.name}, summary))
    members = tuple(Member(leg.name, "", True, leg.size or 0) for leg in legs)
    planned = Raid(wanted.name, None, wanted.level, "online", wanted.superblock, wanted.strip_size_kb, members)

    def predict(world: Graph) -> None:
        world.add_bdev(Bdev(wanted.name, (), None, RAID_PRODUCT, legs[0].block_size, None, False))
        world.put_raid(planned)

    return Change(
        _fields(instead_of, graph) if instead_of else None,
        _fields(planned, graph),
        actions,
        facts=_facts(planned, graph),
        predict=predict,
        unread=(_UNREAD_STALE.format(wanted.good) if wanted.good else _UNREAD) if unread else None,
    )


def _create_from(wanted: _Spec, good: str, legs: list, instead_of: Optional[Raid], graph: Graph) -> Change:
    """Make a mirror of the leg that holds the data and of one that does not.

    SPDK takes a new mirror's legs to be equal. So the mirror is made with a stand-in, which leaves it at once: killed
    anywhere, it never has a leg that is not in sync and passes for one that is.
    """
    source, other = sorted(legs, key=lambda leg: leg.name != good)
    held = graph.superblocks.get(other.name)
    if held:
        raise Refusal(
            f"bdev {other.name} holds the superblock of RAID {held.raid} ({held.uuid}); it is not written over"
        )
    if source.md_size or (other.block_size, other.md_size) != (source.block_size, 0) or other.size < source.size:
        raise Refusal(f"bdev {other.name} cannot be a leg beside {source.name}: it is smaller, or has other blocks")
    if instead_of is None and graph.superblocks.get(source.name):
        raise Refusal(f"bdev {source.name} holds a superblock; attach it again to have SPDK assemble that RAID first")

    def action(method: str, params: dict, summary: str, **more: Any) -> Action:
        return _action(wanted.name, [source, other], method, params, summary, **more)

    name = _stand_in(wanted.name)
    actions = []
    if instead_of:
        params: dict = {"name": wanted.name, **({"clear_sb": True} if instead_of.superblock else {})}
        summary = f"delete the RAID that waits for a leg; {source.name} is the one that holds the data"
        actions.append(action("bdev_raid_delete", params, summary, risk=DESTRUCTIVE))
    if name not in graph.bdevs:
        params = {"name": name, "num_blocks": source.size // source.block_size, "block_size": source.block_size}
        actions.append(action("bdev_null_create", params, "make a stand-in for the other leg"))
    params = {"name": wanted.name, "raid_level": "raid1", "base_bdevs": [source.name, name]}
    if wanted.superblock:
        params["superblock"] = True
    actions += [
        action("bdev_raid_create", params, f"create a raid1 of {source.name} and the stand-in"),
        action("bdev_raid_remove_base_bdev", {"name": name}, "take the stand-in out"),
        action("bdev_null_delete", {"name": name}, "delete the stand-in"),
        action(
            "bdev_raid_add_base_bdev",
            {"raid_bdev": wanted.name, "base_bdev": other.name},
            f"add {other.name} and bring it in sync",
        ),
    ]
    members = tuple(Member(leg.name, leg.uuid or "", True, source.size) for leg in (source, other))
    planned = Raid(wanted.name, None, "raid1", "online", wanted.superblock, 0, members, other.name)

    def predict(world: Graph) -> None:
        if name in world.bdevs:
            world.remove_bdev(name)
        world.add_bdev(Bdev(wanted.name, (), None, RAID_PRODUCT, source.block_size, None, False))
        world.put_raid(planned)

    return Change(
        _fields(instead_of, graph) if instead_of else None,
        _fields(planned, graph),
        actions,
        facts=_facts(planned, graph),
        predict=predict,
        later=f"{other.name} is brought in sync",
    )


def _stand_in(raid: str) -> str:
    return f"{raid}-stand-in"


def _action(raid: str, bdevs: list, method: str, params: dict, summary: str, **more: Any) -> Action:
    return Action(method, params, summary, holds=(("bdev", raid), *(bdev.key for bdev in bdevs)), **more)


def _leg(reference: str, raid: str, graph: Graph, ours: Optional[Raid] = None) -> Bdev:
    """Return a bdev that can become a leg; one that is part of ``ours`` is free."""
    leg = graph.bdev(reference)
    if leg is None:
        raise Missing(
            ("bdev", graph.canonical(reference)),
            f"there is no bdev {reference} on this target; a RAID is made of legs that are all there",
        )
    if leg.name == raid:
        raise Refusal("a RAID cannot be a leg of itself")
    state = graph.unconnected(leg.name)
    if state:
        raise Refusal(f"the controller of bdev {reference} is not connected ({state}); it cannot be a leg before it is")
    user = graph.user(leg.name)
    if user and not (ours and leg.name in ours.present):
        raise Refusal(f"bdev {reference} is {user}; it cannot be a leg of this RAID")
    return leg


def _require_equal(legs: list, wanted: _Spec) -> None:
    aspects = [
        ("blocks", [f"{leg.block_size} B" for leg in legs]),
        ("metadata", [f"{leg.md_size} B" for leg in legs]),
    ]
    if wanted.level == "raid1":
        aspects.append(("size", [format_size(leg.size or 0) for leg in legs]))
    for what, values in aspects:
        if len(set(values)) > 1:
            seen = ", ".join(f"{name} {value}" for name, value in zip(wanted.references, values))
            raise Refusal(f"its legs differ in {what}: {seen}; they have to be equal")


def _require_read(legs: list, graph: Graph) -> None:
    """Refuse legs that may hold a superblock which nobody has seen. At what is no NVMe namespace SPDK looks itself."""
    for leg in legs:
        if leg.product == NVME_PRODUCT and leg.name not in graph.superblocks:
            raise Refusal(
                f"what is on bdev {leg.name} could not be read, and it may be a leg of a RAID already; nothing is made "
                f"of it before that is known, run again"
            )


def _examine(leg: Bdev, held: Superblock, wanted: _Spec, graph: Graph) -> Change:
    """Have SPDK look at legs that know of a RAID; what comes of it is planned when it is there."""
    legs = [bdev for bdev in map(graph.bdev, wanted.references) if bdev]
    unseen = [bdev for bdev in legs if bdev.name not in graph.examined]
    if held.raid != wanted.name or graph.auto_examine or not unseen:
        raise Refusal(
            f"bdev {leg.name} holds the superblock of RAID {held.raid} ({held.uuid}), so that it may be stale, or "
            f"another's; detach its controller and attach it again to have SPDK assemble that RAID, and delete it if "
            f"it is not needed"
        )
    return _examined(unseen, wanted, None, graph)


def _examined(unseen: list, wanted: _Spec, found: Optional[Raid], graph: Graph) -> Change:
    actions = [
        _action(
            wanted.name, [bdev], "bdev_examine", {"name": bdev.name}, f"look for a RAID on {bdev.name}", reveals=True
        )
        for bdev in unseen
    ]
    fields = _fields(found, graph) if found else None

    def predict(world: Graph) -> None:
        world.examined.update((bdev.name, None) for bdev in unseen)

    waits = "what its legs know of a RAID is seen when SPDK looked at them"
    return Change(fields, fields, actions, predict=predict, waits=waits)


def _compare(found: Raid, wanted: _Spec, graph: Graph) -> Change:
    fixed = [
        ("level", found.level, wanted.level),
        ("superblock", found.superblock, wanted.superblock),
        ("strip_size_kb", found.strip_size_kb, wanted.strip_size_kb),
        ("number of legs", len(found.members), len(wanted.legs)),
    ]
    different = [f"{name} is {value}, wanted {other}" for name, value, other in fixed if value != other]
    if different:
        raise Refusal(f"{'; '.join(different)}; SPDK cannot change that: delete the RAID, or ask for what it is")
    if found.state == "configuring":
        return _complete(found, wanted, graph)
    if found.state != "online":
        raise Refusal(f"it is {found.state}: it has {_named(found.present)} and lost the rest; delete it")
    return _tidied(_replace_legs(found, wanted, graph), found, graph)


def _complete(found: Raid, wanted: _Spec, graph: Graph) -> Change:
    """Help a RAID that waits for legs, without giving it one that may be stale."""
    waiting = [leg for leg in wanted.legs if leg not in found.present]
    unseen = [bdev for bdev in map(graph.bdevs.get, waiting) if bdev and bdev.name not in graph.examined]
    if unseen and not graph.auto_examine:
        return _examined(unseen, wanted, found, graph)
    if wanted.source and wanted.source in found.present:
        return _create(wanted, graph, instead_of=found)
    vouched = [leg for leg in found.present if graph.superblocks.get(leg, True)]
    if not found.superblock or not vouched:
        return _create(wanted, graph, instead_of=found)
    there = [leg for leg in waiting if leg in graph.bdevs]
    if there:
        raise Refusal(
            f"it has {_named(found.present)} and waits for another leg; {_named(there)} is there, but does not hold "
            f"the superblock of this RAID, so that nobody knows which of them is stale; name the one that holds the "
            f"data (source)"
        )
    known = [member.uuid for member in found.members if not member.present]
    raise Refusal(
        f"it has {_named(found.present)} and waits for {_named(waiting)} (UUID {_named(known)}), which is not there; "
        f"attach its controller: until then nobody knows which leg is stale; if it is gone for good, name another one "
        f"instead, and the leg that holds the data (source)"
    )


def _named(names: list) -> str:
    return " and ".join(names) or "no leg"


def _replace_legs(found: Raid, wanted: _Spec, graph: Graph) -> Change:
    """Give an online RAID the legs that it lacks, and take away what it should not have, one at a time."""
    before = _fields(found, graph)
    facts = _facts(found, graph)
    missing = [leg for leg in wanted.legs if leg not in found.present]
    wrong = [leg for leg in found.present if leg not in wanted.legs]
    rebuild = f"{found.rebuilding} is brought in sync ({found.percent} %)" if found.rebuilding else ""
    if not missing:
        return Change(before, before, facts=facts, later=rebuild or None)
    if found.level not in _REDUNDANT:
        what = f"its legs are {_named(found.present)}, wanted {_named(wanted.legs)}"
        raise Refusal(f"{what}; a {found.level} has none to spare")
    if rebuild:
        return Change(before, before, facts=facts, later=f"{rebuild}; {_named(missing)} follows when that is done")
    free = len(found.present) < len(found.members)
    legs = [_leg(name, found.name, graph) for name in [n for n in missing if n in graph.bdevs] or missing]
    for each in legs:
        _require_fits(each, found, graph)
    leg = legs[0]
    if leg.size is None:
        waits = f"{leg.name} is attached by this run, and SPDK may know it as a leg"
        return Change(before, before, facts=facts, waits=waits)
    actions = []
    leaves = "" if free else wrong[0]
    if leaves:
        old = graph.bdevs.get(leaves)
        stay = [name for name in found.present if name != leaves]
        lost = [f"{name} ({state})" for name, state in ((name, graph.unconnected(name)) for name in stay) if state]
        if len(lost) == len(stay):
            raise Refusal(f"{leaves} is not wanted and cannot be taken out: the data is also on {_named(lost)} only")
        summary = f"take {leaves} out, which is not wanted; the data stays on {_named(stay)}"
        actions.append(
            _action(
                found.name,
                [bdev for bdev in (old, leg) if bdev],
                "bdev_raid_remove_base_bdev",
                {"name": leaves},
                summary,
                risk=DESTRUCTIVE,
            )
        )
    params = {"raid_bdev": found.name, "base_bdev": leg.name}
    summary = f"add {leg.name} and bring it in sync"
    actions.append(_action(found.name, [leg], "bdev_raid_add_base_bdev", params, summary))
    slots = list(found.members)
    number = next(n for n, slot in enumerate(slots) if (slot.name == leaves if leaves else not slot.present))
    slots[number] = Member(leg.name, leg.uuid or "", True, slots[number].span)
    planned = found._replace(members=tuple(slots), rebuilding=leg.name, percent=0)
    rest = [name for name in missing if name != leg.name]
    later = f"{leg.name} is brought in sync" + (f"; {_named(rest)} follows when that is done" if rest else "")
    after = _fields(planned, graph)
    return Change(before, after, actions, facts=facts, predict=lambda world: world.put_raid(planned), later=later)


def _tidied(change: Change, found: Raid, graph: Graph) -> Change:
    """Delete the stand-in that a run which was broken off left behind."""
    name = _stand_in(found.name)
    leaves = [action for action in change.actions if action.params == {"name": name}]
    if name in graph.bdevs and (leaves or name not in found.present):
        action = _action(
            found.name, [graph.bdevs[name]], "bdev_null_delete", {"name": name}, "delete the stand-in for a leg"
        )
        change.actions.insert(len(leaves), action)
        predict = change.predict

        def without(world: Graph) -> None:
            predict(world)
            world.remove_bdev(name)

        change.predict = without
    return change


def _require_fits(leg: Bdev, found: Raid, graph: Graph) -> None:
    if leg.size is None:
        return
    own = graph.bdevs[found.name]
    span = max(member.span for member in found.members)
    if (leg.block_size, leg.md_size) != (own.block_size, own.md_size):
        raise Refusal(
            f"bdev {leg.name} has blocks of {leg.block_size} B with {leg.md_size} B of metadata, the RAID has "
            f"{own.block_size} B with {own.md_size} B; it cannot be a leg of it"
        )
    if leg.size < span:
        raise Refusal(f"bdev {leg.name} has {format_size(leg.size)}, a leg of this RAID needs {format_size(span)}")
    held = graph.superblocks.get(leg.name)
    if held is None:
        if found.level == "raid1" and leg.size > span:
            raise Refusal(
                f"bdev {leg.name} has {format_size(leg.size)}, the legs of this mirror have {format_size(span)}: what "
                f"is beyond that is not brought in sync, and would show when the mirror grows; use one of the same "
                f"size, and have both legs grow in place afterwards"
            )
        return
    if held.uuid != found.uuid:
        raise Refusal(f"bdev {leg.name} holds the superblock of RAID {held.raid} ({held.uuid}); it is not written over")
    known = [graph.superblocks[name].sequence for name in found.present if graph.superblocks.get(name)]
    if known and held.sequence > max(known):
        raise Refusal(
            f"bdev {leg.name} has seen more of this RAID (superblock {held.sequence}) than {_named(found.present)} "
            f"(superblock {max(known)}), so that the RAID may be on a stale leg; find out which of them holds the data"
        )


def _delete(found: Raid, graph: Graph) -> Change:
    user = graph.user(found.name)
    if user:
        raise Refusal(f"it is {user}; take that away first")
    params: dict = {"name": found.name}
    notes = []
    if found.superblock and not found.in_sync:
        notes.append(
            f"the superblock stays on {_named(found.present)}, because nothing else tells that another leg is stale: "
            f"the RAID comes back where its legs are attached"
        )
    elif found.superblock and not graph.release.knows("bdev_raid_delete", "clear_sb"):
        notes.append(
            f"SPDK {graph.release} leaves the superblock on {_named(found.present)}: the RAID comes back where its "
            f"legs are attached"
        )
    elif found.superblock:
        params["clear_sb"] = True
    bdevs = [bdev for bdev in map(graph.bdevs.get, found.present) if bdev]
    risk = DISRUPTIVE if found.level == "raid1" else DESTRUCTIVE
    summary = f"delete the {found.level} of {_named(found.present)}"
    action = _action(found.name, bdevs, "bdev_raid_delete", params, summary, risk=risk)

    def predict(world: Graph) -> None:
        world.remove_raid(found.name)
        if found.name in world.bdevs:
            world.remove_bdev(found.name)

    return Change(_fields(found, graph), None, [action], facts=_facts(found, graph), notes=notes, predict=predict)
