# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter of the health of volumes."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.plugin_utils.volume_health import volume_health


class FilterModule:
    """Gives the function its name as a filter."""

    def filters(self):
        """Return the filter by name."""
        return {"volume_health": volume_health}
