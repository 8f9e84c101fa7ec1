# SPDX-License-Identifier: GPL-3.0-or-later
"""SPDK targets for tests, the demo and the benchmarks: the real program where SPDK_TGT names it, else the simulator.

Every target stands behind a recorder, so that what reached it is known whichever it is, and so that a test can act
at a given call.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
MIB = 1 << 20
_READS = re.compile(r"(^|_)get(_|$)|^bdev_wait_for_examine$")
_START_SECONDS = 60


def is_real():
    """Whether the targets are the real program."""
    return bool(os.environ.get("SPDK_TGT"))


def is_mutation(request):
    """Whether a recorded request changes something, by the name of its method; a raw command may be a read."""
    if request["method"] == "bdev_nvme_send_cmd":
        return request["params"]["data_direction"] != "c2h"
    return not _READS.search(request["method"])


def free_port():
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RpcFailure(Exception):
    """The target answered a call of the test itself with an error."""


def rpc(path, method, params=None, timeout=60):
    """One JSON-RPC call by a client that shares no code with the collection. Raises RpcFailure."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, **({"params": params} if params else {})}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode())
        data = b""
        while True:
            piece = connection.recv(1 << 20)
            if not piece:
                raise RpcFailure(f"{method}: the target closed the connection")
            data += piece
            if data.endswith(b"\n"):
                answer = json.loads(data)
                break
    if "error" in answer:
        raise RpcFailure(f"{method}: {answer['error']}")
    return answer["result"]


