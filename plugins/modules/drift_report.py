#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drift_report
short_description: Report what differs on an estate
version_added: 0.1.0
description:
  - Joins what was found to differ on the nodes of a run with the rows of the database, and writes one report of it, as
    JSON, as a summary in Markdown, or as a page that shows the estate.
  - The playbook C(excloud.diskengine.drift) does all of it. C(docs/drift.md) describes the report.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.info_module
  - excloud.diskengine.attributes.controller
  - excloud.diskengine.attributes.actiongroup_database
  - excloud.diskengine.database
attributes:
  check_mode:
    details:
      - The report is what the task is for, and is written in check mode too.
  diff_mode:
    details:
      - The estate is not changed, and the report is new each time.
  idempotent:
    details:
      - The estate is not changed. The report is written each time, and that is no change.
options:
  found:
    description:
      - By the name of the node in the database, a dictionary with either C(drift), the fact C(storage_node_drift) or
        C(compute_node_drift) that the entry points C(verify) of the roles set, or C(cause), why the node could not be
        compared.
    type: dict
    required: true
  paths:
    description:
      - Files on the controller for the report. One whose name ends with C(.html) is a page, with C(.md) Markdown, any
        other is JSON.
      - Directories that are missing are made.
    type: list
    elements: str
    default: []
seealso:
  - module: excloud.diskengine.spdk_drift_info
"""

EXAMPLES = r"""
---
- name: Report what differs on two nodes
  excloud.diskengine.drift_report:
    dsn: host=db.example.org dbname=diskengine user=convergence
    found:
      storage-1: {drift: "{{ hostvars['storage-1'].storage_node_drift }}"}
      storage-2: {cause: it is being repaired}
    paths:
      - reports/drift.json
      - reports/drift.html
  run_once: true
"""

RETURN = r"""
clean:
  description: Whether all nodes were compared and nothing differs.
  returned: always
  type: bool
compared:
  description: How many nodes were compared.
  returned: always
  type: int
counts:
  description: Number of differences by class.
  returned: always
  type: dict
  sample: {extra: 1, missing: 2}
states:
  description: Number of objects by state.
  returned: always
  type: dict
  sample: {broken: 2, differs: 1, unknown: 0, changing: 4, ok: 512}
nodes:
  description: By node of the run its C(kind), whether it was C(compared), and its C(counts).
  returned: always
  type: dict
  sample:
    storage-1: {kind: storage, compared: true, counts: {missing: 2}}
not_compared:
  description: By node that could not be compared, the reason.
  returned: always
  type: dict
  sample: {storage-2: it is being repaired}
left_out:
  description: Nodes that the database has and the run has not.
  returned: always
  type: list
  elements: str
summary:
  description: All of that as sentences, for people.
  returned: always
  type: list
  elements: str
markdown:
  description: The same with the worst differences, as Markdown.
  returned: always
  type: str
"""
