# SPDX-License-Identifier: GPL-3.0-or-later
"""Real sockets of vhost controllers: a client that connects is a session, nothing is spoken."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from .vhost import SOCKET_PATH


class VhostSockets:
    """The listening sockets; ``connected``/``disconnected`` are told the controller's name (and session number).

    ``changed`` is called when requests that waited for a client to leave may go on.
    """

    def __init__(self, connected: Callable[[str], int], disconnected: Callable[[str, int], None]) -> None:
        self.connected = connected
        self.disconnected = disconnected
        self.changed: Callable[[], None] = lambda: None
        self.listeners: dict[str, socket.socket] = {}

    def bind(self, path: str) -> None:
        """Listen on a controller's socket, over a stale file."""
        short = path[:SOCKET_PATH]
        if os.path.exists(short):
            os.unlink(short)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.bind(short)
        listener.listen()
        self.listeners[path] = listener
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, path)

    def unbind(self, path: str) -> None:
        """Stop listening and remove the file."""
        listener = self.listeners.pop(path)
        asyncio.get_running_loop().remove_reader(listener.fileno())
        listener.close()
        os.unlink(path[:SOCKET_PATH])

    def _accept(self, path: str) -> None:
        client, _address = self.listeners[path].accept()
        client.setblocking(False)
        name = os.path.basename(path)
        number = self.connected(name)
        asyncio.get_running_loop().add_reader(client.fileno(), self._read, client, name, number)

    def _read(self, client: socket.socket, name: str, number: int) -> None:
        try:
            if client.recv(4096):
                return
        except OSError:
            pass
        asyncio.get_running_loop().remove_reader(client.fileno())
        client.close()
        self.disconnected(name, number)
        self.changed()
