# SPDX-License-Identifier: GPL-3.0-or-later
"""The actions on the database take the options that their modules document, and speak in sentences."""

from __future__ import annotations

import importlib

import pytest
import yaml
from ansible_collections.excloud.diskengine.plugins.doc_fragments.database import ModuleDocFragment
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_action import CONNECTION_SPEC, failure_message

PLUGINS = "ansible_collections.excloud.diskengine.plugins"
ASPECTS = ("type", "elements", "choices", "required", "default")


def as_specified(options):
    return {
        name: {
            **{aspect: option[aspect] for aspect in ASPECTS if option.get(aspect)},
            "options": as_specified(option.get("options") or option.get("suboptions") or {}),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize(
    "name",
    [
        *("database_schema", "desired_state_info", "disk", "node", "node_lease", "record_state", "register_disks"),
        *("volume", "volume_mapping"),
    ],
)
def test_spec_is_what_is_documented(name):
    action = importlib.import_module(f"{PLUGINS}.action.{name}").ActionModule
    documented = yaml.safe_load(importlib.import_module(f"{PLUGINS}.modules.{name}").DOCUMENTATION)["options"]
    assert as_specified(action.SPEC) == as_specified(documented)


def test_connection_options_are_what_is_documented():
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert as_specified(CONNECTION_SPEC) == as_specified(documented)


def outcome(number, what, reason=None, kind="lvol"):
    return {"kind": kind, "id": number, "outcome": what, "reason": reason}


def test_no_failure_no_message():
    assert failure_message([outcome(1, "changed"), outcome(2, "unchanged")]) is None


def test_failures_are_grouped_by_reason():
    results = [
        outcome(1, "changed"),
        outcome(2, "stale", "is UP"),
        outcome(3, "missing", "no such row"),
        outcome(4, "stale", "is UP"),
        outcome(4, "stale", "is UP", "disk"),
    ]
    assert failure_message(results) == (
        "4 of 5 rows were not recorded: lvol 2, 4: stale, is UP; lvol 3: missing, no such row; disk 4: stale, is UP."
    )
