# SPDX-License-Identifier: GPL-3.0-or-later
"""The NVMe initiator."""

from __future__ import annotations

from typing import Any


def setup(target: Any) -> None:
    target.nvme_controllers = {}


def refresh(target: Any) -> None:
    pass


def next_event(target: Any) -> float | None:
    return None


def config(target: Any) -> list[Any]:
    return []
