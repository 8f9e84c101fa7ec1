# SPDX-License-Identifier: GPL-3.0-or-later
"""The keyring of key files (contract section 10, docs/spdk-facts.md)."""

from __future__ import annotations

import base64
import errno
import re
import zlib
from typing import Any

from .decode import ARGUMENT, STR, Params, required
from .errors import failure
from .registry import bare_method, method

SECRET = re.compile(r"(DHHC-1|NVMeTLSkey-1):0[0-3]:([A-Za-z0-9+/]+={0,2}):\s*")

Key = dict[str, Any]


def setup(target: Any) -> None:
    """Add this family's state to a target: keys by name, removed ones still in use apart from them.

    Who uses a key has the key itself, not its name: one that was removed stays useless when the name is given again.
    """
    target.keys = {}
    target.removed_keys = []


def usable(target: Any, name: str) -> bool:
    """Whether a key of that name can be used."""
    return name in target.keys


def take(target: Any, name: str) -> Key:
    """Return a key for one more user of it."""
    key = target.keys[name]
    key["refcnt"] += 1
    return key


def give_back(target: Any, key: Key) -> None:
    """Note that a user of a key is gone."""
    key["refcnt"] -= 1
    target.removed_keys = [key for key in target.removed_keys if key["refcnt"]]


def secret(target: Any, key: Key, kind: str) -> str | None:
    """What is in a key's file now, if it is of that kind (DHHC-1 or NVMeTLSkey-1) and the target may read it."""
    if key["removed"] or _problem(target, key["path"]):
        return None
    found = SECRET.fullmatch(target.files.content(key["path"]))
    if not found or found[1] != kind:
        return None
    data = base64.b64decode(found[2])
    return found[2] if zlib.crc32(data[:-4]).to_bytes(4, "little") == data[-4:] else None


def _problem(target: Any, path: str) -> int:
    """Why the keyring takes no key from a path, as an errno; 0 if it does."""
    info = target.files.info(path)
    if info is None:
        return errno.ENOENT
    return errno.EPERM if info.mode & 0o77 or not info.owned else 0


@method("keyring_file_add_key", ARGUMENT, {"name": required(STR), "path": required(STR)}, relaxed=True)
def add_key(target: Any, params: Params) -> bool:
    """Add a key file: absolute path, no permission for others, owned by the target's user."""
    if ":" in params.name:
        raise failure(errno.EINVAL)
    if params.name in target.keys:
        raise failure(errno.EEXIST)
    if not params.path.startswith("/"):
        raise failure(errno.EPERM)
    problem = _problem(target, params.path)
    if problem:
        raise failure(problem)
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
