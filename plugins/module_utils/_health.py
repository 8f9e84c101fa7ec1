# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health of everything on a target, read in one round trip and one more for the logs of local drives. Private."""

from __future__ import annotations

from ._drive_health import describe_drive
from ._graph import read_graph
from ._rpc import Call, Client
from ._serving_health import describe_raid, describe_remote, describe_vhost


def read_health(client: Client, thresholds: dict) -> dict:
    """Return ``controllers``, ``raids`` and ``vhosts`` of a target, each an entry with its health and reasons.

    A drive that does not answer, or not in time, is unknown and keeps none of the others from being read. What is
    attached over a fabric is not asked for its log: the answer would wait for a node that may hang.
    Raises Unreachable, RpcError, UnknownOutcome.
    """
    graph = read_graph(client, ("controllers", "raids", "vhost"))
    asked = {
        name: Call("bdev_nvme_get_controller_health_info", {"name": name}, f"controller {name}")
        for name, controller in graph.controllers.items()
        if not controller.paths and controller.state == "enabled"
    }
    replies = dict(zip(asked, client.ask(list(asked.values()))))
    return {
        "controllers": [
            describe_remote(each) if each.paths else describe_drive(each, replies.get(name), thresholds)
            for name, each in graph.controllers.items()
        ],
        "raids": [describe_raid(raid, graph) for raid in graph.raids.values()],
        "vhosts": [describe_vhost(each) for each in graph.vhosts.values()],
    }
