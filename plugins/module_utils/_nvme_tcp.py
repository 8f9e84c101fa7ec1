# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host of NVMe over TCP: reads and writes namespaces of a subsystem on this node. Private to the collection.

As the NVMe over Fabrics and the NVMe/TCP transport specifications say, without digests, authentication and TLS. It is
a process of its own to the target, so what goes wrong here ends a connection and never the target. No keep-alive is
asked for, so nothing has to be sent while nothing is to be done.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple, Union
from uuid import NAMESPACE_URL, uuid5

from ._errors import DiskengineError

_TIMEOUT = 60.0

_ICREQ, _ICRESP, _COMMAND, _RESPONSE, _H2C_DATA, _C2H_DATA, _R2T = 0x00, 0x01, 0x04, 0x05, 0x06, 0x07, 0x09
_HEADER = struct.Struct("<BBBBI")  # type, flags, length of the header, offset of the data, length of all
_DATA = struct.Struct("<HHII4x")  # command, transfer tag, offset, length
_LAST, _SUCCESS = 0x04, 0x08

_FABRICS, _WRITE, _READ, _IDENTIFY = 0x7F, 0x01, 0x02, 0x06
_PROPERTY_SET, _CONNECT, _PROPERTY_GET = 0x00, 0x01, 0x04
_CC, _CSTS = 0x14, 0x1C
_ENABLE = 0x00460001  # entries of 64 and 16 bytes, as NVMe over Fabrics wants them
_IN_CAPSULE, _BY_TRANSPORT = 0x01, 0x5A
_STATUS = 0xFFFE  # the lowest bit is the phase tag
_QUEUE = 64
_PAGE = 4096
_MOST = 1 << 20


class Read(NamedTuple):
    """A read of ``blocks`` blocks."""

    nsid: int
    lba: int
    blocks: int
    length: int


class Write(NamedTuple):
    """A write of ``data``, which is ``blocks`` blocks."""

    nsid: int
    lba: int
    blocks: int
    data: bytes


class Host:
    """A connection to a subsystem; ``most`` is how many bytes one command may move.

    Whatever goes wrong is a DiskengineError that says what was asked for.
    """

    def __init__(self, address: tuple, subnqn: str, hostnqn: str) -> None:
        """Connect to the subsystem at ``address`` (IP, port). Raises DiskengineError."""
        self._name = f"{subnqn} at {address[0]}:{address[1]}"
        identity = uuid5(NAMESPACE_URL, hostnqn).bytes
        names = subnqn.encode().ljust(256, b"\0") + hostnqn.encode().ljust(512, b"\0")
        self._admin = _Queue(address, self._name)
        self._queues = [self._admin]
        try:
            connected = self._admin.connect(0, identity + b"\xff\xff" + bytes(238) + names)
            self._admin.property(_PROPERTY_SET, _CC, _ENABLE)
            while not self._admin.property(_PROPERTY_GET, _CSTS) & 1:
                pass
            shift = self._admin.identify()[77]
            self.most = min(self._admin.most, _PAGE << shift if shift else _MOST, _MOST)
            self._queue = _Queue(address, self._name)
            self._queues.append(self._queue)
            self._queue.connect(1, identity + struct.pack("<H", connected & 0xFFFF) + bytes(238) + names)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        for queue in reversed(self._queues):
            queue.close()

    def run(self, commands: list) -> list:
        """Have commands (Read, Write) carried out, in any order; return what was read, in theirs.

        Raises DiskengineError when one of them was not.
        """
        found: list = []
        for first in range(0, len(commands), _QUEUE - 1):
            found += self._queue.run(commands[first : first + _QUEUE - 1])
        return found


