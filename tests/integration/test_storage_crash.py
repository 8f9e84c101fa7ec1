# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed after any single call, a provisioning run is finished by the next one, with nothing made twice.

Points are the moments at which an answer of the target has come and nobody has seen it yet. The reading calls of a
run are one batch, answered at once, so that they are one point. Each point has a node of its own, and one playbook
runs for all of them.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from support.runs import WAIT_SECONDS, at, in_background, kill_target, playbook_of, until

READS = ["spdk_get_version", "rpc_get_methods", "bdev_get_bdevs"]
WRITES = [
    "nvmf_create_transport",
    "bdev_lvol_create",
    "nvmf_create_subsystem",
    "nvmf_subsystem_add_ns",
    "nvmf_subsystem_add_host",
    "nvmf_subsystem_add_listener",
]
SPDK_TASK = "Converge the SPDK target"
SHORT = {"storage_node_lease": 1}  # a run that is killed releases nothing
NONE = {"storage_node_lease": 0}


def kill(*pids):
    for pid in pids:
        with suppress(ProcessLookupError):  # it may have ended with the one before
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in pids))


def alive(pid):
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill_playbook(site, request):
    kill(*playbook_of(request["pid"]))


def kill_controller(site, request):
    """As when the controller dies and the module on the node goes on."""
    kill(*playbook_of(request["pid"])[:-1])


def kill_module(site, request):
    kill(request["pid"])


def drop_connection(site, request):
    raise ConnectionResetError


def recovers(site):
    """One more run converges all nodes, and the one after it does nothing. Returns both results of each node."""
    for node in site.each():
        node.target.recorder.before_answer = lambda number: None
        if not node.target.is_running():
            node.target.start()
        node.clear()
    done = site.converge(times=2)
    assert done.rc == 0, done.output
    for node in site.each():
        first, second = done.results(SPDK_TASK, node.name)
        assert not any(entry["failed"] for entry in json.loads(first["results_document"]))
        assert not second["changed"]
        assert len({request["connection"] for request in node.mutations()}) <= 1
        assert not [request for request in node.mutations() if request["method"].startswith("bdev_lvol_delete")]
        node.check_served()


def test_the_points_are_all_there_are(make_site):
    site = make_site(lvols=1)
    assert site.converge().rc == 0
    requests = site.target.recorder.requests
    answered = [request["method"] for request in requests]
    assert answered[:3] == READS
    assert Counter(request["method"] for request in site.mutations()) == Counter(WRITES)
    free = "bdev_lvol_get_lvstores"  # asked once more in the end
    assert answered[-len(WRITES) - 1 :] == [*(request["method"] for request in site.mutations()), free]


POINTS = [READS[-1], *WRITES]
SINGLE = [(method, 1) for method in POINTS]
IN_FLIGHT = [("bdev_lvol_create", 2), ("nvmf_subsystem_add_host", 2)]


@pytest.mark.parametrize("victim", [kill_playbook, kill_module, kill_target])
@pytest.mark.parametrize("points, lvols", [(SINGLE, 1), (IN_FLIGHT, 8)], ids=["single", "many_in_flight"])
def test_killed_after_a_call(make_site, victim, points, lvols):
    site = make_site(nodes=len(points), lvols=lvols * len(points), replicas=1)
    nodes = site.each()
    killed = [at(node, method, victim, number) for node, (method, number) in zip(nodes, points)]
    for part in nodes if victim is kill_playbook else [site]:
        assert part.converge(host_vars=SHORT).rc != 0
    assert [[request["method"] for request in requests] for requests in killed] == [[method] for method, _n in points]
    assert lvols > 1 or "UP" not in {row["state"] for row in site.rows()}
    recovers(site)


