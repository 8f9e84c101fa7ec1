# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator's server in a thread of the test, with faults, and its log of calls."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.excloud.diskengine.plugins.module_utils._rpc import Client
from spdk_sim import Target
from spdk_sim.faults import Faults
from spdk_sim.server import Server


class Log:
    """The calls that reached the target, in order; an open file to the server."""

    def __init__(self) -> None:
        self.calls: list[dict] = []

    def write(self, line: str) -> None:
        """Take one line."""
        self.calls.append(json.loads(line))

    def flush(self) -> None:
        """Nothing to do."""

    @property
    def mutations(self) -> list[tuple[str, str]]:
        """(method, parameters) of what changes something."""
        return [
            (call["method"], json.dumps(call["params"], sort_keys=True))
            for call in self.calls
            if "_get_" not in call["method"]
        ]


class Served:
    """A served target: ``connect()`` gives a client, ``log`` what arrived; ``faults.add(rule)`` makes trouble.

    ``lose`` takes the numbers of calls that never reach the target, counted like those of the faults.
    """

    def __init__(self, target: Target, path: str) -> None:
        self.target = target
        self.path = path
        self.log = Log()
        self.faults = Faults()
        self.lose: set[int] = set()
        self.connections = 0

    def connect(self, timeout: float = 30.0) -> Client:
        """A new connection."""
        self.connections += 1
        return Client(self.path, timeout)


class LosingServer(Server):
    """Hangs up on the calls whose numbers are in ``lose``, before anything is done for them."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.lose: set[int] = set()

    def _one(self, connection, request, batch) -> None:
        if self.faults.calls + 1 in self.lose:
            self.faults.received(request.method)
            self._close(connection)
        else:
            super()._one(connection, request, batch)


@contextmanager
def serving(target: Target) -> Iterator[Served]:
    """Serve a target for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="sim", dir="/tmp") as directory:
        served = Served(target, f"{directory}/s")
        server = LosingServer(target, served.path, poll=0, faults=served.faults, call_log=served.log)
        served.lose = server.lose
        ready = threading.Event()
        loops: list = []

        async def run() -> None:
            loops.append(asyncio.get_running_loop())
            await server.run(ready.set)

        thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
        thread.start()
        assert ready.wait(30)
        try:
            yield served
        finally:
            loops[0].call_soon_threadsafe(server.stop)
            thread.join(30)
