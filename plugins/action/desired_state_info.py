# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action of the module desired_state_info."""

from __future__ import annotations

import json

from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import KINDS, connected, read_desired
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_action import DatabaseAction


class ActionModule(DatabaseAction):
    """Reads what should exist."""

    SPEC = {
        "nodes": {"type": "list", "elements": "str"},
        "kinds": {"type": "list", "elements": "str", "choices": list(KINDS), "default": list(KINDS)},
        "documents": {"type": "bool", "default": False},
    }

    def perform(self, options, connection):
        """Returns the desired rows split by node."""
        with connected(**connection) as conn:
            nodes = read_desired(conn, options["nodes"], options["kinds"])
        if options["documents"]:
            return {"changed": False, "documents": {name: json.dumps(rows) for name, rows in nodes.items()}}
        return {"changed": False, "nodes": nodes}
