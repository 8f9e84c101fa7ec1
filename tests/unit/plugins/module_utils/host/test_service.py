# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit of a target as text, and the plan over all states that a service can be in."""

from __future__ import annotations

import shutil
import subprocess
from itertools import product

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import Refusal
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host
from ansible_collections.excloud.diskengine.plugins.module_utils._host._service import (
    Facts,
    Process,
    make_plan,
    manage,
)
from ansible_collections.excloud.diskengine.plugins.module_utils._host._unit import (
    MARKERS,
    Wanted,
    arguments,
    cores,
    settings,
    socket_of,
    unit_text,
)
from support.sysfs import Kernel, Tree

PROGRAM = "/opt/spdk/bin/spdk_tgt"
UNIT = "/etc/systemd/system/spdk_tgt.service"
LINK = "/etc/systemd/system/multi-user.target.wants/spdk_tgt.service"
DRIVES = ("0000:01:00.0", "0000:02:00.0")

FULL = Wanted(
    program=PROGRAM,
    core_mask="[0,2-4]",
    memory="1025MB",
    socket="/run/spdk/spdk.sock",
    user="spdk",
    group="kvm",
    wait_for_rpc=True,
    config="/etc/spdk/a b.json",
    hugepages_mount="/dev/huge-spdk",
    vhost_sockets="/var/run/vhost/sockets",
    arguments=["-L", "nvmf", "--iova-mode=va"],
    environment={"B": 'x "y" $Z 5%', "A": ""},
    drives=DRIVES,
)


def line(text, key):
    """The values of a key of a unit."""
    return [entry.partition("=")[2] for entry in text.splitlines() if entry.startswith(f"{key}=")]


