# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulator of SPDK's JSON-RPC interface, held to recordings of the real program.

``Target`` is the pure core; ``python -m spdk_sim --help`` (or ``python tests/spdk_sim``) is the server around it.
"""

from __future__ import annotations

from .errors import Blocked, RpcFailure, TargetCrash
from .target import Target

__all__ = ["Blocked", "RpcFailure", "Target", "TargetCrash"]
