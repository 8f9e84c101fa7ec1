# SPDX-License-Identifier: GPL-3.0-or-later
"""RAID bdevs."""

from __future__ import annotations

from typing import Any


def setup(target: Any) -> None:
    target.raids = {}
    target.raid_options = {"process_window_size_kb": 1024, "process_max_bandwidth_mb_sec": 0}


def examine(target: Any, bdev: Any) -> None:
    pass


def refresh(target: Any) -> None:
    pass


def next_event(target: Any) -> float | None:
    return None


class Superblock:
    kind = "raid"
