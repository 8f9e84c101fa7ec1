# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that are read as they are and put in place whole. Private to the collection."""

from __future__ import annotations

import os
import stat
import tempfile
from typing import NamedTuple, Optional


class File(NamedTuple):
    """A file that is there: what is in it, its permission bits, and the ID of the user that it belongs to."""

    content: bytes
    mode: int
    owner: int


def look(path: str) -> Optional[File]:
    """Return the file under ``path``, following links, or None if there is none. Raises OSError."""
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            return File(file.read(), stat.S_IMODE(found.st_mode), found.st_uid)
    except FileNotFoundError:
        return None


def place(path: str, content: bytes, mode: int, owner: Optional[tuple] = None) -> None:
    """Put a file in place: at every moment there is a whole one under ``path``, or none. Raises OSError.

    ``owner`` is the IDs of a user and a group, of which -1 stays that of this process.
    """
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".diskengine-", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
