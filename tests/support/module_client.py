# SPDX-License-Identifier: GPL-3.0-or-later
"""Has a module on standard input run by the process of module_server.py: module_client.py SOCKET [ARGUMENTS OF PYTHON]

What is not such a module is run by Python.
"""

import _socket  # and nothing that takes long to import
import os
import sys


def main():
    _program, server, *arguments = sys.argv
    if arguments:
        os.execv(sys.executable, [sys.executable, *arguments])
    mask = os.umask(0)
    os.umask(mask)
    request = repr((os.getpid(), dict(os.environb), os.getcwd(), mask)).encode()
    files = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        connection.connect(server)
    except OSError:  # it has not started yet
        os.execv(sys.executable, [sys.executable])
    connection.sendmsg([request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
    status = int(connection.recv(16))
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status)


main()