def test_the_module_outlives_the_controller(make_site):
    points = ["bdev_lvol_create", "nvmf_subsystem_add_listener"]
    site = make_site(nodes=len(points), lvols=2 * len(points), replicas=1)
    for node, method in zip(site.each(), points):
        killed = at(node, method, kill_controller)
        assert node.converge(host_vars=SHORT).rc != 0
        (request,) = killed
        until(lambda pid=request["pid"]: not alive(pid))
        assert len(node.mutations()) == 1 + 2 * 5
    assert {row["state"] for row in site.rows()} == {"CREATING"}
    recovers(site)


def test_a_dropped_connection(make_site):
    """A run looks again, and goes on; but for one that could not read anything yet."""
    site = make_site(nodes=len(POINTS), lvols=len(POINTS), replicas=1)
    nodes = dict(zip(POINTS, site.each()))
    dropped = [at(node, method, drop_connection) for method, node in nodes.items()]
    done = site.converge()
    assert [len(requests) for requests in dropped] == [1] * len(POINTS)
    for method in WRITES:
        assert [request["method"] for request in nodes[method].mutations()] == WRITES
        nodes[method].check_served()
    failed = {event["host"]: event["result"]["msg"] for event in done.events if event["event"] == "failed"}
    reading = nodes[READS[-1]]
    assert failed.keys() == {reading.name} and "closed the connection" in failed[reading.name]
    assert reading.mutations() == []
    recovers(site)
    assert not any(nodes[method].mutations() for method in WRITES)


MIXED = {
    "bdev_lvol_create": 1,
    "nvmf_create_subsystem": 1,
    "nvmf_subsystem_add_ns": 1,
    "nvmf_subsystem_add_host": 1,
    "nvmf_subsystem_add_listener": 1,
    "nvmf_delete_subsystem": 1,
    "bdev_lvol_resize": 1,
    "bdev_lvol_snapshot": 1,
    "bdev_lvol_delete": 2,
}


def wish_for_everything(node):
    """On a node with three lvols and a snapshot of the first, one of each to be made, one to go, and one to grow."""
    first, second, third = [row["id"] for row in node.rows()]
    execute = node.conn.execute
    execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE id = %s", [second])
    execute("UPDATE diskengine.lvol SET state = 'RESIZING', size_bytes = 25165824 WHERE id = %s", [third])
    execute("UPDATE diskengine.snapshot SET state = 'DELETING' WHERE lvol_id = %s", [first])
    execute("INSERT INTO diskengine.snapshot (lvol_id) VALUES (%s)", [first])
    execute(
        "WITH made AS (INSERT INTO diskengine.volume (size_bytes, replicas) VALUES (12582912, 1) RETURNING id), "
        "mapped AS (INSERT INTO diskengine.mapping (volume_id, node, vm) SELECT id, 'compute-1', 'vm' FROM made) "
        "INSERT INTO diskengine.lvol (volume_id, disk_id, size_bytes) "
        "SELECT made.id, disk_id, 12582912 FROM made, diskengine.lvol WHERE lvol.id = %s",
        [first],
    )


def summary(node):
    """What a node's rows and target have, with names that do not tell which node it is."""
    numbers = {row["id"]: f"lvol {place}" for place, row in enumerate(node.rows())}
    snapshots = node.conn.execute(
        "SELECT 'snap_' || id, lvol_id, state FROM diskengine.v_snapshot WHERE node = %s", [node.name]
    ).fetchall()
    called = {str(number): name for number, name in numbers.items()}
    called |= {name: f"snapshot of {numbers[lvol]}" for name, lvol, _state in snapshots}
    lvols = node.target.call("bdev_lvol_get_lvols")
    sizes = {bdev["name"]: bdev["num_blocks"] * bdev["block_size"] >> 20 for bdev in node.target.call("bdev_get_bdevs")}
    nqns = {row["nqn"]: numbers[row["id"]] for row in node.rows()}
    exports = {
        nqns.get(nqn): (len(listeners), len(hosts), [called.get(bdev.partition("/")[2]) for bdev in bdevs])
        for nqn, (listeners, hosts, bdevs) in node.target.exports().items()
    }
    return {
        "rows": [row["state"] for row in node.rows()] + [state for _name, _lvol, state in snapshots],
        "lvols": sorted((str(called.get(lvol["name"])), sizes[lvol["uuid"]]) for lvol in lvols),
        "exports": exports,
    }


