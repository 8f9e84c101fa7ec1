# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of conventions look at: the files of the repository, and the documentation as ansible-doc sees it."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

NAME = "excloud.diskengine"
ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
TREE = ROOT / ".build/tree"
MODULES = sorted(path for path in (ROOT / "plugins/modules").glob("*.py") if path.stem != "__init__")
ROLES = sorted(path for path in (ROOT / "roles").glob("*") if any(path.rglob("*.yml")))
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))


def stem(path: Path) -> str:
    """Shows in the name of a parametrised test."""
    return path.stem


@functools.cache
def tracked() -> list[Path]:
    """Files that git tracks, or would if they were added."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [ROOT / name for name in sorted(listing.split("\0")) if name and (ROOT / name).is_file()]


@functools.cache
def documented() -> dict[str, dict[str, Any]]:
    """Documentation by type and short name of plugin, fragments merged in."""
    dump = subprocess.run(
        [str(BIN / "ansible-doc"), "--metadata-dump", "--no-fail-on-errors", NAME],
        env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(TREE)),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {
        kind: {name.removeprefix(f"{NAME}."): value for name, value in plugins.items()}
        for kind, plugins in json.loads(dump)["all"].items()
        if kind != "keyword"
    }


def module_doc(path: Path) -> dict[str, Any]:
    """Documentation of a module: doc, examples, return."""
    found = documented()["module"][path.stem]
    assert "error" not in found, found["error"]
    return found


def raw_documentation(path: Path) -> dict[str, Any]:
    """What the file itself says in DOCUMENTATION, without fragments."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "DOCUMENTATION":
            return yaml.safe_load(ast.literal_eval(node.value))
    raise AssertionError(f"{path.name} has no DOCUMENTATION")


def fragments_of(path: Path) -> set[str]:
    """The fragments that a module extends, without the collection's name: "spdk", "attributes.node"."""
    extends = raw_documentation(path).get("extends_documentation_fragment", [])
    extends = [extends] if isinstance(extends, str) else extends
    return {name.removeprefix(f"{NAME}.") for name in extends if name.startswith(f"{NAME}.")}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def action_groups() -> dict[str, list[str]]:
    return load(ROOT / "meta/runtime.yml")["action_groups"]


def tasks_of(content: Any) -> list[dict[str, Any]]:
    """All tasks in a list of tasks or plays, blocks and handlers included."""
    found: list[dict[str, Any]] = []
    for entry in content or []:
        nested = [
            key
            for key in ("pre_tasks", "tasks", "post_tasks", "handlers", "block", "rescue", "always")
            if isinstance(entry.get(key), list)
        ]
        if not nested and "hosts" not in entry:
            found.append(entry)
        for key in nested:
            found += tasks_of(entry[key])
    return found
