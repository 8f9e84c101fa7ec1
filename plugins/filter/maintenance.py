# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of the playbook maintenance."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.plugin_utils import maintenance

NAMES = ("maintenance_batches", "maintenance_batch", "maintenance_obstacles", "maintenance_sessions")


class FilterModule:
    """Gives the functions their names as filters."""

    def filters(self):
        """Return the filters by name."""
        return {name: getattr(maintenance, name) for name in NAMES}
