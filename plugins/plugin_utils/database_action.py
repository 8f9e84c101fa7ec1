# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plugins that talk to the database share."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import DatabaseError

CONNECTION_SPEC = {
    "dsn": {"type": "str", "no_log": True},
    "password": {"type": "str", "no_log": True},
    "connect_timeout": {"type": "int", "default": 10},
    "statement_timeout": {"type": "int", "default": 60},
}


class DatabaseAction(ActionBase):
    """An action on the controller: validated options, one result, every expected failure one sentence."""

    _supports_check_mode = True
    _requires_connection = False
    SPEC: dict = {}
    RULES: dict = {}

    def run(self, tmp=None, task_vars=None):
        """Runs perform() and turns a DatabaseError into a failed result."""
        del tmp
        super().run(None, task_vars)
        validated, dummy = self.validate_argument_spec(argument_spec={**CONNECTION_SPEC, **self.SPEC}, **self.RULES)
        options = validated.validated_parameters
        connection = {name: options[name] for name in CONNECTION_SPEC}
        try:
            return self.perform(options, connection)
        except DatabaseError as error:
            return {"changed": False, "failed": True, "msg": str(error)}

    def perform(self, options, connection):
        """The work itself: takes the options and those of them that connected() takes, returns the result."""
        raise NotImplementedError


def one_or_many(options, plural):
    """The spec of an action that takes one object by plain options, or a list of them under the plural name."""
    plain = {name: {key: value for key, value in spec.items() if key != "required"} for name, spec in options.items()}
    return {**plain, plural: {"type": "list", "elements": "dict", "options": options}}


def one_or_many_rules(options, plural):
    """The rules that go with one_or_many()."""
    required = [name for name, spec in options.items() if spec.get("required")]
    return {
        "mutually_exclusive": [[name, plural] for name in required],
        "required_one_of": [[required[0], plural]],
        "required_together": [required],
    }


def objects(options, names, plural):
    """The objects that were given in either way."""
    return [{name: options[name] for name in names}] if options[plural] is None else options[plural]


def reported(kind, names, rows, with_diff):
    """The result of an action from what became of its objects: rows with outcome, reason, before and after, by name.

    It fails if one of them was refused. before and after make the diff, and do not stay in the results.
    """
    changed = [(name, row) for name, row in zip(names, rows) if row["outcome"] == "changed"]
    result = {
        "changed": bool(changed),
        "results": [{key: row[key] for key in row if key not in ("before", "after")} for row in rows],
    }
    if with_diff and changed:
        result["diff"] = {side: {f"{kind} {name}": row[side] for name, row in changed} for side in ("before", "after")}
    message = failure_message([{**row, "kind": kind, "id": name} for name, row in zip(names, rows)])
    return {**result, "failed": True, "msg": message} if message else result


def failure_message(results):
    """One sentence that names, by kind and id, the rows that were not recorded, and why; None when there are none."""
    causes: dict[tuple[str, str], list[str]] = {}
    for row in results:
        if row["outcome"] not in ("changed", "unchanged"):
            causes.setdefault((row["kind"], f"{row['outcome']}, {row['reason']}"), []).append(str(row["id"]))
    if not causes:
        return None
    count = sum(len(ids) for ids in causes.values())
    listed = "; ".join(f"{kind} {', '.join(ids)}: {cause}" for (kind, cause), ids in causes.items())
    return f"{count} of {len(results)} rows were not recorded: {listed}."
