# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the real ansible-playbook of this environment and reads what its tasks returned."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from support.warm import Warm

ROOT = Path(__file__).resolve().parents[2]
LOCALHOST = {"all": {"hosts": {"localhost": {}}}}
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


@dataclass
class Result:
    """How a playbook ended. events are {event, host, task, action, result}, in order."""

    rc: int
    stdout: str
    stderr: str
    events: list[dict]

    @property
    def output(self):
        """Everything that was printed."""
        return self.stdout + self.stderr

    def results(self, task=None, host=None):
        """The results of a task by its name (or the end of it), of all hosts or one."""
        return [
            event["result"]
            for event in self.events
            if (task is None or event["task"].endswith(task)) and (host is None or event["host"] == host)
        ]

    def result(self, task=None, host=None):
        """The one result that results() finds."""
        (only,) = self.results(task, host)
        return only

    @property
    def failure(self):
        """What the last task that failed said."""
        return [event["result"] for event in self.events if event["event"] == "failed"][-1]["msg"]

    @property
    def changed(self):
        """How many task results were changed, by host, as the recap counts them."""
        return {host: int(count) for host, count in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", self.stdout, re.M)}


def run_playbook(
    playbook, inventory=None, extra_vars=None, check=False, diff=False, env=None, args=(), timeout=300, echo=False
):
    """Runs a playbook and returns its Result, whatever the return code.

    playbook is a path, an FQCN such as excloud.diskengine.converge, or a list of plays. inventory is a path or an
    inventory as YAML data; without it there is localhost. Hosts are local and use this Python unless the inventory
    says otherwise. extra_vars is a dict, env is added to the environment. With echo the output is printed as it comes.
    A run with echo, or with another environment for Ansible or Python, starts as a program, as do its modules; the
    others are forked (support/warm.py).
    """
    with tempfile.TemporaryDirectory(prefix="play") as name:
        directory = Path(name)
        events = directory / "events"
        _configure(directory)
        program = echo or any(name.startswith(("ANSIBLE_", "PYTHON")) for name in env or {})
        warm = None if program else _warm()
        python = warm.python if warm else sys.executable
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *(["--check"] if check else []),
            *(["--diff"] if diff else []),
            "-i",
            _written(directory / "inventory.yml", _with_defaults(inventory or LOCALHOST, python)),
            "-e",
            "@" + _written(directory / "extra_vars.yml", extra_vars or {}),
            *args,
            _written(directory / "playbook.yml", playbook),
        ]
        options = {"cwd": directory, "env": _environment(directory, events, env), "text": True}
        if warm:
            rc, stdout, stderr = warm.run(command, directory, options["env"], timeout)
        elif echo:
            rc, stdout, stderr = _echoed(command, options)
        else:
            done = subprocess.run(command, check=False, capture_output=True, timeout=timeout, **options)
            rc, stdout, stderr = done.returncode, done.stdout, done.stderr
        lines = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
        return Result(rc, stdout, stderr, [json.loads(line) for line in lines])


def run_inventory(config, *args, env=None, name="estate.diskengine.yml", timeout=60):
    """Run ansible-inventory on an inventory file with this content, as YAML data; return the finished process."""
    with tempfile.TemporaryDirectory(prefix="inventory") as directory:
        directory = Path(directory)
        program = str(Path(sys.executable).with_name("ansible-inventory"))
        command = [program, "-i", _written(directory / name, config), *args]
        environment = _environment(directory, directory / "events", env)
        return subprocess.CompletedProcess(command, *_warm().run(command, directory, environment, timeout))


@functools.cache
def _warm():
    directory = Path(tempfile.mkdtemp(prefix="warm", dir="/tmp"))
    _configure(directory)
    return Warm(directory, _environment(directory, directory / "events", None))


def _configure(directory):
    """Leave a configuration file there, so that no other is found."""
    text = """[defaults]
internal_poll_interval = 0.005
[inventory]
any_unparsed_is_failed = true
"""  # the interval is five times the default: a tenth of a run's work
    (directory / "ansible.cfg").write_text(text, encoding="utf-8")


def _echoed(command, options):
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, "".join(lines), ""


def play(*tasks, hosts="localhost", **keywords):
    """A playbook of one play without facts."""
    return [{"name": "Test", "hosts": hosts, "gather_facts": False, "tasks": list(tasks), **keywords}]


def _with_defaults(inventory, python):
    if not isinstance(inventory, dict):
        return inventory
    group = inventory.get("all", {})
    variables = {**LOCAL, "ansible_python_interpreter": python, **group.get("vars", {})}
    return {**inventory, "all": {**group, "vars": variables}}


def _written(path, content):
    """The path itself, or the path of the file that now holds the content."""
    if isinstance(content, (str, Path)):
        return str(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return str(path)


def _environment(directory, events, extra):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PG", "DISKENGINE_DSN"))}
    return {
        **kept,
        "HOME": str(directory),
        "TMPDIR": str(directory),  # what a killed module leaves behind goes with it
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_HOME": str(directory / "ansible"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build" / "tree"),
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callback_plugins")),
        "ANSIBLE_CALLBACKS_ENABLED": "record_events",
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "DISKENGINE_TEST_EVENTS": str(events),
        "PYTHONPATH": str(Path(__file__).with_name("quicker")),
        **(extra or {}),
    }
