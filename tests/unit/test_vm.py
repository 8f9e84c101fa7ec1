# SPDX-License-Identifier: GPL-3.0-or-later
"""Where there can be no virtual machine, its test says so and counts as skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_says_what_it_needs(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, ROOT / "tests/vm/run.py"],
        env={**environment, "PATH": str(tmp_path), "TEST_SKIPPED": str(tmp_path / "skipped")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Skipped: no virtual machine can be made here, because it ")
    assert done.stdout.count("\n") == 1 and not done.stderr
    assert (tmp_path / "skipped").exists()
