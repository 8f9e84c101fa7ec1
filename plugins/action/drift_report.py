# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action of the module drift_report."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from ansible_collections.excloud.diskengine.plugins.module_utils._files import place
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import (
    DatabaseError,
    connected,
    read_desired,
)
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_action import DatabaseAction
from ansible_collections.excloud.diskengine.plugins.plugin_utils.drift_formats import as_json, as_markdown, as_page
from ansible_collections.excloud.diskengine.plugins.plugin_utils.drift_report import drift_report

FORMS = {".md": as_markdown, ".html": as_page}
TOLD = ("clean", "compared", "counts", "states", "nodes", "not_compared", "left_out", "summary")


class ActionModule(DatabaseAction):
    """Joins the rows with what was found, and writes the report."""

    SPEC = {
        "found": {"type": "dict", "required": True},
        "paths": {"type": "list", "elements": "str", "default": []},
    }

    def perform(self, options, connection):
        """Writes each file and returns what fits into the output; what was found is never lost with the database."""
        problems = []
        try:
            with connected(**connection) as conn:
                estate = read_desired(conn)
        except DatabaseError as error:
            estate = {}
            problems.append(f"The report has no picture of the estate. {error}")
        report = drift_report(options["found"], estate, datetime.now(timezone.utc).isoformat(timespec="seconds"))
        for path in options["paths"]:
            form = FORMS.get(os.path.splitext(path)[1], as_json)
            try:
                place(os.path.abspath(os.path.expanduser(path)), form(report).encode(), 0o640)
            except OSError as error:
                problems.append(f"The report cannot be written to {path}: {error.strerror}.")
        result = {"changed": False, **{key: report[key] for key in TOLD}, "markdown": as_markdown(report)}
        return {**result, "failed": True, "msg": " ".join(problems)} if problems else result
