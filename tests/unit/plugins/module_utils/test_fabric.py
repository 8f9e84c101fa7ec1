# SPDX-License-Identifier: GPL-3.0-or-later
"""Subsystems of other nodes by several paths: what is planned, in which order, and what is refused."""

from __future__ import annotations

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._apply import apply
from ansible_collections.excloud.diskengine.plugins.module_utils._describe import describe
from ansible_collections.excloud.diskengine.plugins.module_utils._naming import controller_of
from ansible_collections.excloud.diskengine.plugins.module_utils._plan import make_plan
from ansible_collections.excloud.diskengine.plugins.module_utils._rpc import Reply
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import (
    HOST,
    MIB,
    carry_out,
    nqn,
    plan,
    read,
    refusals,
    tcp,
    want,
)
from spdk_sim import RpcFailure, Target
from spdk_sim.fabric import add_subsystem, outside

ATTACH, DETACH, SET = "bdev_nvme_attach_controller", "bdev_nvme_detach_controller", "bdev_nvme_set_multipath_policy"
FAR = nqn("far")
NAME = controller_of(FAR)
PORTS = (4420, 4421, 4422)


def paths(*ports, **more):
    return [{"traddr": "127.0.0.1", "trsvcid": str(port), **more} for port in ports]


def far(*ports, **options):
    """The controller that is wanted, by the paths at these ports."""
    return want("controller", **{"trtype": "TCP", "subnqn": FAR, "paths": paths(*ports), **options})


def make(release="26.09", trtype="TCP", namespaces=1):
    """A target, and the other node that serves FAR at PORTS."""
    target = Target(release=release, seed=1, addresses=None, rdma=True)
    other = outside(target)
    addresses = [{**tcp(port), "trtype": trtype} for port in PORTS]
    add_subsystem(other, {"nqn": FAR, "addresses": addresses, "namespaces": [{"size": MIB}] * namespaces})
    return target, other


def lose(other, port, trtype="TCP"):
    address = {**tcp(port), "trtype": trtype, "adrfam": "IPv4"}
    other.call("nvmf_subsystem_remove_listener", {"nqn": FAR, "listen_address": address})


def done(target, *desired):
    """Plan, carry out; the methods that were called, with the port of each path."""
    planned = plan(target, *desired)
    assert not refusals(planned)
    carry_out(target, planned)
    again = plan(target, *desired)
    assert not again.actions and not refusals(again)
    for item, now in zip(planned.objects, again.objects):
        assert item.change.after == now.change.before == now.change.after
    return [(action.method, action.params.get("trsvcid")) for action in planned.actions]


def refusal(target, *desired):
    (message,) = refusals(plan(target, *desired)).values()
    return message


def states(target):
    return {path["trid"]["trsvcid"]: path["state"] for path in target.call("bdev_nvme_get_controllers")[0]["ctrlrs"]}


def notes(target, *desired):
    planned = plan(target, *desired)
    assert not planned.actions and not refusals(planned)
    return planned.objects[0].change.notes


def test_paths_are_attached_one_after_the_other():
    target, _other = make()
    planned = plan(target, far(4420, 4421, hostnqn=HOST))
    first, second = planned.actions
    assert first.params == {
        "name": NAME,
        "trtype": "TCP",
        "adrfam": "IPv4",
        "traddr": "127.0.0.1",
        "trsvcid": "4420",
        "subnqn": FAR,
        "hostnqn": HOST,
        "multipath": "multipath",
        "reconnect_delay_sec": 1,
        "ctrlr_loss_timeout_sec": 10,
        "fast_io_fail_timeout_sec": 0,
    }
    assert second.params == {**first.params, "trsvcid": "4421"}
    assert second.needs == (first,)
    assert done(target, far(4420, 4421, hostnqn=HOST)) == [(ATTACH, "4420"), (ATTACH, "4421")]
    assert target.call("bdev_get_bdevs")[0]["name"] == f"{NAME}n1"


def test_the_bdev_of_a_planned_controller_can_be_planned_for():
    target, _other = make()
    desired = [far(4420), want("subsystem", nqn=nqn(1), namespaces=[{"bdev": f"{NAME}n1"}])]
    planned = plan(target, *desired)
    assert planned.predicted.bdev(f"{NAME}n1").size is None
    assert planned.actions[0].reveals
    (shows,) = [action for action in planned.actions if action.method == "nvmf_subsystem_add_ns"]
    assert planned.actions[0] in shows.needs
    done(target, *desired)


