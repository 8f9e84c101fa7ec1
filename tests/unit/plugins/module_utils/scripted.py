# SPDX-License-Identifier: GPL-3.0-or-later
"""A JSON-RPC server on a real Unix socket that does what a test says; it shares no code with the client."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

VERSION = {"version": "SPDK v26.05", "fields": {"major": 26, "minor": 5, "patch": 0, "suffix": ""}}
HELLO = {"spdk_get_version", "rpc_get_methods"}


def result(request: dict, value: Any) -> dict:
    """The answer to a request."""
    return {"jsonrpc": "2.0", "id": request["id"], "result": value}


def error(request: dict, code: int, message: str) -> dict:
    """An error answer."""
    return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}}


class Session:
    """One connection as the script sees it: ``take`` requests, ``send`` bytes."""

    def __init__(self, connection: socket.socket, note: Callable[[Any], None]) -> None:
        self.connection = connection
        self.values: list = []
        self._text = ""
        self._note = note

    def receive(self) -> bool:
        """Take in what has arrived; false when the client is gone."""
        data = self.connection.recv(1 << 20)
        self._text += data.decode()
        decoder = json.JSONDecoder()
        while True:
            text = self._text.lstrip()
            try:
                value, end = decoder.raw_decode(text)
            except ValueError:
                return bool(data)
            self._text = text[end:]
            self._note(value)
            self.values.append(value)

    def take(self, count: int = 1) -> list:
        """The next ``count`` top-level values, waiting for them; EOFError when the client is gone."""
        while len(self.values) < count:
            if not self.receive():
                raise EOFError
        taken, self.values = self.values[:count], self.values[count:]
        return taken

    def send(self, *answers: Any, end: str = "\n") -> None:
        """Send answers in one write."""
        self.connection.sendall("".join(json.dumps(answer, separators=(",", ":")) + end for answer in answers).encode())

    def wait_for_close(self) -> None:
        """Return when the client has closed."""
        while self.receive():
            pass


class Scripted:
    """Serves connections one after the other: greets like a target, then runs ``script(session)``.

    ``seen`` counts requests by (method, params) over all connections; ``batches`` are the arrays received;
    ``problem`` is what the script raised.
    """

    def __init__(self, path: str, script: Callable[[Session], None], version: dict, methods: list) -> None:
        self.path = path
        self.seen: Counter = Counter()
        self.batches: list = []
        self.problem: BaseException | None = None
        self._script = script
        self._hello = {"spdk_get_version": version, "rpc_get_methods": methods}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the script waits for something that never came"
        if self.problem is not None:
            raise self.problem

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(number for (name, _params), number in self.seen.items() if name == method)

    def _note(self, value: Any) -> None:
        if isinstance(value, list):
            self.batches.append(value)
        for request in value if isinstance(value, list) else [value]:
            self.seen[request["method"], json.dumps(request.get("params"), sort_keys=True)] += 1

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            with connection:
                session = Session(connection, self._note)
                try:
                    for request in session.take(2):
                        session.send(result(request, self._hello[request["method"]]))
                    self._script(session)
                except (EOFError, ConnectionError):
                    pass
                except BaseException as problem:
                    self.problem = problem
                    return
