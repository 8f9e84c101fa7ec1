# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that a test does something to: at a certain call, or beside another run."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

WAIT_SECONDS = 120


def parents():
    """The parent of each process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def playbook_of(pid):
    """The processes of the ansible-playbook that runs the module pid, itself first and the module last."""
    parent = parents()
    top = int(Path(f"/proc/{pid}/comm").read_text().removeprefix("for "))  # see support/module_server.py
    while parent[parent[top]] != os.getpid():  # between them is the process that forks for each run
        top = parent[top]
    family = [top]
    for member in family:
        family += [child for child, of in parent.items() if of == member]
    return [*family, pid]


def until(condition):
    """Wait until the condition holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to this"
        time.sleep(0.01)


def at(site, method, action, occurrence=1):
    """Arrange that action(site, request) is called at one answer; returns the list of requests it was called with."""
    done, recorder = [], site.target.recorder

    def before_answer(number):
        earlier = [request["method"] for request in recorder.requests[: number - 1]]
        request = recorder.requests[number - 1]
        if number and not done and request["method"] == method and earlier.count(method) == occurrence - 1:
            done.append(request)
            action(site, request)

    recorder.before_answer = before_answer
    return done


def kill_target(site, request):
    """An action for at(): the target dies, and with it the answer."""
    site.target.kill()
    raise ConnectionResetError


def in_background(call):
    """Run a call in a thread; returns a function that waits for its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()

    def wait():
        thread.join(WAIT_SECONDS)
        return results[0]

    return wait
