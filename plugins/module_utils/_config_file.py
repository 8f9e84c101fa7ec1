# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file that a configuration is saved in. Private to the collection."""

from __future__ import annotations

import json
import os
import stat
from typing import NamedTuple, Optional

from ._config import parse, unequal
from ._errors import DiskengineError, Refusal
from ._files import place

_MODE = 0o600  # it may name keys, and hold some


class Saved(NamedTuple):
    """What saving did, or would do: whether anything, before and after by object, and where the old file is kept."""

    changed: bool
    diff: dict
    previous: Optional[str]


def load(path: str) -> list:
    """Return the entries of a saved configuration. Raises Refusal."""
    text = _read(path)
    if text is None:
        raise Refusal(f"there is no file {path}; save a configuration first")
    try:
        return parse(json.loads(text), path)
    except ValueError as error:
        raise Refusal(f"{path} is not a saved configuration: it is not JSON ({error})") from None


def save(path: str, document: dict, dry_run: bool) -> Saved:
    """Write a configuration unless the file says the same; the file that was there is kept beside it.

    The order is not compared: SPDK lists the hosts of a subsystem the other way round after each restore. At every
    moment there is a whole file under ``path``, also when this is killed or the power fails. What a target that was
    started again and has nothing would save is refused. Raises DiskengineError.
    """
    path = os.path.realpath(path)
    text = _read(path)
    before, after = _entries(text, path), parse(document, path)
    named = {entry.key for entry in before if entry.makes_object}
    if named and not named & {entry.key for entry in after}:
        raise Refusal(
            f"nothing was saved: the target has none of the {len(named)} objects that {path} names, so it seems to "
            f"have been started again; bring it back with state=restored, or remove the file"
        )
    diff = unequal(before, after)
    kept = text if text is not None and any(diff.values()) else None
    changed = text is None or kept is not None or stat.S_IMODE(os.stat(path).st_mode) != _MODE
    previous = f"{path}.previous"
    if changed and not dry_run:
        try:
            owner = _owner(path)
            if kept is not None:
                place(previous, kept, _MODE, owner)
            place(path, json.dumps(document, indent=2).encode() + b"\n", _MODE, owner)
        except OSError as error:
            raise DiskengineError(f"cannot save to {path}: {error.strerror}") from None
    return Saved(changed, diff, None if kept is None else previous)


def _read(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refusal(f"cannot read {path}: {error.strerror}") from None


def _entries(text: Optional[bytes], path: str) -> list:
    """Return the entries of the file that will be replaced, none if it is no configuration."""
    try:
        return parse(json.loads(text or b""), path)
    except (ValueError, Refusal):
        return []


def _owner(path: str) -> Optional[tuple]:
    """Return the user and group of the file that will be replaced, if there is one."""
    if not os.path.exists(path):
        return None
    found = os.stat(path)
    return found.st_uid, found.st_gid