class Target:
    """One target process with disks that outlive it. ``socket`` is the recorder's, ``direct`` the target's own.

    Without ``auto_examine`` it looks at its own disks only, as nodes of an estate should.
    """

    def __init__(self, directory, core=0, options=(), auto_examine=True):
        self.directory = Path(directory)
        self.socket = str(self.directory / "spdk.sock")
        self.direct = str(self.directory / "target.sock")
        self.recorder = Recorder(self.socket, self.direct)
        self._core = core
        self._options = [*options, *(() if auto_examine else ["--wait-for-rpc"])]
        self._auto_examine = auto_examine
        self.beside = []
        self._disks = {}
        self._process = None

    def start(self):
        """Start the process and give it its disks, unless it waits for its start; returns when it answers."""
        log = open(self.directory / "target.log", "ab")  # the process keeps it
        self._process = subprocess.Popen(
            self._command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory
        )
        log.close()
        for target in (self, *self.beside):
            target.await_start(self._process)
        return self

    def await_start(self, process):
        """Wait until the target answers, which is part of a process, and give it its disks."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                rpc(self.direct, "spdk_get_version")
                break
            except (OSError, RpcFailure):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the target did not start: {self.log()}") from None
                time.sleep(0.02)
        if not self._auto_examine:
            self.call("bdev_set_options", {"bdev_auto_examine": False})
            self.call("framework_start_init")
        elif "--wait-for-rpc" in self._options:
            return
        for name in self._disks:
            self._attach(name)

    def add_disk(self, name, size):
        """Add an AIO bdev on a sparse file of ``size`` bytes."""
        path = self.directory / f"{name}.img"
        with open(path, "wb") as file:
            file.truncate(size)
        self._disks[name] = path
        self._attach(name)

    def readd_disk(self, name):
        """Make the bdev of a disk again that was taken away; what is on it is still there."""
        self._attach(name)

    def add_lvstore(self, name, size, **params):
        """Add a disk with an lvstore on it and return the lvstore as the target describes it."""
        self.add_disk(f"disk-{name}", size)
        self.call("bdev_lvol_create_lvstore", {"bdev_name": f"disk-{name}", "lvs_name": name, **params})
        return self.call("bdev_lvol_get_lvstores", {"lvs_name": name})[0]

    def call(self, method, params=None):
        """A call past the recorder."""
        return rpc(self.direct, method, params)

    def control(self, op, **command):
        """An event from outside, which only the simulator can be told of (tests/spdk_sim/cli.py names them)."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.directory / "control"))
            connection.sendall(json.dumps({"op": op, **command}).encode() + b"\n")
            answer = json.loads(connection.makefile().readline())
        assert "error" not in answer, answer
        return answer

    def kill(self):
        """SIGKILL; disks keep what is on them."""
        self._process.kill()
        self._process.wait()

    @contextmanager
    def stopped(self):
        """SIGSTOP for the length of the block: it accepts connections and does nothing."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def is_running(self):
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self):
        """End the process and the recorder."""
        self.recorder.close()
        if self.is_running():
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def log(self):
        """The end of what the process printed."""
        return (self.directory / "target.log").read_text(encoding="utf-8", errors="replace")[-2000:]

    def exports(self):
        """What hosts can reach: {nqn: (listeners, hosts, aliases of the bdevs)}, read past the recorder."""
        alias = {bdev["name"]: (bdev["aliases"] or [bdev["name"]])[0] for bdev in self.call("bdev_get_bdevs")}
        return {
            item["nqn"]: (
                sorted(f"{a['traddr']}:{a['trsvcid']}" for a in item["listen_addresses"]),
                sorted(host["nqn"] for host in item["hosts"]),
                [alias.get(ns["bdev_name"], ns["bdev_name"]) for ns in item["namespaces"]],
            )
            for item in self.call("nvmf_get_subsystems")
            if item["subtype"] == "NVMe"
        }

    def _attach(self, name):
        self.call("bdev_aio_create", {"name": name, "filename": str(self._disks[name]), "block_size": 4096})
        if not self._auto_examine:
            self.call("bdev_examine", {"name": name})
            self.call("bdev_wait_for_examine")

    def _command(self):
        if is_real():
            return [
                os.environ["SPDK_TGT"],
                "--no-huge",
                "--disable-cpumask-locks",
                "-s",
                "2048",
                "-m",
                hex(1 << self._core),
                "-r",
                self.direct,
                *self._options,
            ]
        beside = [f"--beside={shlex.join(target.simulated())}" for target in self.beside]
        state = ["--state", str(self.directory / "state")]
        return [sys.executable, str(TESTS / "spdk_sim"), *self.simulated(), *state, *beside]

    def simulated(self):
        """The options of the simulator for this target alone."""
        return ["--socket", self.direct, "--control", str(self.directory / "control"), *self._options]


class Recorder:
    """Passes bytes between clients and a target and records each request, in order of arrival.

    A request is {method, params, connection, pid}: connections count from 1, pid is the client's. What is not a whole
    request is held back until it is. ``before_answer(n)`` is called when the answer to the n-th request has come,
    before the client gets it; where it raises ConnectionError the answer is lost and both ends are closed.
    """

    def __init__(self, path, target):
        self.requests = []
        self.before_answer = lambda number: None
        self._target = target
        self._connections = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Take no more connections."""
        self._listener.close()

    def clear(self):
        """Forget what was recorded."""
        self.requests.clear()

    @property
    def mutations(self):
        """The recorded requests that change something."""
        return [request for request in self.requests if is_mutation(request)]

    def _accept(self):
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            upstream = socket.socket(socket.AF_UNIX)
            try:
                upstream.connect(self._target)
            except OSError:
                client.close()
                continue
            self._connections += 1
            pid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            about = {"connection": self._connections, "pid": pid}
            numbers = {}
            for source, sink, note, hold in (
                (client, upstream, lambda value, n=numbers, a=about: self._note_request(value, n, a), True),
                (upstream, client, lambda value, n=numbers: self._note_answer(value, n), False),
            ):
                threading.Thread(target=self._pump, args=(source, sink, note, hold), daemon=True).start()

    def _note_request(self, value, numbers, about):
        for request in value if isinstance(value, list) else [value]:
            self.requests.append({"method": request["method"], "params": request.get("params"), **about})
            numbers[request["id"]] = len(self.requests)

    def _note_answer(self, value, numbers):
        for answer in value if isinstance(value, list) else [value]:
            self.before_answer(numbers.get(answer.get("id"), 0))

    def _pump(self, source, sink, note, hold):
        text, held = "", b""
        try:
            while True:
                data = source.recv(1 << 20)
                if not data:
                    break
                text = self._notice(text + data.decode(), note)
                if hold and text:
                    held += data
                    continue
                sink.sendall(held + data)
                held = b""
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    @staticmethod
    def _notice(text, note):
        """Note the values that are complete and return the rest."""
        if not text.rstrip().endswith(("}", "]")):
            return text
        decoder, position = json.JSONDecoder(), 0
        text = text.strip()
        while position < len(text):
            try:
                value, position = decoder.raw_decode(text, position)
            except json.JSONDecodeError:
                break
            note(value)
            while position < len(text) and text[position].isspace():
                position += 1
        return text[position:]


@contextmanager
def running_target(core=0, options=(), auto_examine=True):
    """A started target for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="spdk", dir="/tmp") as directory:
        target = Target(directory, core, options, auto_examine)
        try:
            yield target.start()
        finally:
            target.stop()


@contextmanager
def running_fleet(cores, options=()):
    """Started targets, one for each core, that reach each other over TCP on loopback.

    Each is a process of the real program. The simulator has all of them in the process of the first.
    """
    with ExitStack() as stack:
        if is_real():
            yield [stack.enter_context(running_target(core, options, auto_examine=False)) for core in cores]
            return
        names = [stack.enter_context(tempfile.TemporaryDirectory(prefix="spdk", dir="/tmp")) for _core in cores]
        first, *others = targets = [Target(name, core, options, False) for name, core in zip(names, cores)]
        first.beside = others
        for target in targets:
            stack.callback(target.stop)
        first.start()
        yield targets
