# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role storage_node: rows in, options of a module out."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.plugin_utils.storage_node import (
    storage_desired,
    storage_drift,
    storage_transitions,
    storage_verified,
)


class FilterModule:
    """Gives the functions their names as filters."""

    def filters(self):
        """Return the filters by name."""
        return {
            "storage_desired": storage_desired,
            "storage_drift": storage_drift,
            "storage_transitions": storage_transitions,
            "storage_verified": storage_verified,
        }
