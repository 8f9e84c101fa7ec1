# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the simulator."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shlex
import signal
import sys
import uuid
from typing import Any

from . import bdevs, catalogue, fabric, vhost
from .disks import Foreign
from .errors import RpcFailure
from .faults import Faults
from .files import RealFiles
from .journal import Journal
from .lvol import LvolBdev
from .nvme_tcp import Listeners
from .registry import RUNTIME
from .server import Server, SocketInUse
from .target import Target
from .vhost_sockets import VhostSockets

UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
SOCKET_IN_USE = 234


def size(text: str) -> int:
    """Bytes of "512MiB", "1GiB", "4096"; argparse type."""
    found = re.fullmatch(r"([0-9]+)([KMGT]iB|B|)", text)
    if not found or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"no size: {text}")
    return int(found[1]) * UNITS[found[2]]


def disk(text: str) -> tuple[str, int, int]:
    """(name, bytes, block size) of NAME=SIZE[,BLOCK_SIZE]; argparse type."""
    name, _equals, rest = text.partition("=")
    amount, _comma, block = rest.partition(",")
    block_size = int(block or 512)
    total = size(amount)
    if not name or block_size < 512 or block_size % 512 or total % block_size:
        raise argparse.ArgumentTypeError(f"not NAME=SIZE[,BLOCK_SIZE]: {text}")
    return name, total, block_size


def json_file(path: str) -> Any:
    """The content of a JSON file; argparse type."""
    with open(path, encoding="utf-8") as text:
        return json.load(text)


def parser() -> argparse.ArgumentParser:
    """The options."""
    out = argparse.ArgumentParser(prog="spdk_sim", description="Simulator of SPDK's JSON-RPC interface")
    add = out.add_argument
    add("--socket", "-r", required=True, metavar="PATH", help="Unix socket of the JSON-RPC server")
    add("--release", choices=catalogue.RELEASES, default=catalogue.RELEASES[-1], help="SPDK release to act as")
    add("--wait-for-rpc", action="store_true", help="start in the STARTUP state")
    add("--malloc", action="append", default=[], type=disk, metavar="NAME=SIZE[,BS]", help="RAM disk from the start")
    add("--nvme", action="append", default=[], type=disk, metavar="BDF=SIZE[,BS]", help="local NVMe drive to attach")
    add("--nvme-remote", type=json_file, default=[], metavar="FILE", help="JSON list of subsystems of other nodes")
    add("--state", metavar="FILE", help="keep what is on the disks in this file")
    add("--call-log", metavar="FILE", help="append one JSON line per received call")
    add("--control", metavar="PATH", help="Unix socket for faults and events")
    add("--fault", action="append", default=[], type=json.loads, metavar="JSON", help="a fault rule, see faults.py")
    add("--poll-ms", type=float, default=4.0, metavar="MS", help="time between two polls (default: 4)")
    add("--address", action="append", metavar="IP", help="a local address beside loopback (default: every address)")
    add("--rdma", action="store_true", help="there is RDMA hardware")
    add("--vhost-dir", "-S", metavar="DIR", help="directory for vhost sockets, which are then really made")
    add("--cpumask", type=lambda text: int(text, 16), default=1, metavar="HEX", help="cores (default: 0x1)")
    add("--seed", type=int, help="make UUIDs reproducible")
    add("--beside", action="append", default=[], metavar="OPTIONS", help="one more target; all reach each other")
    return out


