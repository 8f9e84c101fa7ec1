# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The difference that no target shows: a row that nothing can be done for as it is. Pure."""

from __future__ import annotations


def blocked(kind, name, cause):
    """Return it in the form of those that M(spdk_drift_info) finds."""
    return {
        "class": "blocked",
        "kind": kind,
        "object": name,
        "cause": cause,
        "found": None,
        "wanted": None,
        "risk": "manual",
        "repair": [],
    }