class TestUnit:
    def test_arguments(self):
        assert arguments(FULL) == [
            PROGRAM, "-m", "[0,2-4]", "-s", "978", "-r", "/run/spdk/spdk.sock", "--huge-dir", "/dev/huge-spdk",
            "-S", "/var/run/vhost/sockets", "--wait-for-rpc", "-c", "/etc/spdk/a b.json",
            "-L", "nvmf", "--iova-mode=va",
        ]  # fmt: skip
        assert arguments(Wanted(program=PROGRAM, no_hugepages=True)) == [
            PROGRAM, "-r", "/var/tmp/spdk.sock", "--no-huge",
        ]  # fmt: skip

    def test_text(self):
        text = unit_text(FULL)
        (start,) = line(text, "ExecStart")
        assert start.endswith('-c "/etc/spdk/a b.json" -L nvmf --iova-mode=va') and ' -m "[0,2-4]" ' in start
        assert line(text, "Environment")[:2] == ["A=", '"B=x \\"y\\" $Z 5%%"']
        assert (line(text, "User"), line(text, "Group")) == (["spdk"], ["kvm"])
        assert line(text, "RuntimeDirectory") == ["spdk vhost/sockets"]
        assert line(text, "RequiresMountsFor") == [f'{PROGRAM} "/etc/spdk/a b.json" /dev/huge-spdk']
        plain = unit_text(Wanted(program=PROGRAM))
        assert not line(plain, "User") + line(plain, "RuntimeDirectory") and "vfio" not in plain

    @pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
    @pytest.mark.parametrize("wanted", [FULL, Wanted(program=PROGRAM)], ids=["full", "plain"])
    def test_systemd_understands_it(self, wanted, tmp_path):
        path = tmp_path / "spdk_tgt.service"
        path.write_text(unit_text(wanted).replace(PROGRAM, shutil.which("true")), encoding="utf-8")
        done = subprocess.run(["systemd-analyze", "verify", path], check=False, capture_output=True, text=True)
        assert str(path) not in done.stderr and path.name not in done.stderr, done.stderr

    def run_before_start(self, wanted, number, tmp_path, **environment):
        """Run one of the shell lines before the start, on a tree of its own and without waiting."""
        text = line(unit_text(wanted), "ExecStartPre")[number].partition("-c '")[2][:-1].replace("$$", "$")
        text = text.replace("/sys/bus", f"{tmp_path}/sys/bus").replace(MARKERS, f"{tmp_path}{MARKERS}")
        return subprocess.run(
            ["sh", "-c", f"sleep() {{ echo slept; }}; {text}"],
            check=True, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **environment},
        )  # fmt: skip

    def test_waiting_for_drives(self, tmp_path):
        """One that is there costs nothing, one that does not come is named after a minute in all."""
        tree = Tree(tmp_path)
        tree.add_pci(DRIVES[1], driver="vfio-pci")
        done = self.run_before_start(FULL, 0, tmp_path)
        assert done.stdout.splitlines() == ["slept"] * 60
        assert done.stderr == f"drive {DRIVES[0]} is on no userspace driver; starting without it\n"
        tree.add_pci(DRIVES[0], driver="uio_pci_generic")
        done = self.run_before_start(FULL, 0, tmp_path)
        assert done.stdout + done.stderr == ""

    def test_the_marker(self, tmp_path):
        for invocation in ("a1", "b2"):
            self.run_before_start(FULL, 1, tmp_path, INVOCATION_ID=invocation)
            directory = tmp_path / MARKERS.lstrip("/")
            assert [path.name for path in directory.iterdir()] == ["spdk_tgt.started"]
            assert (directory / "spdk_tgt.started").read_text(encoding="utf-8") == f"{invocation}\n"

    def test_settings(self):
        """Exactly what the process gets counts."""
        same = [{"drives": ()}, {"enabled": False}, {"interrupt": True}, {"state": "stopped"}, {"timeout": 1.0}]
        other = [
            {"core_mask": "0x1"}, {"memory": "2GiB"}, {"user": None}, {"group": None}, {"wait_for_rpc": False},
            {"config": None}, {"arguments": ()}, {"environment": {"A": ""}}, {"program": "/bin/vhost"},
            {"hugepages_mount": None}, {"no_hugepages": True}, {"vhost_sockets": None}, {"socket": "/run/a/s"},
        ]  # fmt: skip
        given = {name: getattr(FULL, name) for name in Wanted.__dataclass_fields__}
        assert {settings(Wanted(**{**given, **change})) for change in same} == {settings(FULL)}
        assert len({settings(Wanted(**{**given, **change})) for change in other} | {settings(FULL)}) == len(other) + 1

    @pytest.mark.parametrize(
        "mask, expected",
        [("0x1", {0}), ("0xF0", {4, 5, 6, 7}), ("[0]", {0}), ("[0,2-4]", {0, 2, 3, 4}), ("[10-11,1]", {1, 10, 11})],
    )
    def test_cores(self, mask, expected):
        assert cores(mask) == expected

    @pytest.mark.parametrize(
        "line, path",
        [
            ([], "/var/tmp/spdk.sock"),
            (["-r", "/a"], "/a"),
            (["-r/a"], "/a"),
            (["--rpc-socket", "/a"], "/a"),
            (["--rpc-socket=/a"], "/a"),
            (["-r", "/a", "-m", "0x1", "-r", "/b"], "/b"),
            (["-r"], "/var/tmp/spdk.sock"),
        ],
    )
    def test_socket_of_a_process(self, line, path):
        assert socket_of([PROGRAM, *line]) == path

    @pytest.mark.parametrize(
        "options, said",
        [
            ({"core_mask": "17"}, "core_mask '17' is none"),
            ({"core_mask": "[0, 1]"}, "with the quotes for YAML"),
            ({"core_mask": "0x0"}, "names no core"),
            ({"memory": "much"}, "memory 'much' is not a size"),
            ({"arguments": ["--rpc-socket=/x"]}, "has an option of its own: say socket"),
            ({"arguments": ["-m0x3"]}, "has an option of its own: say core_mask"),
            ({"arguments": ["a\nb"]}, "holds a control character"),
            ({"program": "spdk_tgt"}, "'spdk_tgt' is not an absolute path"),
            ({"config": "a.json"}, "'a.json' is not an absolute path"),
            ({"user": "a b"}, "user 'a b' cannot be the name of a user"),
            ({"group": ""}, "group '' cannot be the name of a group"),
            ({"environment": {"A B": "c"}}, "'A B' cannot be the name of an environment variable"),
            ({"environment": {"DISKENGINE_SETTINGS": "c"}}, "cannot be the name of an environment variable"),
            ({"environment": {"A": "a\nb"}}, "holds a control character"),
            ({"drives": ["nvme0"]}, "'nvme0' is not a PCI address"),
        ],
    )
    def test_refusals(self, options, said):
        with pytest.raises(Refusal) as raised:
            unit_text(Wanted(**{"program": PROGRAM, **options}))
        assert said in str(raised.value)

    @pytest.mark.parametrize("name", ["", "a/b", "a.service", "-a", "a b", "a%i"])
    def test_names(self, name):
        with pytest.raises(Refusal, match="is not the name of a service"):
            str(Wanted(name=name).unit)


def process(wanted, **changes):
    made = Process(7, arguments(wanted), settings(wanted), False, wanted.socket)
    return made._replace(**changes)


