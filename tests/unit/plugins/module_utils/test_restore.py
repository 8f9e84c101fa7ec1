# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated target brought back from a saved configuration, over a real socket."""

from __future__ import annotations

import tempfile
from collections import Counter

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._config import START, Entry, differences, parse
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import Refusal, Unreachable
from ansible_collections.excloud.diskengine.plugins.module_utils._restore import read_document, restore
from ansible_collections.excloud.diskengine.plugins.module_utils._rpc import Client
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import HOST, MIB, nqn, tcp
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.serving import serving
from spdk_sim import Target
from spdk_sim.catalogue import RELEASES
from spdk_sim.files import RealFiles
from spdk_sim.journal import Journal

STARTUP = {"bdev_set_options": {"bdev_auto_examine": False}}


def waiting(**options):
    return Target(wait_for_rpc=True, addresses=None, files=RealFiles(), **options)


def add_disk(target, path, name, size):
    path.mkdir(exist_ok=True)
    with open(path / name, "wb") as file:
        file.truncate(size)
    target.call("bdev_aio_create", {"name": name, "filename": str(path / name), "block_size": 4096})


def populate(target, path):
    """A node as it runs: a drive that is examined by name, an lvstore, exports, limits, a vhost controller."""
    key = path / "key"
    key.write_text("NVMeTLSkey-1:01:MDAxMTIyMzM0NDU1NjY3Nzg4OTlhYWJiY2NkZGVlZmZwJEiQ:")
    key.chmod(0o600)
    target.call("bdev_set_options", {"bdev_auto_examine": False})
    target.call("nvmf_set_max_subsystems", {"max_subsystems": 5})
    target.call("framework_start_init")
    add_disk(target, path / "disks", "d0", 256 * MIB)
    target.call("bdev_lvol_create_lvstore", {"bdev_name": "d0", "lvs_name": "l0"})
    target.call("bdev_examine", {"name": "d0"})
    target.call("keyring_file_add_key", {"name": "k", "path": str(key)})
    target.call("nvmf_create_transport", {"trtype": "TCP", "max_queue_depth": 64})
    for number in range(4):
        uuid = target.call("bdev_lvol_create", {"lvs_name": "l0", "lvol_name": str(number), "size_in_mib": 4})
        target.call("nvmf_create_subsystem", {"nqn": nqn(number), "serial_number": str(number)})
        target.call("nvmf_subsystem_add_host", {"nqn": nqn(number), "host": HOST, "psk": "k"})
        target.call("nvmf_subsystem_add_ns", {"nqn": nqn(number), "namespace": {"bdev_name": uuid, "nsid": 2}})
        target.call("nvmf_subsystem_add_listener", {"nqn": nqn(number), "listen_address": tcp() | {"adrfam": "IPv4"}})
        target.call("bdev_set_qos_limit", {"name": uuid, "rw_ios_per_sec": 5000})
    add_disk(target, path / "disks", "d1", 16 * MIB)
    target.call("vhost_create_blk_controller", {"ctrlr": "vhost1", "dev_name": "d1"})
    target.call("vhost_controller_set_coalescing", {"ctrlr": "vhost1", "delay_base_us": 10, "iops_threshold": 50000})


def restarted(target, **options):
    """Another target that waits, with the same disks."""
    after = waiting(**options)
    with tempfile.TemporaryDirectory() as directory:
        Journal(f"{directory}/disks", {"own": target.disks}).save()
        Journal(f"{directory}/disks", {"own": after.disks})
    return after


def read_from(target):
    with serving(target) as served, served.connect() as client:
        return parse(read_document(client), "x")


@pytest.fixture(name="before")
def _before(tmp_path):
    target = waiting()
    populate(target, tmp_path)
    return target


@pytest.fixture(name="saved")
def _saved(before):
    return read_from(before)


def sent_to(served):
    """What changes something, as counts of (method, parameters)."""
    return Counter(call for call in served.log.mutations if call[0] not in ("spdk_get_version", "rpc_get_methods"))


