# SPDX-License-Identifier: GPL-3.0-or-later
"""The server around a target: one Unix socket, polled every few milliseconds (contract section 1)."""

from __future__ import annotations

import asyncio
import fcntl
import json
import math
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from . import catalogue, wire
from .errors import INVALID_REQUEST, RpcFailure, TargetCrash
from .faults import Faults
from .journal import Journal
from .target import Target

MAX_CONNECTIONS = 64
SEND_BUFFER = 32 * 2**20
EXIT_STATUS = {"SIGSEGV": 139, "SIGABRT": 134}
DIED = 137


class SocketInUse(Exception):
    """Another target holds the guard file of this socket."""


class Guard:
    """The file ``<socket>.lock``: whoever holds its lock owns the socket, stale files are taken over."""

    def __init__(self, path: str) -> None:
        self.path = f"{path}.lock"
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self.file)
            raise SocketInUse(path) from None

    def release(self) -> None:
        """Give the socket up."""
        os.unlink(self.path)
        os.close(self.file)


class Connection:
    """One client."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()
        self.answers: list[bytes] = []
        self.unsent = b""
        self.open = True

    def flush(self) -> bool:
        """Send what there is; returns whether nothing is left."""
        data = self.unsent + b"".join(self.answers)
        self.answers.clear()
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                break
            except OSError:
                self.open = False
                break
        self.unsent = data
        return not data


class Batch:
    """The answers of one array request, sent together when the last is there."""

    def __init__(self, connection: Connection, count: int) -> None:
        self.connection = connection
        self.left = count
        self.answers: list[str] = []

    def add(self, answer: str | None) -> str | None:
        """One element is done; returns the whole answer after the last."""
        self.left -= 1
        if answer is not None:
            self.answers.append(answer)
        return f"[{','.join(self.answers)}]" if not self.left and self.answers else None


def answer_text(ident: Any, outcome: Any) -> str | None:
    """The JSON text of an answer; None for a notification that succeeded."""
    head = f'{{"jsonrpc":"2.0","id":{wire.dump_id(ident)},'
    if isinstance(outcome, RpcFailure):
        return f'{head}"error":{wire.dumps({"code": outcome.code, "message": outcome.message})}}}'
    return None if ident is None else f'{head}"result":{wire.dumps(outcome)}}}'


class Server:
    """Serves ``target`` on the Unix socket ``path``.

    ``poll`` is the time between two polls in seconds; ``call_log`` an open text file for one line per received call;
    ``control`` the path of the control socket.
    """

    def __init__(
        self,
        target: Target,
        path: str,
        *,
        poll: float = 0.004,
        journal: Journal | None = None,
        call_log: Any = None,
        control: str | None = None,
        faults: Faults | None = None,
        controls: dict[str, Callable[[dict[str, Any]], Any]] | None = None,
    ) -> None:
        self.target = target
        self.path = path
        self.poll = poll
        self.journal = journal
        self.call_log = call_log
        self.control = control
        self.faults = faults or Faults()
        self.controls = controls or {}
        self.limits = wire.limits(target.release)
        self.connections: list[Connection] = []
        self.waiting: list[tuple[float, Connection, str]] = []
        self.timer: asyncio.TimerHandle | None = None
        self.stopped = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until ``stop``; ``ready`` is called when the socket accepts."""
        self.loop = asyncio.get_running_loop()
        self.start = self.loop.time()
        guard = Guard(self.path)
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.listener.bind(self.path)
        self.listener.listen(512)
        control = await self._open_control()
        self._tick()
        ready()
        await self.stopped.wait()
        if self.timer:
            self.timer.cancel()
        for connection in self.connections:
            connection.sock.close()
        self.listener.close()
        os.unlink(self.path)
        if control:
            control.close()
            os.unlink(self.control)
        guard.release()

    def stop(self) -> None:
        """SIGTERM: end, unless half-deleted lvols keep the real program from ending (contract section 12, 5)."""
        if not any(lvol.busy == "stuck" for store in self.target.lvstores.values() for lvol in store.lvols.values()):
            self.stopped.set()

    def wake(self, fileno: int | None = None) -> None:
        """Something is readable: look at it at the next poll."""
        if fileno is not None:
            self.loop.remove_reader(fileno)
        now = self.loop.time()
        when = now if not self.poll else self.start + math.ceil((now - self.start) / self.poll) * self.poll
        self._schedule(when)

    def _schedule(self, when: float) -> None:
        if self.timer is not None:
            if self.timer.when() <= when:
                return
            self.timer.cancel()
        self.timer = self.loop.call_at(when, self._tick)

    def _tick(self) -> None:
        """One poll. What is to be answered now is saved before it is sent."""
        self.timer = None
        began = self.loop.time()
        self.target.now = began - self.start
        try:
            self.target.poll()
            self._save()
            self._accept()
            for connection in self.connections:
                self._serve(connection)
        except TargetCrash as crash:
            self._save()
            print(f"spdk_sim: target crashed: {crash}", file=sys.stderr, flush=True)
            os._exit(EXIT_STATUS[crash.signal])
        self._save()
        self._send_late(began)
        self._after_tick(began)

    def _after_tick(self, began: float) -> None:
        for connection in self.connections:
            if connection.open:
                self.loop.add_reader(connection.sock.fileno(), self.wake, connection.sock.fileno())
            else:
                connection.sock.close()
        self.connections = [connection for connection in self.connections if connection.open]
        if len(self.connections) < MAX_CONNECTIONS:
            self.loop.add_reader(self.listener.fileno(), self.wake, self.listener.fileno())
        busy = any(connection.answers or connection.unsent for connection in self.connections)
        if busy or any(operation.wait is None for operation in self.target.pending):
            self._schedule(max(began + self.poll, self.loop.time()))
        times = [when for when, _connection, _answer in self.waiting]
        deadline = self.target.next_deadline()
        if deadline is not None:
            times.append(self.start + deadline)
        if times:
            self._schedule(max(min(times), began + self.poll))

    def _save(self) -> None:
        if self.journal:
            self.journal.save()

    def _send_late(self, now: float) -> None:
        due = [entry for entry in self.waiting if entry[0] <= now]
        self.waiting = [entry for entry in self.waiting if entry[0] > now]
        for _when, connection, answer in due:
            connection.answers.append(answer.encode() + b"\n")

    def _accept(self) -> None:
        while len(self.connections) < MAX_CONNECTIONS:
            try:
                sock, _address = self.listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            self.connections.append(Connection(sock))
        self.loop.remove_reader(self.listener.fileno())

    def _close(self, connection: Connection) -> None:
        connection.open = False
        self.loop.remove_reader(connection.sock.fileno())

    def _serve(self, connection: Connection) -> None:
        """Flush, receive once, dispatch everything complete."""
        if not connection.flush() and connection.open:
            return
        try:
            room = self.limits.buffer - len(connection.received)
            data = connection.sock.recv(room) if connection.open else b""
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        connection.received += data
        try:
            self._dispatch_all(connection)
        except wire.Malformed:
            self._close(connection)

    def _dispatch_all(self, connection: Connection) -> None:
        data = connection.received
        at = 0
        while connection.open:
            end = wire.scan(data, at, self.limits.values)
            if end is None:
                break
            self._dispatch(connection, wire.parse(bytes(data[at:end])))
            at = end
        del data[:at]
        if len(data) >= self.limits.buffer:
            raise wire.Malformed
        if not data.strip(b" \t\r\n"):
            data.clear()

    def _dispatch(self, connection: Connection, value: Any) -> None:
        if not isinstance(value, list) or not value or self.target.release < catalogue.BATCHES_SINCE:
            self._one(connection, wire.request(value), None)
            return
        batch = Batch(connection, len(value))
        for element in value:
            self._one(connection, wire.request(element), batch)

    def _one(self, connection: Connection, request: wire.Request, batch: Batch | None) -> None:
        delay = 0.0

        def reply(outcome: Any) -> None:
            answer = answer_text(request.ident, outcome)
            if batch is not None:
                answer = batch.add(answer)
            if answer is not None and connection.open:
                self._queue(connection, answer, delay)

        if request.error:
            reply(RpcFailure(INVALID_REQUEST, "Invalid request"))
            return
        number, effects = self.faults.received(request.method)
        self._log(number, request, batch is not None)
        delay = effects.delay
        if effects.die == "before":
            self._die()
        if effects.hang:
            return
        if effects.error:
            reply(RpcFailure(*effects.error))
            return

        def finish(outcome: Any) -> None:
            if effects.die == "after":
                self._die()
            if effects.drop:
                self._close(connection)
            reply(outcome)

        self.target.submit(request.method, request.params, finish)

    def _queue(self, connection: Connection, answer: str, delay: float) -> None:
        if len(answer) > SEND_BUFFER:
            self._close(connection)
        elif delay:
            self.waiting.append((self.loop.time() + delay, connection, answer))
        else:
            connection.answers.append(answer.encode() + b"\n")

    def _log(self, number: int, request: wire.Request, batch: bool) -> None:
        if self.call_log:
            entry = {"n": number, "method": request.method, "params": request.params, "batch": batch}
            self.call_log.write(json.dumps(entry) + "\n")
            self.call_log.flush()

    def _die(self) -> None:
        self._save()
        os._exit(DIED)

    async def _open_control(self) -> Any:
        if self.control is None:
            return None
        if os.path.exists(self.control):
            os.unlink(self.control)
        return await asyncio.start_unix_server(self._serve_control, self.control)

    async def _serve_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One JSON object per line in, one per line out: {"ok": result} or {"error": text}."""
        while line := await reader.readline():
            try:
                command = json.loads(line)
                answer = {"ok": self._control(command)}
            except (ValueError, KeyError, TypeError, RpcFailure) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            self.wake()
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    def _control(self, command: dict[str, Any]) -> Any:
        name = command["op"]
        if name == "fault":
            self.faults.add(command["rule"])
            return len(self.faults.rules)
        if name == "clear":
            self.faults.rules.clear()
            return 0
        if name == "calls":
            return {"calls": self.faults.calls, "by_method": self.faults.by_method}
        return self.controls[name](command)
