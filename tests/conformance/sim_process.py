# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulator process and a plain client, for what only a real socket shows."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

SIMULATOR = Path(__file__).resolve().parent.parent / "spdk_sim"
TIMEOUT = 20


class Client:
    """A connection that can send anything and reads answers from the stream."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(str(path))
        self.rest = ""
        self.number = 0

    def send(self, data: bytes) -> None:
        """Send bytes as they are; a server that closes meanwhile is no error."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def answer(self) -> Any:
        """The next JSON value; EOFError when the server closed."""
        while True:
            text = self.rest.lstrip()
            if text:
                try:
                    value, end = json.JSONDecoder().raw_decode(text)
                except ValueError:
                    pass
                else:
                    self.rest = text[end:]
                    return value
            try:
                data = self.sock.recv(2**20)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError(self.rest)
            self.rest += data.decode()

    def request(self, method: str, params: Any = None) -> bytes:
        """The bytes of a request with the next id."""
        self.number += 1
        value = {"jsonrpc": "2.0", "id": self.number, "method": method}
        return json.dumps(value if params is None else value | {"params": params}).encode()

    def call(self, method: str, params: Any = None) -> Any:
        """One call; returns the whole answer without the jsonrpc member."""
        self.send(self.request(method, params))
        value = self.answer()
        assert value["id"] == self.number
        return value

    def result(self, method: str, params: Any = None) -> Any:
        """One call that must succeed."""
        return self.call(method, params)["result"]

    def all_at_once(self, requests: list[tuple[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
        """Write all requests in one write; (position, answer) in order of arrival."""
        first = self.number + 1
        self.send(b"".join(self.request(*request) for request in requests))
        answers = [self.answer() for _request in requests]
        return [(answer["id"] - first, answer) for answer in answers]

    def close(self) -> None:
        """Disconnect."""
        self.sock.close()


class Sim:
    """A simulator process in a directory; use as a context manager."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.socket = directory / "s"
        self.control_socket = directory / "c"
        self.arguments = [sys.executable, str(SIMULATOR), "--socket", str(self.socket), *arguments]
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Sim:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def start(self) -> None:
        """Start the process and wait until it serves."""
        self.process = subprocess.Popen(self.arguments, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        assert line == "spdk_sim: ready\n", line + self.process.stderr.read()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.wait()

    def wait(self) -> tuple[int, str]:
        """Exit status and the rest of standard error of a process that ends by itself."""
        text = self.process.stderr.read()
        status = self.process.wait(TIMEOUT)
        self.process.stderr.close()
        return status, text

    def client(self) -> Client:
        """A new connection."""
        return Client(self.socket)

    def control(self, **command: Any) -> Any:
        """One command on the control socket."""
        client = Client(self.control_socket)
        client.send(json.dumps(command).encode() + b"\n")
        answer = client.answer()
        client.close()
        return answer["ok"]
