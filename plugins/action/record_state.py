# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action of the module record_state."""

from __future__ import annotations

from uuid import uuid4

from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import RECORDED_KINDS, connected, record
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_action import DatabaseAction, failure_message

# The field that a row needs to be UP, which only a real run can know.
IDENTITIES = {"disk": "lvstore_uuid", "lvol": "uuid", "snapshot": "uuid"}
UNKNOWN_YET = "(known after the run)"


class ActionModule(DatabaseAction):
    """Writes results back, each a compare-and-set."""

    SPEC = {
        "lease": {"type": "int"},
        "rows": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "kind": {"type": "str", "choices": RECORDED_KINDS, "required": True},
                "node": {"type": "str"},
                "id": {"type": "int", "required": True},
                "from": {"type": "str", "required": True},
                "to": {"type": "str", "required": True},
                "revision": {"type": "int"},
                "uuid": {"type": "str"},
                "nqn": {"type": "str"},
                "zeroed_bytes": {"type": "int"},
                "membership": {"type": "str", "choices": ["NONE", "CONNECTED", "JOINING", "IN_SYNC"]},
                "initialised_bytes": {"type": "int"},
                "bdf": {"type": "str"},
                "model": {"type": "str"},
                "lvstore_name": {"type": "str"},
                "lvstore_uuid": {"type": "str"},
                "total_bytes": {"type": "int"},
                "free_bytes": {"type": "int"},
                "cluster_size": {"type": "int"},
                "health": {"type": "str"},
            },
        },
    }

    def perform(self, options, connection):
        """Records the rows, a transaction for each kind, then fails if any of them was not recorded."""
        check = self._task.check_mode
        rows = [{key: value for key, value in row.items() if value is not None} for row in options["rows"]]
        if not rows:
            return {"changed": False, "results": [], "failures": {}}
        assumed = _assume_identities(rows) if check else set()
        kinds = [row.pop("kind") for row in rows]
        nodes = [row.pop("node", None) for row in rows]
        if options["lease"]:
            if not all(nodes):
                return {"failed": True, "msg": "A lease is of a node: each of the rows needs its node."}
            for row, node in zip(rows, nodes):
                row.update(lease=options["lease"], lease_node=node)
        outcomes = {}
        with connected(**connection) as conn:
            for kind in RECORDED_KINDS:
                outcomes[kind] = iter(record(conn, kind, [row for row, of in zip(rows, kinds) if of == kind], check))
        results = [{"kind": kind, **next(outcomes[kind])} for kind in kinds]
        for row in results:
            row["after"] = _hide(row["after"], assumed)
        changed = [row for row in results if row["outcome"] == "changed"]
        result = {"changed": bool(changed), "results": results}
        if self._task.diff and changed:
            result["diff"] = _diff(changed)
        for row in results:
            del row["before"], row["after"]
        result["failures"] = _failures(results, nodes)
        message = failure_message(results)
        return {**result, "failed": True, "msg": message} if message else result


def _diff(changed):
    """What objects were before their first change and after their last."""
    before: dict = {}
    after: dict = {}
    for row in changed:
        name = f"{row['kind']} {row['id']}"
        before[name] = {**row["before"], **before.get(name, {})}
        after[name] = {**after.get(name, {}), **row["after"]}
    return {"before": before, "after": after}


def _failures(results, nodes):
    """Why rows of a node were not recorded, one sentence for each node of which there are such."""
    of_node: dict = {}
    for result, node in zip(results, nodes):
        of_node.setdefault(node, []).append(result)
    messages = {node: failure_message(rows) for node, rows in of_node.items() if node}
    return {node: message for node, message in messages.items() if message}


def _assume_identities(rows):
    """Gives rows that become UP a UUID where a check run knows none. Returns the UUIDs that it made up."""
    assumed = set()
    for row in rows:
        field = IDENTITIES.get(row["kind"])
        if field and field not in row and row["from"] in ("CREATING", "NEW") and row["to"] in ("UP", "READY"):
            row[field] = str(uuid4())
            assumed.add(row[field])
    return assumed


def _hide(fields, assumed):
    return fields and {
        key: UNKNOWN_YET if isinstance(value, str) and value in assumed else value for key, value in fields.items()
    }
