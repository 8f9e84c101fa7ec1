# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that the modules for the host itself share."""

from __future__ import annotations


class ModuleDocFragment:
    """Where the host is, and the SPDK target that may run on it."""

    DOCUMENTATION = r"""
options:
  root:
    description:
      - The directory that holds the host's files. Another one than V(/) is for images and tests.
      - Below another root no program is started, so what needs one is left for the first boot.
    type: path
    default: /
requirements:
  - Linux 4.18 or newer
  - Python 3.9 or newer on the node, nothing else
notes:
  - Runs as root, with C(become) if need be.
"""

    TARGET = r"""
options:
  socket:
    description:
      - Path of the JSON-RPC socket of an SPDK target on the host, to ask it for its drives as well.
      - Without it, or when nothing answers there, the drives are described from the kernel and from what was recorded
        when they were bound.
    type: path
  timeout:
    description: Seconds that the target may take to answer.
    type: float
    default: 10.0
"""
