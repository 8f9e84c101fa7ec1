# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole desired state of a target: lists of objects by kind, as options or as one document. Private."""

from __future__ import annotations

import json

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ._catalog import resource_of
from ._errors import Refusal
from ._options import KINDS
from ._plan import Wanted

LISTS = {
    plural: {"type": "list", "elements": "dict", "default": [], "no_log": False, "options": options}
    for plural, options in KINDS.items()
}


def wanted_of(lists: dict) -> list:
    """Return the objects (Wanted) of validated lists by kind."""
    return [
        Wanted(resource, options)
        for plural in KINDS
        if lists[plural]
        for resource in [resource_of(plural)]
        for options in lists[plural]
    ]


def parse(text: str, option: str) -> list:
    """Return the objects (Wanted) of a JSON document, held to the same specification as the lists. Raises Refusal."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Refusal(f"{option} is not a JSON document: {error}") from None
    if not isinstance(document, dict):
        raise Refusal(f"{option} is not a JSON object with a list for each kind of object")
    validated = ArgumentSpecValidator(LISTS).validate(document)
    if validated.error_messages:
        raise Refusal(f"{option}: {'; '.join(validated.error_messages)}")
    return wanted_of(validated.validated_parameters)
