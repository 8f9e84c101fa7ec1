# SPDX-License-Identifier: GPL-3.0-or-later
"""The keyring of key files (contract section 10)."""

from __future__ import annotations

import errno
from typing import Any

from .decode import ARGUMENT, STR, Params, required
from .errors import failure
from .registry import bare_method, method


def setup(target: Any) -> None:
    """Add this family's state to a target: keys by name, removed ones still in use apart from them."""
    target.keys = {}
    target.removed_keys = []


def usable(target: Any, name: str) -> bool:
    """Whether a key of that name can be used."""
    return name in target.keys


def take(target: Any, name: str) -> None:
    """Note one more user of a key."""
    target.keys[name]["refcnt"] += 1


def give_back(target: Any, name: str) -> None:
    """Note that a user of a key is gone."""
    key = target.keys.get(name) or next((key for key in target.removed_keys if key["name"] == name), None)
    if key is not None:
        key["refcnt"] -= 1
    target.removed_keys = [key for key in target.removed_keys if key["refcnt"]]


@method("keyring_file_add_key", ARGUMENT, {"name": required(STR), "path": required(STR)}, relaxed=True)
def add_key(target: Any, params: Params) -> bool:
    """Add a key file: absolute path, no permission for others, owned by the target's user."""
    if ":" in params.name:
        raise failure(errno.EINVAL)
    if params.name in target.keys:
        raise failure(errno.EEXIST)
    if not params.path.startswith("/"):
        raise failure(errno.EPERM)
    info = target.files.info(params.path)
    if info is None:
        raise failure(errno.ENOENT)
    if info.mode & 0o77 or not info.owned:
        raise failure(errno.EPERM)
    key = {"name": params.name, "module": "keyring_file", "removed": False, "probed": False, "refcnt": 1}
    target.keys[params.name] = key | {"path": params.path}
    return True


@method("keyring_file_remove_key", ARGUMENT, {"name": required(STR)})
def remove_key(target: Any, params: Params) -> bool:
    """Remove a key; one in use stays listed as removed until it is released."""
    key = target.keys.pop(params.name, None)
    if key is None:
        raise failure(errno.ENOKEY)
    key["refcnt"] -= 1
    if key["refcnt"]:
        key["removed"] = True
        del key["path"]
        target.removed_keys.append(key)
    return True


@bare_method("keyring_get_keys", None)
def get_keys(target: Any) -> Any:
    """All keys; parameters are ignored."""
    return [*target.keys.values(), *target.removed_keys]


def config(target: Any) -> list[dict[str, Any]]:
    """The framework_get_config entries of subsystem keyring."""
    return [
        {"method": "keyring_file_add_key", "params": {"name": key["name"], "path": key["path"]}}
        for key in target.keys.values()
    ]
