# SPDX-License-Identifier: GPL-3.0-or-later
"""Binding and giving back, against a kernel that reacts."""

from __future__ import annotations

import json
import sys

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._host._bind import Wanted, make_plans, manage
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import HostError
from ansible_collections.excloud.diskengine.plugins.module_utils._host._pci import observe
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sysfs import MIB, Kernel, Tree

DRIVE, OTHER, THIRD = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"
DEVICE = f"/sys/bus/pci/devices/{DRIVE}"
PROBE = "/sys/bus/pci/drivers_probe"
RECORD = f"/var/lib/diskengine/pci/{DRIVE}.json"
RULES = "/etc/udev/rules.d"
BY_BDF = f"{RULES}/60-diskengine-0000-01-00.0.rules"
PROGRAM = f"{RULES}/60-diskengine-0000-01-00.0.py"
BY_SERIAL = f"{RULES}/60-diskengine-serial-SERIAL0.rules"
USER_RULE = f"{RULES}/60-diskengine-0000-01-00.0-user.rules"


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    for number, bdf in enumerate((DRIVE, OTHER, THIRD)):
        made.add_nvme(bdf, number)
    return made


@pytest.fixture
def kernel(tree):
    return Kernel(tree)


def told(writes):
    return [
        [step["path"], *step["value"].split()]
        if step["kind"] == "command"
        else (step["kind"], step["path"], step["value"])
        for step in writes
    ]


def made(kernel):
    return [done if isinstance(done, list) else tuple(done)[:3] for done in kernel.done]


def run(kernel, *desired, wait=30):
    """Manage, and hold the run to what the preview said, and the run after it to do nothing."""
    before = kernel.tree.snapshot()
    preview = [outcome.result() for outcome in manage(kernel, list(desired), True, wait)]
    assert kernel.tree.snapshot() == before and not kernel.done
    results = [outcome.result() for outcome in manage(kernel, list(desired), False, wait)]
    for real, promised in zip(results, preview):
        assert real == promised
    assert made(kernel) == [write for entry in results for write in told(entry["writes"])]
    kernel.done.clear()
    settled = kernel.tree.snapshot()
    for entry in (outcome.result() for outcome in manage(kernel, list(desired), False, wait)):
        assert not entry["changed"] and entry["writes"] == [] and entry["before"] == entry["after"]
    assert kernel.tree.snapshot() == settled and not kernel.done
    return results


def driver(kernel, bdf=DRIVE):
    return kernel.linked(f"/sys/bus/pci/devices/{bdf}/driver")


def test_the_order_of_the_writes(kernel, tree):
    """That of setup.sh, contract section 15, with the record before it."""
    (result,) = run(kernel, Wanted(bdf=DRIVE))
    assert told(result["writes"])[:1] == [["modprobe", "vfio-pci"]]
    assert [(step["path"], step["value"]) for step in result["writes"][2:]] == [
        (f"{DEVICE}/driver/unbind", DRIVE),
        (f"{DEVICE}/driver_override", "vfio-pci"),
        (PROBE, DRIVE),
        (f"{DEVICE}/driver_override", ""),
    ]
    assert json.loads(tree.get(RECORD)) == {
        "driver": "nvme",
        "serial": "SERIAL0",
        "model": "QEMU NVMe Ctrl",
        "size": 64 * MIB,
        "namespaces": 1,
        "vendor": "0x1b36",
        "device": "0x0010",
    }
    assert driver(kernel) == "vfio-pci" and driver(kernel, OTHER) == "nvme"
    assert result["before"] == {"driver": "nvme", "at_boot": False}
    assert result["after"] == {"driver": "vfio-pci", "at_boot": False} and result["serial"] == "SERIAL0"


def comparable(tree):
    """The tree without what a kernel gives out anew: numbers of devices, and nodes of this boot."""
    files = tree.snapshot()
    return {name: files[name] for name in files if not name.endswith("/dev") and not name.startswith("dev/")}


