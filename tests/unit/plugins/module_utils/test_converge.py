# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole rounds against the simulator's server: whatever goes wrong, the outcomes are true and a rerun finishes."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import spdk_sim
from ansible_collections.excloud.diskengine.plugins.module_utils._converge import converge
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError, Unreachable
from ansible_collections.excloud.diskengine.plugins.module_utils._releases import Release
from ansible_collections.excloud.diskengine.plugins.module_utils._rpc import Client
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import (
    HOST,
    add_disk,
    nqn,
    plan,
    read,
    tcp,
    want,
)
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.serving import Served, serving
from spdk_sim import Target
from spdk_sim.fabric import add_drive, outside

MIB = 1 << 20
HELLO_AND_GETTERS = 2 + 11
"""Calls of a connection before its first change."""


def estate(volumes: int = 2) -> list:
    """Everything from a bare disk to exports."""
    desired = [want("transport", trtype="TCP"), want("lvstore", name="lvs", bdev="disk", cluster_size="1MiB")]
    for number in range(1, volumes + 1):
        desired.append(want("lvol", lvstore="lvs", name=str(number), size="10MiB", thin=True))
        desired.append(
            want(
                "subsystem",
                nqn=nqn(number),
                namespaces=[{"bdev": f"lvs/{number}", "nsid": 1}],
                listeners=[tcp()],
                hosts=[HOST],
            )
        )
    return desired


def fresh() -> Target:
    target = Target(seed=1, addresses=None)
    add_disk(target, "disk", 256 * MIB)
    return target


CALLS = len(plan(fresh(), *estate()).actions)


def run(served: Served, desired: list, timeout: float = 30.0, **options) -> dict:
    """Outcomes by subject, in the order of the desired state."""
    outcomes = converge(lambda: served.connect(timeout), desired, options.pop("dry_run", False), **options).outcomes
    assert [id(outcome.planned.wanted) for outcome in outcomes] == [id(each) for each in desired]
    return {outcome.planned.subject: outcome for outcome in outcomes}


def state(target: Target) -> dict:
    """What the target has, as plain data."""
    methods = ("bdev_get_bdevs", "bdev_lvol_get_lvols", "nvmf_get_subsystems", "nvmf_get_transports")
    return copy.deepcopy({method: target.call(method) for method in methods})


def assert_complete(served: Served, outcomes: dict) -> None:
    """Every object is as wanted, says so, was made by calls that were each sent once, and a second run is idle."""
    for subject, outcome in outcomes.items():
        assert outcome.error is None, f"{subject}: {outcome.error}"
        assert not outcome.result()["failed"]
    for number in (1, 2):
        (lvol,) = [each for each in served.target.call("bdev_lvol_get_lvols") if each["name"] == str(number)]
        assert outcomes[f"lvol lvs/{number}"].facts["uuid"] == lvol["uuid"]
    assert set(Counter(served.log.mutations).values()) == {1}
    again = len(served.log.mutations)
    for outcome in run(served, estate()).values():
        assert outcome.error is None and not outcome.actions and not outcome.result()["changed"]
    assert len(served.log.mutations) == again


def finish(served: Served) -> None:
    """The trouble is over: one more run makes it right, and nothing is there twice."""
    served.faults.rules.clear()
    for subject, outcome in run(served, estate()).items():
        assert outcome.error is None, f"{subject}: {outcome.error}"
    planned = plan(served.target, *estate())
    assert not planned.actions
    assert len(served.target.call("bdev_lvol_get_lvols")) == 2
    assert len(served.target.call("nvmf_get_subsystems")) == 3
    assert len(served.target.call("nvmf_get_transports")) == 1


def assert_truthful(served: Served, outcomes: dict) -> None:
    """An object without an error is complete; one with an error is not, and ``after`` is what is there."""
    found = {item.subject: item for item in plan(served.target, *[o.planned.wanted for o in outcomes.values()]).objects}
    for subject, outcome in outcomes.items():
        incomplete = bool(found[subject].change.actions) or found[subject].refusal is not None
        assert (outcome.error is not None) == incomplete, f"{subject}: {outcome.error}"
        if incomplete and found[subject].refusal is None:
            assert outcome.after == found[subject].change.before


def test_from_nothing():
    with serving(fresh()) as served:
        outcomes = run(served, estate())
        assert len(served.log.mutations) == CALLS == 12
        assert all(outcome.actions and outcome.before is None for outcome in outcomes.values())
        assert_complete(served, outcomes)


def test_check_mode_sends_nothing():
    with serving(fresh()) as served:
        before = state(served.target)
        outcomes = run(served, estate(), dry_run=True)
        assert not served.log.mutations
        assert state(served.target) == before
        assert sum(len(outcome.actions) for outcome in outcomes.values()) == CALLS
        assert all(outcome.result()["changed"] for outcome in outcomes.values())


