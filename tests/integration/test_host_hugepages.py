# SPDX-License-Identifier: GPL-3.0-or-later
"""Hugepages of the kernel that is there, through ansible-playbook. Whatever happens, it gets back what it had."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.ansible import play, run_playbook

NODES = Path("/sys/devices/system/node")
SIZE_KIB = 2048
FEW = 4


def pools():
    return {int(path.parts[5][4:]): path for path in NODES.glob(f"node*/hugepages/hugepages-{SIZE_KIB}kB/nr_hugepages")}


def why_not():
    if os.geteuid():
        return "needs root"
    if not pools():
        return "this kernel has no hugepages of 2 MiB on NUMA nodes"
    for path in pools().values():
        try:
            path.write_text(path.read_text())
        except OSError as error:
            return f"{path} cannot be written: {error.strerror}"
    return None


REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")


@pytest.fixture
def numbers():
    """Numbers of pages by node as they are now, put back in the end."""
    records = [Path(f"/run/diskengine/hugepages-{SIZE_KIB}kB-node{node}") for node in pools()]
    assert not any(record.exists() for record in records), "something on this machine works with hugepages already"
    found = {node: int(path.read_text()) for node, path in pools().items()}
    yield found
    for node, path in pools().items():
        path.write_text(str(found[node]))
    for record in records:
        record.unlink(missing_ok=True)


def now():
    return {node: int(path.read_text()) for node, path in pools().items()}


def task(name, **options):
    return {"name": name, "excloud.diskengine.hugepages": {"page_size": "2MiB", **options}, "ignore_errors": True}


def test_set_add_too_many_and_back(numbers):
    first = min(numbers)
    nodes = [{"node": first, "count": numbers[first] + FEW}]
    too_many = [{"node": first, "count": 1 << 40}]
    preview = run_playbook(play(task("Set", nodes=nodes)), check=True, diff=True)
    assert preview.result("Set")["changed"] and now() == numbers
    done = run_playbook(
        play(
            task("Set", nodes=nodes),
            task("Again", nodes=nodes),
            task("Add", nodes=[{"node": first, "count": 2}], add=True),
            task("Add again", nodes=[{"node": first, "count": 2}], add=True),
            task("Too many", nodes=too_many),
            task("None", count=0),
            task("Take away", nodes=[{"node": first}], add=True, state="absent"),
        ),
        diff=True,
    )
    real = done.result("Set")
    for key in ("writes", "before", "after", "diff", "changed"):
        assert real[key] == preview.result("Set")[key], key
    assert real["after"][f"node{first}"] == numbers[first] + FEW
    assert not done.result("Again")["changed"]
    assert done.result("Add")["after"][f"node{first}"] == numbers[first] + FEW + 2
    assert not done.result("Add again")["changed"]
    assert "of memory in all, so at most" in done.result("Too many")["msg"]
    assert "state: absent" in done.result("None")["msg"]
    assert now() == {**numbers, first: numbers[first] + FEW}


def test_pages_in_use_stay(numbers):
    """A file in a hugetlbfs holds pages, as an SPDK does."""
    first = min(numbers)
    grow = [{"node": first, "count": numbers[first] + FEW}]
    shrink = [{"node": first, "count": max(numbers[first], 1)}]
    mount = "/mnt/diskengine-test-hugepages"
    hold = f"{mount}/held"
    try:
        done = run_playbook(
            play(
                task("Set", nodes=grow, mount=mount),
                {
                    "name": "Hold",
                    "ansible.builtin.command": {
                        "argv": [
                            "python3",
                            "-c",
                            "import mmap, os, sys; f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); "
                            "n = int(sys.argv[2]); os.ftruncate(f, n); m = mmap.mmap(f, n); "
                            "[m.__setitem__(i, 1) for i in range(0, n, 1 << 21)]",
                            hold,
                            str((numbers[first] + FEW) << 21),
                        ]
                    },
                },
                task("Shrink", nodes=shrink),
                {"name": "Let go", "ansible.builtin.file": {"path": hold, "state": "absent"}},
                task("Unmount", nodes=[{"node": first}], add=True, state="absent", mount=mount),
                task("Shrink now", nodes=shrink),
            )
        )
        assert done.result("Set")["after"]["mount"]["mounted"], done.output
        assert "in use" in done.result("Shrink")["msg"]
        assert done.result("Unmount")["changed"] and not os.path.ismount(mount)
        assert now()[first] == max(numbers[first], 1)
    finally:
        if os.path.ismount(mount):
            if os.path.exists(hold):
                os.unlink(hold)
            subprocess.run(["umount", mount], check=True)
        if os.path.isdir(mount):
            os.rmdir(mount)