def test_only_what_is_missing_is_added_and_only_what_is_wrong_removed():
    target, _other = make()
    done(target, far(4420, 4421))
    before = states(target)
    assert done(target, far(4421, 4422)) == [(ATTACH, "4422"), (DETACH, "4420")]
    assert list(states(target)) == ["4421", "4422"] and "4421" in before
    attached = target.call("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["cntlid"]
    done(target, far(4421, 4422, 4420))
    assert target.call("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["cntlid"] == attached


def test_without_paths_they_are_not_managed():
    target, _other = make()
    assert "not attached; give its addresses (paths)" in refusal(target, far(paths=None))
    done(target, far(4420, 4421))
    assert done(target, far(paths=None)) == []


def test_a_lost_path_is_reported_and_left_to_spdk():
    target, other = make()
    done(target, far(4420, 4421))
    lose(other, 4420)
    assert notes(target, far(4420, 4421)) == [
        "path TCP 127.0.0.1:4420 is not connected: its state is reconnect_is_delayed"
    ]
    target.advance(11)
    assert list(states(target)) == ["4421"]
    other.call("nvmf_subsystem_add_listener", {"nqn": FAR, "listen_address": {**tcp(4420), "adrfam": "IPv4"}})
    assert done(target, far(4420, 4421)) == [(ATTACH, "4420")]


def test_the_last_path_that_works_stays_unless_purge_says_so():
    target, other = make()
    done(target, far(4420, 4421))
    lose(other, 4420)
    (left, lost) = notes(target, far(4420))
    assert left == "TCP 127.0.0.1:4421 is left, though nobody wants it, because none of the wanted paths works (purge)"
    assert "4420 is not connected" in lost
    planned = plan(target, far(4420, purge=["paths"]))
    assert [(action.method, action.risk) for action in planned.actions] == [(DETACH, "disruptive")]
    assert done(target, far(4422)) == [(ATTACH, "4422"), (DETACH, "4420"), (DETACH, "4421")]


class Sending:
    """A client that sends to a simulated target at once; ``alive`` are the ports that answer an attach."""

    hung, broken, path = False, "", "here"

    def __init__(self, target, alive):
        self._target, self._alive, self._replies = target, alive, []

    @property
    def idle(self):
        return not self._replies

    def submit(self, calls):
        for call in calls:
            error = None
            if call.method != ATTACH or call.params["trsvcid"] in self._alive:
                self._target.call(call.method, call.params)
            else:
                error = RuntimeError("nothing listens")
            self._replies.append(Reply(call, True, error))

    def settle(self):
        replies, self._replies = self._replies, []
        return replies


@pytest.mark.parametrize(
    ("alive", "expected"),
    [
        (("4420", "4421"), ["done", "done", "done", "done"]),
        (("4421",), ["failed", "done", "done", "done"]),
        (("4420",), ["done", "failed", "done", "done"]),
        ((), ["failed", "failed", "skipped", "skipped"]),
    ],
)
def test_a_dead_path_stops_neither_the_others_nor_what_builds_on_them(alive, expected):
    target, _other = make()
    shown = want("subsystem", nqn=nqn(1), namespaces=[{"bdev": f"{NAME}n1"}])
    planned = plan(target, far(4420, 4421), shown)
    apply(planned.actions, Sending(target, alive))
    assert [action.method for action in planned.actions][2:] == ["nvmf_create_subsystem", "nvmf_subsystem_add_ns"]
    assert [action.state for action in planned.actions] == expected


@pytest.mark.parametrize("alive", [("4422",), ()])
def test_a_path_is_not_removed_before_another_one_works(alive):
    target, _other = make()
    done(target, far(4420))
    planned = plan(target, far(4422))
    apply(planned.actions, Sending(target, alive))
    assert list(states(target)) == [*(alive or ("4420",))]


# --- multipath policy


@pytest.mark.parametrize("release", ["24.05", "25.09", "26.05", "26.09"])
def test_the_policy_is_set_as_the_release_does_it(release):
    target, _other = make(release)
    wanted = {"multipath_policy": "active_active", "multipath_selector": "queue_depth"}
    by_attach = release >= "26.05"
    set_it = [] if by_attach else [(SET, None)]
    planned = plan(target, far(4420, **wanted))
    opts = {"policy": "active_active", "selector": "queue_depth"}
    assert planned.actions[0].params.get("multipath_opts") == (opts if by_attach else None)
    assert done(target, far(4420, 4421, **wanted)) == [(ATTACH, "4420"), (ATTACH, "4421"), *set_it]
    assert done(target, far(4420, 4421, 4422)) == [(ATTACH, "4422")]  # in the words of the first
    assert done(target, far(4420, multipath_policy="active_passive"))[0] == (SET, None)
    assert done(target, far(4420, 4421, multipath_policy="active_active"))[:2] == [(ATTACH, "4421"), (SET, None)]


def test_a_policy_that_cannot_be_changed_in_place():
    target, _other = make()
    done(target, far(4420))
    observed = read(target)
    observed.release = observed.release._replace(methods=observed.release.methods - {SET})
    (item,) = make_plan([far(4420, multipath_policy="active_active")], observed).objects
    assert f"has no method {SET}" in item.refusal


# --- what cannot be changed


@pytest.mark.parametrize("options", [{"hostnqn": HOST}, {"psk": "k"}, {"dhchap_key": "k"}, {"dhchap_ctrlr_key": "k"}])
def test_another_host_or_key_is_refused(options):
    target, _other = make()
    done(target, far(4420))
    ((name, value),) = options.items()
    message = refusal(target, far(4420, 4421, **options))
    assert f"path TCP 127.0.0.1:4420 is attached with {name}" in message and f"wanted {value}; SPDK cannot" in message


def test_other_settings_are_reported_and_new_paths_have_the_wanted_ones():
    target, _other = make()
    done(target, far(4420))
    planned = plan(target, far(4420, 4421, ctrlr_loss_timeout_sec=30, hdgst=True))
    assert [(a.params["ctrlr_loss_timeout_sec"], a.params["hdgst"]) for a in planned.actions] == [(30, True)]
    assert planned.objects[0].change.notes == [
        "path TCP 127.0.0.1:4420 was attached with other settings, which SPDK changes only by a new attach: "
        "ctrlr_loss_timeout_sec is 10, wanted 30, hdgst is False, wanted True"
    ]


def test_keys_go_by_their_names():
    target, _other = make()
    (action,) = plan(target, far(4420, psk="tls", dhchap_key="mine")).actions
    assert (action.params["psk"], action.params["dhchap_key"]) == ("tls", "mine")
    assert set(action.uses) == {("key", "tls"), ("key", "mine")}


@pytest.mark.parametrize("mode", ["failover", "disable"])
def test_one_that_was_attached_for_one_path_takes_no_second(mode):
    target, _other = make()
    target.call(ATTACH, {"name": NAME, "subnqn": FAR, "multipath": mode, "adrfam": "IPv4", **tcp(4420)})
    assert done(target, far(4420)) == []
    assert "it was attached for one path at a time" in refusal(target, far(4420, 4421))


@pytest.mark.parametrize(
    ("loss", "delay", "fast", "part"),
    [
        (0, 1, 0, "with ctrlr_loss_timeout_sec 0 reconnect_delay_sec and"),
        (0, 0, 1, "with ctrlr_loss_timeout_sec 0 reconnect_delay_sec and"),
        (10, 0, 0, "reconnect_delay_sec has to be 1 or more"),
        (-1, 0, 0, "reconnect_delay_sec has to be 1 or more"),
        (10, 11, 0, "in ascending order"),
        (10, 2, 11, "in ascending order"),
        (10, 2, 1, "in ascending order"),
        (-1, 2, 1, "in ascending order"),
        (-2, 1, 0, "negative"),
        (10, -1, 0, "negative"),
        (10, 1, -1, "negative"),
        (0, 0, 0, None),
        (-1, 1, 0, None),
        (-1, 2, 90, None),
        (10, 10, 10, None),
        (10, 1, 5, None),
    ],
)
def test_times_go_together_or_are_refused_as_the_target_would(loss, delay, fast, part):
    target, _other = make()
    times = {"ctrlr_loss_timeout_sec": loss, "reconnect_delay_sec": delay, "fast_io_fail_timeout_sec": fast}
    if part is None:
        done(target, far(4420, **times))
        return
    assert part in refusal(target, far(4420, **times))
    if min(delay, fast) >= 0:
        with pytest.raises(RpcFailure):
            target.call(ATTACH, {"name": NAME, "subnqn": FAR, "adrfam": "IPv4", **tcp(4420), **times})


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"subnqn": None}, "neither a name nor the NQN"),
        ({"subnqn": None, "name": "c"}, "subnqn '' is not an NQN"),
        ({"subnqn": "far"}, "subnqn 'far' is not an NQN"),
        ({"hostnqn": "me"}, "hostnqn 'me' is not an NQN"),
        ({"paths": []}, "give its addresses (paths)"),
        ({"paths": [{"traddr": "node-1"}]}, "'node-1' is not an IP address"),
        ({"traddr": "0000:01:00.0"}, "over TCP give paths"),
        ({"trtype": "PCIe"}, "subnqn and paths are for TCP and RDMA"),
        ({"multipath_selector": "queue_depth"}, "multipath_selector is for multipath_policy active_active"),
    ],
)
def test_what_cannot_be_is_refused(options, part):
    target, _other = make()
    assert part in refusal(target, far(4420, **options))