@pytest.mark.parametrize("carried_out", [True, False], ids=["answer lost", "call lost"])
@pytest.mark.parametrize("number", range(1, CALLS + 1))
def test_the_connection_drops_at_any_call(number, carried_out):
    """If the call was carried out it counts as done, if not it is sent again after looking; the rest is done then."""
    with serving(fresh()) as served:
        if carried_out:
            served.faults.add({"action": "drop", "call": HELLO_AND_GETTERS + number})
        else:
            served.lose.add(HELLO_AND_GETTERS + number)
        outcomes = run(served, estate())
        assert served.connections == 2
        assert all(outcome.result()["changed"] for outcome in outcomes.values())
        sent = [action.method for outcome in outcomes.values() for action in outcome.actions]
        assert sorted(sent) == sorted(action.method for action in plan(fresh(), *estate()).actions)
        assert_complete(served, outcomes)


@pytest.mark.parametrize("number", range(1, CALLS + 1))
def test_any_call_is_answered_with_an_error(number):
    with serving(fresh()) as served:
        rule = {"action": "error", "call": HELLO_AND_GETTERS + number, "code": -32603, "message": "Not today"}
        served.faults.add(rule)
        outcomes = run(served, estate())
        assert served.connections == 1
        failed = {subject: outcome for subject, outcome in outcomes.items() if outcome.error}
        (method, _params) = served.log.mutations[number - 1]
        (culprit,) = [s for s, o in failed.items() if o.error == f"{method} was answered with error -32603 (Not today)"]
        for subject, outcome in failed.items():
            assert subject == culprit or outcome.error.startswith("skipped, because ")
        expected = {
            "lvol lvs/1": {"lvol lvs/1", f"subsystem {nqn(1)}"},
            "lvol lvs/2": {"lvol lvs/2", f"subsystem {nqn(2)}"},
            "lvstore lvs": {subject for subject in outcomes if subject != "transport TCP"},
            "transport TCP": {"transport TCP", f"subsystem {nqn(1)}", f"subsystem {nqn(2)}"},
        }
        assert set(failed) == expected.get(culprit, {culprit})
        assert_truthful(served, outcomes)
        assert set(Counter(served.log.mutations).values()) == {1}
        finish(served)


@pytest.mark.parametrize(
    ("method", "subject"),
    [
        ("nvmf_create_transport", "transport TCP"),
        ("bdev_lvol_create", "lvol lvs/1"),
        ("nvmf_subsystem_add_ns", f"subsystem {nqn(1)}"),
    ],
)
def test_a_hung_call_ends_the_work_on_this_target(method, subject):
    with serving(fresh()) as served:
        served.faults.add({"action": "hang", "method": method, "call": 1})
        outcomes = run(served, estate(), timeout=1.0)
        assert f"the outcome of {method} for {subject} is unknown: no answer within 1 s" in outcomes[subject].error
        assert served.connections == 2
        after_hang = next(i for i, (name, _params) in enumerate(served.log.mutations) if name == method)
        assert "bdev_get_bdevs" in [call["method"] for call in served.log.calls[after_hang:]], "it looks again"
        assert set(Counter(served.log.mutations).values()) == {1}
        assert_truthful(served, outcomes)
        not_sent = "not sent, because the target stopped answering"
        assert {o.error for s, o in outcomes.items() if o.error and s != subject} <= {not_sent}
        reads = [position for position, call in enumerate(served.log.calls) if call["method"] == "bdev_get_bdevs"]
        assert all("_get_" in call["method"] for call in served.log.calls[reads[-1] :]), "nothing is sent after it"
        finish(served)


def test_a_call_that_hangs_is_done_when_it_was_carried_out():
    """The answer is late, not the work: the target is read again and the object is complete."""
    with serving(fresh()) as served:
        run(served, estate()[:3])
        served.faults.add({"action": "delay", "method": "nvmf_create_subsystem", "ms": 60_000})
        outcomes = run(served, [want("subsystem", nqn=nqn(1))], timeout=1.0)
        (outcome,) = outcomes.values()
        assert outcome.error is None and outcome.result()["changed"]
        assert [action.method for action in outcome.actions] == ["nvmf_create_subsystem"]


def test_three_rounds_at_most():
    """A target that hangs up at each add_host: each round gets one more done."""
    desired = [want("subsystem", nqn=nqn(number), hosts=[HOST]) for number in range(6)]
    with serving(fresh()) as served:
        served.faults.add({"action": "drop", "method": "nvmf_subsystem_add_host", "call": 1, "times": 1000})
        outcomes = run(served, desired)
        assert served.connections == 4
        sent = Counter(method for method, _params in served.log.mutations)
        assert sent == {"nvmf_create_subsystem": 6, "nvmf_subsystem_add_host": 3}
        assert_truthful(served, outcomes)
        failed = [outcome for outcome in outcomes.values() if outcome.error]
        assert len(failed) == 3
        assert all("is unknown: " in o.error or "not sent" in o.error for o in failed)
        served.faults.rules.clear()
        assert all(outcome.error is None for outcome in run(served, desired).values())


