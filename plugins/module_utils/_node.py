# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The edge of the module for a whole target, apart from the others, which need not bring all kinds along. Private."""

from __future__ import annotations

import json
from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ._connection import CONNECTION, LOCK
from ._describe import capacity, unmanaged
from ._document import LISTS, parse, wanted_of
from ._errors import DiskengineError
from ._module import report, run
from ._options import KINDS


def run_node() -> NoReturn:
    """Be the module that takes the whole desired state of a target, a list for each kind of object."""
    module = AnsibleModule(
        argument_spec={**CONNECTION, **LOCK, **LISTS, "desired": {"type": "json"}},
        mutually_exclusive=[["desired", plural] for plural in KINDS],
        supports_check_mode=True,
    )
    document = module.params["desired"]
    try:
        desired = wanted_of(module.params) if document is None else parse(document, "desired")
    except DiskengineError as error:
        module.fail_json(msg=str(error))
    outcomes, found, lvstores = run(module, desired, ("key",))
    entries = [outcome.result(brief=True) for outcome in outcomes]
    results = {"results": entries} if document is None else {"results_document": json.dumps(entries)}
    report(module, outcomes, **results, lvstores=capacity(lvstores), unmanaged=unmanaged(found, desired))
