# SPDX-License-Identifier: GPL-3.0-or-later
"""What a target has is saved, compared, and brought back after it was started again."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections import Counter
from pathlib import Path

import pytest
from support.ansible import play, run_playbook
from support.targets import free_port

NQN = "nqn.2024-01.io.excloud:storage.test."
STARTUP = {"bdev_set_options": {"bdev_auto_examine": False}, "iobuf_set_options": {"small_pool_count": 8191}}
READS = {"spdk_get_version", "rpc_get_methods", "framework_get_subsystems", "framework_get_config"}
SAVE_TASK = "Save the configuration of the target"
KEY = "NVMeTLSkey-1:01:MDAxMTIyMzM0NDU1NjY3Nzg4OTlhYWJiY2NkZGVlZmZwJEiQ:"


def canonical(call):
    return json.dumps([call["method"], call["params"] or {}], sort_keys=True)


class Node:
    """A target that waits for its start, and the file of its configuration."""

    def __init__(self, target):
        self.target = target
        self.path = str(target.directory / "spdk.json")
        self.port = str(free_port())

    def task(self, name, state=None, **keywords):
        options = {"socket": self.target.socket, "path": self.path}
        if state is None:
            return {"name": name, "excloud.diskengine.spdk_config_info": options, **keywords}
        options |= {"state": state}
        if state != "saved":
            options |= {"startup": STARTUP}
        return {"name": name, "excloud.diskengine.spdk_config": options, "diff": True, **keywords}

    def run(self, *tasks):
        self.target.recorder.clear()
        return run_playbook(play(*tasks))

    def three_steps(self, state, *more):
        """Check, run, run again, more tasks; returns the results, and what was sent to change something by task."""
        steps = [
            self.task("check", state, check_mode=True),
            self.task("run", state),
            self.task("again", state),
            *more,
        ]
        done = self.run(*steps)
        assert done.rc == 0, done.output
        check, run, again, *rest = done.results()
        assert (check["changed"], run["changed"], again["changed"]) == (True, True, False)
        assert check["diff"] == run["diff"]
        connections = list(dict.fromkeys(call["connection"] for call in self.target.recorder.requests))
        sent = [
            [
                canonical(call)
                for call in self.target.recorder.requests
                if call["connection"] == connection and call["method"] not in READS
            ]
            for connection in connections
        ]
        return check, run, again, rest, sent

    def start(self):
        """Start the framework past the module."""
        for method, params in STARTUP.items():
            self.target.call(method, params)
        self.target.call("framework_start_init")
        return self

    def populate(self):
        """Make an lvstore and exports."""
        target = self.target
        target.add_lvstore("lvs-0", 256 << 20)
        target.call("bdev_examine", {"name": "disk-lvs-0"})
        key = target.directory / "key"
        key.write_text(KEY)
        key.chmod(0o600)
        target.call("keyring_file_add_key", {"name": "k", "path": str(key)})
        target.call("nvmf_create_transport", {"trtype": "TCP", "max_queue_depth": 64})
        for number in range(3):
            self.export(number)
        return self

    def export(self, number):
        call, nqn = self.target.call, f"{NQN}{number}"
        call("bdev_lvol_create", {"lvs_name": "lvs-0", "lvol_name": str(number), "size_in_mib": 4})
        call("nvmf_create_subsystem", {"nqn": nqn, "serial_number": f"S{number}", "ana_reporting": True})
        call("nvmf_subsystem_add_host", {"nqn": nqn, "host": f"{NQN}a", "psk": "k"})
        call("nvmf_subsystem_add_host", {"nqn": nqn, "host": f"{NQN}b"})
        call("nvmf_subsystem_add_ns", {"nqn": nqn, "namespace": {"bdev_name": f"lvs-0/{number}", "nsid": 7}})
        address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": self.port}
        call("nvmf_subsystem_add_listener", {"nqn": nqn, "listen_address": address})
        call("bdev_set_qos_limit", {"name": f"lvs-0/{number}", "rw_ios_per_sec": 5000})

    def configuration(self):
        """What SPDK's own save_config reads."""
        return {
            "subsystems": [
                {"subsystem": name, "config": self.target.call("framework_get_config", {"name": name})}
                for name in [item["subsystem"] for item in self.target.call("framework_get_subsystems")]
            ]
        }

    def save(self):
        """Save past the module."""
        Path(self.path).write_text(json.dumps(self.configuration()))

    def restart(self):
        """As after a power cut."""
        self.target.kill()
        self.target.start()

    def state(self):
        """What hosts can reach, the lvols, and the configuration without the order in it."""
        config = [
            sorted(json.dumps(call, sort_keys=True) for call in item["config"] or [])
            for item in self.configuration()["subsystems"]
        ]
        return self.target.exports(), self.target.call("bdev_lvol_get_lvols"), config


@pytest.fixture
def node(make_target):
    return Node(make_target(["--wait-for-rpc"]))