def test_a_name_is_one_subsystem_and_a_subsystem_one_name():
    target, _other = make()
    done(target, far(4420, name="c0"))
    assert f"the name c0 is taken: it is attached to {FAR}" in refusal(target, far(4420, name="c0", subnqn=nqn("b")))
    for state in ("present", "absent"):
        assert f"{FAR} is attached already, as controller c0" in refusal(target, far(4421, state=state))
    assert "it is attached over TCP, wanted RDMA" in refusal(target, far(4420, name="c0", trtype="RDMA"))
    assert "attached to TCP 127.0.0.1, not to PCIe" in refusal(
        target, want("controller", name="c0", traddr="0000:01:00.0")
    )


def test_detach_waits_for_its_users():
    target, _other = make()
    done(target, far(4420, 4421))
    target.call("vhost_create_blk_controller", {"ctrlr": "vm1", "dev_name": f"{NAME}n1"})
    absent = want("controller", subnqn=FAR, state="absent")
    assert f"{NAME}n1 is served by the vhost controller vm1; take that away first" in refusal(target, absent)
    target.call("vhost_delete_controller", {"ctrlr": "vm1"})
    assert done(target, absent) == [(DETACH, None)]


def test_a_subsystem_without_a_namespace_says_so():
    target, _other = make(namespaces=0)
    done(target, far(4420))
    assert notes(target, far(4420)) == [
        "its subsystem shows no namespace, or one that another controller shows already"
    ]