def check_restored(target, saved):
    """Everything is as saved, and one more run has nothing to do."""
    assert not differences(saved, read_from(target))
    with serving(target) as served:
        again = restore(served.connect, saved, {}, False)
        assert (again.sent, again.errors) == ([], {})


def test_a_target_that_waits_comes_back(before, saved):
    target = restarted(before)
    with serving(target) as served:
        predicted = restore(served.connect, saved, {}, True)
        assert not sent_to(served)
        done = restore(served.connect, saved, {}, False)
        calls = [call["method"] for call in served.log.calls]
    assert (done.errors, done.sent, done.waited) == ({}, predicted.sent, True)
    assert done.diff == predicted.diff
    assert [entry.method for entry in done.sent].count(START) == 1
    assert calls.count(START) == 1
    assert calls.index("bdev_set_options") < calls.index(START) < calls.index("bdev_aio_create")
    check_restored(target, saved)
    assert len(target.call("bdev_lvol_get_lvols")) == 4


def test_exactly_what_check_mode_says_is_sent(before, saved):
    target = restarted(before)
    with serving(target) as served:
        done = restore(served.connect, saved, {}, False)
        sent = [call for call in served.log.calls if call["method"] in {entry.method for entry in done.sent}]
    assert [(call["method"], call["params"] or {}) for call in sent] == [(e.method, e.params) for e in done.sent]


def test_a_target_that_waits_is_not_read(saved):
    with serving(waiting()) as served, served.connect() as client:
        with pytest.raises(Unreachable, match="waits for framework_start_init"):
            read_document(client)


def test_started_without_a_file():
    target = waiting()
    with serving(target) as served:
        first, second = (restore(served.connect, [], STARTUP, False) for _turn in range(2))
    assert [entry.method for entry in first.sent] == ["bdev_set_options", START]
    assert first.diff == {
        "before": {"framework": "waiting"},
        "after": {"framework": "started", "bdev_set_options bdev": {"bdev_auto_examine": False}},
    }
    assert (second.sent, second.errors, second.waited) == ([], {}, False)
    assert target.bdevs.auto_examine is False


def test_startup_options_cannot_be_changed_later():
    target = Target(addresses=None)
    startup = STARTUP | {"bdev_raid_set_options": {"process_window_size_kb": 512}}
    with serving(target) as served:
        done = restore(served.connect, [], startup, False)
    assert [entry.method for entry in done.sent] == ["bdev_raid_set_options"]
    (error,) = list(done.errors.values())
    assert "bdev_auto_examine is true, saved as false" in error and "restart the target with --wait-for-rpc" in error
    assert done.diff["before"]["bdev_raid_set_options bdev"]["process_window_size_kb"] == 1024
    assert done.diff["after"]["bdev_raid_set_options bdev"]["process_window_size_kb"] == 512


def test_what_is_missing_is_sent_to_a_running_target(before, saved):
    before.call("nvmf_subsystem_remove_host", {"nqn": nqn(1), "host": HOST})
    before.call("nvmf_delete_subsystem", {"nqn": nqn(2)})
    with serving(before) as served:
        done = restore(served.connect, saved, {}, False)
    assert sorted(entry.method for entry in done.sent) == [
        "bdev_wait_for_examine",
        "nvmf_create_subsystem",
        "nvmf_subsystem_add_host",
        "nvmf_subsystem_add_host",
        "nvmf_subsystem_add_listener",
        "nvmf_subsystem_add_ns",
    ]
    assert not done.errors
    check_restored(before, saved)


def test_a_different_object_is_named_with_both_and_left_alone(before, saved):
    before.call("nvmf_delete_subsystem", {"nqn": nqn(1)})
    before.call("nvmf_create_subsystem", {"nqn": nqn(1), "serial_number": "other"})
    before.call("nvmf_subsystem_remove_host", {"nqn": nqn(3), "host": HOST})
    before.call("nvmf_subsystem_add_host", {"nqn": nqn(3), "host": HOST})
    with serving(before) as served:
        done = restore(served.connect, saved, {}, False)
        assert not [call for call in sent_to(served) if "remove" in call[0] or "delete" in call[0]]
    serial, psk = list(done.errors.values())
    assert 'serial_number is "other", saved as "1"' in serial
    assert 'psk is null, saved as "k"' in psk
    assert [host["nqn"] for host in before.call("nvmf_get_subsystems", {"nqn": nqn(1)})[0]["hosts"]] == [HOST]


