# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the molecule scenario of the host in a virtual machine; says so where there can be none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from image import ROOT, Unavailable, image

SKIPPED = os.environ.get("TEST_SKIPPED")  # a file for the reason, by which .ci/test.py knows


def main() -> int:
    start = time.monotonic()
    try:
        image()
    except Unavailable as reason:
        print(f"Skipped: no virtual machine can be made here, because {reason}.")
        if SKIPPED:
            Path(SKIPPED).write_text(f"{reason}\n", encoding="utf-8")
        return 0
    print(f"The image is there after {time.monotonic() - start:.0f} s", flush=True)
    status = subprocess.run(["molecule", "test", "--scenario-name", "host"], cwd=ROOT, check=False).returncode
    print(f"The scenario {'failed' if status else 'passed'} after {time.monotonic() - start:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