def test_what_is_described_changes_nothing():
    target, _other = make()
    done(target, far(4420, 4421, hostnqn=HOST, multipath_policy="active_active", ctrlr_loss_timeout_sec=-1))
    (shown,) = describe(read(target))["desired"]["controllers"]
    planned = plan(target, want("controller", **shown))
    assert not planned.actions and not refusals(planned) and not planned.objects[0].change.notes
    assert describe(read(target))["controllers"][0]["paths"][1]["state"] == "enabled"


# --- RDMA


def rdma(*ports, sources=None, **options):
    return far(*ports, trtype="RDMA", source_addresses=sources, **options)


def plan_from(target, sources, *desired):
    observed = read(target)
    observed.sources = sources
    return make_plan(list(desired), observed)


def looked_at(target, wanted):
    observed = read(target)
    wanted.resource.look(None, [wanted.options], observed)
    return observed.sources


def test_rdma_connects_from_the_usable_address_that_is_most_like_the_path():
    target, _other = make(trtype="RDMA")
    sources = ["192.0.2.5", "198.51.100.5", "198.51.101.5"]
    places = [{"traddr": "198.51.100.11"}, {"traddr": "192.0.2.11"}]
    wanted = rdma(paths=places, sources=sources)
    planned = plan_from(target, dict.fromkeys(sources), wanted)
    assert [action.params["hostaddr"] for action in planned.actions] == ["198.51.100.5", "192.0.2.5"]
    planned = plan_from(target, {**dict.fromkeys(sources), "198.51.100.5": "it is down"}, wanted)
    assert [action.params["hostaddr"] for action in planned.actions] == ["198.51.101.5", "192.0.2.5"]
    assert set(looked_at(target, wanted)) == set(sources)
    assert looked_at(target, far(4420, source_addresses=sources)) == {}
    assert "hostaddr" not in plan(target, far(4420, source_addresses=sources)).actions[0].params


def test_rdma_without_a_usable_address_is_refused_before_anything_is_sent():
    target, _other = make(trtype="RDMA")
    assert "give source_addresses" in refusal(target, rdma(4420))
    assert "source address 'eth0' is not an IPv4 address" in refusal(target, rdma(4420, sources=["eth0"]))
    why = {"192.0.2.5": "interface eth0 with the address 192.0.2.5 is down", "192.0.2.6": "no interface has 192.0.2.6"}
    (message,) = refusals(plan_from(target, why, rdma(4420, sources=list(why)))).values()
    assert message == f"cannot connect to RDMA 127.0.0.1:4420: {'; '.join(why.values())}"
    own = rdma(paths=paths(4420, hostaddr="192.0.2.6"), sources=["192.0.2.7"])
    assert set(looked_at(target, own)) == {"192.0.2.6", "192.0.2.7"}
    (message,) = refusals(plan_from(target, why, own)).values()
    assert message == "cannot connect to RDMA 127.0.0.1:4420: no interface has 192.0.2.6"
    (ipv6,) = plan(target, rdma(paths=[{"traddr": "2001:db8::1"}])).actions
    assert "hostaddr" not in ipv6.params
