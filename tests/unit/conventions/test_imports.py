# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module brings along to a node: every kilobyte of ours costs time in every task."""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path

import pytest
from ansible_collections.excloud.diskengine.tests.unit.conventions.collection import MODULES, NAME, ROOT, stem

BUDGET = 126 * 1024  # compiled in every run
SHIPPED = 180 * 1024  # sent along; what a function imports is compiled only when it is needed
SHIPPED_OF_ALL_KINDS = 280 * 1024  # by the modules that have to bring every kind of object along
OF_ALL_KINDS = {"spdk_node", "spdk_drift_info"}
PREFIX = f"ansible_collections.{NAME}."
MODULE_UTILS = sorted((ROOT / "plugins/module_utils").rglob("*.py"))


@functools.cache
def imported(path: Path, at_once: bool = False) -> list[str]:
    """Full names of everything that a file imports, wherever in the file it does, or when it is imported itself."""
    found: list[str] = []
    package = (PREFIX + ".".join(path.relative_to(ROOT).parent.parts)).split(".")
    tree = ast.parse(path.read_text())
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join(base + ([node.module] if node.module else []))
            found += (f"{origin}.{alias.name}" for alias in node.names)
    return found


@functools.cache
def files_of(name: str) -> list[Path]:
    """The files of ours that importing a name brings along: the module, and the packages around it."""
    parts = name.removeprefix(PREFIX).split(".")
    bases = [ROOT.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)]
    return [path for base in bases for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]


def brought_along(path: Path, at_once: bool = False) -> set[Path]:
    found: set[Path] = set()
    todo = [path]
    while todo:
        for name in imported(todo.pop(), at_once):
            if name.startswith(PREFIX):
                new = set(files_of(name)) - found
                found |= new
                todo += new
    return found


@pytest.mark.parametrize("module", MODULES, ids=stem)
def test_budget(module: Path) -> None:
    shipped = SHIPPED_OF_ALL_KINDS if stem(module) in OF_ALL_KINDS else SHIPPED
    for at_once, budget in ((True, BUDGET), (False, shipped)):
        files = brought_along(module, at_once)
        size = sum(path.stat().st_size for path in files)
        largest = sorted(((path.stat().st_size, path.name) for path in files), reverse=True)[:5]
        assert size <= budget, f"{size / 1024:.0f} KB of module_utils, the largest: {largest}"


@pytest.mark.parametrize("module", MODULES, ids=stem)
def test_node_code_needs_only_python_and_ansible(module: Path) -> None:
    check(module)
    for path in brought_along(module):
        assert ROOT / "plugins/module_utils" in path.parents, f"{module.name} brings along {path.relative_to(ROOT)}"


@pytest.mark.parametrize("path", MODULE_UTILS, ids=stem)
def test_module_utils_need_only_python_and_ansible(path: Path) -> None:
    check(path)


def check(path: Path) -> None:
    for name in imported(path):
        ours = name.startswith((PREFIX + "plugins.module_utils.", "ansible.module_utils."))
        assert ours or name.split(".")[0] in sys.stdlib_module_names, f"{path.name} imports {name}"
