# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time on a node, and none that was overtaken. Private to the collection."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Optional

from ansible.module_utils.basic import AnsibleModule

from ._errors import Refusal, Unreachable

_PAUSE = 0.1
_LEASE = re.compile(r"^lease (\d+)$", re.MULTILINE)


def lock_unless_check(module: AnsibleModule) -> AbstractContextManager:
    """Return the lock of the module's target; check mode changes nothing and needs none."""
    if module.check_mode:
        return nullcontext()
    return node_lock(*(module.params[name] for name in ("socket", "lock_wait", "lease")))


@contextmanager
def node_lock(socket_path: str, wait: float, lease: Optional[int] = None) -> Iterator[None]:
    """Hold the lock of the target behind ``socket_path``, waiting up to ``wait`` seconds for another run to end.

    ``lease`` is the token of the run's lease of the node, if it has one. The highest that ever came is kept in the lock
    file, and Refusal raised when this one is lower: whoever has the higher one took the node over.

    The lock file is ``<socket>.client.lock`` (``<socket>.lock`` is the target's own, contract section 1); the kernel
    lets go of it when its holder dies. Raises Unreachable with the holder when it does not become free. Where there
    is no socket there is nothing to lock: connecting will say so.
    """
    if not os.path.exists(socket_path) or not stat.S_ISSOCK(os.stat(socket_path).st_mode):
        yield
        return
    path = f"{socket_path}.client.lock"
    try:
        descriptor = _open(path)
    except OSError as error:
        raise Unreachable(f"cannot open the lock file {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "r+") as lock:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = lock.readline().strip() or "an unknown process"
                    raise Unreachable(
                        f"another run ({holder}) holds {path} and did not end within {wait:g} s; try again when it has"
                    ) from None
                time.sleep(_PAUSE)
        seen = _LEASE.search(lock.read())
        highest = int(seen[1]) if seen else None
        if lease is not None and highest is not None and lease < highest:
            raise Refusal(
                f"this run has lost the node: it came with lease {lease}, and another was here with lease {highest}; "
                f"nothing was sent, run it again (if the database has begun anew, remove {path} first)"
            )
        kept = highest if lease is None else lease
        _replace(lock.fileno(), f"process {os.getpid()}\n" + ("" if kept is None else f"lease {kept}\n"))
        yield


def _replace(descriptor: int, text: str) -> None:
    """Write the content of the file in one call: whoever is killed here leaves the old lease or the new one."""
    content = text.encode()
    os.pwrite(descriptor, content, 0)
    os.ftruncate(descriptor, len(content))


def _open(path: str) -> int:
    """Open the file if it is there, else create it: O_CREAT fails on someone else's file in a sticky directory."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
