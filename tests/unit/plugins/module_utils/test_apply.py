# SPDX-License-Identifier: GPL-3.0-or-later
"""Sending a plan: what becomes of each action when the target answers, refuses, hangs or goes away."""

from __future__ import annotations

from collections import Counter

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._apply import apply
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import RpcError, UnknownOutcome
from ansible_collections.excloud.diskengine.plugins.module_utils._plan import Action
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import (
    add_lvstore,
    nqn,
    plan,
    tcp,
    want,
)
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.serving import serving
from spdk_sim import Target


def volume(number: int) -> list:
    """An lvol and its export: bdev_lvol_create, nvmf_create_subsystem, add_ns, add_listener."""
    return [
        want("lvol", lvstore="lvs", name=str(number), size="8MiB", thin=True),
        want("subsystem", nqn=nqn(number), namespaces=[{"bdev": f"lvs/{number}"}], listeners=[tcp()]),
    ]


@pytest.fixture(name="target")
def _target() -> Target:
    target = Target(seed=1, addresses=None)
    add_lvstore(target, "lvs")
    target.call("nvmf_create_transport", {"trtype": "TCP"})
    return target


def states(planned) -> dict:
    return {(action.subject, action.method): action.state for action in planned.actions}


def test_all_is_done(target):
    planned = plan(target, *volume(1), *volume(2))
    with serving(target) as served, served.connect() as client:
        results = apply(planned.actions, client)
        assert set(states(planned).values()) == {"done"}
        assert set(Counter(served.log.mutations).values()) == {1}
        assert len(served.log.mutations) == len(planned.actions) == 8
    created = [action for action in planned.actions if action.method == "bdev_lvol_create"]
    assert [target.bdevs.get(results[action]).aliases[0] for action in created] == ["lvs/1", "lvs/2"]


def test_needs_are_met_before_a_call_leaves(target):
    """The simulator answers a create on a later poll, so a call sent too early would fail."""
    planned = plan(target, *[each for number in range(100) for each in volume(number)])
    with serving(target) as served, served.connect() as client:
        apply(planned.actions, client)
        sent = {entry: position for position, entry in enumerate(served.log.mutations)}
    assert set(states(planned).values()) == {"done"}
    assert len(sent) == 400
    methods = [method for method, _params in sent]
    assert methods[:64] == ["bdev_lvol_create"] * 64, "independent calls go out together"


def test_a_refused_call_stops_its_dependents_only(target):
    planned = plan(target, *volume(1), *volume(2))
    with serving(target) as served, served.connect() as client:
        served.faults.add({"action": "error", "method": "bdev_lvol_create", "call": 1, "code": -5, "message": "Broken"})
        apply(planned.actions, client)
        assert not client.broken
    lvol, subsystem = "lvol lvs/1", f"subsystem {nqn(1)}"
    for action in planned.actions:
        if action.subject == lvol:
            assert action.state == "failed"
            assert isinstance(action.error, RpcError) and action.error.code == -5
        elif action.subject == subsystem:
            assert action.state == "skipped"
            assert "skipped, because" in str(action.error) and "error -5 (Broken)" in str(action.error)
        else:
            assert action.state == "done" and action.error is None
    first = next(action for action in planned.actions if action.subject == subsystem)
    assert str(first.error).startswith("skipped, because lvol lvs/1 failed: ")


def test_a_lost_connection_withholds_the_rest(target):
    planned = plan(target, *volume(1))
    with serving(target) as served, served.connect() as client:
        served.faults.add({"action": "drop", "method": "nvmf_create_subsystem", "call": 1})
        apply(planned.actions, client)
        assert [action.state for action in planned.actions] == ["done", "unknown", "withheld", "withheld"]
        assert isinstance(planned.actions[1].error, UnknownOutcome)
        assert client.broken and not client.hung and client.idle
        assert len(served.log.mutations) == 2


def test_a_hung_call_withholds_the_rest(target):
    planned = plan(target, *volume(1), *volume(2))
    with serving(target) as served, served.connect(1.0) as client:
        served.faults.add({"action": "hang", "method": "nvmf_create_subsystem", "call": 2})
        apply(planned.actions, client)
        assert client.hung
        assert Counter(states(planned).values()) == {"done": 5, "unknown": 1, "withheld": 2}
        (unknown,) = [action for action in planned.actions if action.state == "unknown"]
        assert unknown.subject in str(unknown.error) and "no answer within 1 s" in str(unknown.error)
        assert len(served.log.mutations) == 6


def test_a_long_chain_of_dependents(target):
    """A subsystem with more hosts than Python has stack frames."""
    hosts = [nqn(f"host-{number}") for number in range(1500)]
    planned = plan(target, want("subsystem", nqn=nqn(1), hosts=hosts))
    with serving(target) as served, served.connect() as client:
        served.faults.add({"action": "error", "method": "nvmf_create_subsystem", "call": 1})
        apply(planned.actions, client)
        assert len(served.log.mutations) == 1
    assert Counter(action.state for action in planned.actions) == {"failed": 1, "skipped": 1500}
    assert len(str(planned.actions[-1].error)) < 300


def test_nothing_to_send(target):
    with serving(target) as served, served.connect() as client:
        assert apply([], client) == {}
        assert not served.log.mutations


@pytest.mark.parametrize("error", [None, OSError(28, "No space left on device")])
def test_what_is_done_on_the_node(target, error):
    """It is done once, between calls, and a failure skips what needs it."""
    done = []

    def perform() -> None:
        done.append(1)
        if error:
            raise error

    (first, *_rest) = planned = plan(target, *volume(1)).actions
    file = Action("file", {"path": "/x"}, "write /x", perform=perform, subject="key x")
    first.needs = (file,)
    with serving(target) as served, served.connect() as client:
        apply([file, *planned], client)
        assert (len(done), len(served.log.mutations)) == (1, 0 if error else len(planned))
    assert {action.state for action in planned} == ({"skipped"} if error else {"done"})
    if error:
        assert str(file.error) == "could not write /x: No space left on device"
        assert str(first.error).startswith("skipped, because key x failed: could not write /x")
