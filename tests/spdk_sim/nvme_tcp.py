# SPDX-License-Identifier: GPL-3.0-or-later
"""NVMe over TCP to subsystems that listen on loopback, for hosts outside of the simulation: reads and writes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

from . import data

HEADER = struct.Struct("<BBBBI")
DATA = struct.Struct("<HHII4x")
ICREQ, ICRESP, COMMAND, RESPONSE, H2C_DATA, C2H_DATA, R2T = 0x00, 0x01, 0x04, 0x05, 0x06, 0x07, 0x09
LAST, SUCCESS = 0x04, 0x08
FABRICS, WRITE, READ, IDENTIFY = 0x7F, 0x01, 0x02, 0x06
CONNECT, PROPERTY_GET = 0x01, 0x04
MOST = 131072
INVALID_HOST, INVALID_NAMESPACE, INTERNAL_ERROR = 0x184, 0x400B, 0x0006


class Listeners:
    """The sockets that a target listens on; ``changed`` is called when something was written."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.changed: Callable[[], None] = lambda: None
        self.sockets: dict[tuple[str, str], socket.socket] = {}

    def open(self, address: dict[str, str]) -> None:
        """Listen, unless that is done already, or another program has the port."""
        at = (address["traddr"], address["trsvcid"])
        if address["trtype"] != "TCP" or at[0] != "127.0.0.1" or at in self.sockets:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((at[0], int(at[1])))
            listener.listen()
        except OSError:
            listener.close()
            return
        self.sockets[at] = listener
        asyncio.get_running_loop().create_task(asyncio.start_server(self._serve, sock=listener))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await Connection(self, reader, writer).serve()
        writer.close()


class Connection:
    """One queue of a host."""

    def __init__(self, listeners: Listeners, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.listeners = listeners
        self.reader, self.writer = reader, writer
        self.subsystem: Any = None
        self.writes: dict[int, tuple[int, int]] = {}

    async def serve(self) -> None:
        """Answer until the host leaves."""
        while True:
            kind, _flags, size, start, total = HEADER.unpack(await self.reader.readexactly(HEADER.size))
            header = await self.reader.readexactly(size - HEADER.size)
            payload = (await self.reader.readexactly(total - size))[start - size :] if start else b""
            if kind == ICREQ:
                self._send(ICRESP, struct.pack("<HBBI112x", 0, 0, 0, MOST))
            elif kind == COMMAND:
                self._command(header, payload)
            elif kind == H2C_DATA:
                self._written(header, payload)
            await self.writer.drain()

    def _send(self, kind: int, header: bytes, payload: bytes = b"", flags: int = 0) -> None:
        size = HEADER.size + len(header)
        start = HEADER.pack(kind, flags, size, size if payload else 0, size + len(payload))
        self.writer.write(start + header + payload)

    def _answer(self, cid: int, status: int = 0, value: int = 0) -> None:
        self._send(RESPONSE, struct.pack("<Q4xHH", value, cid, status << 1))

    def _command(self, sqe: bytes, payload: bytes) -> None:
        opcode, cid, nsid = struct.unpack_from("<BxHI", sqe)
        if opcode == FABRICS:
            kind = sqe[4]
            if kind == CONNECT:
                nqn, host = (payload[at : at + 256].rstrip(b"\0").decode() for at in (256, 512))
                self.subsystem = self.listeners.target.nvmf.subsystems.get(nqn)
                admitted = self.subsystem is not None and self.subsystem.admits(host)
                self._answer(cid, 0 if admitted else INVALID_HOST, 1)
            else:
                self._answer(cid, value=1 if kind == PROPERTY_GET else 0)
        elif opcode == IDENTIFY:
            self._read(cid, bytes(77) + b"\x05" + bytes(4018))
        else:
            self._io(opcode, cid, nsid, *struct.unpack_from("<QH", sqe, 40))

    def _io(self, opcode: int, cid: int, nsid: int, lba: int, last: int) -> None:
        namespace = self.subsystem.namespaces.get(nsid)
        if namespace is None:
            self._answer(cid, INVALID_NAMESPACE)
            return
        block = namespace.bdev.block_size
        if opcode == WRITE:
            self.writes[cid] = (nsid, lba * block)
            self._send(R2T, DATA.pack(cid, 0, 0, (last + 1) * block))
            return
        try:
            self._read(cid, data.read(namespace.bdev, lba * block, (last + 1) * block))
        except data.IoFailed:
            self._answer(cid, INTERNAL_ERROR)

    def _read(self, cid: int, found: bytes) -> None:
        self._send(C2H_DATA, DATA.pack(cid, 0, 0, len(found)), found, LAST | SUCCESS)

    def _written(self, header: bytes, payload: bytes) -> None:
        cid = DATA.unpack(header)[0]
        nsid, offset = self.writes.pop(cid)
        try:
            data.write(self.subsystem.namespaces[nsid].bdev, offset, payload)
        except data.IoFailed:
            self._answer(cid, INTERNAL_ERROR)
            return
        self.listeners.changed()
        self._answer(cid)
