# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role compute_node: rows in, options of a module out."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.plugin_utils.compute_node import (
    compute_claims,
    compute_desired,
    compute_drift,
    compute_foretold,
    compute_transitions,
    compute_verified,
)


class FilterModule:
    """Gives the functions their names as filters."""

    def filters(self):
        """Return the filters by name."""
        return {
            "compute_claims": compute_claims,
            "compute_desired": compute_desired,
            "compute_drift": compute_drift,
            "compute_foretold": compute_foretold,
            "compute_transitions": compute_transitions,
            "compute_verified": compute_verified,
        }
