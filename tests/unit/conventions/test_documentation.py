# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for the documentation of modules that no tool knows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.excloud.diskengine.tests.unit.conventions.collection import (
    MODULES,
    ROOT,
    action_groups,
    documented,
    fragments_of,
    module_doc,
    raw_documentation,
    stem,
)

STATES = {
    *("present", "absent", "started", "stopped", "attached", "detached", "bound", "released", "up", "down"),
    *("saved", "restored", "drained", "retired", "held"),
}

# Connects as the owner of the schema, so what a group sets for the role of convergence must not reach it.
NOT_IN_GROUP = {"database_schema"}


def options_of(options: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, option in options.items():
        yield name, option
        yield from options_of(option.get("suboptions", {}))


@pytest.mark.parametrize("group", sorted(action_groups()))
def test_action_group(group: str) -> None:
    """A group lists exactly the modules that take its connection options, and these say so in an attribute."""
    members = set(action_groups()[group])
    missing = members - {path.stem for path in MODULES}
    assert not missing, f"group {group} names what is no module: {sorted(missing)}"
    extending = {path.stem for path in MODULES if group in fragments_of(path)} - NOT_IN_GROUP
    assert extending == members, f"group {group} and fragment {group} differ in {sorted(extending ^ members)}"
    telling = {path.stem for path in MODULES if f"attributes.actiongroup_{group}" in fragments_of(path)}
    assert telling == members, f"group {group} and its attribute differ in {sorted(telling ^ members)}"


@pytest.mark.parametrize("module", MODULES, ids=stem)
def test_attributes(module: Path) -> None:
    doc = module_doc(module)["doc"]
    attributes = doc.get("attributes", {})
    for name in ("check_mode", "diff_mode", "idempotent", "platform"):
        assert "support" in attributes.get(name, {}), f"attribute {name} is not documented"
        if attributes[name]["support"] == "partial":
            assert attributes[name].get("details"), f"attribute {name} is partial and does not say why"
    if "state" in doc.get("options", {}):
        weak = [name for name in ("check_mode", "diff_mode", "idempotent") if attributes[name]["support"] != "full"]
        assert not weak, f"a module with a state promises {weak} in full"
    if module.stem.endswith("_info"):
        assert attributes["check_mode"]["support"] == "full"
        assert "ansible_facts" not in (module_doc(module)["return"] or {})


@pytest.mark.parametrize("module", MODULES, ids=stem)
def test_states_are_declarative(module: Path) -> None:
    for name, option in options_of(module_doc(module)["doc"].get("options", {})):
        assert name not in ("action", "command"), f"option {name} commands instead of declaring"
        if name == "state":
            assert set(option["choices"]) <= STATES, f"unusual states {sorted(set(option['choices']) - STATES)}"


@pytest.mark.parametrize("module", MODULES, ids=stem)
def test_connection_options_are_in_fragments_only(module: Path) -> None:
    shared = {
        option for group in action_groups() for option in fragment_options(ROOT / f"plugins/doc_fragments/{group}.py")
    }
    own = set(raw_documentation(module).get("options", {}))
    assert not own & shared, f"documented in the module and in a fragment: {sorted(own & shared)}"


def fragment_options(path: Path) -> set[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "DOCUMENTATION":
            return set(yaml.safe_load(ast.literal_eval(node.value)).get("options", {}))
    return set()


def test_short_descriptions() -> None:
    for kind, plugins in documented().items():
        for name, plugin in plugins.items():
            places = plugin["entry_points"].values() if kind == "role" else [plugin["doc"]]
            for doc in places:
                text = doc["short_description"]
                assert text and text[0].isupper() and not text.endswith("."), f"{kind} {name}: {text!r}"