def facts(wanted=None, active="inactive", **changes):
    """A host that has the unit of ``wanted``, or none."""
    made = Facts(
        unit=unit_text(wanted) if wanted else None,
        link="../spdk_tgt.service" if wanted else "",
        marker=False,
        state={
            "LoadState": "loaded" if wanted else "not-found", "ActiveState": active, "NeedDaemonReload": "no",
            "FragmentPath": UNIT if wanted else "",
        },
        process=process(wanted) if wanted and active == "active" else None,
        serves=[],
        online={0, 1, 2, 3, 4},
        lacks=[],
        systemd=True,
        live=True,
    )  # fmt: skip
    return made._replace(**changes)


def commands(plan):
    return [step.value.split()[0] for step in plan.steps if step.kind == "command"]


PLAIN = Wanted(program=PROGRAM, core_mask="0x1")
STATES = ("inactive", "failed", "active", "activating", "deactivating")


class TestPlan:
    def test_over_all_states(self):
        """What serves is never ended without consent, and nothing is done where nothing differs."""
        units = (None, PLAIN, Wanted(program=PROGRAM, core_mask="0x3"))
        serving = ([], ["subsystem a"], ["unknown: it hangs"])
        for state, active, unit, serves, interrupt, replaced in product(
            ("started", "stopped", "absent"), STATES, units, serving, (False, True), (False, True)
        ):
            runs = active in ("active", "deactivating") and unit is not None
            found = facts(unit, active, process=process(unit, replaced=replaced) if runs else None)
            found = found._replace(serves=serves if runs else [])
            if unit is None and active != "inactive":
                continue
            given = {name: getattr(PLAIN, name) for name in Wanted.__dataclass_fields__}
            wanted = Wanted(**{**given, "state": state, "interrupt": interrupt})
            case = (state, active, unit and unit.core_mask, serves, interrupt, replaced)
            stale = active == "active" and (unit != PLAIN or replaced)
            protected = runs and bool(serves) and not interrupt
            try:
                plan = make_plan(found, wanted)
            except Refusal as refusal:
                assert protected and state != "started" and serves[0] in str(refusal), case
                continue
            done = commands(plan)
            assert plan.ends == (runs and bool({"restart", "stop"} & set(done))), case
            if state == "started":
                rests = active == "activating" and unit == PLAIN
                assert bool(plan.pending) == (stale and protected), case
                assert ("restart" in done) == (stale and not protected or active == "activating" and not rests), case
                assert ("start" in done) == (active in ("inactive", "failed", "deactivating")), case
                assert ("file" in [step.kind for step in plan.steps]) == (unit != PLAIN), case
                if unit == PLAIN and (rests or active == "active" and (not stale or protected)):
                    assert plan.steps == [], case
                assert (plan.after["unit"], plan.after["enabled"]) == (unit_text(PLAIN), True), case
                assert plan.after["running"] == (not rests), case
            else:
                assert not protected, case
                assert ("stop" in done) == (active not in ("inactive", "failed")), case
                if active in ("inactive", "failed") and (state == "stopped" or unit is None):
                    assert plan.steps == [], case
                assert not plan.after["running"], case

    def test_a_unit_that_differs_in_more_than_the_process_sees(self):
        """A newer collection may write another unit; what runs is left running."""
        found = facts(PLAIN, "active")
        plan = make_plan(found._replace(unit=found.unit.replace("RestartSec=5", "RestartSec=1")), PLAIN)
        assert commands(plan) == ["daemon-reload"] and plan.steps[0].kind == "file" and not plan.pending

    def test_a_process_of_another_unit(self):
        found = facts(PLAIN, "active", process=process(PLAIN, settings=""))
        assert commands(make_plan(found, PLAIN)) == ["reset-failed", "restart"]

    def test_a_drop_in(self):
        """A restart would not help, so it is only told."""
        found = facts(PLAIN, "active", process=process(PLAIN, arguments=[PROGRAM, "-m", "0x8"]))
        plan = make_plan(found, PLAIN)
        assert plan.steps == [] and "has other arguments than its unit" in plan.notes[0]
        found = facts(PLAIN, "active", process=process(PLAIN, arguments=["/usr/bin/python3", *arguments(PLAIN)]))
        assert make_plan(found, PLAIN).notes == []

    def test_killed_before_systemd_read_the_unit(self):
        found = facts(PLAIN, "active")
        found.state["NeedDaemonReload"] = "yes"
        assert commands(make_plan(found, PLAIN)) == ["daemon-reload"]

    @pytest.mark.parametrize("state, enabled, link, steps", [
        ("started", None, "", ["link"]),
        ("started", False, "../spdk_tgt.service", ["remove"]),
        ("started", False, "", []),
        ("started", None, UNIT, []),
        ("stopped", None, "../spdk_tgt.service", []),
        ("stopped", False, "../spdk_tgt.service", ["remove"]),
        ("stopped", True, "", ["link"]),
    ])  # fmt: skip
    def test_enabled(self, state, enabled, link, steps):
        found = facts(PLAIN, "active" if state == "started" else "inactive", link=link)
        plan = make_plan(found, Wanted(program=PROGRAM, core_mask="0x1", state=state, enabled=enabled))
        assert [step.kind for step in plan.steps] == [*steps, *["command"] * len(steps)]
        assert plan.after["enabled"] == (enabled if enabled is not None else bool(link) or state == "started")

    def test_absent_leaves_nothing(self):
        found = facts(PLAIN, "failed", marker=True)
        plan = make_plan(found, Wanted(state="absent"))
        assert [(step.kind, step.path) for step in plan.steps] == [
            ("command", "systemctl"),
            ("remove", f"{MARKERS}/spdk_tgt.started"),
            ("remove", LINK),
            ("remove", UNIT),
            ("command", "systemctl"),
        ]
        assert commands(plan) == ["reset-failed", "daemon-reload"]

    @pytest.mark.parametrize(
        "changes, said",
        [
            ({"systemd": False}, "does not run systemd"),
            ({"online": {1}}, "core_mask 0x1 names core 0, and the host has no such core online"),
            ({"unit": "[Service]\n"}, f"{UNIT} was not written by this module"),
            ({"state": {"ActiveState": "inactive", "FragmentPath": "/lib/x.service"}}, "/lib/x.service was not"),
            ({"state": {"ActiveState": "inactive", "LoadState": "masked", "FragmentPath": UNIT}}, "is masked"),
        ],
    )
    def test_refusals(self, changes, said):
        with pytest.raises(Refusal) as raised:
            make_plan(facts(None, **changes), PLAIN)
        assert said in str(raised.value)

    def test_another_unit_can_be_stopped(self):
        """Under its name; its file is not ours to judge."""
        found = facts(PLAIN, "active", unit=None)
        found.state["FragmentPath"] = "/lib/systemd/system/spdk_tgt.service"
        assert commands(make_plan(found, Wanted(state="stopped"))) == ["stop"]
        with pytest.raises(Refusal, match="was not written by this module"):
            make_plan(found, Wanted(state="absent"))