def test_nothing_changed_is_not_changed():
    """A call that was refused before it did anything leaves its object unchanged."""
    with serving(fresh()) as served:
        served.faults.add({"action": "error", "method": "nvmf_create_transport", "call": 1})
        outcomes = run(served, [want("transport", trtype="TCP")])
        entry = outcomes["transport TCP"].result()
        assert entry["failed"] and not entry["changed"] and entry["actions"] == []
        assert entry["before"] is None and entry["after"] is None


def test_a_half_made_object_is_changed_and_failed():
    with serving(fresh()) as served:
        served.faults.add({"action": "error", "method": "nvmf_subsystem_add_host", "call": 1})
        outcomes = run(served, [want("subsystem", nqn=nqn(1), hosts=[HOST])])
        entry = outcomes[f"subsystem {nqn(1)}"].result()
        assert entry["failed"] and entry["changed"] and entry["actions"] == ["create the subsystem"]
        assert entry["after"]["hosts"] == []


def test_a_failed_call_that_took_effect_is_no_failure():
    """Somebody else made the transport between reading and sending."""
    with serving(fresh()) as served:
        original = served.connect

        def connect(timeout: float) -> Client:
            client = original(timeout)
            submit = client.submit

            def overtaken(calls) -> None:
                calls = list(calls)
                if calls[0].method == "nvmf_create_transport":
                    other = original(timeout)
                    other.call("nvmf_create_transport", {"trtype": "TCP"})
                    other.close()
                submit(calls)

            client.submit = overtaken
            return client

        served.connect = connect
        outcome = run(served, [want("transport", trtype="TCP")])["transport TCP"]
        assert outcome.error is None
        assert not served.target.call("nvmf_get_transports")[1:]


def test_refused_objects_do_not_stop_others():
    with serving(fresh()) as served:
        bad = [
            want("lvol", lvstore="nowhere", name="9", size="1GiB"),
            want("lvol", lvstore="lvs", name="a/b", size="1GiB"),
            want("subsystem", nqn="bad"),
        ]
        outcomes = run(served, bad + estate())
        for outcome in list(outcomes.values())[:3]:
            assert outcome.error and not outcome.actions
        assert_complete(served, dict(list(outcomes.items())[3:]))


def test_a_request_that_is_too_large_fails_its_object_only(monkeypatch):
    monkeypatch.setattr(Release, "request_limit", 530)
    monkeypatch.setattr(Release, "has_batches", False)  # one of all getters would be larger
    long_nqn = nqn(9).ljust(223, "x")
    with serving(fresh()) as served:
        outcomes = run(served, [want("subsystem", nqn=long_nqn, hosts=[nqn(8).ljust(223, "x")]), *estate()])
        large = outcomes.pop(f"subsystem {long_nqn}")
        assert "is over the target's limit of 530 bytes" in large.error
        assert [action.method for action in large.actions] == ["nvmf_create_subsystem"]
        assert_complete(served, outcomes)


def test_no_target_is_said_before_anything_is_sent():
    with pytest.raises(Unreachable, match="there is no socket"):
        converge(lambda: Client("/tmp/no-such-socket", 1.0), estate(), False)


# --- the target dies ---


