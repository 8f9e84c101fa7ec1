# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVMe-oF transports of the target. Private to the collection."""

from __future__ import annotations

from .. import _naming, _options
from .._errors import Refusal
from .._graph import Graph, Transport
from .._plan import Action, Change


class TransportResource:
    """A transport is created once: it can neither be changed nor deleted (contract section 6)."""

    kind = "transport"
    plural = "transports"
    rank = 1
    options = _options.TRANSPORT

    @staticmethod
    def identity(options: dict) -> dict:
        """Return what names the object in results."""
        return {"trtype": options["trtype"].upper()}

    @staticmethod
    def title(options: dict, graph: Graph) -> str:
        """Return the object's name for messages."""
        return options["trtype"].upper()

    @staticmethod
    def keys(options: dict, graph: Graph) -> list:
        """Return the keys under which others rely on this object; one that is there serves them as it is."""
        trtype = options["trtype"].upper()
        return [] if trtype in graph.transports else [("transport", trtype)]

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        trtype = _naming.trtype(options["trtype"])
        found = graph.transports.get(trtype)
        if options["state"] == "absent":
            if found:
                raise Refusal(f"SPDK cannot delete a transport; restart the target without {trtype} to be rid of it")
            return Change(None, None)
        method = "nvmf_create_transport"
        wanted = {name: options[name] for name in _options.TUNABLE if options.get(name) is not None}
        idle = [name for name in wanted if not graph.release.has_effect(method, name)]
        notes = [f"{name} has no effect in SPDK {graph.release} and is not sent" for name in idle]
        wanted = {name: value for name, value in wanted.items() if name not in idle}
        after = {"trtype": trtype, **wanted}
        if found is None:
            action = Action(method, after, f"create the {trtype} transport", holds=(("transport", trtype),))
            return Change(
                None,
                after,
                [action],
                notes=notes,
                predict=lambda world: world.transports.__setitem__(trtype, Transport(trtype, dict(after))),
            )
        before = {"trtype": trtype, **{name: found.options.get(name, wanted[name]) for name in wanted}}
        different = [
            f"{name} is {before[name]}, wanted {wanted[name]}" for name in wanted if before[name] != wanted[name]
        ]
        if different:
            raise Refusal(
                f"{'; '.join(different)}; SPDK cannot change a transport that exists: restart the target, or ask for "
                f"what it has"
            )
        return Change(before, before)
