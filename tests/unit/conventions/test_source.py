# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for the text of files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from ansible_collections.excloud.diskengine.tests.unit.conventions.collection import ROOT, tracked

PYTHON = [path for path in tracked() if path.suffix == ".py"]
PLUGINS = [path for path in PYTHON if ROOT / "plugins" in path.parents]
EDGE = [ROOT / f"plugins/module_utils/_{name}.py" for name in ("module", "node")]  # between options and the rest


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def called(path: Path) -> set[str]:
    return {
        node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }


@pytest.mark.parametrize("path", PLUGINS, ids=relative)
def test_nothing_prints(path: Path) -> None:
    assert "print" not in called(path)


def test_only_the_edge_ends_a_module() -> None:
    ends = {"fail_json", "exit_json", "fail_from_exception"}
    utils = [path for path in PLUGINS if ROOT / "plugins/module_utils" in path.parents]
    assert not [relative(path) for path in utils if path not in EDGE and called(path) & ends]


def test_licence_line() -> None:
    wanted = [path for path in tracked() if path.suffix in (".py", ".sh") and path.stat().st_size]
    wanted += [path for path in tracked() if path.read_bytes()[:3] == b"#!/" and path not in wanted]
    without = [path for path in wanted if "SPDX-License-Identifier: GPL-3.0-or-later" not in path.read_text()[:600]]
    assert not [relative(path) for path in without]


def test_no_ignore_files() -> None:
    assert not list((ROOT / "tests/sanity").glob("ignore-*"))


def test_nothing_of_one_machine() -> None:
    """No file knows where somebody's checkout lies or which package index they use."""
    own = re.compile("/wor[k]/|/roo[t]/|/home/[a-z]|pypi[.]org|pythonhosted[.]org")
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{relative(path)}: {match[0]}" for match in own.finditer(text)]
    assert not found
