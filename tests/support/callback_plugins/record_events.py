# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes every task result as a line of JSON to the file that DISKENGINE_TEST_EVENTS names."""

from __future__ import annotations

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: record_events
type: notification
short_description: Write task results to a file
description: Writes every task result as a line of JSON, for tests.
"""


class CallbackModule(CallbackBase):
    """One line per event: {event, host, task, action, result}."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "record_events"
    CALLBACK_NEEDS_ENABLED = True

    def _write(self, event, result):
        line = {
            "event": event,
            "host": result._host.get_name(),
            "task": result._task.get_name(),
            "action": result._task.action,
            "result": result._result,
        }
        with open(os.environ["DISKENGINE_TEST_EVENTS"], "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result):
        self._write("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._write("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_skipped(self, result):
        self._write("skipped", result)

    def v2_runner_on_unreachable(self, result):
        self._write("unreachable", result)
