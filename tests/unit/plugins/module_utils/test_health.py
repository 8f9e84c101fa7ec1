# SPDX-License-Identifier: GPL-3.0-or-later
"""Health: of drives each threshold on both sides and what is not reported; of paths, RAIDs and vhost controllers."""

from __future__ import annotations

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._drive_health import (
    FIELDS,
    THRESHOLDS,
    classify,
    read_log,
)
from ansible_collections.excloud.diskengine.plugins.module_utils._graph import (
    Controller,
    Graph,
    Member,
    Path,
    Raid,
    Vhost,
)
from ansible_collections.excloud.diskengine.plugins.module_utils._health import read_health
from ansible_collections.excloud.diskengine.plugins.module_utils._naming import Address
from ansible_collections.excloud.diskengine.plugins.module_utils._serving_health import (
    describe_raid,
    describe_remote,
    describe_vhost,
)
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.serving import serving
from spdk_sim import Target, fabric

KELVIN = 273
NEW = {**dict.fromkeys(FIELDS, 0), "temperature_celsius": 40, "available_spare_percentage": 100}
NEW["available_spare_threshold_percentage"] = 10
EMULATED = {**dict.fromkeys(FIELDS, 0), "temperature_celsius": 50}  # as QEMU's drives answer
SOFTWARE = {**dict.fromkeys(FIELDS, 0), "temperature_celsius": 2**64 - KELVIN}  # as SPDK's target answers
DRIVES = [f"0000:0{number}:00.0" for number in range(1, 4)]


def judge(answer, **thresholds):
    return classify(read_log(answer), {**THRESHOLDS, **thresholds})


def test_a_new_drive():
    assert judge(NEW) == ("ok", [])


@pytest.mark.parametrize(
    ("field", "last_good", "bad", "options", "health"),
    [
        ("temperature_celsius", 69, 70, {}, "warning"),
        ("temperature_celsius", 79, 80, {"temperature_warning": None}, "critical"),
        ("temperature_celsius", 59, 60, {"temperature_warning": 60}, "warning"),
        ("temperature_celsius", 64, 65, {"temperature_warning": 99, "temperature_critical": 65}, "critical"),
        ("percentage_used", 79, 80, {}, "warning"),
        ("percentage_used", 99, 100, {"used_warning": None}, "critical"),
        ("percentage_used", 254, 255, {"used_warning": None, "used_critical": 255}, "critical"),
        ("media_errors", 0, 1, {}, "warning"),
        ("media_errors", 9, 10, {"media_errors_warning": 10}, "warning"),
        ("media_errors", 9, 2**100, {"media_errors_warning": None, "media_errors_critical": 10}, "critical"),
        ("unsafe_shutdowns", 4, 5, {"unsafe_shutdowns_warning": 5}, "warning"),
        ("unsafe_shutdowns", 4, 5, {"unsafe_shutdowns_critical": 5}, "critical"),
        ("available_spare_percentage", 20, 19, {}, "warning"),
        ("available_spare_percentage", 30, 29, {"spare_warning": 30}, "warning"),
        ("available_spare_percentage", 10, 9, {"spare_warning": 0}, "critical"),
        ("available_spare_percentage", 1, 0, {"spare_warning": 1}, "critical"),
    ],
)
def test_thresholds(field, last_good, bad, options, health):
    threshold = {"available_spare_threshold_percentage": min(10, last_good)}
    assert judge({**NEW, **threshold, field: last_good}, **options) == ("ok", [])
    found, reasons = judge({**NEW, **threshold, field: bad}, **options)
    assert found == health
    assert len(reasons) == 1


def test_without_options_counters_that_say_little_are_no_reason():
    assert judge({**NEW, "unsafe_shutdowns": 2**127, "num_err_log_entries": 2**64, "power_on_hours": 10**6})[0] == "ok"
    assert judge({**NEW, "media_errors": 2**127})[0] == "warning"


@pytest.mark.parametrize(
    ("bit", "health"),
    [(0, "critical"), (1, "warning"), (2, "critical"), (3, "critical"), (4, "critical"), (5, "critical")]
    + [(bit, "warning") for bit in (6, 7)],
)
def test_what_the_drive_warns_of(bit, health):
    for answer in (NEW, SOFTWARE):
        found, reasons = judge({**answer, "critical_warning": 1 << bit})
        assert (found, len(reasons)) == (health, 1)


