# SPDX-License-Identifier: GPL-3.0-or-later
"""The service through ansible-playbook and a real systemd, which runs in namespaces of its own."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import time
from pathlib import Path

import pytest
from support.ansible import play, run_playbook
from support.systemd import running_systemd, why_not
from support.targets import TESTS, is_real, rpc

REASON = why_not()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

NQN = "nqn.2024-01.io.excloud:storage.test"
UNIT = "/etc/systemd/system/{}.service"
_numbers = itertools.count(1)

# Takes what the real program takes; "--fail" is for a target that does not start.
SIMULATED = f"""#!{sys.executable}
import argparse, runpy, sys
options = argparse.ArgumentParser(allow_abbrev=False)
for name in ("-m", "-s", "-r", "-S", "-c", "--huge-dir"):
    options.add_argument(name)
for name in ("--no-huge", "--disable-cpumask-locks", "--wait-for-rpc", "--fail"):
    options.add_argument(name, action="store_true")
found, _others = options.parse_known_args()
if found.fail:
    sys.exit("Unable to acquire lock on assigned core mask - exiting.")
sys.argv = ["spdk_sim", "-r", found.r, *(["-S", found.S] if found.S else [])] + ["--wait-for-rpc"] * found.wait_for_rpc
runpy.run_path({str(TESTS / "spdk_sim")!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def systemd():
    with running_systemd() as made:
        yield made


class Service:
    """A service of a name of its own in the systemd of the tests."""

    def __init__(self, systemd, program):
        self.systemd = systemd
        self.name = f"target{next(_numbers)}"
        self.unit = f"{self.name}.service"
        self.socket = f"/run/{self.name}/spdk.sock"
        self.program = program
        self.arguments = ["--no-huge", "--disable-cpumask-locks"] if is_real() else []

    def options(self, **options):
        """The options of the module; None takes one away."""
        merged = {"name": self.name, "program": self.program, "socket": self.socket, "start_wait": 30, **options}
        if merged.get("state", "started") == "started":
            merged["arguments"] = [*merged.get("arguments", ()), "--disable-cpumask-locks"]
            merged = {"memory": "1GiB", "no_hugepages": True, **merged}
        else:
            del merged["program"]
        return {key: value for key, value in merged.items() if value is not None}

    def task(self, title="Manage", **options):
        return {"name": title, "excloud.diskengine.spdk_service": self.options(**options), "ignore_errors": True}

    def run(self, check=False, **options):
        """The result of one task in diff mode, without the interpreter of the simulated program."""
        result = self.play(self.task(**options), check=check).result("Manage")
        return json.loads(json.dumps(result).replace(f'"{sys.executable}", ', ""))

    def play(self, *tasks, **options):
        inventory = {"all": {"hosts": {"localhost": self.systemd.host}}}
        done = run_playbook(play(*tasks), inventory, diff=True, **options)
        assert "Traceback" not in done.output
        return done

    def call(self, method, params=None):
        """A call from outside."""
        return rpc(f"/proc/{self.systemd.pid}/root{self.socket}", method, params)

    def serve(self):
        """Export a RAM disk."""
        self.call("bdev_malloc_create", {"name": "ram", "num_blocks": 2048, "block_size": 512})
        self.call("nvmf_create_subsystem", {"nqn": NQN})
        self.call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "ram"}})

    @property
    def pid(self):
        return int(self.systemd.show(self.unit, "MainPID"))

    @property
    def marker(self):
        return self.systemd.inside("cat", f"/run/diskengine/{self.name}.started", check=False)

    def text(self):
        return self.systemd.inside("cat", UNIT.format(self.name), check=False)


@pytest.fixture
def service(systemd, tmp_path):
    program = Path(os.environ["SPDK_TGT"]) if is_real() else tmp_path / "spdk_tgt"
    if not is_real():
        program.write_text(SIMULATED, encoding="utf-8")
        program.chmod(0o755)
    systemd.host = {"ansible_python_interpreter": systemd.interpreter(sys.executable)}
    made = Service(systemd, str(program))
    yield made
    systemd.inside("systemctl", "kill", "--signal=KILL", made.unit, check=False)
    systemd.inside("systemctl", "stop", made.unit, check=False)