@pytest.fixture
def kernel(tmp_path):
    """A host with systemd; ``shown`` is what it says of the service."""
    tree = Tree(tmp_path)
    tree.at("/run/systemd/system").mkdir(parents=True)
    made = Kernel(tree, ("systemctl", PROGRAM))
    made.shown = {"LoadState": "loaded", "ActiveState": "active", "MainPID": "0", "NeedDaemonReload": "no"}
    run = made.run

    def answer(line):
        if line[1] == "show":
            return "".join(f"{key}={value}\n" for key, value in made.shown.items())
        return run(line)

    made.run = answer
    return made


@pytest.mark.parametrize(
    "shown, said",
    [
        ({}, "serves unknown: systemd names no process of spdk_tgt.service"),
        ({"ActiveState": "deactivating"}, "serves unknown: systemd names no process of spdk_tgt.service"),
        ({"MainPID": "70"}, "serves unknown: there is no socket /nonexistent/s"),
        ({"MainPID": "70", "ActiveState": "activating"}, "serves unknown: there is no socket /nonexistent/s"),
        ({"ActiveState": "activating"}, ""),
    ],
)
def test_what_cannot_be_asked_is_not_ended(kernel, shown, said):
    """Whatever the service of that name is; one that is only about to start has nothing to ask."""
    kernel.tree.put("/proc/70/cmdline", f"{PROGRAM}\0-r\0/nonexistent/s\0")
    kernel.shown.update(shown)
    if not said:
        manage(kernel, Wanted(state="stopped"), False)
        assert kernel.done == [["systemctl", "stop", "spdk_tgt.service"]]
        return
    for check in (True, False):
        with pytest.raises(Refusal, match=said):
            manage(kernel, Wanted(state="stopped"), check)
    assert kernel.done == []


def test_an_image(tmp_path):
    """Below another root files are written and no program is started."""
    tree = Tree(tmp_path)
    for check in (True, False):
        result, failed = manage(Host(str(tmp_path)), PLAIN, check)
        assert not failed and [step["kind"] for step in result["writes"]] == ["file", "link"]
        assert "was not started, because this is an image" in result["notes"][0]
    assert tree.get(UNIT) == unit_text(PLAIN) and tree.at(LINK).is_symlink()
    assert not manage(Host(str(tmp_path)), PLAIN, False)[0]["changed"]
    gone, failed = manage(Host(str(tmp_path)), Wanted(state="absent"), False)
    assert gone["changed"] and not tree.at(UNIT).exists() and not tree.at(LINK).is_symlink()
    assert not manage(Host(str(tmp_path)), Wanted(state="absent"), False)[0]["changed"]