def test_there_and_back(kernel, tree):
    tree.add_driver("vfio-pci")
    before = comparable(tree)
    run(kernel, Wanted(bdf=DRIVE, user="spdk", persist="udev"))
    (result,) = run(kernel, Wanted(bdf=DRIVE, state="released"))
    assert [(step["path"], step["value"]) for step in result["writes"]] == [
        (USER_RULE, ""),
        (BY_BDF, ""),
        (PROGRAM, ""),
        ("udevadm", "control --reload"),
        (f"{DEVICE}/driver/unbind", DRIVE),
        (f"{DEVICE}/driver_override", "nvme"),
        (PROBE, DRIVE),
        (f"{DEVICE}/driver_override", ""),
        (RECORD, ""),
    ]
    assert comparable(tree) == before
    assert kernel.exists("/dev/nvme0n1")


def test_serial_finds_it_before_and_after(kernel):
    run(kernel, Wanted(serial="SERIAL1"))
    assert driver(kernel, OTHER) == "vfio-pci"
    run(kernel, Wanted(serial="SERIAL1", state="released"))
    assert driver(kernel, OTHER) == "nvme"


def test_the_very_driver_that_was_there(kernel, tree):
    tree.unbind(DRIVE)
    tree.bind(DRIVE, "nvme_special")
    run(kernel, Wanted(bdf=DRIVE))
    run(kernel, Wanted(bdf=DRIVE, state="released"))
    assert driver(kernel) == "nvme_special"


def test_released_without_a_record(kernel, tree):
    """Bound by setup.sh, say."""
    run(kernel, Wanted(bdf=DRIVE))
    tree.at(RECORD).unlink()
    (result,) = run(kernel, Wanted(bdf=DRIVE, state="released"))
    assert driver(kernel) == "nvme" and not result["failed"]


def test_released_that_never_was_bound(kernel):
    (result,) = run(kernel, Wanted(bdf=DRIVE, state="released"))
    assert not result["changed"]


def test_uio_by_name(kernel, tree):
    tree.put("/lib/modules/6.1.0-18-amd64/modules.dep", "kernel/drivers/uio/uio_pci_generic.ko.xz:\n")
    (result,) = run(kernel, Wanted(bdf=DRIVE, driver="uio_pci_generic"))
    assert driver(kernel) == "uio_pci_generic" and "access to all memory" in result["notes"][0]


def test_without_an_iommu(tmp_path):
    tree = Tree(tmp_path)
    tree.add_nvme(DRIVE, 0, group=None)
    tree.put("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n")
    plans = make_plans(observe(Kernel(tree)), [Wanted(bdf=DRIVE, allow_unsafe_noiommu=True)])
    assert [step.value for step in plans[0].steps if "noiommu" in step.path] == ["Y"]
    tree.put("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n")
    plans = make_plans(observe(Kernel(tree)), [Wanted(bdf=DRIVE, allow_unsafe_noiommu=True)])
    assert not [step for step in plans[0].steps if "noiommu" in step.path]


class TestSeveral:
    def test_one_that_is_refused_leaves_the_others_done(self, kernel, tree):
        tree.mount("nvme1n1", "/data")
        results = run(kernel, *(Wanted(bdf=bdf) for bdf in (DRIVE, OTHER, THIRD, "0000:99:00.0")))
        assert [entry["failed"] for entry in results] == [False, True, False, True]
        assert [driver(kernel, bdf) for bdf in (DRIVE, OTHER, THIRD)] == ["vfio-pci", "nvme", "vfio-pci"]
        assert results[1]["msg"].startswith(f"{OTHER} (serial SERIAL1): it is not bound to vfio-pci: mounted: ")
        assert results[1]["before"] == results[1]["after"]

    def test_one_that_fails_leaves_the_others_done(self, kernel, tree):
        kernel.broken.add(f"/sys/bus/pci/devices/{OTHER}/driver/unbind")
        outcomes = manage(kernel, [Wanted(bdf=bdf) for bdf in (DRIVE, OTHER, THIRD)], False, 5)
        assert [bool(outcome.error) for outcome in outcomes] == [False, True, False]
        assert "this needs root" in outcomes[1].error
        assert [driver(kernel, bdf) for bdf in (DRIVE, OTHER, THIRD)] == ["vfio-pci", "nvme", "vfio-pci"]


