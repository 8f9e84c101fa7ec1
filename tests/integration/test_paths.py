# SPDX-License-Identifier: GPL-3.0-or-later
"""A compute node attaches subsystems of a storage node over TCP on loopback, by several listeners as paths.

With the real program the two are two processes; the simulator keeps the storage node inside the compute node's.
"""

from __future__ import annotations

import os
import signal
import time

import pytest
from support.ansible import play, run_playbook
from support.modules import refusals, three_steps
from support.targets import free_port, is_real

ATTACH, DETACH = "bdev_nvme_attach_controller", "bdev_nvme_detach_controller"
SET = "bdev_nvme_set_multipath_policy"
NQN = "nqn.2024-01.io.excloud:storage.node-1.7."
HOST = "nqn.2024-01.io.excloud:compute-1"
WAIT_SECONDS = 30


class Estate:
    """The compute node ``target``, and subsystems 1 and 2 of a storage node, each at all of ``ports``."""

    def __init__(self, make_target):
        self.target = make_target()
        self._far = make_target() if is_real() else None
        self.ports = [free_port() for _number in range(4)]
        self.serve()

    def serve(self):
        """Make what the storage node exports."""
        self.storage("nvmf_create_transport", {"trtype": "TCP"})
        for number in (1, 2):
            nqn = {"nqn": f"{NQN}{number}"}
            bdev = {"name": f"m{number}", "num_blocks": 8192, "block_size": 512}
            self.storage("bdev_malloc_create", bdev)
            self.storage("nvmf_create_subsystem", nqn)
            self.storage("nvmf_subsystem_add_host", {**nqn, "host": HOST})
            self.storage("nvmf_subsystem_add_ns", {**nqn, "namespace": {"bdev_name": bdev["name"]}})
            for port in self.ports[:3]:
                self.listen(port, number)

    def storage(self, method, params):
        """A call on the storage node."""
        if self._far:
            return self._far.call(method, params)
        return self.target.control("remote_call", method=method, params=params)["ok"]

    def listen(self, port, number=1, verb="add"):
        address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)}
        self.storage(f"nvmf_subsystem_{verb}_listener", {"nqn": f"{NQN}{number}", "listen_address": address})

    def wanted(self, *places, number=1, **options):
        """The options for subsystem ``number`` by the ports at these places."""
        paths = [{"traddr": "127.0.0.1", "trsvcid": str(self.ports[place])} for place in places]
        return {"trtype": "TCP", "subnqn": f"{NQN}{number}", "hostnqn": HOST, "paths": paths, **options}

    def task(self, *controllers, **more):
        options = {"socket": self.target.socket, "controllers": list(controllers)}
        return {"name": "Attach", "excloud.diskengine.spdk_nvme_controller": options, **more}

    def states(self):
        """The state of each path by the place of its port, for each controller in the order of their NQNs."""
        found = self.target.call("bdev_nvme_get_controllers")
        found.sort(key=lambda item: item["ctrlrs"][0]["trid"]["subnqn"])
        return [
            {self.ports.index(int(path["trid"]["trsvcid"])): path["state"] for path in item["ctrlrs"]} for item in found
        ]

    def until(self, states):
        """Wait until the states are these."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self.states() != states:
            assert time.monotonic() < deadline, self.states()
            time.sleep(0.1)


@pytest.fixture
def estate(make_target):
    return Estate(make_target)


def test_attach_move_and_detach(estate):
    one, two = estate.wanted(0, 1), estate.wanted(0, number=2)
    active = {"multipath_policy": "active_active", "multipath_selector": "queue_depth"}
    absent = {"subnqn": one["subnqn"], "state": "absent"}
    attach, *_others, detach = three_steps(
        estate.target,
        ("attach", "spdk_nvme_controller", {"controllers": [one, two]}, [ATTACH] * 3),
        ("move", "spdk_nvme_controller", estate.wanted(1, 2, **active), [ATTACH, SET, DETACH]),
        ("detach", "spdk_nvme_controller", absent, [DETACH]),
        ("attach with policy", "spdk_nvme_controller", estate.wanted(0, 1, 2, **active), [ATTACH] * 3),
        ("passive", "spdk_nvme_controller", estate.wanted(0, 2, multipath_policy="active_passive"), [SET, DETACH]),
        ("one more path", "spdk_nvme_controller", estate.wanted(0, 1, 2), [ATTACH]),
        ("detach both", "spdk_nvme_controller", {"controllers": [absent, {**two, "state": "absent"}]}, [DETACH] * 2),
    )
    names = [entry["name"] for entry in attach["results"]]
    assert len(set(names)) == 2 and all(name.startswith(f"storage.node-1.7.{n}-") for n, name in enumerate(names, 1))
    assert [entry["bdevs"] for entry in attach["results"]] == [[f"{name}n1"] for name in names]
    assert estate.states() == [] and detach["changed"]


def test_what_is_refused(estate):
    target = estate.target
    base = {"name": "c0", "trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "multipath": "multipath"}
    first = {**base, "trsvcid": str(estate.ports[0]), "subnqn": f"{NQN}1", "hostnqn": HOST}
    target.call(ATTACH, first)
    target.call("vhost_create_blk_controller", {"ctrlr": "vhost1", "dev_name": "c0n1"})
    cases = [
        (estate.wanted(0, name="c0", number=2), f"the name c0 is taken: it is attached to {NQN}1"),
        (estate.wanted(1), f"{NQN}1 is attached already, as controller c0"),
        (estate.wanted(0, 1, name="c0", hostnqn=f"{HOST}0"), f"hostnqn {HOST}, wanted {HOST}0; SPDK cannot change"),
        (estate.wanted(0, 1, name="c0", psk="key0"), "attached with psk not set, wanted key0"),
        (estate.wanted(0, name="c0", ctrlr_loss_timeout_sec=0), "with ctrlr_loss_timeout_sec 0"),
        (estate.wanted(0, name="c0", trtype="RDMA"), "it is attached over TCP, wanted RDMA"),
        (estate.wanted(0, number=2, trtype="RDMA"), "give source_addresses"),
        (
            estate.wanted(0, number=2, trtype="RDMA", source_addresses=["192.0.2.77"]),
            "no interface of this host has the address 192.0.2.77",
        ),
        ({"name": "c0", "state": "absent"}, "c0n1 is served by the vhost controller vhost1; take that away first"),
    ]
    said = refusals(target, *[("spdk_nvme_controller", options) for options, _part in cases])
    for message, (_options, part) in zip(said, cases):
        assert part in message


def test_other_times_are_seen_and_reported(estate):
    first = estate.wanted(0, name="c0", ctrlr_loss_timeout_sec=20)
    done = run_playbook(play(estate.task(first), estate.task(estate.wanted(0, 1, name="c0", hdgst=True))))
    assert done.rc == 0, done.output
    (note,) = done.results("Attach")[1]["results"][0]["notes"]
    assert note.endswith("hdgst is False, wanted True") and "ctrlr_loss_timeout_sec is 20, wanted 10" in note
    settings = {
        int(entry["params"]["trsvcid"]): (entry["params"]["ctrlr_loss_timeout_sec"], entry["params"]["hdgst"])
        for entry in estate.target.call("framework_get_config", {"name": "bdev"})
        if entry["method"] == ATTACH
    }
    assert settings == {estate.ports[0]: (20, False), estate.ports[1]: (10, True)}


def test_a_path_dies_and_comes_back(estate):
    target, wanted = estate.target, estate.wanted(0, 1, ctrlr_loss_timeout_sec=15)  # long enough for a run
    assert run_playbook(play(estate.task(wanted))).rc == 0
    estate.listen(estate.ports[0], verb="remove")
    estate.until([{0: "reconnect_is_delayed", 1: "enabled"}])
    target.recorder.clear()
    seen = run_playbook(play(estate.task(wanted))).result("Attach")
    assert not seen["changed"] and "its state is re" in seen["results"][0]["notes"][0]
    estate.until([{1: "enabled"}])
    failed = run_playbook(play(estate.task(wanted, estate.wanted(2, number=2)))).result("Attach")
    assert [entry["failed"] for entry in failed["results"]] == [True, False]
    assert f"at TCP 127.0.0.1:{estate.ports[0]}: bdev_nvme_attach" in failed["results"][0]["msg"]
    assert estate.states() == [{1: "enabled"}, {2: "enabled"}]
    estate.listen(estate.ports[0])
    back = run_playbook(play(estate.task(wanted), estate.task(wanted)))
    assert [result["changed"] for result in back.results("Attach")] == [True, False]
    assert estate.states()[0] == {0: "enabled", 1: "enabled"}


def test_a_dead_path_does_not_keep_the_other_from_being_attached(estate):
    dead_first, dead_last = estate.wanted(3, 0), estate.wanted(0, 3, number=2)
    done = run_playbook(play(estate.task(dead_first, dead_last)))
    assert [entry["failed"] for entry in done.result("Attach")["results"]] == [True, True]
    assert estate.states() == [{0: "enabled"}, {0: "enabled"}]


def test_the_only_path_that_works_is_not_removed(estate):
    assert run_playbook(play(estate.task(estate.wanted(0, 1)))).rc == 0
    estate.listen(estate.ports[0], verb="remove")
    estate.until([{0: "reconnect_is_delayed", 1: "enabled"}])
    left = run_playbook(play(estate.task(estate.wanted(0)))).result("Attach")
    assert not left["changed"] and "none of the wanted paths works (purge)" in left["results"][0]["notes"][0]
    moved = run_playbook(play(estate.task(estate.wanted(2)))).result("Attach")
    assert moved["changed"] and estate.states() == [{2: "enabled"}]


def test_one_task_attaches_and_builds_on_it(estate):
    """Check mode knows the bdev of a controller that is not there yet."""
    name = "c0"
    shown = {"nqn": f"{NQN}again", "namespaces": [{"bdev": f"{name}n1"}]}
    lists = {"controllers": [estate.wanted(0, 1, name=name)], "subsystems": [shown]}
    options = {"socket": estate.target.socket, **lists}
    task = {"name": "Node", "excloud.diskengine.spdk_node": options}
    done = run_playbook(play({**task, "check_mode": True}, task, task))
    assert done.rc == 0, done.output
    check, run, again = done.results("Node")
    assert not any(entry.get("deferred") for entry in check["results"])
    assert run["changed"] and not again["changed"]
    predicted, sent = check["actions"], estate.target.recorder.mutations
    assert [call["method"] for call in predicted] == [call["method"] for call in sent]


@pytest.mark.parametrize("kill", ["module", "connection", "target"])
@pytest.mark.parametrize("occurrence", [1, 2, 3, 4])
def test_killed_at_every_call(estate, occurrence, kill):
    """Two controllers with two paths each: whatever was cut off, the next run makes each path once."""
    target, wanted = estate.target, [estate.wanted(0, 1), estate.wanted(0, 1, number=2)]
    killed = []

    def before_answer(number):
        if killed or not number:
            return
        requests = target.recorder.requests[:number]
        if requests[-1]["method"] != ATTACH or len([r for r in requests if r["method"] == ATTACH]) != occurrence:
            return
        killed.append(requests[-1])
        if kill == "module":
            os.kill(requests[-1]["pid"], signal.SIGKILL)
        elif kill == "target":
            target.kill()
        raise ConnectionResetError

    target.recorder.before_answer = before_answer
    first = run_playbook(play(estate.task(*wanted)))
    assert len(killed) == 1
    assert (first.rc == 0) == (kill == "connection"), first.output
    target.recorder.before_answer = lambda number: None
    if kill == "target":
        target.start()
        if not is_real():
            estate.serve()
    done = run_playbook(play(estate.task(*wanted), estate.task(*wanted)))
    assert done.rc == 0, done.output
    assert not done.results("Attach")[1]["changed"]
    assert estate.states() == [{0: "enabled", 1: "enabled"}] * 2
    assert [len(item["ctrlrs"]) for item in target.call("bdev_nvme_get_controllers")] == [2, 2]