class Process:
    """A simulator process whose lvols outlive it."""

    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/s"
        package = Path(spdk_sim.__file__).parent
        self.command = [sys.executable, str(package), "--socket", self.path, "--state", f"{directory}/state"]
        self.command += ["--malloc", "disk=256MiB,4096", "--poll-ms", "0"]
        self.process: subprocess.Popen | None = None

    def start(self, *faults: dict) -> None:
        """Start and wait until it serves."""
        rules = [word for fault in faults for word in ("--fault", json.dumps(fault))]
        self.process = subprocess.Popen([*self.command, *rules], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr.readline() == "spdk_sim: ready\n"

    def stop(self) -> None:
        """Kill and forget."""
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


@pytest.mark.parametrize(("method", "when"), [("bdev_lvol_create", "after"), ("nvmf_create_subsystem", "before")])
def test_the_target_dies(method, when):
    with tempfile.TemporaryDirectory(prefix="sim", dir="/tmp") as directory:
        process = Process(directory)
        process.start({"action": "die", "method": method, "call": 1, "when": when})
        outcomes = converge(lambda: Client(process.path, 30.0), estate(), False).outcomes
        assert process.process.wait(30) == 137
        process.stop()
        by_subject = {outcome.planned.subject: outcome for outcome in outcomes}
        assert by_subject["lvstore lvs"].error is None
        for outcome in (by_subject[f"subsystem {nqn(1)}"], by_subject[f"subsystem {nqn(2)}"]):
            assert "; looking again failed: " in outcome.error
            assert "nothing listens on" in outcome.error or "hung up before it answered" in outcome.error
        process.start()
        try:
            for _round in (1, 2):
                outcomes = converge(lambda: Client(process.path, 30.0), estate(), False).outcomes
                assert [outcome.error for outcome in outcomes if outcome.error] == []
            assert not any(outcome.actions for outcome in outcomes)
        finally:
            process.stop()


# --- a node in the middle of its life: a new drive, growth, snapshots, removals

BDF = "0000:01:00.0"


def lived_in() -> Target:
    """A drive that nobody has attached, and volumes on an lvstore, one of them with a snapshot."""
    target = fresh()
    add_drive(outside(target), BDF, 256 * MIB, 4096, "test")
    for wanted in (estate(3), [want("snapshot", lvstore="lvs", name="s1", lvol="1")]):
        for action in plan(target, *wanted).actions:
            target.call(action.method, action.params)
    return target


def next_day(serial: str) -> list:
    return [
        want("disk", serial=serial, bdf=BDF, lvstore="lvs-9", create=True),
        want("lvol", lvstore="lvs-9", name="9", size="8MiB"),
        want("subsystem", nqn=nqn(9), namespaces=[{"bdev": "lvs-9/9", "nsid": 1}], listeners=[tcp()]),
        want("lvol", lvstore="lvs", name="1", size="20MiB", growth="plain"),
        want("snapshot", lvstore="lvs", name="s2", lvol="1"),
        want("snapshot", lvstore="lvs", name="s1", state="absent"),
        want("lvol", lvstore="lvs", name="2", state="absent"),
        want("subsystem", nqn=nqn(2), namespaces=[{"bdev": "lvs/2"}], state="absent"),
        want("lvol", lvstore="lvs", name="5", clone_of="s2", independent="inflate"),
    ]


def sketch(target: Target) -> dict:
    """What there is, by the names that people use."""
    graph = read(target)
    return {
        "lvols": {lvol.alias: (lvol.size, lvol.thin, lvol.parent) for lvol in graph.lvols.values()},
        "exports": {graph.key(bdev): export for bdev, export in graph.exports.items()},
        "stores": {store.name: store.base_bdev for store in graph.lvstores.values()},
    }


def a_day(served: Served, serial: str) -> dict:
    return run(served, next_day(serial))


def undisturbed() -> tuple[str, int, dict]:
    target = lived_in()
    serial = next(each.serial_number for each in target.peers[0].nvmf.subsystems.values() if each.listeners)
    with serving(target) as served:
        outcomes = a_day(served, serial)
        assert [outcome.error for outcome in outcomes.values()] == [None] * len(outcomes)
        calls = len(served.log.calls)
        assert not any(outcome.actions for outcome in a_day(served, serial).values())
        return serial, calls, sketch(target)


SERIAL, DAY, EVENING = undisturbed()


def test_what_needs_a_drive_that_is_another_one_fails_with_it():
    with serving(lived_in()) as served:
        errors = {subject: outcome.error for subject, outcome in a_day(served, "OTHER").items() if outcome.error}
        assert set(errors) == {f"disk OTHER at {BDF}", "lvol lvs-9/9", f"subsystem {nqn(9)}"}
        assert f"there is a drive with serial {SERIAL}" in errors[f"disk OTHER at {BDF}"]
        assert errors["lvol lvs-9/9"].startswith("skipped, because disk OTHER")


@pytest.mark.parametrize("carried_out", [True, False], ids=["answer lost", "call lost"])
@pytest.mark.parametrize("number", range(1, DAY + 1))
def test_a_mixed_run_that_is_cut_off_anywhere_ends_as_any_other(number, carried_out):
    """Whatever it was: an attach, a look at the drive, a create, a resize, a snapshot, a delete."""
    with serving(lived_in()) as served:
        if carried_out:
            served.faults.add({"action": "drop", "call": number})
        else:
            served.lose.add(number)
        try:
            a_day(served, SERIAL)
        except DiskengineError:
            assert number <= HELLO_AND_GETTERS, "only while nothing was sent"
        served.faults.rules.clear()
        served.lose.clear()
        for outcome in a_day(served, SERIAL).values():
            assert outcome.error is None, f"{outcome.planned.subject}: {outcome.error}"
        assert not any(outcome.actions for outcome in a_day(served, SERIAL).values())
        assert sketch(served.target) == EVENING