class TestFailures:
    def test_it_comes_into_use_after_it_was_looked_at(self, kernel, monkeypatch):
        """While another drive is bound, for example, which takes seconds."""
        write = kernel.write

        def and_mount(name, value):
            write(name, value)
            kernel.claimed.add("nvme1n1")

        monkeypatch.setattr(kernel, "write", and_mount)
        outcomes = manage(kernel, [Wanted(bdf=DRIVE), Wanted(bdf=OTHER)], False, 5)
        assert driver(kernel) == "vfio-pci" and driver(kernel, OTHER) == "nvme"
        assert outcomes[1].error.endswith("/dev/nvme1n1 came into use after it was looked at, so it was not taken")

    def test_the_driver_does_not_take_it(self, kernel):
        kernel.refuses.add("vfio-pci")
        (outcome,) = manage(kernel, [Wanted(bdf=DRIVE, persist="udev")], False, 5)
        assert "vfio-pci did not take the device, which has no driver" in outcome.error
        assert "the device has nvme again" in outcome.error
        assert driver(kernel) == "nvme" and not kernel.exists(BY_BDF)
        assert sum(done[1] == PROBE for done in kernel.done if not isinstance(done, list)) > 5
        assert kernel.read(f"{DEVICE}/driver_override") == "(null)"

    def test_a_write_fails_after_the_unbind(self, kernel):
        kernel.broken.add(f"{DEVICE}/driver_override")
        (outcome,) = manage(kernel, [Wanted(bdf=DRIVE)], False, 5)
        assert "could not choose the driver vfio-pci" in outcome.error and outcome.steps
        assert "the device has nvme again" in outcome.error and driver(kernel) == "nvme"
        kernel.broken.clear()
        kernel.done.clear()
        run(kernel, Wanted(bdf=DRIVE))

    def test_modprobe_fails(self, kernel):
        kernel.broken.add("modprobe vfio-pci")
        (outcome,) = manage(kernel, [Wanted(bdf=DRIVE)], False, 5)
        assert "modprobe vfio-pci failed" in outcome.error and driver(kernel) == "nvme" and not outcome.steps

    def test_waits_for_the_namespace(self, kernel):
        run(kernel, Wanted(bdf=DRIVE))
        kernel.slow = 20
        outcomes = manage(kernel, [Wanted(bdf=DRIVE, state="released")], False, 60)
        assert not outcomes[0].error and kernel.exists("/dev/nvme0n1") and 20 <= kernel.now() < 40

    def test_it_does_not_come_back(self, kernel):
        run(kernel, Wanted(bdf=DRIVE))
        kernel.slow = 100
        (outcome,) = manage(kernel, [Wanted(bdf=DRIVE, state="released")], False, 30)
        assert "/dev/nvme* did not come back within 30 s" in outcome.error

    def test_another_drive_comes_back(self, kernel, tree):
        run(kernel, Wanted(bdf=DRIVE))
        kernel._drives[DRIVE] = (0, "ANOTHER", [64 * MIB], False, "QEMU NVMe Ctrl")
        (outcome,) = manage(kernel, [Wanted(bdf=DRIVE, state="released")], False, 30)
        assert "the drive that came back has serial ANOTHER, and SERIAL0 was taken" in outcome.error

    def test_release_while_spdk_has_it(self, kernel, tree):
        run(kernel, Wanted(bdf=DRIVE, user="spdk"))
        tree.add_process(500, "spdk_tgt", ["/dev/vfio/10"])
        (result,) = run(kernel, Wanted(bdf=DRIVE, state="released"))
        assert "spdk_tgt (process 500) has it open through vfio-pci" in result["msg"]
        assert driver(kernel) == "vfio-pci" and kernel.exists(RECORD)

    def test_release_after_spdk_has_let_go_can_be_previewed_only(self, kernel, tree):
        run(kernel, Wanted(bdf=DRIVE))
        wanted = [Wanted(bdf=DRIVE, state="released", lift=("driven",))]
        (promised,) = [outcome.result() for outcome in manage(kernel, wanted, True, 30)]
        tree.add_process(500, "spdk_tgt", ["/dev/vfio/10"])
        (preview,) = [outcome.result() for outcome in manage(kernel, wanted, True, 30)]
        assert preview == promised and preview["changed"]
        (real,) = [outcome.result() for outcome in manage(kernel, wanted, False, 30)]
        assert "spdk_tgt (process 500) has it open" in real["msg"] and not real["changed"]
        other = Wanted(bdf=DRIVE, driver="uio_pci_generic", lift=("driven",))
        (bound,) = [outcome.result() for outcome in manage(kernel, [other], True, 30)]
        assert "has it open" in bound["msg"]

    def test_release_while_spdk_has_another(self, kernel, tree):
        run(kernel, Wanted(bdf=DRIVE))
        tree.add_process(500, "spdk_tgt", ["/dev/vfio/11"])
        (result,) = run(kernel, Wanted(bdf=DRIVE, state="released"))
        assert not result["failed"]

    def test_another_drive_in_the_slot(self, kernel):
        run(kernel, Wanted(bdf=DRIVE))
        (result,) = run(kernel, Wanted(bdf=DRIVE, serial="SERIAL1"))
        assert result["reasons"][0]["guard"] == "serial"


