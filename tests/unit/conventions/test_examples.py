# SPDX-License-Identifier: GPL-3.0-or-later
"""EXAMPLES are valid: sanity and ansible-lint do not look at the options in them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.playbook.task import Task
from ansible_collections.excloud.diskengine.tests.unit.conventions.collection import (
    MODULES,
    NAME,
    documented,
    module_doc,
    stem,
    tasks_of,
)

SAMPLES = {"int": 1, "float": 1.0, "bool": True, "list": [], "dict": {}}
KEYWORDS = set(Task.fattributes)  # what may stand beside the module in a task
RULES = ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")


class Stop(Exception):
    """Ends a module when it has told its argument spec."""


def argument_spec(options: dict[str, Any]) -> dict[str, Any]:
    """The argument spec that documentation describes. That both agree is checked by validate-modules."""
    spec = {}
    for name, option in options.items():
        spec[name] = {
            key: option[key] for key in ("type", "elements", "required", "choices", "aliases") if key in option
        }
        if option.get("default") is not None:
            spec[name]["default"] = option["default"]
        if "suboptions" in option:
            spec[name]["options"] = argument_spec(option["suboptions"])
    return spec


def rules_of(module: Path) -> dict[str, Any]:
    """What a module asks of its options together, which the documentation does not say in a form to be read."""
    told: dict[str, Any] = {}

    def listen(_self: AnsibleModule, **kwargs: Any) -> None:
        told.update(kwargs)
        raise Stop

    main = getattr(importlib.import_module(f"ansible_collections.{NAME}.plugins.modules.{module.stem}"), "main", None)
    if main is not None:  # an action plugin's module has documentation only
        with patch.object(AnsibleModule, "__init__", listen), pytest.raises(Stop):
            main()
    return {rule: told.get(rule) for rule in RULES}


def filled(value: Any, option: dict[str, Any]) -> Any:
    """The value with a sample in the place of each template."""
    if isinstance(value, str) and "{{" in value:
        return option["choices"][0] if option.get("choices") else SAMPLES.get(option.get("type", "str"), "sample")
    if isinstance(value, list):
        return [filled(item, {**option, "type": option.get("elements", "str")}) for item in value]
    if isinstance(value, dict):
        return {key: filled(item, option.get("options", {}).get(key, {})) for key, item in value.items()}
    return value


@pytest.mark.parametrize("module", MODULES, ids=stem)
def test_example_tasks(module: Path) -> None:
    tasks = tasks_of(yaml.safe_load(module_doc(module)["examples"]))
    assert f"{NAME}.{module.stem}" in {key for task in tasks for key in task}, "no example uses the module itself"
    for task in tasks:
        name = task.get("name")
        assert name, f"a task without a name: {task}"
        used = [key for key in task if key not in KEYWORDS and not key.startswith("with_")]
        assert len(used) == 1, f"{name}: one module is wanted, found {used}"
        assert used[0].count(".") >= 2, f"{name}: {used[0]} is not fully qualified"
        if used[0].startswith(f"{NAME}."):
            check_task(name, used[0].removeprefix(f"{NAME}."), task[used[0]] or {})


def check_task(name: str, module: str, options: dict[str, Any]) -> None:
    paths = {path.stem: path for path in MODULES}
    assert module in paths, f"{name}: there is no module {module}"
    spec = argument_spec(module_doc(paths[module])["doc"].get("options", {}))
    validator = ArgumentSpecValidator(spec, **rules_of(paths[module]))
    result = validator.validate(filled(options, {"options": spec}))
    assert not result.error_messages, f"{name}: {'; '.join(result.error_messages)}"


def test_every_plugin_has_examples() -> None:
    for kind, plugins in documented().items():
        for name, plugin in plugins.items():
            if kind != "role":
                assert "error" not in plugin, plugin["error"]
                assert yaml.safe_load(plugin["examples"] or ""), f"{kind} {name} has no EXAMPLES"
