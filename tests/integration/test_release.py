# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook release: SPDK lets go of drives and the kernel has them again. On trees with a kernel that reacts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from support.ansible import LOCALHOST, run_playbook
from support.runs import until
from support.sysfs import MIB, Tree
from support.targets import is_real

pytestmark = pytest.mark.skipif(is_real(), reason="needs drives; the scenario host has them for the real program")

SERVED, IDLE, KERNELS, STRAY = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0"
NQN = "nqn.2024-01.io.excloud:storage.test"
FIND, BIND, DETACH = "Find the drives", "Give the drives back to the kernel", "detach the drives in SPDK"
RECORD = (
    '{"driver": "nvme", "serial": "%s", "model": "M", "size": 67108864, "namespaces": 1, "vendor": "0x1b36", '
    '"device": "0x0010"}'
)


class Site:
    """A host whose SPDK has two drives, one of them exported; the kernel has one, and one is bound to vfio-pci."""

    def __init__(self, tree, target):
        self.tree, self.target = tree, target

    def release(self, **options):
        variables = {
            "target": "localhost",
            "release_root": str(self.tree.root),
            "release_socket": str(self.target.socket),
            **options.pop("variables", {}),
        }
        return run_playbook("excloud.diskengine.release", LOCALHOST, variables, **options)

    @contextmanager
    def kernel(self):
        """Bind to nvme what is probed, as a kernel does."""
        done = threading.Event()
        numbers = iter(range(7, 100))

        def react():
            while not done.wait(0.02):
                bdf = self.tree.get("/sys/bus/pci/drivers_probe").strip()
                if bdf:
                    self.tree.put("/sys/bus/pci/drivers_probe", "")
                    self.tree.unbind(bdf)
                    self.tree.bind(bdf, "nvme")
                    self.tree.add_controller(bdf, next(numbers), self.serials[bdf], [64 * MIB])

        thread = threading.Thread(target=react)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    @property
    def serials(self):
        return {SERVED: "S-SERVED", IDLE: "S-IDLE", STRAY: "S-STRAY"}

    def controllers(self):
        return [controller["name"] for controller in self.target.call("bdev_nvme_get_controllers")]


@pytest.fixture
def site(tmp_path, make_target):
    tree = Tree(tmp_path / "host")
    tree.add_driver("vfio-pci")
    tree.add_nvme(KERNELS, 0)
    made = Site(tree, make_target(["--nvme", f"{SERVED}=256MiB", "--nvme", f"{IDLE}=256MiB"]))
    for group, (bdf, serial) in enumerate(made.serials.items(), start=30):
        tree.add_pci(bdf, driver="vfio-pci", group=group)
        tree.put(f"/var/lib/diskengine/pci/{bdf}.json", RECORD % serial)
    tree.add_process(500, "spdk_tgt", ["/dev/vfio/30", "/dev/vfio/31"])
    call = made.target.call
    for name, bdf in (("nvme1", SERVED), ("nvme2", IDLE)):
        call("bdev_nvme_attach_controller", {"name": name, "trtype": "PCIe", "traddr": bdf})
    call("bdev_lvol_create_lvstore", {"bdev_name": "nvme1n1", "lvs_name": "lvs-1"})
    call("bdev_lvol_create", {"lvs_name": "lvs-1", "lvol_name": "1", "size_in_mib": 8})
    call("nvmf_create_subsystem", {"nqn": NQN})
    call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "lvs-1/1"}})
    return made


def let_go(site):
    """What the process does when it detaches: simulated here, because the tree does not see the simulator."""
    for entry in site.tree.at("/proc/500/fd").iterdir():
        entry.unlink()


def writes(done):
    return [
        (entry["bdf"], step["path"].rsplit("/", 1)[1], step["value"])
        for entry in done.result(BIND)["results"]
        for step in entry["writes"]
    ]


def test_no_choice_is_made_for_the_user(site):
    done = site.release()
    said = "Name drives in release_drives, or say release_all: true. These could be released: "
    assert done.rc and said in done.output
    for bdf in (SERVED, IDLE, STRAY):
        assert f"{bdf} with serial " in done.output
    assert f"{KERNELS} with" not in done.output


def test_a_drive_that_is_not_there(site):
    done = site.release(variables={"release_drives": [IDLE, "NOBODY"]})
    assert done.rc and "No drive of this host is NOBODY. These are there: " in done.output
    assert site.controllers() == ["nvme1", "nvme2"]


@pytest.mark.parametrize("check", [True, False])
def test_a_drive_that_is_served_stays(site, check):
    before = site.tree.snapshot()
    done = site.release(variables={"release_all": True}, check=check)
    assert done.rc and f"lvs-1/1 is exported as namespace 1 of {NQN}; take that away first" in done.output
    assert not done.results(BIND) and site.tree.snapshot() == before
    assert site.controllers() == (["nvme1", "nvme2"] if check else ["nvme1"])


def test_a_drive_that_spdk_does_not_let_go_of_stays(site):
    """Its hold is looked past in check mode only."""
    done = site.release(variables={"release_drives": IDLE})
    assert "spdk_tgt (process 500) has it open through vfio-pci" in done.result(BIND)["msg"]
    assert site.tree.at(f"/sys/bus/pci/drivers/vfio-pci/{IDLE}").exists()