def create_disks(target: Target, options: argparse.Namespace) -> None:
    """Create the bdevs of the command line; their UUIDs stay the same over restarts."""
    for name, total, block_size in options.malloc:
        own = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{options.socket}#{name}"))
        params = {"name": name, "num_blocks": total // block_size, "block_size": block_size, "uuid": own}
        target.call("bdev_malloc_create", params)


def forget_other_ram(target: Target, options: argparse.Namespace) -> None:
    """RAM disks made by RPC do not outlive the process; those of the command line stand for real disks."""
    kept = {f"malloc:{name}" for name, _size, _block in options.malloc}
    for key in list(target.disks.contents):
        if key.startswith("malloc:") and key not in kept:
            target.disks.erase(key)


def controls(target: Target, other: Target) -> dict[str, Any]:
    """The events the control socket can cause beside the faults (docstring of each)."""

    def allocate(command: dict[str, Any]) -> int:
        """{"op": "allocate", "lvol": NAME, "clusters": N}: as if a host had written the first N clusters."""
        bdev = target.bdevs.get(command["lvol"])
        if not isinstance(bdev, LvolBdev):
            raise ValueError(f"{command['lvol']} is no lvol")
        bdev.store.allocate(bdev.lvol, min(command["clusters"], bdev.lvol.size))
        bdev.store.changed(bdev.lvol)
        return bdev.lvol.allocated

    def remove_bdev(command: dict[str, Any]) -> bool:
        """{"op": "remove_bdev", "name": NAME}: the device is pulled out; what is on it stays on it."""
        bdev = target.bdevs.get(command["name"])
        bdev.removed = lambda _target: None
        bdevs.unregister(target, bdev)
        return True

    def vhost_connect(command: dict[str, Any]) -> int:
        """{"op": "vhost_connect", "ctrlr": NAME}: a client connects; the answer is its session number."""
        return vhost.connect(target, command["ctrlr"])

    def vhost_disconnect(command: dict[str, Any]) -> bool:
        """{"op": "vhost_disconnect", "ctrlr": NAME}: all clients of a controller go away."""
        vhost.disconnect(target, command["ctrlr"])
        return True

    def hold_port(command: dict[str, Any]) -> bool:
        """{"op": "hold_port", "traddr": IP, "trsvcid": PORT}: another program listens there."""
        target.busy_ports.add((command["traddr"], command["trsvcid"]))
        return True

    def remote(command: dict[str, Any]) -> int:
        """{"op": "remote", "subsystems": [...]}: more subsystems of other nodes, as in --nvme-remote."""
        for table in command["subsystems"]:
            fabric.add_subsystem(other, table)
        return len(command["subsystems"])

    def remote_call(command: dict[str, Any]) -> Any:
        """{"op": "remote_call", "method": M, "params": {...}}: any call on the other side, to lose paths and so on."""
        return other.call(command["method"], command.get("params"))

    def scribble(command: dict[str, Any]) -> bool:
        """{"op": "scribble", "drive": BDF, "data": HEX}: another program wrote this to the start of a local drive."""
        other.disks.write(f"drive:{command['drive']}", Foreign(bytes.fromhex(command["data"])))
        return True

    def health(command: dict[str, Any]) -> bool:
        """{"op": "health", "drive": BDF, "log": {FIELD: NUMBER}}: what a local drive says of itself from now on."""
        fabric.set_health(other, command["drive"], command["log"])
        return True

    def drive_serial(command: dict[str, Any]) -> str:
        """{"op": "drive_serial", "drive": BDF}: the serial number of a local drive."""
        listens = (
            each
            for each in other.nvmf.subsystems.values()
            for at in each.listeners
            if at.address["traddr"] == command["drive"]
        )
        return next(listens).serial_number

    events = (
        drive_serial,
        scribble,
        allocate,
        remove_bdev,
        vhost_connect,
        vhost_disconnect,
        hold_port,
        remote,
        remote_call,
        health,
    )
    return {event.__name__: event for event in events}


class Node:
    """One target of this process as its options say, with what it can reach beside other nodes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.sockets = VhostSockets(
            lambda name: vhost.connect(self.target, name),
            lambda name, number: vhost.disconnect(self.target, name, number),
        )
        self.target = Target(
            release=options.release,
            seed=options.seed,
            wait_for_rpc=options.wait_for_rpc,
            files=RealFiles(self.sockets.bind, self.sockets.unbind) if options.vhost_dir else RealFiles(),
            addresses=options.address,
            rdma=options.rdma,
            vhost_dir=options.vhost_dir or ".",
            cpumask=options.cpumask,
        )
        self.listeners = Listeners(self.target)
        self.target.on_listen = self.listeners.open
        self.other = fabric.outside(self.target)

    def server(self, journal: Journal | None) -> Server:
        """Attach what is there from the start, and serve. Raises RpcFailure."""
        options, target = self.options, self.target
        for drive in options.nvme:
            fabric.add_drive(self.other, *drive, options.socket)
        for table in options.nvme_remote:
            fabric.add_subsystem(self.other, table)
        forget_other_ram(target, options)
        target.on_start = lambda: create_disks(target, options)
        if target.state == RUNTIME:
            target.on_start()
        faults = Faults()
        for rule in options.fault:
            faults.add(rule)
        server = Server(
            target,
            options.socket,
            poll=options.poll_ms / 1000,
            journal=journal,
            call_log=open(options.call_log, "a", encoding="utf-8") if options.call_log else None,
            control=options.control,
            faults=faults,
            controls=controls(target, self.other),
        )
        self.sockets.changed = self.listeners.changed = server.wake
        return server


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    options = parser().parse_args(arguments)
    nodes = [Node(each) for each in (options, *(parser().parse_args(shlex.split(more)) for more in options.beside))]
    for node in nodes:
        node.target.peers += [each.target for each in nodes if each is not node]
    disks = {}
    for prefix, node in zip(("", *(f"{number}." for number in range(1, len(nodes)))), nodes):
        disks |= {f"{prefix}own": node.target.disks, f"{prefix}other": node.other.disks}
    journal = Journal(options.state, disks) if options.state else None
    try:
        servers = [node.server(journal) for node in nodes]
        asyncio.run(_serve(servers))
    except SocketInUse:
        print(f"RPC Unix domain socket path {options.socket} in use. Specify another.", file=sys.stderr)
        return SOCKET_IN_USE
    except RpcFailure as error:
        print(f"spdk_sim: {error.message}", file=sys.stderr)
        return 1
    return 0


async def _serve(servers: list[Server]) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for server in servers:
            server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    waiting = list(servers)

    def ready() -> None:
        waiting.pop()
        if not waiting:
            print("spdk_sim: ready", file=sys.stderr, flush=True)

    await asyncio.gather(*(server.run(ready) for server in servers))