class _Queue:
    """One queue pair, which is one TCP connection."""

    def __init__(self, address: tuple, name: str) -> None:
        self._name = name
        try:
            self._socket = socket.create_connection(address, _TIMEOUT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._send(_ICREQ, bytes(120), 128)
            kind, _flags, header, _data = self._receive()
            if kind != _ICRESP:
                raise DiskengineError(f"{name} does not speak NVMe over TCP")
            self.most: int = struct.unpack_from("<I", header, 4)[0]
        except OSError as error:
            raise DiskengineError(f"cannot connect to {name}: {error.strerror or error}") from None

    def close(self) -> None:
        self._socket.close()

    def connect(self, number: int, data: bytes) -> int:
        """Make this queue that of a controller; return what the answer says."""
        sgl = (0, len(data), _IN_CAPSULE)
        command = struct.pack("<BBHB19xQI3xB2xHH18x", _FABRICS, 0x40, 0, _CONNECT, *sgl, number, _QUEUE - 1)
        return self._one(command, data)[0]

    def property(self, kind: int, offset: int, value: int = 0) -> int:
        """Set or read a property of the controller."""
        command = struct.pack("<BBHB35xB3xIQ8x", _FABRICS, 0x40, 0, kind, 0, offset, value)
        return self._one(command)[0]

    def identify(self) -> bytes:
        """Return what the controller says of itself."""
        return self._one(_sqe(_IDENTIFY, 0, 0, _PAGE, 1), length=_PAGE)[1]

    def run(self, commands: list) -> list:
        for cid, command in enumerate(commands):
            if isinstance(command, Read):
                sqe = _sqe(_READ, cid, command.nsid, command.length, command.lba, command.blocks - 1)
            else:
                sqe = _sqe(_WRITE, cid, command.nsid, len(command.data), command.lba, command.blocks - 1)
            self._send(_COMMAND, sqe)
        read = [bytearray(command.length) if isinstance(command, Read) else b"" for command in commands]
        left = len(commands)
        while left:
            kind, flags, header, data = self._receive()
            if kind == _R2T:
                cid, tag, offset, length = _DATA.unpack(header)
                piece = commands[cid].data[offset : offset + length]
                self._send(_H2C_DATA, _DATA.pack(cid, tag, offset, length), flags=_LAST, data=piece)
                continue
            if kind == _C2H_DATA:
                cid, _tag, offset, length = _DATA.unpack(header)
                read[cid][offset : offset + length] = data
                left -= bool(flags & _SUCCESS)
                continue
            self._check(kind, header, commands)
            left -= 1
        return read

    def _one(self, sqe: bytes, data: bytes = b"", length: int = 0) -> tuple:
        self._send(_COMMAND, sqe, data=data)
        read = bytearray(length)
        while True:
            kind, flags, header, data = self._receive()
            if kind == _C2H_DATA:
                _cid, _tag, offset, size = _DATA.unpack(header)
                read[offset : offset + size] = data
                if not flags & _SUCCESS:
                    continue
                return 0, bytes(read)
            return self._check(kind, header, ()), bytes(read)

    def _check(self, kind: int, header: bytes, commands: Union[list, tuple]) -> int:
        """Return the value in an answer. Raises DiskengineError when the command was not carried out."""
        if kind != _RESPONSE:
            raise DiskengineError(f"{self._name} ended the connection (PDU of type {kind:#x})")
        value, cid, status = struct.unpack("<Q4xHH", header)
        if status & _STATUS:
            what = f"a command to {self._name}"
            if commands:
                verb = "reading" if isinstance(commands[cid], Read) else "writing"
                what = f"{verb} {commands[cid].blocks} blocks at {commands[cid].lba} of namespace {commands[cid].nsid}"
            raise DiskengineError(f"{what} failed with NVMe status {(status & _STATUS) >> 1:#x}")
        return value

    def _send(self, kind: int, header: bytes, size: int = 0, flags: int = 0, data: bytes = b"") -> None:
        size = size or _HEADER.size + len(header)
        start = _HEADER.pack(kind, flags, size, size if data else 0, size + len(data)) + header
        try:
            self._socket.sendall(start + data)
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self) -> tuple:
        """Return type, flags, header and data of the next PDU."""
        kind, flags, size, start, total = _HEADER.unpack(self._exactly(_HEADER.size))
        header = self._exactly(size - _HEADER.size)
        if not start:
            return kind, flags, header, b""
        return kind, flags, header, self._exactly(total - size)[start - size :]

    def _exactly(self, length: int) -> bytearray:
        data = bytearray(length)
        view, done = memoryview(data), 0
        while done < length:
            try:
                count = self._socket.recv_into(view[done:])
            except OSError as error:
                raise self._lost(error) from None
            if not count:
                raise DiskengineError(f"{self._name} closed the connection")
            done += count
        return data

    def _lost(self, error: OSError) -> DiskengineError:
        if isinstance(error, socket.timeout):
            return DiskengineError(f"{self._name} gave no answer within {_TIMEOUT:g} s")
        return DiskengineError(f"the connection to {self._name} broke: {error.strerror or error}")


def _sqe(opcode: int, cid: int, nsid: int, length: int, first: int, last: int = 0) -> bytes:
    """Return a command whose data the transport moves; ``first`` and ``last`` are what only this command has."""
    return struct.pack("<BBHI16xQI3xBQI12x", opcode, 0x40, cid, nsid, 0, length, _BY_TRANSPORT, first, last)
