# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs every check of the project and ends with a table and the line "N passed, N failed".

A tool counts as one check, pytest counts each of its tests. A failure does not stop what comes after it.
Names of steps as arguments choose: test.py lint unit

The virtual machine emulates one processor most of the time, and most other steps use one: it runs beside them, and its
output is shown when all have ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / ".build/reports"

TOOLS = ["lint", "types", "changelog", "docs-lint", "docs", "build", "sanity"]
PYTEST = ["unit", "conformance", "integration"]
BESIDE = "test-vm"
STEPS = [*TOOLS, *PYTEST, "molecule", BESIDE]


def counts(report: Path, status: int) -> tuple[int, int, int]:
    """Passed, failed and skipped of a pytest run. A run that broke off counts as one failure more."""
    passed = failed = skipped = 0
    if report.exists():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            failed += bad
            skipped += int(suite.get("skipped", 0))
            passed += int(suite.get("tests", 0)) - bad - int(suite.get("skipped", 0))
    if status and not failed:
        failed = 1
    return passed, failed, skipped


def run(step: str, output: IO | None = None) -> tuple[str, float, int, int, int]:
    """Run a step, with its output to a file if there is one; return its row of the summary."""
    start = time.monotonic()
    result = outcome(step, output)
    return step, time.monotonic() - start, *result


def outcome(step: str, output: IO | None) -> tuple[int, int, int]:
    report = REPORTS / f"{step}.xml"
    report.unlink(missing_ok=True)
    skipped = REPORTS / f"{step}.skipped"  # written by a step that cannot run here
    skipped.unlink(missing_ok=True)
    env = {**os.environ, "TEST_SKIPPED": str(skipped)}
    if step in PYTEST:
        env["PYTEST_ARGS"] = f"{env.get('PYTEST_ARGS', '')} --junitxml={report}"
    command = ["make", "--no-print-directory", step]
    status = subprocess.run(command, cwd=ROOT, env=env, check=False, stdout=output, stderr=output).returncode
    if step in PYTEST:
        return counts(report, status)
    if skipped.exists():
        return 0, 0, 1
    return int(not status), int(bool(status)), 0


def main() -> int:
    REPORTS.mkdir(parents=True, exist_ok=True)
    if not sys.stdout.isatty():
        os.environ.setdefault("NO_COLOR", "1")
    steps = sys.argv[1:] or STEPS
    with ThreadPoolExecutor(1) as lane, (REPORTS / f"{BESIDE}.log").open("w+") as log:
        beside = lane.submit(run, BESIDE, log) if BESIDE in steps else None
        rows = []
        for step in steps:
            if step != BESIDE:
                print(f"\n=== make {step}", flush=True)
                rows.append(run(step))
        if beside:
            rows.append(beside.result())
            log.seek(0)
            print(f"\n=== make {BESIDE}\n{log.read()}", flush=True)
    print("\n=== summary")
    print(f"{'step':<14}{'seconds':>8}{'passed':>8}{'failed':>8}{'skipped':>8}")
    for step, seconds, passed, failed, skipped in rows:
        print(f"{step:<14}{seconds:>8.0f}{passed:>8}{failed:>8}{skipped:>8}{'   <-- FAILED' if failed else ''}")
    passed, failed, skipped = (sum(row[column] for row in rows) for column in (2, 3, 4))
    line = f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")
    (REPORTS / "summary").write_text(line + "\n")
    print(f"\n{line}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
