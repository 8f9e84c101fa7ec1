# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what each storage node has otherwise than its rows to one report. Pure."""

from __future__ import annotations

from collections import Counter


def storage_drift_report(hosts):
    """Return one report of all hosts.

    ``hosts`` gives each host either the C(drift) that the role's entry point C(verify) found, or the C(cause) why it
    could not be compared.
    """
    nodes = {
        name: {"counts": _counts(found["drift"]), "drift": found["drift"]}
        for name, found in sorted(hosts.items())
        if "drift" in found
    }
    not_compared = {name: found["cause"] for name, found in sorted(hosts.items()) if "drift" not in found}
    counts = _counts([entry for node in nodes.values() for entry in node["drift"]])
    return {
        "clean": not counts and not not_compared,
        "compared": len(nodes),
        "counts": counts,
        "nodes": nodes,
        "not_compared": not_compared,
        "summary": [
            f"{len(nodes)} of {len(hosts)} nodes compared: {_told(counts)}",
            *(f"{name}: {_told(node['counts'])}" for name, node in nodes.items() if node["drift"]),
            *(f"{name}: not compared: {' '.join(cause.split())}" for name, cause in not_compared.items()),
        ],
    }


def _counts(drift):
    return dict(sorted(Counter(entry["class"] for entry in drift).items()))


def _told(counts):
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "nothing differs"
