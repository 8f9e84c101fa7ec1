# SPDX-License-Identifier: GPL-3.0-or-later
"""What was there before each recording, and what was done outside of RPC while it ran."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spdk_sim import RpcFailure, Target, vhost
from spdk_sim.files import FileInfo, MemoryFiles
from spdk_sim.framework import SUBSYSTEMS
from spdk_sim.journal import Journal

MIB = 2**20
DISKS = "/run/spdk/disks"


class Scene:
    """The processes of one scenario, their files, and a place for their state."""

    def __init__(self, scenario: str, directory: Path) -> None:
        self.scenario = scenario
        self.directory = directory
        self.files = MemoryFiles()
        self.cpumask = 1 if scenario[:2] in ("01", "02", "03", "04") else 2
        self.journals = 0
        self.clock = 0.0
        self.targets: dict[str | None, Target] = {}
        self.held: dict[str, Any] | None = None
        self.targets[None] = self.new()
        PREPARE.get(scenario, lambda scene: None)(self)

    def new(self, **options: Any) -> Target:
        """A fresh process."""
        return Target(files=self.files, cpumask=self.cpumask, **options)

    def disk(self, name: str, mib: float) -> None:
        """Create or resize a disk image."""
        self.files.files[f"{DISKS}/{name}.img"] = FileInfo("file", int(mib * MIB))

    def restart(self, which: str | None = None) -> None:
        """End a process and start it again: only what is on disk files stays."""
        self.journals += 1
        path = str(self.directory / f"state{self.journals}")
        old = self.targets[which]
        Journal(path, {"own": old.disks}).save()
        new = self.new(wait_for_rpc=old.state == 1)
        Journal(path, {"own": new.disks})
        for key in [key for key in new.disks.contents if not key.startswith("aio:")]:
            new.disks.erase(key)
        self.targets[which] = new

    def before(self, line: int, entry: dict[str, Any]) -> None:
        """What happened between the line before and this one."""
        note = entry.get("note", "")
        late = re.match(r"t\+([0-9.]+)s", note)
        if late:
            self.targets["initiator"].advance(float(late[1]) - self.clock)
            self.clock = float(late[1])
        if "request" not in entry:
            if "restarted" in note or "second target process" in note:
                self.restart()
            prepared = re.search(r"\(prepared: store L with (.*)\)", note)
            if prepared:
                self._store_with(prepared[1].replace(" ", "").split(","))
        BEFORE.get((self.scenario, line), lambda scene: None)(self)

    def _store_with(self, names: list[str]) -> None:
        self.disk("d", 256)
        target = self.targets[None] = self.new()
        target.call("bdev_aio_create", {"name": "d", "filename": f"{DISKS}/d.img", "block_size": 4096})
        target.disks.erase(f"aio:{DISKS}/d.img")
        target.call("bdev_lvol_create_lvstore", {"bdev_name": "d", "lvs_name": "L"})
        for name in filter(None, names):
            target.call("bdev_lvol_create", {"lvs_name": "L", "lvol_name": name, "size_in_mib": 8})


def _two_processes(scene: Scene) -> None:
    target = scene.new()
    scene.targets = {"target": target, "initiator": scene.new(peers=[target])}


def _hotplug(scene: Scene) -> None:
    _two_processes(scene)
    target = scene.targets["target"]
    target.call("nvmf_create_transport", {"trtype": "TCP"})
    for name in ("m0", "m3"):
        target.call("bdev_malloc_create", {"name": name, "num_blocks": 32768, "block_size": 512})


def _raid(scene: Scene) -> None:
    for name in [f"r{n}" for n in range(8)] + ["big4k", "later"]:
        scene.disk(name, 64)
    scene.disk("small", 32)


def _keys(scene: Scene) -> None:
    psk = "NVMeTLSkey-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:"
    scene.files.files[f"{DISKS}/key0"] = FileInfo("file", 64, 0o600, content=psk)
    scene.files.files[f"{DISKS}/key1"] = FileInfo("file", 64, 0o644)


def _startup(scene: Scene) -> None:
    scene.targets[None] = scene.new(wait_for_rpc=True)
    scene.disk("ex", 64)


def _config(scene: Scene) -> None:
    scene.disk("ex", 64)
    target = scene.targets[None]
    target.call("bdev_aio_create", {"name": "x0", "filename": f"{DISKS}/ex.img", "block_size": 4096})
    target.call("bdev_lvol_create_lvstore", {"bdev_name": "x0", "lvs_name": "xl"})
    scene.restart()


def _basics(scene: Scene) -> None:
    scene.disk("aio0", 64)
    scene.disk("odd", 1.0001)
    scene.files.files["/etc"] = FileInfo("directory")


def _stores(scene: Scene) -> None:
    scene.disk("lvs0", 256)
    scene.disk("tiny", 4)


def _many(scene: Scene) -> None:
    scene.disk("many", 64 * 1024)
    scene.disk("many2", 64 * 1024)


PREPARE: dict[str, Callable[[Scene], None]] = {
    "02-bdev-basics": _basics,
    "03-lvstore": _stores,
    "04-lvol": lambda scene: scene.disk("lvol", 256),
    "05-snapshot-clone": lambda scene: scene.disk("snap", 256),
    "07-nvme-initiator": _two_processes,
    "08-nvme-namespace-hotplug": _hotplug,
    "10-raid": _raid,
    "12-qos-iostat-keyring-nbd": _keys,
    "13-startup-state": _startup,
    "14-config": _config,
    "15-double-start-init": _startup,
    "19-too-many-requests-in-flight": _many,
}


def _old_sockets(scene: Scene) -> None:
    scene.files.files["/run/spdk/vhost/plain"] = FileInfo("file")
    scene.files.files["/run/spdk/vhost/stale"] = FileInfo("socket")


def _fill_subsystems(scene: Scene) -> None:
    for number in range(62):
        scene.targets[None].call("nvmf_create_subsystem", {"nqn": f"nqn.2016-06.io.spdk:s{number}"})


def reload_configuration(scene: Scene) -> None:
    """Save the configuration of every subsystem and load it into a fresh process, as load_config does."""
    old = scene.targets[None]
    saved = [entry for name in SUBSYSTEMS for entry in old.call("framework_get_config", {"name": name}) or []]
    scene.restart()
    new = scene.targets[None] = scene.new(wait_for_rpc=True)
    new.disks = _disks_after_restart(scene, old)
    later = []
    for entry in saved:
        if entry["method"] in new.call("rpc_get_methods", {"current": True}):
            new.call(entry["method"], entry.get("params"))
        else:
            later.append(entry)
    new.call("framework_start_init")
    for entry in later:
        new.call(entry["method"], entry.get("params"))


def _fill_store(scene: Scene) -> None:
    for number in range(1000):
        params = {"lvs_name": "L", "lvol_name": f"v{number:04}", "size_in_mib": 4, "thin_provision": True}
        scene.targets[None].call("bdev_lvol_create", params)


def _count_small_lvols(scene: Scene) -> None:
    created = 0
    for number in range(80):
        params = {"lvs_name": "S2", "lvol_name": f"t{number}", "size_in_mib": 4, "thin_provision": True}
        try:
            scene.targets[None].call("bdev_lvol_create", params)
            created += 1
        except RpcFailure as error:
            assert error.message == "Cannot allocate memory"
    assert created == 63


def _disks_after_restart(scene: Scene, old: Target) -> Any:
    scene.targets["reloaded"] = old
    scene.restart("reloaded")
    return scene.targets.pop("reloaded").disks


BEFORE: dict[tuple[str, int], Callable[[Scene], None]] = {
    ("02-bdev-basics", 63): lambda scene: scene.disk("aio0", 128),
    ("03-lvstore", 49): lambda scene: scene.disk("lvs0", 512),
    ("06-nvmf-target", 70): lambda scene: scene.targets[None].busy_ports.add(("127.0.0.1", "4499")),
    ("11-vhost", 35): _old_sockets,
    ("11-vhost", 44): lambda scene: vhost.connect(scene.targets[None], "v0"),
    ("11-vhost", 49): lambda scene: vhost.disconnect(scene.targets[None], "v0"),
    ("13-startup-state", 81): _fill_subsystems,
    ("14-config", 50): reload_configuration,
    ("15-double-start-init", 4): _startup,
    ("19-too-many-requests-in-flight", 41): _fill_store,
    ("19-too-many-requests-in-flight", 49): lambda scene: scene.restart(),
    ("19-too-many-requests-in-flight", 81): _count_small_lvols,
}