def test_all_reasons_are_named_the_worst_first_and_each_once():
    worn = {**NEW, "available_spare_percentage": 5, "percentage_used": 120, "temperature_celsius": 75}
    assert judge({**worn, "media_errors": 3, "critical_warning": 0b11000011}) == (
        "critical",
        [
            "the available spare capacity is below the drive's own threshold",
            "the endurance used is 120 %, critical from 100 % on",
            "the temperature is beyond a threshold of the drive",
            "it warns of something that the specification did not name yet",
            "the temperature is 75 degrees Celsius, warning from 70 degrees Celsius on",
            "the number of media errors is 3, warning from 1 on",
        ],
    )


@pytest.mark.parametrize(
    ("kelvin", "celsius"), [(0, None), (1, -272), (272, -1), (273, 0), (323, 50), (65535, 65535 - KELVIN)]
)
def test_a_temperature_is_printed_as_an_unsigned_number(kelvin, celsius):
    for printed in ((kelvin - KELVIN) % 2**64, (kelvin - KELVIN)):
        assert read_log({**NEW, "temperature_celsius": printed})["temperature_celsius"] == celsius


def test_what_is_not_reported_is_not_judged():
    assert judge(EMULATED) == ("ok", [])
    health, reasons = judge(SOFTWARE)
    assert (health, len(reasons)) == ("unknown", 1)
    log = read_log(SOFTWARE)
    assert [log[name] for name in FIELDS[1:4]] == [None, None, None]
    # A drive without a threshold of its own still says what is spare.
    assert judge({**NEW, "available_spare_threshold_percentage": 0, "available_spare_percentage": 5})[0] == "warning"


@pytest.fixture(name="drives")
def _drives():
    """A served target with three drives; returns (served, other side)."""
    target = Target()
    other = fabric.outside(target)
    for number, address in enumerate(DRIVES):
        fabric.add_drive(other, address, 64 << 20, 4096, "test")
        params = {"name": f"nvme{number}", "trtype": "PCIe", "traddr": address}
        target.call("bdev_nvme_attach_controller", params)
    with serving(target) as served:
        yield served, other


def read(served, timeout=30.0):
    with served.connect(timeout) as client:
        found = read_health(client, THRESHOLDS)
    return {controller["bdf"]: controller for controller in found["controllers"]}


def test_drives_are_read_at_once(drives):
    served, other = drives
    fabric.set_health(other, DRIVES[1], {"media_errors": 1})
    fabric.set_health(other, DRIVES[2], {"critical_warning": 4})
    found = read(served)
    assert [found[bdf]["health"] for bdf in DRIVES] == ["ok", "warning", "critical"]
    assert len({controller["serial"] for controller in found.values()} - {""}) == 3
    assert not served.log.mutations


def test_one_that_fails_keeps_none_of_the_others(drives):
    served, _other = drives
    served.faults.add({"action": "error", "method": "bdev_nvme_get_controller_health_info", "call": 2})
    found = read(served)
    assert [found[bdf]["health"] for bdf in DRIVES] == ["ok", "unknown", "ok"]
    assert "was answered with error -32603" in found[DRIVES[1]]["reasons"][0]
    assert found[DRIVES[1]]["log"] is None


def test_one_that_hangs_keeps_none_of_the_others(drives):
    served, _other = drives
    served.faults.add({"action": "hang", "method": "bdev_nvme_get_controller_health_info", "call": 1})
    found = read(served, timeout=0.5)
    assert [found[bdf]["health"] for bdf in DRIVES] == ["unknown", "ok", "ok"]
    assert "no answer within 0.5 s" in found[DRIVES[0]]["reasons"][0]


def test_one_that_is_not_connected_is_not_asked(drives):
    served, other = drives
    served.target.call("bdev_nvme_disable_controller", {"name": "nvme0"})
    nqn = served.target.nvme_controllers["nvme1"].paths[0].subsystem.nqn
    other.nvmf.subsystems.pop(nqn)  # the drive is dead, and no time to wait for it was asked for
    other.nvmf.version += 1
    found = read(served)
    assert [found[bdf]["state"] for bdf in DRIVES] == ["disabled", "failed", "enabled"]
    assert [found[bdf]["health"] for bdf in DRIVES] == ["unknown", "critical", "ok"]
    assert "the state failed" in found[DRIVES[1]]["reasons"][0]
    asked = [call["params"] for call in served.log.calls if call["method"].endswith("health_info")]
    assert asked == [{"name": "nvme2"}]


