# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action of the module node_lease."""

from __future__ import annotations

import getpass
import os
import socket

from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import (
    DatabaseError,
    connected,
    read_leases,
    release_leases,
    renew_leases,
    take_leases,
)
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_action import DatabaseAction


class ActionModule(DatabaseAction):
    """Takes, renews or releases the leases of nodes, all of them in one statement."""

    SPEC = {
        "nodes": {"type": "list", "elements": "str", "required": True},
        "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
        "lease": {"type": "int"},
        "force": {"type": "bool", "default": False},
        "duration": {"type": "int", "default": 900},
        "wait": {"type": "float", "default": 0.0},
        "partial": {"type": "bool", "default": False},
        "holder": {"type": "str"},
    }

    def perform(self, options, connection):
        """Returns the token, the nodes that are held or were released, and why others are not."""
        hold, lease = options["state"] == "held", options["lease"]
        force = options["force"] and not hold
        if not (hold or lease or force):
            raise DatabaseError("Name the lease that is to be released, or say with force that it may be anybody's.")
        with connected(**connection) as conn:
            leases = self._leases(conn, options, hold, None if force else lease)
        held = [name for name, row in leases.items() if row["held"]]
        missed = {name: told(name, row) for name, row in leases.items() if not (row["held"] or force)}
        result = {
            "changed": force and bool(held),
            "lease": leases[held[0]]["token"] if held and hold else None,
            "held": held,
            "missed": missed,
        }
        if self._task.diff and result["changed"]:
            result["diff"] = {"before": {name: leases[name]["holder"] for name in held}, "after": {}}
        if self._task.check_mode:
            result["missed"] = {}
            result["warnings"] = [f"{cause}; it may change what this preview shows" for cause in missed.values()]
        elif not hold:
            result["warnings"] = [f"This run had lost its lease: {cause}" for cause in missed.values()]
        elif hold and missed and not options["partial"]:
            result.update(failed=True, msg="; ".join(missed.values()))
        return result

    def _leases(self, conn, options, hold, lease):
        """The leases after one statement, or in check mode those that would be ended, or that others have now."""
        nodes = options["nodes"]
        if self._task.check_mode:
            rows = read_leases(conn, nodes) if hold or lease is None else []
            return {row["node"]: {**row, "held": not hold} for row in rows if not (hold and row["expired"])}
        if not hold:
            return release_leases(conn, nodes, lease)
        if lease:
            return renew_leases(conn, nodes, lease)
        holder = options["holder"] or describe_run(self._templar.available_variables)
        return take_leases(conn, nodes, holder, options["duration"], options["wait"], options["partial"])


def told(name, row):
    """A sentence on the lease of a node that is not ours."""
    if row["holder"] is None:
        return f"{name} is held by nobody"
    return f"{name} is held by {row['holder']} since {row['taken_at']}, until {row['expires_at']} at the latest"


def describe_run(variables):
    """Who a run is, for people: the job of AWX, as its variables tell, or the user, host and process."""
    if "awx_job_id" in variables:
        by = variables.get("awx_user_name") or variables.get("awx_schedule_name") or "nobody in particular"
        return f"AWX job {variables['awx_job_id']} ({variables.get('awx_job_template_name', 'no template')}) of {by}"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that has no name
        user = f"user {os.getuid()}"
    return f"{user} on {socket.gethostname()}, process {os.getppid()}"
