# SPDX-License-Identifier: GPL-3.0-or-later
"""The same calls without the collection: as quick as the wire allows, and as people make them today.

Shares no code with the collection. A call is (method, parameters); a volume is the list of its calls in their order.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import deque

WINDOW = 64
_PROCESS = """
import json, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(sys.argv[2].encode())
answer = b""
while not answer.endswith(b"\\n"):
    answer += connection.recv(65536)
sys.exit("error" in json.loads(answer))
"""


class Wire:
    """One connection; requests go out as they are, answers come back in the order in which the target has them."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._text = ""
        self._last = 0

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._socket.close()

    def send(self, calls):
        """Send one request for each call, and return their ids."""
        requests = [self._request(*call) for call in calls]
        self._socket.sendall("\n".join(json.dumps(request) for request in requests).encode())
        return [request["id"] for request in requests]

    def send_batch(self, calls):
        """Send the calls as one JSON array."""
        self._socket.sendall(json.dumps([self._request(*call) for call in calls]).encode())

    def receive(self):
        """Wait for answers and return those that are complete; an array counts as what is in it."""
        decoder = json.JSONDecoder()
        while True:
            data = self._socket.recv(1 << 20)
            if not data:
                raise ConnectionError("the target closed the connection")
            self._text += data.decode()
            if not data.endswith((b"}", b"]", b"\n")):
                continue
            answers, position = [], 0
            while position < len(self._text):
                try:
                    value, position = decoder.raw_decode(self._text, position)
                except json.JSONDecodeError:
                    break
                answers += value if isinstance(value, list) else [value]
                while self._text[position : position + 1].isspace():
                    position += 1
            self._text = self._text[position:]
            if answers:
                return answers

    def one(self, *call):
        """Make one call and return its answer, be it a result or an error."""
        self.send([call])
        (answer,) = self.receive()
        return answer

    def _request(self, method, params):
        self._last += 1
        return {"jsonrpc": "2.0", "id": self._last, "method": method, **({"params": params} if params else {})}


def pipelined(path, volumes, window=WINDOW):
    """All calls, ``window`` of them in flight, those of one volume after each other."""
    with Wire(path) as wire:
        ready = deque(range(len(volumes)))
        position = [0] * len(volumes)
        out = {}
        while ready or out:
            going = [ready.popleft() for _place in range(min(window - len(out), len(ready)))]
            if going:
                ids = wire.send([volumes[number][position[number]] for number in going])
                out.update(zip(ids, going))
            for answer in wire.receive():
                _check(answer)
                number = out.pop(answer["id"])
                position[number] += 1
                if position[number] < len(volumes[number]):
                    ready.append(number)


def batched(path, volumes, size=WINDOW):
    """All calls in JSON arrays of ``size``, one at a time: the first call of every volume, then the second, ..."""
    with Wire(path) as wire:
        for step in range(max(map(len, volumes))):
            calls = [volume[step] for volume in volumes if step < len(volume)]
            for start in range(0, len(calls), size):
                part = calls[start : start + size]
                wire.send_batch(part)
                answers = []
                while len(answers) < len(part):
                    answers += wire.receive()
                for answer in answers:
                    _check(answer)


def checked_first(path, volumes):
    """One call after the other on one connection, each after reading what it is about."""
    with Wire(path) as wire:
        for volume in volumes:
            for call in volume:
                wire.one(*_look(*call))
                _check(wire.one(*call))


def one_process_each(path, volumes):
    """One process for each call, as with a command-line client (rpc.py also imports some hundred commands)."""
    for volume in volumes:
        for method, params in volume:
            request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
            subprocess.run([sys.executable, "-c", _PROCESS, path, request], check=True)


def read_all(path, calls, how):
    """Read everything: the calls one after the other, pipelined, or as one batch."""
    with Wire(path) as wire:
        if how == "sequential":
            for call in calls:
                _check(wire.one(*call))
            return
        (wire.send_batch if how == "batch" else wire.send)(calls)
        answers = 0
        while answers < len(calls):
            answers += len(wire.receive())


def _look(method, params):
    if method == "bdev_lvol_create":
        store = params.get("uuid") or params["lvs_name"]
        return "bdev_get_bdevs", {"name": f"{store}/{params['lvol_name']}"}
    if method == "bdev_nvme_attach_controller":
        return "bdev_nvme_get_controllers", {"name": params["name"]}
    if method == "bdev_raid_create":
        return "bdev_raid_get_bdevs", {"category": "all"}
    if method == "vhost_create_blk_controller":
        return "vhost_get_controllers", {"name": params["ctrlr"]}
    return "nvmf_get_subsystems", {"nqn": params["nqn"]}


def _check(answer):
    if "error" in answer:
        raise RuntimeError(f"the target answered {answer['error']}")
