# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rate limits of bdevs. Private to the collection."""

from __future__ import annotations

from typing import Any

from .. import _options
from .._errors import Refusal
from .._graph import RATES, Graph
from .._plan import Action, Change, Missing
from .._rpc import Call
from .._sizes import divide_up

_IOPS_STEP = 1000
_MOST_MBYTES = 2**44 - 1  # SPDK counts bytes in 64 bits


class QosResource:
    """Limits are changed while the bdev is used; one that has limits and that nobody uses keeps them until then."""

    kind = "qos"
    plural = "qos"
    rank = 7
    options = _options.QOS

    @staticmethod
    def identity(options: dict) -> dict:
        """Return what names the object in results."""
        return {"bdev": options["bdev"]}

    @staticmethod
    def title(options: dict, graph: Graph) -> str:
        """Return the object's name for messages."""
        return graph.canonical(options["bdev"])

    @staticmethod
    def keys(options: dict, graph: Graph) -> list:
        """Return the keys under which others rely on this object: nobody does."""
        return []

    @staticmethod
    def look(client: Any, given: list, graph: Graph) -> None:
        """Find out which of the bdevs whose limits would change have no I/O channel."""
        bdevs = [bdev.name for bdev in (graph.bdev(o["bdev"]) for o in given) if bdev and bdev.name in graph.limits]
        names = graph.release.knows("bdev_get_iostat", "names")
        calls = [
            Call("bdev_get_iostat", {**({"names": [name]} if names else {"name": name}), "per_channel": True}, name)
            for name in bdevs
        ]
        for name, reply in zip(bdevs, client.ask(calls)):
            if reply.error is None and not reply.result["channels"]:
                graph.idle[name] = None

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        bdev = graph.bdev(options["bdev"])
        if bdev is None:
            raise Missing(
                ("bdev", graph.canonical(options["bdev"])), f"there is no bdev {options['bdev']} on this target"
            )
        notes: list[str] = []
        wanted = {rate: _rounded(rate, options[rate], notes) for rate in RATES if options[rate] is not None}
        if not wanted:
            raise Refusal(f"no limit is given; name at least one of {', '.join(RATES)} (0: no limit)")
        before = graph.limits.get(bdev.name, dict.fromkeys(RATES, 0))
        after = {**before, **wanted}
        different = {rate: value for rate, value in wanted.items() if before[rate] != value}
        if not different:
            return Change(before, after, notes=notes)
        if bdev.name in graph.idle and bdev.name in graph.limits:
            later = (
                "it has limits and nobody uses it, and SPDK refuses to change limits then; the new ones are set by a "
                "run that finds it in use"
            )
            return Change(before, before, notes=notes, later=later)
        said = ", ".join(f"{rate} {value or 'unlimited'}" for rate, value in different.items())
        action = Action(
            "bdev_set_qos_limit", {"name": bdev.name, **different}, f"set the limits {said}", holds=(bdev.key,)
        )

        def predict(world: Graph) -> None:
            world.limits.pop(bdev.name, None)
            if any(after.values()):
                world.limits[bdev.name] = after

        return Change(before, after, [action], notes=notes, predict=predict)


def _rounded(rate: str, value: int, notes: list) -> int:
    if value < 0:
        raise Refusal(f"{rate} {value} is below 0; 0 means no limit")
    if rate != "rw_ios_per_sec":
        if value > _MOST_MBYTES:
            raise Refusal(f"{rate} {value} is more than SPDK can count; 0 means no limit")
        return value
    rounded = divide_up(value, _IOPS_STEP) * _IOPS_STEP
    if rounded != value:
        notes.append(f"{rate} {value} was rounded up to {rounded}, a multiple of {_IOPS_STEP}")
    return rounded
