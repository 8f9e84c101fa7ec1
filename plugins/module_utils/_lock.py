# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time on a node. Private to the collection."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from ansible.module_utils.basic import AnsibleModule

from ._errors import Unreachable

_PAUSE = 0.1


def lock_unless_check(module: AnsibleModule) -> AbstractContextManager:
    """Return the lock of the module's target; check mode changes nothing and needs none."""
    return nullcontext() if module.check_mode else node_lock(module.params["socket"], module.params["lock_wait"])


@contextmanager
def node_lock(socket_path: str, wait: float) -> Iterator[None]:
    """Hold the lock of the target behind ``socket_path``, waiting up to ``wait`` seconds for another run to end.

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
                    holder = lock.read().strip() or "an unknown process"
                    raise Unreachable(
                        f"another run ({holder}) holds {path} and did not end within {wait:g} s; try again when it has"
                    ) from None
                time.sleep(_PAUSE)
        lock.truncate(0)
        lock.write(f"process {os.getpid()}\n")
        lock.flush()
        yield


def _open(path: str) -> int:
    """Open the file if it is there, else create it: O_CREAT fails on someone else's file in a sticky directory."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