def test_a_mixed_run_killed_at_any_call_ends_as_any_other(make_site):
    """Made, grown and deleted in one run; the module and the target die in turn, and none on the last node."""
    points = [(method, number) for method, times in MIXED.items() for number in range(1, times + 1)]
    site = make_site(nodes=len(points) + 1, lvols=3 * (len(points) + 1), replicas=1)
    nodes = site.each()
    for node in nodes:
        site.conn.execute("INSERT INTO diskengine.snapshot (lvol_id) VALUES (%s)", [node.rows()[0]["id"]])
    assert site.converge().rc == 0
    for node in nodes:
        wish_for_everything(node)
        node.clear()
    victims = itertools.cycle([kill_module, kill_target])
    killed = [at(node, method, next(victims), number) for node, (method, number) in zip(nodes, points)]
    growth = {"storage_node_growth": "plain"}
    done = site.converge(host_vars=growth)
    assert [len(requests) for requests in killed] == [1] * len(points)
    assert {event["host"] for event in done.events if event["event"] == "failed"} == {node.name for node in nodes[:-1]}
    assert Counter(request["method"] for request in nodes[-1].mutations()) == MIXED
    for node in nodes:
        node.target.recorder.before_answer = lambda number: None
        if not node.target.is_running():
            node.target.start()
    again = site.converge(times=2, host_vars=growth)
    assert again.rc == 0, again.output
    assert not any(result["changed"] for node in nodes for result in again.results(SPDK_TASK, node.name)[1:])
    sizes = {"lvol 0": 12, "lvol 1": 24, "lvol 2": 12, "snapshot of lvol 0": 12}
    wanted = {"rows": ["UP"] * 4, "lvols": sorted(sizes.items())}
    wanted["exports"] = {f"lvol {number}": (1, 1, [f"lvol {number}"]) for number in range(3)}
    assert [summary(node) for node in nodes] == [wanted] * len(nodes)


def holders(path):
    """How many processes have a file open."""
    found = 0
    for directory in Path("/proc").glob("[0-9]*/fd"):
        try:
            found += any(os.readlink(link) == str(path) for link in directory.iterdir())
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            pass
    return found


@pytest.fixture
def held(make_site):
    """A site and a run without a lease that is stopped at the answer to its third change until the event is set."""
    site = make_site(lvols=4)
    arrived, go = threading.Event(), threading.Event()

    def hold(_site, _request):
        arrived.set()
        go.wait(WAIT_SECONDS)

    at(site, "bdev_lvol_create", hold)
    first = in_background(lambda: site.converge(host_vars=NONE))
    assert arrived.wait(WAIT_SECONDS)
    yield site, first, go
    go.set()
    first()


def test_a_second_run_waits_for_the_first(held):
    site, first, go = held
    second = in_background(lambda: site.converge(host_vars=NONE))
    until(lambda: holders(f"{site.target.socket}.client.lock") == 2)
    assert {request["connection"] for request in site.target.recorder.requests} == {1}
    go.set()
    assert (first().rc, second().rc) == (0, 0), second().output
    assert {request["connection"] for request in site.mutations()} == {1}
    assert len(site.mutations()) == 1 + 4 * 5
    assert 2 in {request["connection"] for request in site.target.recorder.requests}
    site.check_served()


def test_a_second_run_says_who_holds_the_node(held):
    site, first, go = held
    refused = site.converge(host_vars={**NONE, "storage_node_lock_wait": 0.5})
    holder = site.target.recorder.requests[0]["pid"]
    assert refused.rc == 2
    assert f"another run (process {holder}) holds" in refused.failure
    assert {request["connection"] for request in site.target.recorder.requests} == {1}
    go.set()
    assert first().rc == 0
    site.check_served()
