# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The edge: options in, results out. Private."""

from __future__ import annotations

import gc
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ._connection import CONNECTION, LOCK, MESSAGE_ITEMS, connect, joined
from ._converge import Convergence, Outcome, converge
from ._errors import DiskengineError
from ._lock import lock_unless_check
from ._plan import ANYTHING, Wanted


def run_resource(resource: Any) -> NoReturn:
    """Be the module of one kind of object: one object by plain options, or many by a list under the plural name."""
    required = [name for name, spec in resource.options.items() if spec.get("required")]
    names = required[:1] or resource.names
    plain = {
        name: {key: value for key, value in spec.items() if key != "required"}
        for name, spec in resource.options.items()
    }
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            **LOCK,
            **plain,
            resource.plural: {"type": "list", "elements": "dict", "no_log": False, "options": resource.options},
        },
        required_one_of=[[*names, resource.plural]],
        mutually_exclusive=[[name, resource.plural] for name in required or names],
        required_together=[required] if len(required) > 1 else [],
        supports_check_mode=True,
    )
    many = module.params[resource.plural]
    one = {name: module.params[name] for name in resource.options}
    desired = [Wanted(resource, options) for options in ([one] if many is None else many)]
    outcomes = run(module, desired, ANYTHING).outcomes
    report(module, outcomes, results=[outcome.result() for outcome in outcomes])


def run(module: AnsibleModule, desired: list, assume: tuple) -> Convergence:
    """Bring the target of a module to the ``desired`` state, under the node's lock; a target that is none ends it."""
    gc.disable()  # nothing here is worth collecting before this short process ends
    try:
        with lock_unless_check(module):
            return converge(lambda: connect(module), desired, module.check_mode, assume)
    except DiskengineError as error:
        module.fail_json(msg=str(error))


def report(module: AnsibleModule, outcomes: list, **result: Any) -> NoReturn:
    """End a module with ``result`` and what follows from the ``outcomes``."""
    notes = [f"{outcome.planned.subject}: {note}" for outcome in outcomes for note in outcome.notes]
    for note in notes[:MESSAGE_ITEMS]:
        module.warn(note)
    if len(notes) > MESSAGE_ITEMS:
        module.warn(f"{len(notes) - MESSAGE_ITEMS} more notes are in the results")
    result["changed"] = any(outcome.actions for outcome in outcomes)
    if module.check_mode:
        in_order = sorted(outcomes, key=lambda outcome: outcome.turn)
        result["actions"] = [action.describe() for outcome in in_order for action in outcome.actions]
    if module._diff:
        result["diff"] = [_difference(outcome) for outcome in outcomes if outcome.actions]
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if failed:
        module.fail_json(msg=_message(failed, len(outcomes)), **result)
    module.exit_json(**result)


def _difference(outcome: Outcome) -> dict:
    header = outcome.planned.subject
    return {
        "before_header": header,
        "after_header": header,
        "before": outcome.before or {},
        "after": outcome.after or {},
    }


def _message(failed: list, total: int) -> str:
    named = joined([f"{outcome.planned.subject}: {outcome.error}" for outcome in failed])
    return named if total == 1 else f"{len(failed)} of {total} objects failed: {named}"
