# SPDX-License-Identifier: GPL-3.0-or-later
"""A target with 1,500 lvols and 750 exports that was started again gets all of it back in one run."""

from __future__ import annotations

import time

import pytest

EXPORTS = 750  # each of an lvol with a snapshot, which is an lvol too
SPDK_TASK = "Converge the SPDK target"
STARTUP = {"bdev_set_options": {"bdev_auto_examine": False}}
SECONDS = 300  # that a call may take: a target that is made to sleep between polls needs a minute to load the lvstore


def first(name, module, **options):
    """A play for before converge.yml."""
    task = {
        "name": name,
        f"excloud.diskengine.{module}": {"socket": "{{ storage_node_socket }}", "timeout": SECONDS, **options},
    }
    return {"name": name, "hosts": "storage", "gather_facts": False, "tasks": [task]}


@pytest.mark.parametrize("saved", [False, True], ids=["without_a_file", "with_a_file"])
def test_a_restarted_target_gets_everything_back(make_site, capsys, saved):
    """From the rows alone, or from the file that the role saved; no data is touched, and no lvol is made."""
    site = make_site(lvols=EXPORTS, disk_bytes=8 << 30, lvol_bytes=4 << 20, options=["--wait-for-rpc"])
    path = str(site.target.directory / "spdk.json")
    host_vars = {"storage_node_config_file": path if saved else "", "storage_node_timeout": SECONDS}
    site.target.call("bdev_examine", {"name": "disk-lvs-0"})  # so that the file says to look at this disk
    assert site.converge().rc == 0
    site.conn.execute("INSERT INTO diskengine.snapshot (lvol_id) SELECT id FROM diskengine.lvol")
    done = site.converge(host_vars=host_vars)
    assert done.rc == 0, done.output[-3000:]
    lvols = {lvol["alias"]: lvol["uuid"] for lvol in site.target.call("bdev_lvol_get_lvols")}
    exports = site.target.exports()
    assert (len(lvols), len(exports)) == (2 * EXPORTS, EXPORTS)

    site.target.kill()
    site.target.start()
    site.clear()
    disk = {"name": "disk-lvs-0", "filename": str(site.target.directory / "disk-lvs-0.img"), "block_size": 4096}
    plays = [first("Restore", "spdk_config", state="restored", path=path, startup=STARTUP)]
    if not saved:
        plays = [
            first("Start", "spdk_config", state="started", startup=STARTUP),
            first("Attach the disk", "spdk_rpc", method="bdev_aio_create", params=disk),
            first("Look at it", "spdk_rpc", method="bdev_examine", params={"name": "disk-lvs-0"}),
            first("Wait", "spdk_rpc", method="bdev_wait_for_examine"),
        ]
    begin = time.monotonic()
    back = site.converge(before=plays, host_vars=host_vars)
    seconds = time.monotonic() - begin
    assert back.rc == 0, back.output[-3000:]
    assert back.result(SPDK_TASK)["changed"] is not saved
    assert {lvol["alias"]: lvol["uuid"] for lvol in site.target.call("bdev_lvol_get_lvols")} == lvols
    assert site.target.exports() == exports
    sent = [call["method"] for call in site.mutations()]
    assert sent.count("nvmf_create_subsystem") == EXPORTS
    assert not [method for method in sent if method.startswith("bdev_lvol")]
    assert site.converge(host_vars=host_vars).result(SPDK_TASK)["changed"] is False
    with capsys.disabled():
        print(f"\n{2 * EXPORTS} lvols and {EXPORTS} exports are back after {seconds:.1f} s")
