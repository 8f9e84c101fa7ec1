# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module spdk_node in this process, and the calls that it would send."""

from __future__ import annotations

import json

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.excloud.diskengine.plugins.module_utils._catalog import resource_of
from ansible_collections.excloud.diskengine.plugins.module_utils._converge import converge
from ansible_collections.excloud.diskengine.plugins.module_utils._describe import unmanaged
from ansible_collections.excloud.diskengine.plugins.module_utils._graph import _GETTERS
from ansible_collections.excloud.diskengine.plugins.module_utils._options import KINDS
from ansible_collections.excloud.diskengine.plugins.module_utils._plan import Wanted
from ansible_collections.excloud.diskengine.plugins.module_utils._rpc import Client

GETTERS = [(call.method, call.params) for call in _GETTERS.values()]
_TIMEOUT = 60


def work(socket, document):
    """Do what the module does with its option ``desired``; raises RuntimeError if an object failed."""
    desired = _wanted(document)
    outcomes, found, _lvstores = converge(lambda: Client(socket, _TIMEOUT), desired, False)
    entries = [outcome.result(brief=True) for outcome in outcomes]
    json.dumps([entries, unmanaged(found, desired)])
    failed = [entry["msg"] for entry in entries if entry["failed"]]
    if failed:
        raise RuntimeError(f"{len(failed)} objects failed, first {failed[0]}")


def planned_calls(socket, document):
    """What a run would send: the calls that come first (the transport), and the calls of each volume in their order."""
    outcomes = converge(lambda: Client(socket, _TIMEOUT), _wanted(document), True).outcomes
    common, lvols, subsystems = [], [], []
    for outcome in outcomes:
        calls = [(action.method, action.params) for action in outcome.actions]
        kind = outcome.planned.wanted.resource.kind
        if kind in ("lvol", "subsystem"):
            (lvols if kind == "lvol" else subsystems).append(calls)
        else:
            common += calls
    return common, [lvol + subsystem for lvol, subsystem in zip(lvols, subsystems, strict=True)]


def all_calls(socket, document):
    """What a run would send, in its order."""
    outcomes = converge(lambda: Client(socket, _TIMEOUT), _wanted(document), True).outcomes
    return [(action.method, action.params) for outcome in outcomes for action in outcome.actions]


def _wanted(document):
    lists = {
        plural: {"type": "list", "elements": "dict", "default": [], "options": options}
        for plural, options in KINDS.items()
    }
    options = ArgumentSpecValidator(lists).validate(json.loads(document)).validated_parameters
    return [Wanted(resource_of(plural), item) for plural in KINDS for item in options[plural]]
