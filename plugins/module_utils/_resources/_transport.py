# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVMe-oF transports of the target. Private to the collection."""

from __future__ import annotations

from .. import _naming
from .._errors import Refusal
from .._graph import Graph, Transport
from .._plan import Action, Change

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


class TransportResource:
    """A transport is created once: it can neither be changed nor deleted (contract section 6)."""

    kind = "transport"
    plural = "transports"
    rank = 1
    options = {
        "trtype": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        **{name: {"type": kind} for name, kind in TUNABLE.items()},
    }

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
        wanted = {name: options[name] for name in TUNABLE if options.get(name) is not None}
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