def test_start_change_and_remove(service):
    preview = service.run(check=True)
    assert preview["changed"] and service.text() == "" and service.pid == 0
    done = service.run()
    for key in ("changed", "writes", "before", "after", "diff"):
        assert done[key] == preview[key], key
    assert [(step["kind"], step["value"].split()[0]) for step in done["writes"]] == [
        ("file", "#"), ("link", f"../{service.unit}"), ("command", "daemon-reload"), ("command", "start"),
    ]  # fmt: skip
    assert done["pid"] == service.pid > 0 and done["serves"] == [] and done["notes"] == []
    assert done["started"] == service.marker == service.systemd.show(service.unit, "InvocationID") != ""
    assert service.systemd.inside("systemctl", "is-enabled", service.unit) == "enabled"
    again = service.run()
    assert not again["changed"] and again["writes"] == [] and again["pid"] == done["pid"]

    other = service.run(core_mask="[0-1]")
    assert [step["value"].split()[0] for step in other["writes"]] == ["#", "daemon-reload", "reset-failed", "restart"]
    assert "-m" in other["after"]["arguments"] and other["pid"] == service.pid != done["pid"]
    assert service.marker == other["started"] != done["started"]

    gone = service.run(state="absent")
    assert gone["changed"] and gone["after"] == {"running": False, "enabled": False, "arguments": [], "unit": None}
    assert service.text() == service.marker == "" and gone["pid"] is None
    assert service.systemd.show(service.unit, "LoadState") == "not-found"
    assert not service.run(state="absent")["changed"]


def test_what_serves_is_not_ended_without_consent(service):
    first = service.run()
    service.serve()
    changed = {"environment": {"A": "1"}}
    refused = {"state": "stopped", "timeout": 1}
    done = service.play(
        {**service.task("Preview", **changed), "check_mode": True},
        service.task("Change", **changed),
        service.task("Again", **changed),
        service.task("Stop", state="stopped"),
        {**service.task("Remove", state="absent"), "check_mode": True},
        {"name": "Hang", "ansible.builtin.command": f"kill -STOP {first['pid']}"},
        service.task("Stop what hangs", **refused),
        service.task("Change what hangs", timeout=1, environment={"A": "2"}),
        {"name": "Go on", "ansible.builtin.command": f"kill -CONT {first['pid']}"},
        service.task("Change back"),
    )
    for name, is_changed in (("Preview", True), ("Change", True), ("Again", False)):
        result = done.result(name)
        assert (result["changed"], result["restart_pending"]) == (is_changed, True)
        assert result["serves"] == [f"subsystem {NQN}"] and result["pid"] == first["pid"]
        (note,) = result["notes"]
        assert note in result["warnings"] and NQN in note and "interrupt: true" in note
        assert result["before"]["arguments"] == result["after"]["arguments"]
    assert [step["value"].split()[0] for step in done.result("Change")["writes"]] == ["#", "daemon-reload"]
    for name in ("Stop", "Remove"):
        assert done.result(name)["msg"] == (
            f"{service.unit} was to be {'stopped' if name == 'Stop' else 'absent'} and serves subsystem {NQN}; move "
            f"these away first, or say interrupt: true to cut them off"
        )
    assert "serves unknown: the target behind" in done.result("Stop what hangs")["msg"]
    assert done.result("Change what hangs")["restart_pending"]
    back = done.result("Change back")
    assert back["changed"] and not back["restart_pending"] and back["pid"] == service.pid == first["pid"]

    allowed = service.run(**changed, interrupt=True)
    assert allowed["pid"] == service.pid != first["pid"] and not allowed["restart_pending"]
    assert allowed["serves"] == [f"subsystem {NQN}"] and service.run(**changed)["serves"] == []
    stopped = service.run(state="stopped")
    assert stopped["changed"] and service.pid == 0 and not stopped["after"]["running"]
    assert stopped["after"]["enabled"] and service.text()
    assert not service.run(state="stopped")["changed"]