def test_one_that_fails_stops_only_what_lies_in_it(before, saved, tmp_path):
    (tmp_path / "key").unlink()
    target = restarted(before)
    with serving(target) as served:
        done = restore(served.connect, saved, {}, False)
    key_error, *hosts = list(done.errors.values())
    assert key_error == "k: keyring_file_add_key was answered with error -2 (No such file or directory)"
    assert len(hosts) == 4 and all("nvmf_subsystem_add_host was answered with error" in error for error in hosts)
    assert len(target.call("nvmf_get_subsystems")) == 5
    assert all(item["namespaces"] and item["listen_addresses"] for item in target.call("nvmf_get_subsystems")[1:])
    assert not set(done.errors) & {entry.key for entry in done.sent}


def test_what_lies_in_what_failed_is_skipped(before, saved):
    fifth = Entry("nvmf", "nvmf_create_subsystem", {"nqn": nqn(9)})
    inside = Entry("nvmf", "nvmf_subsystem_add_host", {"nqn": nqn(9), "host": HOST})
    target = restarted(before)
    with serving(target) as served:
        done = restore(served.connect, [*saved, fifth, inside], {}, False)
        assert nqn(9) not in str([call for call in sent_to(served) if call[0] == inside.method])
    made, skipped = list(done.errors.values())
    assert "Unable to create subsystem" in made
    assert skipped.startswith(f"{nqn(9)} {HOST}: skipped, because nvmf_create_subsystem was answered with error")


def test_what_fails_before_the_start_stops_the_start(before, saved):
    target = restarted(before)
    with serving(target) as served:
        done = restore(served.connect, saved, {"bdev_set_options": {"bdev_io_pool_size": 1}}, False)
        assert START not in {method for method, _params in sent_to(served)}
        options, start = list(done.errors.values())
        assert "Pool size 1 too small for cache size 256" in options
        assert start.startswith("framework_start_init was not sent, so that the target can still be set up: bdev: ")
        again = restore(served.connect, saved, {}, False)
    assert not again.errors
    check_restored(target, saved)


@pytest.mark.parametrize("limit", [5, 6])
def test_the_number_of_subsystems_was_set_before(before, saved, limit):
    """It can be called once in the life of a target, and not be read before the start."""
    target = restarted(before)
    target.call("nvmf_set_max_subsystems", {"max_subsystems": limit})
    with serving(target) as served:
        done = restore(served.connect, saved, {}, False)
    if limit == 5:
        assert not done.errors
        check_restored(target, saved)
    else:
        (error,) = list(done.errors.values())
        assert "max_subsystems is 6, saved as 5" in error


# --- cut off ---


class Killed(BaseException):
    """The process ends here."""


class Dying(Client):
    """Dies when this many calls were answered; those in flight are carried out, and nobody sees it."""

    left = 0

    def settle(self):
        replies = super().settle()
        type(self).left -= len(replies)
        if self.left < 0:
            raise Killed
        return replies


def test_killed_at_any_call_the_next_run_goes_on(before, saved):
    died = 0
    while True:
        target = restarted(before)
        with serving(target) as served:
            Dying.left = died
            try:
                restore(lambda path=served.path: Dying(path, 30), saved, {}, False)
            except Killed:
                died += 1
            else:
                break
            done = restore(served.connect, saved, {}, False)
            assert not done.errors, died
            assert served.log.calls and [call["method"] for call in served.log.calls].count(START) == 1, died
        assert not differences(saved, read_from(target)), died
    assert died > len(saved)


