# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wire: one Unix socket, many JSON-RPC calls in flight, a deadline for each. Private to the collection.

Knows nothing about storage. Facts about the server are from the contract, section 1: no framing, answers in order of
completion, one poll each 4 ms.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import socket
import stat
import struct
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

from ._errors import Refusal, RpcError, UnknownOutcome, Unreachable
from ._releases import OLDEST, Release, identify

WINDOW = 64

_LONGEST_PATH = 107
_CHUNK = 1 << 20


class Call(NamedTuple):
    """One request: ``subject`` names the object it is about, for messages."""

    method: str
    params: Optional[dict] = None
    subject: str = ""


class Reply(NamedTuple):
    """How one call ended: ``error`` is None, an RpcError, an UnknownOutcome, or a Refusal of one too large to send."""

    call: Call
    result: Any = None
    error: Optional[Exception] = None


class Framer:
    """Cuts a stream of JSON values that nothing separates into values, torn and merged as the socket delivers them."""

    def __init__(self) -> None:
        self._pending: list[bytes] = []
        self._decoder = json.JSONDecoder()

    def feed(self, data: bytes) -> list:
        """Take what was received and return the values that are complete now.

        A value is only looked for where one can end, so that a large answer is not parsed again for each piece of it.
        """
        self._pending.append(data)
        if b"\n" not in data and data[-1:] not in (b"}", b"]"):
            return []
        text = b"".join(self._pending).decode("utf-8", "surrogateescape")
        values, position = [], 0
        while True:
            while position < len(text) and text[position].isspace():
                position += 1
            if position == len(text):
                break
            try:
                value, position = self._decoder.raw_decode(text, position)
            except ValueError:
                break
            values.append(value)
        self._pending = [text[position:].encode("utf-8", "surrogateescape")]
        return values


class _Flight(NamedTuple):
    calls: dict
    deadline: float


