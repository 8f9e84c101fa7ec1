# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds what a module returned to what its RETURN says."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import yaml

MODULES = Path(__file__).resolve().parents[2] / "plugins" / "modules"

# What Ansible adds to every result.
EVERYWHERE = {
    "failed_when_result",
    "changed",
    "failed",
    "msg",
    "exception",
    "invocation",
    "diff",
    "warnings",
    "deprecations",
}


@functools.cache
def returned(module):
    """The RETURN documentation of a module."""
    for node in ast.parse((MODULES / f"{module}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "RETURN":
            return yaml.safe_load(ast.literal_eval(node.value))
    raise AssertionError(f"{module} documents no results")


def own_keys(module, result):
    """A result without what Ansible adds and the module does not document."""
    return {
        key: value
        for key, value in result.items()
        if not key.startswith("_ansible") and (key not in EVERYWHERE or key in returned(module))
    }


def differences(documented, value, failed, check, where):
    """Keys that are there and not documented, and the other way round."""
    found = [f"{where}: {key} is not documented" for key in value.keys() - documented.keys()]
    for key, entry in documented.items():
        when = entry.get("returned", "")
        promised = when.startswith("always") or (when == "success" and not failed) or (check and "check mode" in when)
        if "came as a document" in when:
            promised = ("results_document" in value) == (key == "results_document")
        if key not in value:
            found += [f"{where}: {key} is missing"] if promised else []
            continue
        if "check mode" in when and not check:
            found.append(f"{where}: {key} is there outside check mode")
        for item in value[key] if isinstance(value[key], list) else [value[key]]:
            if "contains" in entry and item is not None:
                found += differences(entry["contains"], item, failed, check, f"{where}.{key}")
    return found
