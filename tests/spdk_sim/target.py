# SPDX-License-Identifier: GPL-3.0-or-later
"""One simulated SPDK process: pure, without sockets, clock or threads."""

from __future__ import annotations

import copy
import pickle
import random
import uuid
from collections.abc import Callable, Iterable
from types import GeneratorType
from typing import Any

from . import bdevs, catalogue, framework, keyring, lvol, nbd, nvme, nvme_io, nvmf, qos, raid, vhost
from .decode import decode
from .disks import Disks
from .errors import INVALID_STATE, METHOD_NOT_FOUND, RUNTIME_ONLY, STARTUP_ONLY, Blocked, RpcFailure
from .files import MemoryFiles
from .registry import METHODS, RUNTIME, STARTUP, Method, Wait

_MODULES = (framework, bdevs, lvol, nvmf, nvme, nvme_io, raid, vhost, qos, keyring, nbd)


class Operation:
    """A request whose answer comes on a later poll."""

    __slots__ = ("generator", "reply", "wait")

    def __init__(self, generator: GeneratorType, reply: Callable[[Any], None], wait: Wait | None) -> None:
        self.generator = generator
        self.reply = reply
        self.wait = wait


class Target:
    """The state of one process and its methods.

    ``release``    "26.09", "25.05", ...: methods and parameters it does not know are refused (contract section 14)
    ``seed``       makes UUIDs reproducible; ``uuid_factory`` replaces their source altogether
    ``wait_for_rpc`` start in the STARTUP state
    ``files``      where AIO disks, key files and vhost sockets are looked up (default: nowhere, in memory)
    ``addresses``  local IP addresses beside the loopback and wildcard ones; None accepts every address
    ``rdma``       whether RDMA hardware is there
    ``peers``      other targets this one can reach over the fabric (itself is always reachable)
    ``vhost_dir``  directory of vhost sockets as it appears in answers
    ``cpumask``    cores of the process

    ``on_start`` is called when the RUNTIME state begins, ``on_listen`` with each new address. ``busy_ports`` are
    (address, port) that others hold.
    """

    def __init__(
        self,
        *,
        release: str = "26.09",
        seed: int | None = None,
        uuid_factory: Callable[[], str] | None = None,
        wait_for_rpc: bool = False,
        files: Any = None,
        addresses: Iterable[str] | None = (),
        rdma: bool = False,
        peers: Iterable[Target] = (),
        vhost_dir: str = "/run/spdk/vhost",
        cpumask: int = 1,
    ) -> None:
        self.release = catalogue.parse_release(release)
        self.random = random.Random(seed)
        self.uuid_factory = uuid_factory
        self.state = STARTUP if wait_for_rpc else RUNTIME
        self.files = files if files is not None else MemoryFiles()
        self.addresses = None if addresses is None else set(addresses)
        self.rdma = rdma
        self.busy_ports: set[tuple[str, str]] = set()
        self.peers = list(peers)
        self.vhost_dir = vhost_dir
        self.cpumask = cpumask
        self.now = 0.0
        self.on_start: Callable[[], None] | None = None
        self.on_listen: Callable[[dict[str, str]], None] | None = None
        self.disks = Disks()
        self.pending: list[Operation] = []
        for module in _MODULES:
            module.setup(self)

    def new_uuid(self) -> str:
        """A fresh random UUID in lower case."""
        if self.uuid_factory is not None:
            return self.uuid_factory()
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def methods(self) -> list[str]:
        """The names this release knows and the simulator implements, in the order of the real program."""
        return [name for name in catalogue.ORDER if self.method(name) is not None]

    def method(self, name: str) -> Method | None:
        """The registered method if this release knows it."""
        found = METHODS.get(name)
        if found is None or (found.since is not None and self.release < found.since):
            return None
        return found

    def call(self, method: str, params: Any = None) -> Any:
        """Make one call and run it to its end; time passes as needed. Raises RpcFailure, TargetCrash or Blocked."""
        answers: list[Any] = []
        self.submit(method, params, answers.append)
        while not answers:
            if not self.poll() and not self._skip_time():
                self.pending.pop()
                raise Blocked(method)
        if isinstance(answers[0], RpcFailure):
            raise answers[0]
        return answers[0]

    def submit(self, method: str, params: Any, reply: Callable[[Any], None]) -> None:
        """Dispatch one request; ``reply`` gets the result or an RpcFailure, now or from a later ``poll``."""
        try:
            self.refresh()
            answer = self._dispatch(method, params)
            if not isinstance(answer, GeneratorType):
                reply(answer)
                return
            wait = next(answer)
        except RpcFailure as error:
            reply(error)
        except StopIteration as done:
            reply(done.value)
        else:
            self.pending.append(Operation(answer, reply, wait))

    def _dispatch(self, name: str, params: Any) -> Any:
        found = self.method(name)
        if found is None:
            raise RpcFailure(METHOD_NOT_FOUND, "Method not found")
        if not found.states & self.state:
            raise RpcFailure(INVALID_STATE, STARTUP_ONLY if self.state == RUNTIME else RUNTIME_ONLY)
        if found.family.message:
            decoded = decode(
                params,
                found.fields,
                found.family,
                relaxed=found.relaxed,
                needed=found.needed,
                release=self.release,
            )
        else:
            decoded = framework.undecoded(params)
        return found.handler(self, decoded)

    def poll(self) -> bool:
        """Go on with every pending request that can; returns whether any could."""
        self.refresh()
        queue, self.pending = self.pending, []
        moved = False
        for index, operation in enumerate(queue):
            if not self._is_ready(operation.wait):
                self.pending.append(operation)
                continue
            moved = True
            try:
                operation.wait = next(operation.generator)
            except RpcFailure as error:
                operation.reply(error)
            except StopIteration as done:
                operation.reply(done.value)
            except BaseException:
                self.pending.extend(queue[index + 1 :])
                raise
            else:
                self.pending.append(operation)
        return moved

    def _is_ready(self, wait: Wait | None) -> bool:
        if wait is None:
            return True
        if wait.ready is not None and wait.ready():
            return True
        return wait.until is not None and self.now >= wait.until

    def next_deadline(self) -> float | None:
        """Target time (seconds) of the next thing that happens by itself, None if nothing will."""
        times = [op.wait.until for op in self.pending if op.wait is not None and op.wait.until is not None]
        times += [time for time in (raid.next_event(self), nvme.next_event(self)) if time is not None]
        return min(times, default=None)

    def _skip_time(self) -> bool:
        deadline = self.next_deadline()
        if deadline is None:
            return False
        self.now = max(self.now, deadline)
        return True

    def advance(self, seconds: float) -> None:
        """Let time pass: rebuilds go on, lost paths expire."""
        self.now += seconds
        self.refresh()

    def refresh(self) -> None:
        """Bring what depends on time or on other targets up to date."""
        raid.refresh(self)
        nvme.refresh(self)

    def copy(self) -> Target:
        """An independent copy, peers included; not while requests are pending."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Target:
        if self.pending:
            raise ValueError("a target with pending requests cannot be copied")
        new = pickle.loads(pickle.dumps(self, protocol=pickle.HIGHEST_PROTOCOL))
        memo[id(self)] = new
        return new
