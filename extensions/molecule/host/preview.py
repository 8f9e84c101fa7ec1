# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the writes that check mode announced with those that the run did; the runs after it are to do none.

preview.py EVENTS, the file of the callback plugin record_events.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(events: Path) -> int:
    runs: list[set] = []
    for line in events.read_text().splitlines():
        event = json.loads(line)
        if event["task"].endswith("Look at the host"):
            runs.append(set())
        if not runs:
            continue
        result = event["result"]
        for part in (result, *result.get("results", [])):
            # As a set: a module that an earlier task loads is announced again by the task that would need it.
            runs[-1].update((step["kind"], step["path"], step["value"]) for step in part.get("writes", ()))
    announced, done, *later = runs
    wrong = [f"not announced: {step}" for step in done - announced]
    wrong += [f"not done: {step}" for step in announced - done]
    wrong += [f"done again: {step}" for run in later for step in run]
    print("\n".join(wrong) or f"{len(done)} writes were announced and done")
    return len(wrong) or not done or not later


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
