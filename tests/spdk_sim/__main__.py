# SPDX-License-Identifier: GPL-3.0-or-later
"""``python tests/spdk_sim --socket PATH`` or ``PYTHONPATH=tests python -m spdk_sim --socket PATH``."""

from __future__ import annotations

import os
import sys

if not __package__:
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from spdk_sim.cli import main

sys.exit(main())