def test_release_stops_a_target_that_serves_only_what_is_named(service):
    """This machine has no drives, so it is the way to the end of the target that is shown."""

    def release(**options):
        variables = {"target": "localhost", "release_all": True, "release_socket": service.socket}
        variables |= {"release_stop_service": service.name, "release_subsystems": [NQN], **options.pop("extra", {})}
        inventory = {"all": {"hosts": {"localhost": service.systemd.host}}}
        done = run_playbook("excloud.diskengine.release", inventory, variables, **options)
        assert "Traceback" not in done.output
        return done

    first = service.run()
    service.serve()
    refused = release(extra={"release_subsystems": []}, check=True)
    assert refused.rc and f"and serves subsystem {NQN}; move these away first" in refused.output
    service.call("bdev_malloc_create", {"name": "more", "num_blocks": 2048, "block_size": 512})
    service.call("nvmf_create_subsystem", {"nqn": f"{NQN}.more"})
    service.call("nvmf_subsystem_add_ns", {"nqn": f"{NQN}.more", "namespace": {"bdev_name": "more"}})
    refused = release(check=True)
    assert refused.rc and f"{service.name} serves subsystem {NQN}.more; move these away first" in refused.output
    service.call("nvmf_delete_subsystem", {"nqn": f"{NQN}.more"})
    assert release(check=True).rc == 0 and service.pid == first["pid"]
    done = release()
    assert done.rc == 0 and service.pid == 0, done.output
    again = release()
    assert again.rc == 0 and again.changed["localhost"] == 0, again.output


def test_other_ways_to_serve_and_to_serve_nothing(service):
    service.run(vhost_sockets=f"/run/{service.name}/vhost", wait_for_rpc=True)
    waiting = service.run(vhost_sockets=f"/run/{service.name}/vhost")
    assert waiting["serves"] == [] and waiting["writes"][-1]["value"] == f"restart {service.unit}"
    service.call("bdev_malloc_create", {"name": "ram", "num_blocks": 2048, "block_size": 512})
    service.call("nvmf_create_subsystem", {"nqn": NQN})
    assert service.run(vhost_sockets=f"/run/{service.name}/vhost")["serves"] == []
    service.call("vhost_create_blk_controller", {"ctrlr": "vhost7", "dev_name": "ram"})
    assert "serves vhost controller vhost7;" in service.run(state="stopped")["msg"]
    sockets = service.systemd.inside("stat", "--format=%A", f"/run/{service.name}/vhost/vhost7")
    assert sockets == "srwxrwx---"
    assert service.run(state="stopped", interrupt=True)["changed"]