def test_saved_and_back(node):
    done = node.run(node.task("too early", "saved", ignore_errors=True))
    assert "waits for framework_start_init" in done.result("too early")["msg"]
    check, run, _again, _rest, sent = node.three_steps("started")
    assert sent == [[], [canonical(call) for call in check["actions"]], []]
    methods = ["bdev_set_options", "iobuf_set_options", "framework_start_init"]
    assert [call["method"] for call in run["actions"]] == methods
    node.populate()

    _check, run, _again, (drift,), sent = node.three_steps("saved", node.task("compare"))
    assert (run["previous"], drift["differences"], sent) == (None, [], [[]] * 4)
    path = Path(node.path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == node.configuration()
    first = path.read_text()

    node.export(3)
    node.target.call("nvmf_subsystem_remove_host", {"nqn": f"{NQN}0", "host": f"{NQN}b"})
    node.target.call("nvmf_subsystem_remove_host", {"nqn": f"{NQN}1", "host": f"{NQN}a"})
    node.target.call("nvmf_subsystem_add_host", {"nqn": f"{NQN}1", "host": f"{NQN}a"})
    done = node.run(node.task("compare"), node.task("save", "saved"), node.task("compare again"))
    told = {(item["kind"], item["object"], item["parameter"]): item for item in done.result("compare")["differences"]}
    assert ("missing", f"{NQN}0 {NQN}b", None) in told
    assert told["different", f"{NQN}1 {NQN}a", "psk"]["file"] == "k"
    assert told["different", f"{NQN}1 {NQN}a", "psk"]["live"] is None
    assert len([item for item in told.values() if item["kind"] == "extra"]) == 6
    assert done.result("save")["previous"] == f"{node.path}.previous"
    assert done.result("compare again")["differences"] == []
    assert Path(f"{node.path}.previous").read_text() == first

    before = node.state()
    node.restart()
    check, run, again, (drift, kept), sent = node.three_steps(
        "restored", node.task("compare"), node.task("save", "saved")
    )
    assert node.state() == before
    assert (sent[0], sent[2:]) == ([], [[]] * 3)
    assert Counter(sent[1]) == Counter(map(canonical, check["actions"]))
    assert run["actions"] == check["actions"]
    assert [call["method"] for call in check["actions"]].count("framework_start_init") == 1
    assert (run["waited"], again["waited"], drift["differences"], kept["changed"]) == (True, False, [], False)


def test_what_differs_is_left_alone(node):
    node.start().populate().save()
    call = node.target.call
    call("nvmf_delete_subsystem", {"nqn": f"{NQN}0"})
    call("nvmf_create_subsystem", {"nqn": f"{NQN}0", "serial_number": "other"})
    call("nvmf_subsystem_remove_host", {"nqn": f"{NQN}2", "host": f"{NQN}b"})
    options = {"socket": node.target.socket, "path": node.path, "state": "restored"}
    late = {"bdev_set_options": {"bdev_auto_examine": True}}
    unknown = {"socket": node.target.socket, "state": "started", "startup": {"bdev_aio_create": {"name": "x"}}}
    done = node.run(
        node.task("restore", "restored", ignore_errors=True),
        {"name": "late", "excloud.diskengine.spdk_config": options | {"startup": late}, "ignore_errors": True},
        {"name": "unknown", "excloud.diskengine.spdk_config": unknown, "ignore_errors": True},
    )
    assert "Traceback" not in done.output
    restored = done.result("restore")
    assert done.events[0]["event"] == "ignored" and restored["changed"]
    (error,) = restored["errors"]
    assert error.startswith(f'nvmf_create_subsystem {NQN}0: serial_number is "other", saved as "S0"')
    assert restored["msg"] == error
    hosts = {item["nqn"]: len(item["hosts"]) for item in call("nvmf_get_subsystems")}
    assert (hosts[f"{NQN}0"], hosts[f"{NQN}2"]) == (2, 2)
    assert "bdev_auto_examine is false, saved as true" in done.result("late")["msg"]
    assert "startup has bdev_aio_create, which cannot be called before" in done.result("unknown")["msg"]


@pytest.mark.parametrize(
    ("method", "occurrence"), [("iobuf_set_options", 1), ("framework_start_init", 1), ("nvmf_subsystem_add_ns", 2)]
)
def test_killed_while_it_restores(node, method, occurrence):
    node.start().populate().save()
    before = node.state()
    node.restart()
    recorder, killed = node.target.recorder, []

    def before_answer(number):
        request = recorder.requests[number - 1]
        earlier = [each["method"] for each in recorder.requests[: number - 1]]
        if number and not killed and request["method"] == method and earlier.count(method) == occurrence - 1:
            killed.append(request)
            os.kill(request["pid"], signal.SIGKILL)

    recorder.before_answer = before_answer
    assert node.run(node.task("restore", "restored")).rc != 0
    assert killed
    recorder.before_answer = lambda number: None
    done = node.run(node.task("restore", "restored"), node.task("again", "restored"))
    assert done.rc == 0, done.output
    assert done.result("again")["changed"] is False
    assert node.state() == before


def test_the_role_saves_what_was_served(make_site, tmp_path):
    site, path = make_site(lvols=2), tmp_path / "spdk.json"
    options = {"host_vars": {"storage_node_config_file": str(path)}}
    checked = site.converge(check=True, **options)
    assert checked.result(SAVE_TASK)["changed"] and not path.exists()
    done = site.converge(times=2, **options)
    assert [each["changed"] for each in done.results(SAVE_TASK)] == [True, False]
    methods = [call["method"] for item in json.loads(path.read_text())["subsystems"] for call in item["config"] or []]
    assert methods.count("nvmf_create_subsystem") == methods.count("nvmf_subsystem_add_ns") == 2

    saved, (first, _second) = path.read_text(), site.rows()
    site.target.call("nvmf_delete_subsystem", {"nqn": first["nqn"]})
    site.target.call("bdev_lvol_delete", {"name": first["uuid"]})
    failed = site.converge(**options)
    assert failed.rc != 0 and failed.results(SAVE_TASK) == []
    assert path.read_text() == saved
