# SPDX-License-Identifier: GPL-3.0-or-later
"""The role nvme_host on the image of a host. A kernel that connects is for the unit tests and for real hosts."""

from __future__ import annotations

from support.ansible import play, run_playbook
from support.sysfs import Tree

MODULES = ("kernel_modules", "nvme_connection")
LOAD = "Load the kernel modules of the transports, now and at boot"
CONNECT = "Connect to the subsystems"
TCP, RDMA, GONE = (f"nqn.2024-01.io.excloud:node1.disk1.vol{number}" for number in range(3))
CONNECTIONS = [
    {"nqn": TCP, "paths": [{"traddr": "10.0.1.11"}, {"traddr": "10.0.2.11"}]},
    {"nqn": RDMA, "state": "present", "trtype": "rdma", "paths": [{"traddr": "10.0.1.11"}]},
]


def connect(tree, connections, discovery=(), check=False, times=1):
    defaults = {f"excloud.diskengine.{name}": {"root": str(tree.root)} for name in MODULES}
    variables = {"nvme_host_packages": [], "nvme_host_connections": connections, "nvme_host_discovery": [*discovery]}
    plays = play(module_defaults=defaults, vars=variables, roles=["excloud.diskengine.nvme_host"]) * times
    return run_playbook(plays, check=check, diff=True)


def test_at_boot_and_not_any_more(tmp_path):
    tree = Tree(tmp_path / "host")
    before = tree.snapshot()
    preview = connect(tree, CONNECTIONS, check=True)
    assert preview.rc == 0 and tree.snapshot() == before, preview.output
    done = connect(tree, CONNECTIONS, discovery=[{"traddr": "10.0.1.12"}], times=2)
    assert done.rc == 0 and "what is offered at TCP 10.0.1.12:4420 is not known" in done.output, done.output
    for task in (LOAD, CONNECT):
        assert [result["changed"] for result in done.results(task)] == [True, False]
    assert tree.get("/etc/modules-load.d/diskengine.conf").splitlines()[1:] == ["nvme-rdma", "nvme-tcp"]
    units = sorted(path.name for path in tree.at("/etc/systemd/system").glob("*.service"))
    assert len(units) == 3 and sorted(units) == sorted(
        name for nqn in (TCP, RDMA) for name in preview.result(CONNECT)["after"][nqn]["at_boot"]
    )
    done = connect(tree, [{"nqn": entry["nqn"], "state": "absent"} for entry in CONNECTIONS])
    assert done.rc == 0 and not list(tree.at("/etc/systemd/system").glob("*.service")), done.output
    assert not any("modules" in result for result in done.results(LOAD))


def test_what_cannot_be_is_one_sentence(tmp_path):
    tree = Tree(tmp_path / "host")
    done = connect(tree, [*CONNECTIONS, {"nqn": GONE}])
    assert done.rc == 2 and f"connection {GONE} names no path; give at least one in paths" in done.output
    assert not tree.at("/etc/systemd/system").exists()