class TestKilled:
    @pytest.mark.parametrize("state", ["bound", "released"])
    def test_after_each_step(self, tmp_path, state):
        """Whatever was done already, the next run ends where the first one would have."""
        number = 0
        while True:
            tree = Tree(tmp_path / str(number))
            tree.add_nvme(DRIVE, 0)
            kernel = Kernel(tree)
            first = Wanted(bdf=DRIVE, persist="udev", user="spdk")
            if state == "released":
                run(kernel, first)
                first = Wanted(bdf=DRIVE, state="released")
            (plan,) = make_plans(observe(kernel, ("spdk",)), [first])
            for step in plan.steps[:number]:
                kernel.do(step)
            kernel.done.clear()
            (outcome,) = manage(kernel, [first], False, 30)
            assert not outcome.error
            assert driver(kernel) == ("vfio-pci" if state == "bound" else "nvme")
            assert kernel.exists(RECORD) == kernel.exists(BY_BDF) == (state == "bound")
            kernel.done.clear()
            (outcome,) = manage(kernel, [Wanted(bdf=DRIVE, state="released")], False, 30)
            assert not outcome.error and driver(kernel) == "nvme" and not kernel.exists(RECORD)
            if number >= len(plan.steps):
                return
            number += 1


class TestPersist:
    def test_by_address(self, kernel, tree):
        run(kernel, Wanted(bdf=DRIVE, persist="udev"))
        rule = tree.get(BY_BDF)
        assert 'KERNEL=="0000:01:00.0", ATTR{vendor}=="0x1b36", ATTR{device}=="0x0010"' in rule
        assert 'DRIVER!="?*", ATTR{driver_override}="vfio-pci"' in rule
        assert f'RUN+="{sys.executable} -IS {PROGRAM} $kernel vfio-pci"' in rule
        compile(tree.get(PROGRAM), PROGRAM, "exec")
        run(kernel, Wanted(bdf=DRIVE))
        assert tree.get(BY_BDF) == rule, "without the option it is left alone"
        (result,) = run(kernel, Wanted(bdf=DRIVE, persist="none"))
        assert not kernel.exists(BY_BDF) and not kernel.exists(PROGRAM)
        assert result["after"] == {"driver": "vfio-pci", "at_boot": False}

    def test_by_serial(self, kernel, tree):
        run(kernel, Wanted(bdf=DRIVE, persist="udev"))
        run(kernel, Wanted(bdf=DRIVE, serial="SERIAL0", persist="udev"))
        assert not kernel.exists(BY_BDF)
        assert 'SUBSYSTEM=="nvme", ATTR{transport}=="pcie", ATTR{serial}=="SERIAL0"' in tree.get(BY_SERIAL)
        assert 'SUBSYSTEM=="block", ATTRS{transport}=="pcie", ATTRS{serial}=="SERIAL0"' in tree.get(BY_SERIAL)
        assert tree.get(BY_SERIAL).count(".py $attr{address} vfio-pci") == 2

    def test_a_serial_that_no_rule_can_hold(self, kernel, tree):
        tree.put(f"/sys/bus/pci/devices/{DRIVE}/nvme/nvme0/serial", "A'\"B\n")
        (result,) = run(kernel, Wanted(serial="A'\"B", persist="udev"))
        assert "characters that a udev rule cannot hold" in result["msg"]

    def test_user(self, kernel, tree):
        (result,) = run(kernel, Wanted(bdf=DRIVE, user="spdk"))
        assert result["after"] == {"driver": "vfio-pci", "at_boot": False, "owner": 993}
        assert kernel.owners == {"/dev/vfio/10": 993}
        assert 'OWNER="spdk"' in tree.get(USER_RULE)
        assert "/sys/kernel/iommu_groups/%k/devices/0000:01:00.0" in tree.get(USER_RULE), "%n is empty for a number"
        kernel.owners.clear()  # as after a reboot without udev
        (result,) = run(kernel, Wanted(bdf=DRIVE, user="spdk"))
        assert told(result["writes"]) == [("owner", "/dev/vfio/10", "spdk")]