class Client:
    """A connection to one target with up to 64 calls in flight.

    ``submit`` hands calls in, ``settle`` gives back those that ended. After a deadline has passed or the connection
    has broken, exactly the calls that were out end as UnknownOutcome, ``broken`` holds the reason and ``hung`` tells
    whether it was a deadline; calls not sent yet are returned by ``withdraw``.
    """

    def __init__(self, path: str, timeout: float) -> None:
        """Connect to the Unix socket ``path``; each call has ``timeout`` seconds. Raises Unreachable."""
        self.path = path
        self.broken: Optional[str] = None
        self.hung = False
        self._timeout = timeout
        self._framer = Framer()
        self._queue: deque[Call] = deque()
        self._out: dict[int, _Flight] = {}
        self._unsent = b""
        self._last_id = 0
        self.release = Release(OLDEST, frozenset())
        self._socket = _connect(path, timeout)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        try:
            self.release = self._identify()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what is in flight is still carried out by the target."""
        self._selector.close()
        self._socket.close()

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight and nothing waits to be sent."""
        return not self._queue and not self._out

    @property
    def peer(self) -> int:
        """The ID of the process that listens; 0 if it cannot be seen from here."""
        return self._credentials()[0]

    @property
    def peer_user(self) -> int:
        """The ID of the user that the process which listens runs as."""
        return self._credentials()[1]

    def _credentials(self) -> tuple:
        return struct.unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))

    def submit(self, calls: Iterable[Call]) -> None:
        """Queue calls that may be in flight together; they leave as the window allows."""
        self._queue.extend(calls)

    def withdraw(self) -> list[Call]:
        """Take back the calls that were queued and never sent."""
        calls = list(self._queue)
        self._queue.clear()
        return calls

    def settle(self) -> list[Reply]:
        """Send what the window allows and wait until at least one call ended; an empty list if nothing is out."""
        refused = self._fill_window()
        if refused:
            return refused
        while self._out:
            replies = self._exchange()
            if replies:
                return replies
        return []

    def call(self, method: str, params: Optional[dict] = None, subject: str = "") -> Any:
        """Make one call and return its result. Raises RpcError or UnknownOutcome."""
        return _results(self.ask([Call(method, params, subject)]))[0]

    def read(self, calls: list[Call]) -> list:
        """Make getter calls in one round trip and return their results in order. Raises RpcError, UnknownOutcome.

        One batch where the server takes batches (v26.05 on), else the same calls pipelined. Mutations are never
        batched: a batch is answered when its last element ends, which would hide which object a target hangs on.
        """
        if self.release.has_batches and len(calls) > 1:
            self._send({self._next_id(): call for call in calls}, as_batch=True)
        else:
            self.submit(calls)
        return _results(self._gather(calls))

    def ask(self, calls: list[Call]) -> list[Reply]:
        """Make calls that do not depend on each other and return how each ended, in their order. Raises nothing.

        After a call that got no answer in time nothing more is sent; what was not sent then ends as Unreachable.
        """
        self.submit(calls)
        return self._gather(calls)

    def _identify(self) -> Release:
        calls = [Call("spdk_get_version"), Call("rpc_get_methods", {"current": True})]
        try:
            version, methods = _results(self.ask(calls))
        except UnknownOutcome as error:
            if not self.hung:
                raise Unreachable(
                    f"the target behind {self.path} hung up before it answered ({error.reason}): it is ending, or "
                    f"something else serves this socket"
                ) from None
            raise Unreachable(
                f"the target behind {self.path} accepted the connection but gave no answer ({error.reason}): it hangs, "
                f"or all of its 64 connections are taken"
            ) from None
        return identify(version, methods)

    def _gather(self, calls: list[Call]) -> list[Reply]:
        replies: dict[int, Reply] = {}
        while not self.idle:
            if self.broken:
                for call in self.withdraw():
                    replies[id(call)] = Reply(call, error=Unreachable(f"{self.path}: {self.broken}"))
            for reply in self.settle():
                replies[id(reply.call)] = reply
        return [replies[id(call)] for call in calls]

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _fill_window(self) -> list[Reply]:
        """Send what the window allows; return the calls that are too large to be sent at all."""
        refused = []
        while self._queue and not self.broken and len(self._out) < WINDOW:
            call = self._queue.popleft()
            try:
                self._send({self._next_id(): call})
            except Refusal as error:
                refused.append(Reply(call, error=error))
        return refused

    def _send(self, calls: dict, as_batch: bool = False) -> None:
        requests = []
        for identifier, call in calls.items():
            request: dict = {"jsonrpc": "2.0", "id": identifier, "method": call.method}
            if call.params:
                request["params"] = call.params
            requests.append(request)
        data = json.dumps(requests if as_batch else requests[0], separators=(",", ":")).encode()
        limit = self.release.request_limit
        if len(data) >= limit:
            raise Refusal(f"a request of {len(data)} bytes is over the target's limit of {limit} bytes")
        flight = _Flight(dict(calls), time.monotonic() + self._timeout)
        for identifier in calls:
            self._out[identifier] = flight
        self._unsent += data + b"\n"

    def _exchange(self) -> list[Reply]:
        """Move bytes until an answer came, the connection broke or the next deadline passed."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        self._selector.modify(self._socket, events)
        deadline = min(flight.deadline for flight in self._out.values())
        ready = self._selector.select(max(0.0, deadline - time.monotonic()))
        if not ready:
            if time.monotonic() < deadline:
                return []
            return self._lose(f"no answer within {self._timeout:g} s", deadline)
        try:
            if ready[0][1] & selectors.EVENT_WRITE:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            if not ready[0][1] & selectors.EVENT_READ:
                return []
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return []
        except OSError as error:
            return self._lose(f"the connection broke ({os.strerror(error.errno or errno.EIO)})")
        if not data:
            return self._lose("the target closed the connection")
        replies: list[Reply] = []
        for value in self._framer.feed(data):
            for answer in value if isinstance(value, list) else [value]:
                if not isinstance(answer, dict):
                    return replies + self._lose("what it sent is not JSON-RPC")
                flight = self._out.pop(answer.get("id", 0), None)
                if flight is not None:
                    replies.append(_reply(flight.calls[answer["id"]], answer))
        return replies

    def _lose(self, reason: str, overdue: Optional[float] = None) -> list[Reply]:
        """End calls as unknown: those past their deadline, or all of them when the connection is gone."""
        self.broken = self.broken or reason
        self.hung = self.hung or overdue is not None
        lost = [i for i, flight in self._out.items() if overdue is None or flight.deadline <= overdue]
        return [
            Reply(call, error=UnknownOutcome(call.method, call.subject, reason))
            for call in (self._out.pop(identifier).calls[identifier] for identifier in lost)
        ]


def _results(replies: list[Reply]) -> list:
    """Return the results, or raise the first error."""
    for reply in replies:
        if reply.error:
            raise reply.error
    return [reply.result for reply in replies]


def _reply(call: Call, answer: dict) -> Reply:
    error = answer.get("error")
    if error is None:
        return Reply(call, answer.get("result"))
    return Reply(call, error=RpcError(call.method, call.subject, error.get("code", 0), error.get("message", "")))


def _connect(path: str, timeout: float) -> socket.socket:
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise Unreachable(f"socket path {path} is longer than the {_LONGEST_PATH} bytes that a Unix socket can have")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise Unreachable(f"{path} is not a socket; give the path of the target's JSON-RPC socket (its -r option)")
        connection.connect(path)
    except BaseException as error:
        connection.close()
        if isinstance(error, OSError):
            raise Unreachable(_why_unreachable(path, error)) from None
        raise
    connection.setblocking(False)
    return connection


def _why_unreachable(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no socket {path}: the target is not running, or its JSON-RPC socket has another path"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens on {path}: the socket was left behind by a target that is gone; start the target"
    if isinstance(error, PermissionError):
        return f"no permission to use {path}: run as the target's user, or as root (become: true)"
    if isinstance(error, (socket.timeout, BlockingIOError)):
        return f"{path} did not accept a connection in time: the target hangs"
    return f"cannot connect to {path}: {error.strerror or error}"