def remote(*states):
    """A controller over TCP with a path in each of these states."""
    paths = tuple(Path(Address("TCP", "IPv4", f"10.0.0.{n}", "4420"), state, {}) for n, state in enumerate(states, 1))
    return describe_remote(Controller("c", "TCP", "10.0.0.1", states[0], "nqn", "host", paths))


@pytest.mark.parametrize(
    ("states", "health", "usable"),
    [
        (["enabled", "enabled"], "ok", 2),
        (["enabled", "reconnect_is_delayed"], "warning", 1),
        (["failed", "enabled"], "warning", 1),
        (["resetting"], "critical", 0),
        (["disabled", "failed"], "critical", 0),
        (["a word of a later release"], "critical", 0),
    ],
)
def test_a_controller_is_as_good_as_its_paths(states, health, usable):
    found = remote(*states)
    assert (found["health"], found["usable_paths"], found["log"]) == (health, usable, None)
    assert len(found["reasons"]) == len(states) - usable
    assert [path["state"] for path in found["paths"]] == states


def test_a_path_is_named_with_its_state_in_both_words():
    assert remote("enabled", "reconnect_is_delayed")["reasons"] == [
        "its path TCP 10.0.0.2:4420 is reconnecting (reconnect_is_delayed)"
    ]
    assert remote("failed")["reasons"] == ["its path TCP 10.0.0.1:4420 is failed"]


def test_a_path_that_is_used_only_after_a_failover_is_no_path_yet():
    address = Address("TCP", "IPv4", "10.0.0.1", "4420")
    paths = (Path(address, "enabled", {}), Path(address._replace(trsvcid="4421"), "enabled", {}, True))
    assert describe_remote(Controller("c", "TCP", "10.0.0.1", "enabled", "nqn", "", paths))["usable_paths"] == 1


def raid(state="online", present=(True, True), rebuilding="", lost=()):
    """A mirror of c1n1 and c2n1 as users read it; the controllers of some members are lost."""
    members = tuple(Member(f"c{n}n1" if there else "", "u", there) for n, there in enumerate(present, 1))
    graph = Graph(None)
    for number in (1, 2):
        path = Path(Address("TCP", "IPv4", "10.0.0.1", "4420"), "deleting" if number in lost else "enabled", {})
        graph.controllers[f"c{number}"] = Controller(f"c{number}", "TCP", "10.0.0.1", path.state, "nqn", "", (path,))
    return describe_raid(Raid("r", "u", "raid1", state, True, 0, members, rebuilding, 37 if rebuilding else 0), graph)


@pytest.mark.parametrize(
    ("case", "condition", "health", "reasons"),
    [
        ({}, "in_sync", "ok", []),
        ({"rebuilding": "c2n1"}, "rebuilding", "warning", ["c2n1 is brought in sync (37 %)"]),
        ({"present": (True, False)}, "degraded", "critical", ["it has 1 of 2 members (c1n1)"]),
        ({"lost": (2,)}, "in_sync", "warning", ["its member c2n1 is given up (deleting)"]),
        (
            {"lost": (1, 2)},
            "stalled",
            "critical",
            [
                "no member of it can be reached, so that all I/O waits",
                "its member c1n1 is given up (deleting)",
                "its member c2n1 is given up (deleting)",
            ],
        ),
        ({"present": (True, False), "lost": (1,)}, "stalled", "critical", None),
        (
            {"state": "configuring", "present": (False, True)},
            "configuring",
            "critical",
            ["it has 1 of 2 members (c2n1) and serves nothing"],
        ),
        (
            {"state": "offline", "present": (False, False)},
            "offline",
            "critical",
            ["it has 0 of 2 members (none) and serves nothing"],
        ),
        ({"state": "a later word"}, "a later word", "unknown", None),
    ],
)
def test_conditions_of_a_raid(case, condition, health, reasons):
    found = raid(**case)
    assert (found["condition"], found["health"]) == (condition, health)
    assert found["percent"] == (37 if case.get("rebuilding") else None)
    assert reasons is None or found["reasons"] == reasons


def test_a_vhost_controller_is_as_good_as_its_bdev():
    good = Vhost("vhost1", "raid_1", "/run/vhost1", 1, False, ("s",))
    assert [describe_vhost(each)["health"] for each in (good, good._replace(sessions=()))] == ["ok", "ok"]
    assert describe_vhost(good._replace(bdev=None))["health"] == "critical"
    scsi = good._replace(bdev=None, scsi=())
    assert describe_vhost(scsi)["health"] == "ok"
