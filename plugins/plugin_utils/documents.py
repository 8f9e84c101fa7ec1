# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large values travel through Ansible as JSON documents, because it visits each part of anything else. Pure."""

from __future__ import annotations

import json


def parsed(value):
    """Return what a document holds, or the value itself if it is none."""
    return json.loads(value) if isinstance(value, str) else value