def test_preview_run_and_run_again(site):
    """In the order of the seeds; what was exported is taken away only because it was named."""
    serial = {disk["bdf"]: disk["serial"] for disk in site.release(check=True).result(FIND)["disks"]}[IDLE]
    variables = {
        "release_drives": [SERVED, serial, STRAY],
        "release_subsystems": [NQN],
        "release_stop_service": "spdk_tgt",
    }
    before, calls = site.tree.snapshot(), len(site.target.recorder.mutations)
    preview = site.release(variables=variables, check=True)
    assert preview.rc == 0, preview.output
    assert site.tree.snapshot() == before and len(site.target.recorder.mutations) == calls
    let_go(site)
    with site.kernel():
        done = site.release(variables=variables)
    assert done.rc == 0, done.output
    assert [request["method"] for request in site.target.recorder.mutations[calls:]] == [
        "nvmf_delete_subsystem",
        "bdev_nvme_detach_controller",
        "bdev_nvme_detach_controller",
    ]
    assert writes(done) == writes(preview)
    assert sorted(done.result("Show where the drives are")["msg"]) == [
        f"{SERVED} S-SERVED /dev/nvme7 live",
        f"{IDLE} S-IDLE /dev/nvme8 live",
        f"{STRAY} S-STRAY /dev/nvme9 live",
    ]
    again = site.release(variables=variables | {"release_drives": [SERVED, IDLE, STRAY]})
    assert again.rc == 0 and again.changed["localhost"] == 0, again.output
    assert site.tree.get(f"/sys/bus/pci/devices/{KERNELS}/class")


def test_a_drive_of_a_compute_node(site):
    """Its vhost controller goes before its mirror, and that before the drive; under a VM all of it stays."""
    call = site.target.call
    call("bdev_malloc_create", {"name": "other", "num_blocks": (256 * MIB) // 512, "block_size": 512})
    legs = ["nvme2n1", "other"]
    call("bdev_raid_create", {"name": "raid_1", "raid_level": "raid1", "base_bdevs": legs, "superblock": True})
    call("vhost_create_blk_controller", {"ctrlr": "vhost7", "dev_name": "raid_1"})
    variables = {
        "release_drives": IDLE,
        "release_vhosts": "vhost7",
        "release_raids": ["raid_1"],
        "release_subsystems": NQN,
        "release_stop_service": "spdk_tgt",
    }
    calls = len(site.target.recorder.mutations)
    site.target.control("vhost_connect", ctrlr="vhost7")
    stays = site.release(variables={key: value for key, value in variables.items() if key != "release_subsystems"})
    for said in ("a client is connected (session", "served by the vhost controller vhost7", "part of the RAID raid_1"):
        assert said in stays.output
    assert len(site.target.recorder.mutations) == calls
    site.target.control("vhost_disconnect", ctrlr="vhost7")
    preview = site.release(variables=variables, check=True)
    assert preview.rc == 0 and len(site.target.recorder.mutations) == calls, preview.output
    let_go(site)
    with site.kernel():
        done = site.release(variables=variables)
    assert done.rc == 0, done.output
    sent = [request["method"] for request in site.target.recorder.mutations[calls:]]
    assert sorted(sent) == sorted(action["method"] for action in preview.result(DETACH)["actions"])
    assert [method for method in sent if method != "nvmf_delete_subsystem"] == [
        "vhost_delete_controller",
        "bdev_raid_delete",
        "bdev_nvme_detach_controller",
    ]
    assert done.result("Show where the drives are")["msg"] == [f"{IDLE} S-IDLE /dev/nvme7 live"]
    again = site.release(variables=variables)
    assert again.rc == 0 and again.changed["localhost"] == 0, again.output


def test_a_drive_of_a_vm_that_leaves_only_when_it_has_to(site):
    """With release_allow_sessions the deletion is sent, and waits for the client, as SPDK does."""
    recorder, control = site.target.recorder, site.target.control
    site.target.call("vhost_create_blk_controller", {"ctrlr": "vhost7", "dev_name": "nvme2n1"})
    control("vhost_connect", ctrlr="vhost7")
    calls = len(recorder.mutations)

    def leave():
        until(lambda: len(recorder.mutations) > calls)
        control("vhost_disconnect", ctrlr="vhost7")

    let_go(site)
    variables = {"release_drives": IDLE, "release_vhosts": "vhost7", "release_allow_sessions": True}
    with site.kernel(), ThreadPoolExecutor() as pool:
        client = pool.submit(leave)
        done = site.release(variables=variables)
        client.result()
    assert done.rc == 0, done.output
    assert [request["method"] for request in recorder.mutations[calls:]] == [
        "vhost_delete_controller",
        "bdev_nvme_detach_controller",
    ]
    assert done.result("Show where the drives are")["msg"] == [f"{IDLE} S-IDLE /dev/nvme7 live"]


def test_without_spdk(site, tmp_path):
    """It goes straight to the binding."""
    let_go(site)
    with site.kernel():
        done = site.release(variables={"release_socket": str(tmp_path / "none"), "release_all": True})
    assert done.rc == 0, done.output
    assert {entry["bdf"] for entry in done.result(BIND)["results"]} == {SERVED, IDLE, STRAY}
    assert not done.results(DETACH)[0].get("results")
