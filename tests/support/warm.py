# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook and ansible-inventory by a process that has imported Ansible and forks for each: in half the time.

Modules are run in the same way by another process (module_server.py), where `python` is their interpreter.

What Ansible looks at while it is imported is the same for all runs: its configuration file and its own variables.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path


class Warm:
    """The process, as its client sees it. It starts in a directory, which goes with it, and with an environment."""

    def __init__(self, directory, environment):
        self._directory = directory
        self._lock = threading.Lock()
        self._socket, served = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        options = {"cwd": directory, "env": environment}
        self._process = subprocess.Popen([sys.executable, "-P", __file__], stdin=served, **options)
        served.close()
        self._modules = self._serve_modules(options)
        atexit.register(self._end)

    @property
    def python(self):
        """The interpreter for modules."""
        return str(self._directory / "python")

    def _serve_modules(self, options):
        path = self._directory / "modules"
        here = Path(__file__).parent
        Path(self.python).write_text(f'#!/bin/sh\nexec {sys.executable} -IS {here / "module_client.py"} {path} "$@"\n')
        Path(self.python).chmod(0o755)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(path))
            listener.listen(64)
            server = [sys.executable, "-P", str(here / "module_server.py"), str(listener.fileno())]
            return subprocess.Popen(server, stdin=subprocess.PIPE, pass_fds=[listener.fileno()], **options)

    def _end(self):
        self._socket.close()
        self._process.wait()
        self._modules.communicate()
        shutil.rmtree(self._directory)

    def run(self, arguments, cwd, env, timeout):
        """Return (status, standard output, standard error), as subprocess.run() gives them."""
        ended, status = os.pipe()
        with open(Path(cwd) / "stdout", "w+b") as stdout, open(Path(cwd) / "stderr", "w+b") as stderr:
            request = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": env}).encode()
            with self._lock:
                socket.send_fds(self._socket, [request], [stdout.fileno(), stderr.fileno(), status])
            os.close(status)
            with open(ended, "rb", buffering=0) as answer:
                pid = int(answer.readline())
                if not select.select([answer], [], [], timeout)[0]:
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(arguments, timeout)
                code = int(answer.readline() or -signal.SIGKILL)
            return code, *(Path(file.name).read_text(encoding="utf-8") for file in (stdout, stderr))


def serve(requests):
    """Fork for each request until the client is gone."""
    programs = _load()
    while True:
        request, files, _flags, _address = socket.recv_fds(requests, 1 << 20, 3)
        if not request:
            return
        if not os.fork():
            requests.close()
            _play(programs, files, **json.loads(request))
        for file in files:
            os.close(file)
        _reap()


def _load():
    """Import what runs would: Ansible, plugins of the collection with what they share, and the database driver."""
    from ansible.cli import inventory, playbook
    from ansible.plugins import loader

    loader.init_plugin_loader()
    warnings.filterwarnings("ignore", "AnsibleCollectionFinder has already been configured")  # each run would say so
    importlib.import_module("ansible_collections.ansible.builtin")
    for kind in ("plugin_utils", "action", "filter"):
        package = importlib.import_module(f"ansible_collections.excloud.diskengine.plugins.{kind}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    importlib.import_module("psycopg")
    for kind in ("action", "become", "callback", "connection", "filter", "shell", "strategy", "test", "vars"):
        list(getattr(loader, f"{kind}_loader").all(class_only=True))
    _keep_templates()
    _keep_modules()
    gc.freeze()  # no run looks through it for what is not needed
    return {"ansible-inventory": inventory.main, "ansible-playbook": playbook.main}


def _keep_templates():
    """Have Jinja compile each template in one of the runs only, which is a quarter of what a task takes."""
    kept = importlib.import_module("sitecustomize").kept  # of quicker, which the environment names
    environment = importlib.import_module("jinja2").Environment
    generate, compile_code = environment._generate, environment._compile

    def generate_once(self, source, *arguments, **options):
        key = repr((type(self), source, arguments, options)).encode()
        return kept(key, lambda: generate(self, source, *arguments, **options))

    def compile_once(self, source, filename):
        return kept(repr((source, filename)).encode(), lambda: compile_code(self, source, filename))

    environment._generate, environment._compile = generate_once, compile_once


def _keep_modules():
    """Have Ansible pack each module in one of the runs only, which takes it half a second, until a plugin changes."""
    release, constants = (importlib.import_module(f"ansible.{name}") for name in ("release", "constants"))
    root = Path(__file__).resolve().parents[2]
    content = hashlib.sha256(release.__version__.encode())
    for path in sorted(root.glob("plugins/module*/**/*.py")):
        content.update(str(path).encode() + path.read_bytes())
    packed = root / ".build/packed" / content.hexdigest()[:12]
    packed.mkdir(parents=True, exist_ok=True)
    Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(packed)


def _play(programs, files, arguments, cwd, env):
    """Run the program and end."""
    stdout, stderr, status = files
    os.write(status, f"{os.getpid()}\n".encode())
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = arguments
    code = 1
    try:
        programs[Path(arguments[0]).name]()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(status, f"{code}\n".encode())
        os._exit(code)


def _reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    with socket.socket(fileno=os.dup(0)) as requests_of_client, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # the standard input of the runs
        serve(requests_of_client)
