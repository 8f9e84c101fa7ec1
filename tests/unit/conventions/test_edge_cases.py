# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of edge cases name tests that are there."""

from __future__ import annotations

import re

from ansible_collections.excloud.diskengine.tests.unit.conventions.collection import ROOT

NAMED = re.compile(r"`(test_\w+\.py)::(\w+)`")


def test_every_test_that_is_named_exists():
    named = NAMED.findall((ROOT / "docs" / "edge-cases.md").read_text(encoding="utf-8"))
    assert named
    for file, name in named:
        texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob(f"*/**/{file}")]
        assert any(f"def {name}(" in text for text in texts), f"{file}::{name}"