def test_a_crash_leaves_another_marker(service):
    before = service.run()
    service.systemd.inside("kill", "-KILL", str(before["pid"]))
    deadline = time.monotonic() + 30
    while service.pid in (0, before["pid"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    after = service.run()
    assert not after["changed"] and after["pid"] == service.pid != before["pid"]
    assert service.marker == after["started"] != before["started"]


def test_a_target_that_does_not_start(service):
    failed = service.run(arguments=["--fail"], start_wait=5)
    assert failed["changed"] and "was to answer within 5 s and does not" in failed["msg"]
    assert re.search("exit-code, status [12]\\); in its journal: ", failed["msg"]), failed["msg"]
    assert ("unrecognized option" if is_real() else "Unable to acquire lock on assigned core mask") in failed["msg"]
    repaired = service.run()
    assert repaired["pid"] == service.pid > 0


def test_another_target_on_the_socket(service):
    """Its answers are not taken for those of the service."""
    other = Service(service.systemd, service.program)
    other.socket = service.socket
    other.run()
    failed = service.run(start_wait=1)
    assert failed["msg"].startswith(f"{service.unit} was to answer within 1 s and does not: ")
    assert other.run()["pid"] == other.pid > 0
    service.run(state="absent")
    other.run(state="absent")


def test_user_group_and_odd_words(service):
    service.socket = f"/run/{service.name}/50% ${{x \"a\\b'.sock"
    odd = {"QUOTED": "a \"b\" 'c' \\d", "DOLLAR": "$HOME ${HOME}", "PERCENT": "100%n", "EMPTY": "", "BLANK": " x "}
    done = service.run(user="root", group="games", environment=odd)
    assert done["notes"] == [] and done["pid"], done.get("msg")
    status = service.systemd.inside("stat", "--format=%A %U %G", service.socket)
    assert status == "srwxrwx--- root games"
    environment = service.systemd.inside("cat", f"/proc/{done['pid']}/environ").split("\0")
    assert {f"{name}={value}" for name, value in odd.items()} <= set(environment)
    assert service.socket in done["after"]["arguments"]
    assert not service.run(user="root", group="games", environment=odd)["changed"]
    other = service.run(user="root", environment=odd)
    assert "runs as another user or in another environment than its unit has now" in other["writes"][-1]["summary"]


def test_a_program_that_was_replaced(service, tmp_path):
    if is_real():
        pytest.skip("replaces the program")
    copy = tmp_path / "python"
    copy.write_bytes(Path(sys.executable).resolve().read_bytes())
    copy.chmod(0o755)
    text = SIMULATED.replace(f"#!{sys.executable}", f"#!{copy}")
    Path(service.program).write_text(text, encoding="utf-8")
    service.run()
    again = tmp_path / "again"
    again.write_bytes(copy.read_bytes())
    again.chmod(0o755)
    again.rename(copy)
    replaced = service.run()
    assert replaced["writes"][-1]["summary"].endswith("which runs a program that was replaced since it started")
    assert service.run()["writes"] == []


def test_refusals(service):
    """Each with its reason, and without a trace."""
    systemd, name = service.systemd, service.name
    foreign, shipped, masked = f"{name}-foreign", f"{name}-shipped", f"{name}-masked"
    for path in (UNIT.format(foreign), f"/run/systemd/system/{shipped}.service"):
        text = "[Service]\\nExecStart=/bin/sleep 1000\\n"
        systemd.inside("sh", "-c", f"mkdir -p /run/systemd/system && printf '{text}' > {path}")
    systemd.inside("systemctl", "mask", f"{masked}.service")
    cases = [
        ({"core_mask": "[0,4000-4001]"}, "names core 4000, 4001, and the host has no such core online"),
        ({"program": "/nonexistent/spdk_tgt"}, "there is no /nonexistent/spdk_tgt that can be run"),
        ({"user": "nonesuch", "config": "/nonexistent/a"}, "user: there is no nonesuch; config: there is no /nonexi"),
        ({"name": foreign}, f"{UNIT.format(foreign)} was not written by this module"),
        ({"name": shipped}, f"/run/systemd/system/{shipped}.service was not written by this module"),
        ({"name": masked}, "is masked"),
    ]
    before = systemd.inside("find", "/etc/systemd/system", "/run/systemd/system")
    done = service.play(*(service.task(f"Case {number}", **options) for number, (options, _said) in enumerate(cases)))
    for number, (_options, said) in enumerate(cases):
        assert said in done.result(f"Case {number}")["msg"], done.result(f"Case {number}")
    assert systemd.inside("find", "/etc/systemd/system", "/run/systemd/system") == before


def test_a_bare_host_in_check_mode(service):
    """What an earlier task would have installed or created is missing; that is told and no failure."""
    result = service.run(check=True, program="/opt/none/spdk_tgt", user="nonesuch")
    assert result["changed"] and len(result["notes"]) == 2 and "failed" not in result
    assert result["writes"][-1]["value"] == f"start {service.unit}"


def test_the_role(service):
    role = {
        "name": "Be the role",
        "ansible.builtin.include_role": {"name": "excloud.diskengine.spdk_target"},
        "vars": {
            "spdk_target_name": service.name,
            "spdk_target_program": service.program,
            "spdk_target_socket": service.socket,
            "spdk_target_memory": "1GiB",
            "spdk_target_no_hugepages": True,
            "spdk_target_arguments": ["--disable-cpumask-locks"],
        },
    }
    preview = service.play(role, check=True)
    done = service.play(role, role)
    first, second = done.results("Run the SPDK target")
    assert preview.result("Run the SPDK target")["writes"] == first["writes"] != []
    assert not second["changed"] and done.changed["localhost"] == 1
    service.serve()
    role["vars"]["spdk_target_core_mask"] = "0x1"
    pending = service.play(role).result("Run the SPDK target")
    assert pending["restart_pending"] and pending["pid"] == first["pid"]
    role["vars"]["spdk_target_interrupt"] = True
    assert service.play(role).result("Run the SPDK target")["pid"] != first["pid"]
