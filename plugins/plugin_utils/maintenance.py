# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes a maintenance takes out of service together, in what order, and when that takes no data away. Pure."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.module_utils._naming import controller_of
from ansible_collections.excloud.diskengine.plugins.plugin_utils.compute_node import raid_name
from ansible_collections.excloud.diskengine.plugins.plugin_utils.documents import parsed


def maintenance_batches(documents, names, maintenance, by="node"):
    """Return ``{batches, left_out}``: lists of nodes in the order to take them, and the others, each with why.

    ``names`` are the nodes that may be taken; ``by`` is C(node) or C(failure_domain), of which all nodes are taken
    together. One that is in this ``maintenance`` already, because it was broken off, comes first. One that went through
    it is left out, and so is one that somebody else has cordoned.
    """
    rows = {name: parsed(documents[name])["node"] for name in sorted(names)}
    left_out: dict = {}
    batches: dict = {}
    for name, node in rows.items():
        if node["maintained"] == maintenance:
            left_out[name] = "it went through this maintenance"
        elif node["state"] == "cordoned" and node["maintaining"] != maintenance:
            left_out[name] = "it was cordoned before; maintain it by hand, or uncordon it"
        else:
            domain = node["failure_domain"] if by == "failure_domain" else None
            batches.setdefault(f"domain {domain}" if domain else f"node {name}", []).append(name)
    begun = [names for names in batches.values() if any(rows[name]["maintaining"] for name in names)]
    rest = [names for names in batches.values() if names not in begun]
    return {"batches": begun + rest, "left_out": left_out}


def maintenance_batch(documents, names):
    """Return ``{mirrors, refused}`` for nodes that are to be taken out of service together, or are already.

    ``mirrors`` gives each compute node that stays its mirrors with a leg on one of the others, by name: the bdevs that
    ``stay`` as legs, and whether the mirror is ``served``, so that it has to be there. A leg on a node that is in
    another maintenance does not stay. ``refused`` are sentences on volumes that nothing would be left of.
    """
    mirrors: dict = {}
    refused = []
    estate = {name: parsed(documents[name]) for name in sorted(documents)}
    away = {name: rows["node"]["maintaining"] for name, rows in estate.items()} | dict.fromkeys(names, "this one")
    for name, rows in estate.items():
        if name in names:
            continue
        states: dict = {}
        for mapping in rows["mappings"]:
            states.setdefault(mapping["volume_id"], set()).add(mapping["state"])
        for volume in rows["volumes"]:
            legs = [leg for leg in volume["legs"] if leg["nqn"]]
            if not states.get(volume["id"], set()) - {"DETACHED"} or not any(leg["node"] in names for leg in legs):
                continue
            stay = [f"{controller_of(leg['nqn'])}n1" for leg in legs if not away.get(leg["node"])]
            if not stay:
                elsewhere = sorted({leg["node"] for leg in legs} - set(names))
                but = "".join(f", but on {each}, which is in maintenance {away[each]}" for each in elsewhere)
                refused.append(f"volume {volume['id']}, which {name} uses, has no leg elsewhere{but}")
            mirrors.setdefault(name, {})[raid_name(volume["id"])] = {
                "stay": stay,
                "served": bool(states[volume["id"]] & {"INITIALISED", "ATTACHED"}),
            }
    return {"mirrors": mirrors, "refused": refused}


def maintenance_obstacles(found, mirrors, stage="leave"):
    """Return sentences on why a compute node is not ready for others to leave, has not settled, or is not whole again.

    ``found`` is what M(spdk_info) returned for it, ``mirrors`` what `maintenance_batch` says of it. A leg whose
    controller is not connected is in nobody's sync, though SPDK takes it out of its mirror only after a while; once it
    was taken out, or is connected again, the node has ``settled``.
    """
    raids = {raid["name"]: raid for raid in found["raids"]}
    states = {f"{each['name']}n1": [path["state"] for path in each["paths"]] for each in found["controllers"]}
    lost = {bdev for bdev, paths in states.items() if "enabled" not in paths}
    sentences = []
    for name, wanted in sorted(mirrors.items()):
        raid = raids.get(name)
        if raid is None:
            if wanted["served"]:
                sentences.append(f"mirror {name} is not there")
            continue
        present = [member["name"] for member in raid["members"] if member["present"]]
        synced = [member for member in present if member != raid["rebuilding"] and member not in lost]
        legs = len(raid["members"])
        if stage == "settled":
            sentences += [f"mirror {name} still has {leg}, which is not connected" for leg in present if leg in lost]
        elif raid["state"] != "online":
            sentences.append(f"mirror {name} is {raid['state']}")
        elif stage == "whole" and len(synced) < legs:
            progress = f", {raid['percent']} % of {raid['rebuilding']}" if raid["rebuilding"] else ""
            sentences.append(f"mirror {name} has {len(synced)} of {legs} legs in sync{progress}")
        elif stage == "leave" and not set(synced) & set(wanted["stay"]):
            sentences.append(f"mirror {name} has no leg in sync that stays")
    return sentences


def maintenance_sessions(found):
    """Return sentences on the VMs that are connected to a compute node, whose disks would go with it.

    ``found`` is what M(spdk_info) returned for it.
    """
    return [
        f"a VM is connected to {vhost['controller']} ({vhost['bdev']})" for vhost in found["vhost"] if vhost["sessions"]
    ]
