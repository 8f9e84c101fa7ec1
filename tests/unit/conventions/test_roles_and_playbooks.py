# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for roles and playbooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.excloud.diskengine.tests.unit.conventions.collection import (
    NAME,
    PLAYBOOKS,
    ROLES,
    ROOT,
    load,
    module_doc,
    stem,
    tasks_of,
)

LOOPED = (f"{NAME}.hugepages",)  # a machine has two or three sizes of pages


def plays(path: Path) -> list[dict[str, Any]]:
    return [play for play in load(path) if "hosts" in play]


@pytest.mark.parametrize("role", ROLES, ids=stem)
def test_argument_specs(role: Path) -> None:
    """Any other name of the file is ignored by Ansible without a word."""
    assert not [path.name for path in (role / "meta").glob("argument_spec*") if path.name != "argument_specs.yml"]
    specs = load(role / "meta/argument_specs.yml")["argument_specs"]
    entries = {path.stem for path in (role / "tasks").glob("*.yml")}
    assert "main" in specs and set(specs) <= entries, f"entry points {sorted(specs)}, files {sorted(entries)}"
    documented = {}
    for entry, spec in specs.items():
        for name, option in spec.get("options", {}).items():
            assert name.startswith(f"{role.name}_"), f"{entry}: {name} lacks the role's prefix"
            if "default" in option:
                documented[name] = option["default"]
    defaults = load(role / "defaults/main.yml") or {}
    assert documented == defaults


@pytest.mark.parametrize("role", ROLES, ids=stem)
def test_role_is_complete(role: Path) -> None:
    for name in ("README.md", "meta/main.yml", "tasks/main.yml"):
        assert (role / name).is_file(), f"{name} is missing"


TASK_FILES = [path for role in ROLES for part in ("tasks", "handlers") for path in sorted((role / part).rglob("*.yml"))]


@pytest.mark.parametrize("path", TASK_FILES + PLAYBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_loop_over_our_modules(path: Path) -> None:
    """One task takes a list. A loop starts the module once for each object."""
    for task in tasks_of(load(path)):
        loops = "loop" in task or any(key.startswith("with_") for key in task)
        ours = [key for key in task if key.startswith(f"{NAME}.") and key not in LOOPED]
        assert not (loops and ours), f"{task.get('name')}: loops over {ours}"


@pytest.mark.parametrize("path", PLAYBOOKS, ids=stem)
def test_playbook(path: Path) -> None:
    for play in plays(path):
        assert play.get("gather_facts") is False, f"{play.get('name')}: gathers facts"


def test_options_that_a_role_hands_on() -> None:
    """A loop names each option, so one that the module gets later must not be forgotten."""
    spec = load(ROOT / "roles/host_prep/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    taken = set(spec["host_prep_hugepages"]["options"])
    (handed,) = [
        set(task[f"{NAME}.hugepages"])
        for task in tasks_of(load(ROOT / "roles/host_prep/tasks/main.yml"))
        if f"{NAME}.hugepages" in task
    ]
    assert taken == handed == set(module_doc(ROOT / "plugins/modules/hugepages.py")["doc"]["options"]) - {"root"}
