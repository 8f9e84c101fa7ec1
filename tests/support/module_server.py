# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs modules by a process that has imported what each of them imports, and forks: a fifth of the time of a module.

That is what comes with Ansible, and the database driver. What the collection sends is imported by each module itself.
"""

from __future__ import annotations

import ast
import atexit
import gc
import importlib
import os
import selectors
import socket
import sys
import types
from contextlib import suppress
from pathlib import Path

IMPORTED = ("ansible.module_utils.basic", "ansible.module_utils._internal._ansiballz._loader", "psycopg", "zipfile")


def serve(listener):
    """Fork for each client until standard input ends; return what the client asks for, in the process that does it."""
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _events in selector.select():
            if key.fileobj == 0:
                sys.exit()
            if key.fileobj is listener:
                client, _address = listener.accept()
                request, files, _flags, _sender = socket.recv_fds(client, 1 << 20, 3)
                if not request:
                    continue
                pid = os.fork()
                if not pid:
                    return request, files
                for file in files:
                    os.close(file)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, client))
            else:
                selector.unregister(key.fileobj)
                os.close(key.fileobj)
                pid, client = key.data
                with client, suppress(OSError):  # it may have been killed
                    client.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def become(pid, environment, directory, mask):
    """Have what the client has, and what a Python has that reads its program from standard input."""
    Path("/proc/self/comm").write_text(f"for {pid}")
    os.environ.clear()
    os.environb.update(environment)
    os.chdir(directory)
    os.umask(mask)
    sys.argv = [""]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    return main.__dict__


if __name__ == "__main__":
    for name in IMPORTED:
        with suppress(ModuleNotFoundError):  # a virtual machine has no database driver
            importlib.import_module(name)
    gc.freeze()  # what is there stays; looking through it is most of the time that a module takes to end
    asked, streams = serve(socket.socket(fileno=int(sys.argv[1])))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    namespace = become(*ast.literal_eval(asked.decode()))
    try:
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), namespace)
    except SystemExit as end:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code or 0)