def test_programs_that_end_badly(tree):
    """The real thing, not the double."""
    from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host

    with pytest.raises(HostError, match="false failed with 1: it said nothing"):
        Host().run(["false"])
    with pytest.raises(HostError, match="could not be started"):
        Host().run(["no-such-program-here"])
    assert Host().run(["echo", "a b"]) == "a b\n"


@settings(max_examples=settings.default.max_examples // 4)
@given(data=st.data())
def test_any_request_settles_at_once(tmp_path_factory, data):
    """Plan, apply, plan again is empty; the preview lists exactly the writes; a mounted drive never moves."""
    tree = Tree(tmp_path_factory.mktemp("host"))
    places = (DRIVE, OTHER, THIRD)
    for number, bdf in enumerate(places):
        group = data.draw(st.sampled_from([number, 5]))
        tree.add_nvme(bdf, number, namespaces=(MIB,), group=group)
    mounted = data.draw(st.sets(st.integers(0, 2)))
    for number in mounted:
        tree.mount(f"nvme{number}n1", "/data")
    kernel = Kernel(tree)
    for _turn in range(data.draw(st.integers(1, 3))):
        desired = []
        for number in data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3)):
            desired.append(
                Wanted(
                    **data.draw(st.sampled_from([{"bdf": places[number]}, {"serial": f"SERIAL{number}"}])),
                    state=data.draw(st.sampled_from(["bound", "released"])),
                    persist=data.draw(st.sampled_from([None, "none", "udev"])),
                    user=data.draw(st.sampled_from([None, "spdk"])),
                )
            )
        settle(kernel, desired)
        for number in mounted:
            assert driver(kernel, places[number]) == "nvme"


def settle(kernel, desired):
    """As run(), but that a group's node is chowned once for all its members."""
    before = kernel.tree.snapshot()
    preview = [outcome.result() for outcome in manage(kernel, desired, True, 30)]
    assert kernel.tree.snapshot() == before and not kernel.done
    results = [outcome.result() for outcome in manage(kernel, desired, False, 30)]
    assert [entry["writes"] for entry in results] == [entry["writes"] for entry in preview]
    assert [entry.get("msg") for entry in results] == [entry.get("msg") for entry in preview]
    assert made(kernel) == [write for entry in results for write in told(entry["writes"])]
    kernel.done.clear()
    again = manage(kernel, desired, False, 30)
    refused = {outcome.planned.bdf for outcome in again if outcome.error}
    assert not [outcome for outcome in again if outcome.steps and outcome.planned.bdf not in refused]
    kernel.done.clear()
