# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of what differs as JSON, as Markdown and as a page."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

MOST = 20  # differences that Markdown shows


def as_json(report):
    """Return the document as it is."""
    return json.dumps(report, indent=1) + "\n"


def as_markdown(report):
    """Return a summary: what was compared, what differs on which node, and the worst differences."""
    differences = report["differences"]
    lines = [f"# Drift: {report['summary'][0]}", ""]
    if report["nodes"] and not report["clean"]:
        lines += ["| node | kind | result |", "|---|---|---|"]
        lines += [f"| {_cell(name)} | {each['kind'] or ''} | {_result(report, name)} |" for name, each in _told(report)]
        lines.append("")
    if differences:
        lines += ["| node | object | difference | cause | risk | repair |", "|---|---|---|---|---|---|"]
        lines += [_row(each) for each in differences[:MOST]]
        lines.append("")
    if len(differences) > MOST:
        lines += [f"{len(differences) - MOST} more differences are in the report as JSON or HTML.", ""]
    lines += [f"{_cell(line)}\n" for line in report["summary"] if line.startswith("not part of this run")]
    return "\n".join(lines).rstrip() + "\n"


def as_page(report):
    """Return one HTML page that needs nothing else. Nothing but its own script is run, whatever objects are called."""
    page = Path(__file__).with_name("drift_page.html").read_text(encoding="utf-8")
    data = json.dumps(report, separators=(",", ":")).replace("<", "\\u003c")
    summary = html.escape("\n".join(report["summary"]))
    parts = {"POLICY": _policy(page), "SUMMARY": summary, "REPORT": data}
    return re.sub("@(POLICY|SUMMARY|REPORT)@", lambda found: parts[found[1]], page)


def _policy(page):
    """Return what the browser may run and load: the script and the style of the page, known by their hashes."""
    parts = {kind: page.partition(f"<{kind}>")[2].partition(f"</{kind}>")[0] for kind in ("script", "style")}
    hashes = {kind: b64encode(sha256(part.encode()).digest()).decode() for kind, part in parts.items()}
    sources = " ".join(f"{kind}-src 'sha256-{value}';" for kind, value in hashes.items())
    return f"default-src 'none'; {sources} base-uri 'none'; form-action 'none'"


def _told(report):
    return [(name, each) for name, each in report["nodes"].items() if each["counts"] or not each["compared"]]


def _result(report, name):
    if name in report["not_compared"]:
        return f"not compared: {_cell(report['not_compared'][name])}"
    return ", ".join(f"{number} {what}" for what, number in report["nodes"][name]["counts"].items())


def _row(each):
    cells = [each["node"], f"{each['kind']} {each['object']}", each["class"], each["cause"], each["risk"]]
    return f"| {' | '.join(map(_cell, [*cells, '; '.join(each['repair'])]))} |"


def _cell(text):
    """Return text that stays what it is in a table, whoever shows it."""
    for character in "\\|<>`*[]":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
