# SPDX-License-Identifier: GPL-3.0-or-later
"""The versions in README.md are those that the metadata and the tests name."""

from __future__ import annotations

import re

from ansible_collections.excloud.diskengine.plugins.module_utils import _releases
from ansible_collections.excloud.diskengine.tests.unit.conventions.collection import ROOT, load


def row(first: str) -> str:
    """The rest of the row in a table of README.md that starts with a cell."""
    found = re.findall(rf"^\|\s*{re.escape(first)}\s*\|(.*)$", (ROOT / "README.md").read_text(), re.M)
    assert len(found) == 1, f"README.md wants one table row that starts with {first!r}"
    return found[0]


def test_ansible_core() -> None:
    oldest = re.fullmatch(r">=(\d+\.\d+)\.0", load(ROOT / "meta/runtime.yml")["requires_ansible"])
    assert oldest, "requires_ansible is >=x.y.0"
    tested = re.search(r"^ansible-core==(\d+\.\d+)\.", (ROOT / "requirements.txt").read_text(), re.M)
    assert tested
    assert oldest[1] in row("ansible-core") and tested[1] in row("ansible-core")


def test_python_on_nodes() -> None:
    oldest = load(ROOT / "tests/config.yml")["modules"]["python_requires"].removeprefix(">=")
    assert oldest in row("Python on the nodes")


def test_python_on_the_controller() -> None:
    for version in ("3.11", "3.12", "3.13"):
        assert version in row("Python on the controller")
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in (ROOT / ".ci/venv").read_text()


def test_spdk() -> None:
    oldest = ".".join(f"{part:02}" for part in _releases.OLDEST[:2])
    assert oldest in row("SPDK")