def test_a_lost_call_is_made_up_for(before, saved):
    with serving(restarted(before)) as served:
        restore(served.connect, saved, {}, False)
        methods = ["", *(call["method"] for call in served.log.calls)]
    once_more = range(
        methods.index("nvmf_set_max_subsystems") + 1, methods.index(START) + 1
    )  # it fails, is judged later
    for number in range(4, len(methods)):
        target = restarted(before)
        with serving(target) as served:
            served.lose.add(number)
            done = restore(served.connect, saved, {}, False)
            assert not done.errors, number
            assert served.connections == (3 if number in once_more else 2), number
        assert not differences(saved, read_from(target)), number


@pytest.mark.parametrize("method", [START, "bdev_aio_create", "nvmf_subsystem_add_ns"])
def test_a_lost_answer_is_judged_by_what_is_there(before, saved, method):
    target = restarted(before)
    with serving(target) as served:
        served.faults.add({"action": "drop", "method": method, "call": 1})
        done = restore(served.connect, saved, {}, False)
        methods = Counter(call["method"] for call in served.log.calls)
    assert not done.errors
    assert methods[method] == len([entry for entry in saved if entry.method == method]) or method == START
    assert methods[START] == 1
    check_restored(target, saved)


def test_after_a_call_that_hung_nothing_more_is_sent(before, saved):
    with serving(restarted(before)) as served:
        served.faults.add({"action": "hang", "method": "bdev_aio_create", "call": 1})
        done = restore(lambda: served.connect(0.5), saved, {}, False)
        methods = [call["method"] for call in served.log.calls]
    hung, *held_back = list(done.errors.values())
    assert hung == "d0: the outcome of bdev_aio_create for d0 is unknown: no answer within 0.5 s"
    assert held_back and all(error.endswith(": not sent, because the target stopped answering") for error in held_back)
    assert methods.count("bdev_aio_create") == 1
    assert "nvmf_create_transport" not in methods and START in {entry.method for entry in done.sent}


def test_a_target_that_is_gone(before, saved):
    with serving(restarted(before)) as served:
        served.lose.add(20)
        clients = [served.connect()]

        def connect():
            if not clients:
                raise Unreachable("nothing listens")
            return clients.pop()

        done = restore(connect, saved, {}, False)
    assert done.sent and done.errors
    assert all(error.endswith("; looking again failed: nothing listens") for error in done.errors.values())


# --- releases ---


@pytest.mark.parametrize("release", RELEASES)
def test_each_release_takes_back_what_it_wrote(release, tmp_path):
    before = waiting(release=release)
    populate(before, tmp_path)
    saved = read_from(before)
    target = restarted(before, release=release)
    with serving(target) as served:
        assert not restore(served.connect, saved, {}, False).errors
    check_restored(target, saved)


@pytest.mark.parametrize(
    ("release", "entry", "message"),
    [
        (
            "24.05",
            ("nvmf_create_subsystem", {"nqn": nqn(1), "admin_label": "x"}),
            "admin_label of nvmf_create_subsystem",
        ),
        (
            "26.09",
            ("nvmf_create_subsystem", {"nqn": nqn(1), "max_discard_size_kib": 1}),
            "max_discard_size_kib of nvmf_create_subsystem is unknown from SPDK v26.09 on",
        ),
        ("26.09", ("bdev_daos_create", {"name": "x"}), "SPDK v26.09 of this build has no method bdev_daos_create"),
    ],
)
@pytest.mark.parametrize("wait_for_rpc", [True, False])
def test_what_the_release_does_not_know_is_refused_before_anything_is_sent(release, entry, message, wait_for_rpc):
    target = Target(release=release, wait_for_rpc=wait_for_rpc)
    with serving(target) as served:
        with pytest.raises(Refusal, match=f"nothing was sent: .*{message}"):
            restore(served.connect, [Entry("x", *entry)], STARTUP, False)
        assert not sent_to(served)


def test_parameters_without_effect_are_left_out():
    entry = Entry("nvmf", "nvmf_create_transport", {"trtype": "TCP", "io_unit_size": 16384})
    target = waiting()
    with serving(target) as served:
        done = restore(served.connect, [entry], {}, False)
        assert done.sent[-1].params == {"trtype": "TCP"}
        assert restore(served.connect, [entry], {}, False).sent == []
