# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the simulator and the helpers here importable and prints what the replays compared."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


def pytest_terminal_summary(terminalreporter) -> None:
    """One line per scenario: how many answers were compared and excused."""
    from compare import SUMMARY

    for line in sorted(SUMMARY):
        terminalreporter.write_line(line)
