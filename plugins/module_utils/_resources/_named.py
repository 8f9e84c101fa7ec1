# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects that have a name of their own on a target. Private to the collection."""

from __future__ import annotations

from .._graph import Graph


class Named:
    """What is named by its option ``name`` alone."""

    @staticmethod
    def identity(options: dict) -> dict:
        """Return what names the object in results."""
        return {"name": options["name"]}

    @staticmethod
    def title(options: dict, graph: Graph) -> str:
        """Return the object's name for messages."""
        return options["name"]
