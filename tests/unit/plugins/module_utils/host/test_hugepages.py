# SPDX-License-Identifier: GPL-3.0-or-later
"""Hugepages against a tree like the kernel's, and a kernel that reacts."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import Refusal
from ansible_collections.excloud.diskengine.plugins.module_utils._host import _hugepages
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host
from ansible_collections.excloud.diskengine.plugins.module_utils._host._hugepages import Wanted, manage
from hypothesis import given
from hypothesis import strategies as st
from support.sysfs import Kernel, Tree

UNIT = "/etc/systemd/system/diskengine-hugepages-2048kB.service"
DROP_IN = "/etc/default/grub.d/90-diskengine-hugepages-2048kB.cfg"
MARKER = "/var/lib/diskengine/hugepages-2048kB.kernel_args"


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    made.add_node(0)
    made.add_node(1)
    return made


@pytest.fixture
def kernel(tree):
    return Kernel(tree)


def run(kernel, check=False, **options):
    """Manage, and hold the run to what the preview said, and the run after it to do nothing."""
    wanted = Wanted(**options)
    before = kernel.tree.snapshot()
    preview, failed = manage(kernel, wanted, True)
    assert not failed and kernel.tree.snapshot() == before and not kernel.done
    if check:
        return preview
    result, failed = manage(kernel, wanted, False)
    assert not failed, result["msg"]
    assert result["writes"] == preview["writes"] and result["after"] == preview["after"]
    told = [[step["path"], *step["value"].split()] if step["kind"] == "command" else step for step in preview["writes"]]
    tried = result["tried"]
    made = [list(done) if isinstance(done, list) else done.describe() for done in kernel.done]
    again = [entry for index, entry in enumerate(made) if entry not in tried and entry not in made[:index]]
    assert again == [entry for index, entry in enumerate(told) if entry not in told[:index]]
    kernel.done.clear()
    settled = kernel.tree.snapshot()
    second, failed = manage(kernel, wanted, False)
    assert not failed and not second["changed"] and second["writes"] == []
    assert kernel.tree.snapshot() == settled and not kernel.done
    assert second["before"] == second["after"] == result["after"] or options.get("persist") or options.get("mount")
    return result


def boot(tree):
    """Run what the unit would."""
    for line in tree.get(UNIT).splitlines():
        if line.startswith("ExecStart="):
            text = re.sub(r"(?<![\w.])/(sys|proc|run)/", rf"{tree.root}/\1/", line.removeprefix("ExecStart="))
            subprocess.run(shlex.split(text.replace("$$", "$")), check=True, capture_output=True)


def test_count_is_spread_over_the_nodes(kernel, tree):
    result = run(kernel, count=5)
    assert (tree.pages(0), tree.pages(1)) == ((3, 3, 0), (2, 2, 0))
    assert result["after"] == {"node0": 3, "node1": 2} and result["page_size"] == 2 << 20
    assert [pool["wanted"] for pool in result["pools"]] == [3, 2]


def test_size_is_rounded_up(kernel, tree):
    run(kernel, size="5MiB")
    assert (tree.pages(0)[0], tree.pages(1)[0]) == (2, 1)


def test_only_the_nodes_that_are_named(kernel, tree):
    tree.add_node(0, pages={2048: (7, 7, 0)})
    run(kernel, nodes=[{"node": 1, "size": "1GiB"}])
    assert (tree.pages(0)[0], tree.pages(1)[0]) == (7, 512)


def test_other_page_size(kernel, tree):
    result = run(kernel, page_size="1GiB", nodes=[{"node": 0, "count": 2}])
    assert tree.pages(0, 1048576)[0] == 2 and tree.pages(0)[0] == 0
    assert "set the pages of 1 GiB on node 0 from 0 to 2" in str(result["writes"])


def test_a_node_without_memory_gets_none(kernel, tree):
    tree.add_node(2, memory_mib=0)
    run(kernel, count=4)
    assert [tree.pages(node)[0] for node in range(3)] == [2, 2, 0]


def test_surplus_pages_do_not_count(kernel, tree):
    """The kernel shows them in nr_hugepages, and yet adds them to what is written there."""
    tree.add_node(0, pages={2048: (12, 0, 2)})
    assert run(kernel, check=True, nodes=[{"node": 0, "count": 10}])["writes"] == []


@pytest.mark.parametrize(
    "options, said",
    [
        ({}, "give a count or a size, or nodes"),
        ({"count": 0}, "say state: absent"),
        ({"count": -1}, "the count is -1"),
        ({"nodes": []}, "nodes is an empty list"),
        ({"nodes": [{"node": 0}]}, "give a count or a size of node 0"),
        ({"nodes": [{"node": 0, "count": 0}]}, "the count of node 0 is 0"),
        ({"nodes": [{"node": 7, "count": 1}]}, "there is no NUMA node 7 with memory and hugepages of this"),
        ({"nodes": [{"node": 0, "count": 1}, {"node": 0, "count": 2}]}, "node 0 is named 2 times"),
        ({"count": 1, "page_size": "4MiB"}, "page_size 4MiB is not one that this machine has (2 MiB, 1 GiB)"),
        ({"count": 1, "page_size": "big"}, "page_size 'big' is not a size"),
        ({"count": 9000}, "9000"),
        ({"nodes": [{"node": 1, "count": 4097}]}, "which has 8 GiB of memory in all, so at most 4096"),
        ({"count": 1, "state": "absent"}, "state absent takes no count or size"),
        ({"state": "absent", "persist": "unit"}, "there is nothing to give at boot"),
        ({"count": 1, "add": True, "persist": "kernel_args"}, "use persist: unit"),
        ({"count": 1, "mount": "here"}, "not a plain absolute path"),
        ({"count": 1, "mount": "/"}, "cannot be a mount point"),
        ({"count": 1, "mount": "/huge", "mount_user": "nobody2"}, "there is no user nobody2"),
    ],
)
def test_refusals(kernel, tree, options, said):
    before = tree.snapshot()
    if options == {"count": 9000}:
        said = "4500 pages of 2 MiB are wanted on node 0, which has 8 GiB of memory in all, so at most 4096"
    with pytest.raises(Refusal) as refusal:
        manage(kernel, Wanted(**options), False)
    assert said in str(refusal.value)
    assert tree.snapshot() == before and not kernel.done


def test_the_most_that_fits_is_no_refusal(kernel):
    run(kernel, nodes=[{"node": 1, "count": 4096}])


def test_pages_in_use_are_never_given_up(kernel, tree):
    tree.add_node(0, pages={2048: (10, 4, 0)})
    with pytest.raises(Refusal, match="node 0 has 6 pages of 2 MiB in use and 5 are wanted"):
        manage(kernel, Wanted(nodes=[{"node": 0, "count": 5}]), False)
    with pytest.raises(Refusal, match="in use and 0 are wanted"):
        manage(kernel, Wanted(state="absent"), False)
    run(kernel, nodes=[{"node": 0, "count": 6}])


def test_reserved_pages_are_never_given_up(kernel, tree):
    tree.add_node(0, pages={2048: (10, 10, 0)})
    tree.put("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "3\n")
    with pytest.raises(Refusal, match="3 pages of 2 MiB are promised to processes"):
        manage(kernel, Wanted(nodes=[{"node": 0, "count": 2}]), False)
    run(kernel, nodes=[{"node": 0, "count": 3}])


def test_absent(kernel, tree):
    run(kernel, count=8, persist="unit")
    run(kernel, state="absent", nodes=[{"node": 0}])
    assert (tree.pages(0)[0], tree.pages(1)[0]) == (0, 4) and tree.at(UNIT).exists()
    run(kernel, state="absent")
    assert tree.pages(1)[0] == 0 and not tree.at(UNIT).exists()


class TestAdd:
    def test_adds_to_what_others_hold(self, kernel, tree):
        tree.add_node(0, pages={2048: (100, 20, 0)})
        run(kernel, nodes=[{"node": 0, "count": 50}], add=True)
        assert tree.pages(0)[0] == 150

    def test_follows_its_own_number_only(self, kernel, tree):
        tree.add_node(0, pages={2048: (100, 20, 0)})
        run(kernel, nodes=[{"node": 0, "count": 50}], add=True)
        tree.add_node(0, pages={2048: (180, 0, 0)})  # others took 30 more, and all are in use
        assert run(kernel, check=True, nodes=[{"node": 0, "count": 50}], add=True)["writes"] == []
        run(kernel, nodes=[{"node": 0, "count": 70}], add=True)
        assert tree.pages(0)[0] == 200

    def test_restores_what_somebody_wrote_over(self, kernel, tree):
        tree.add_node(0, pages={2048: (100, 20, 0)})
        run(kernel, nodes=[{"node": 0, "count": 50}], add=True)
        tree.add_node(0, pages={2048: (100, 20, 0)})
        run(kernel, nodes=[{"node": 0, "count": 50}], add=True)
        assert tree.pages(0)[0] == 150

    def test_killed_between_the_record_and_the_pages(self, kernel, tree):
        tree.add_node(0, pages={2048: (100, 20, 0)})
        kernel.broken.add("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages")
        tree.put("/run/diskengine/hugepages-2048kB-node0", "100 50\n")
        kernel.broken.clear()
        run(kernel, nodes=[{"node": 0, "count": 50}], add=True)
        assert tree.pages(0)[0] == 150

    def test_absent_gives_up_what_it_added(self, kernel, tree):
        tree.add_node(0, pages={2048: (100, 60, 0)})
        run(kernel, count=20, add=True)
        assert (tree.pages(0)[0], tree.pages(1)[0]) == (110, 10)
        run(kernel, state="absent", add=True)
        assert (tree.pages(0)[0], tree.pages(1)[0]) == (100, 0)
        assert not list(tree.at("/run/diskengine").iterdir())

    def test_the_unit_adds_once(self, kernel, tree):
        run(kernel, nodes=[{"node": 0, "count": 50}], add=True, persist="unit")
        assert "test -e /run/diskengine/hugepages-2048kB-node0 ||" in tree.get(UNIT)


class TestShort:
    def test_compacts_and_tries_again(self, kernel, tree):
        kernel.capacity, kernel.compactable = {0: 10}, {0: 30}
        result = run(kernel, nodes=[{"node": 0, "count": 32}])
        assert tree.pages(0)[0] == 32
        assert [step["path"] for step in result["tried"]] == ["/proc/sys/vm/compact_memory"]

    def test_drops_caches_only_if_asked(self, kernel):
        kernel.capacity, kernel.compactable = {0: 10}, {0: 30}
        result = run(kernel, nodes=[{"node": 0, "count": 32}], drop_caches=True)
        assert [step["path"][13:] for step in result["tried"]] == ["drop_caches", "compact_memory"]

    def test_fails_with_the_figures_and_puts_all_back(self, kernel, tree):
        tree.add_node(0, pages={2048: (5, 5, 0)})
        kernel.capacity = {1: 9}
        before = tree.snapshot()
        result, failed = manage(kernel, Wanted(count=40, persist="unit", add=True), False)
        assert failed and not result["changed"]
        assert "node 1 gave 9 of the 20 pages of 2 MiB" in result["msg"]
        assert "4096 MiB were free" in result["msg"] and "drop_caches: true" in result["msg"]
        after = {name: text for name, text in tree.snapshot().items() if not name.endswith("compact_memory")}
        assert after == {name: text for name, text in before.items() if not name.endswith("compact_memory")}
        assert result["after"] == {"node0": 5, "node1": 0}

    def test_a_write_that_fails(self, kernel, tree):
        kernel.broken.add("/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages")
        result, failed = manage(kernel, Wanted(count=40), False)
        assert failed and "this needs root" in result["msg"] and tree.pages(0)[0] == 0


class TestPersist:
    def test_unit(self, kernel, tree):
        run(kernel, count=8, persist="unit")
        unit = tree.get(UNIT)
        assert "w=4; for i in 1 2 3; do echo $$w > /sys/devices/system/node/node1/" in unit
        assert "Type=oneshot" in unit and "Before=sysinit.target" in unit
        link = tree.at("/etc/systemd/system/sysinit.target.wants/diskengine-hugepages-2048kB.service")
        assert link.resolve() == tree.at(UNIT).resolve()
        run(kernel, count=8)
        assert tree.get(UNIT) == unit, "without the option it is left alone"
        run(kernel, count=8, persist="none")
        assert not tree.at(UNIT).exists() and not link.is_symlink()

    @pytest.mark.parametrize("add, first, second", [(False, 4, 4), (True, 13, 13)])
    def test_what_the_unit_runs(self, kernel, tree, add, first, second):
        """As systemd unquotes it, on plain files: at boot others may hold 9 pages already; and again does nothing."""
        run(kernel, nodes=[{"node": 0, "count": 4}], add=add, persist="unit")
        tree.add_node(0, pages={2048: (9, 9, 0)})
        shutil.rmtree(tree.at("/run/diskengine"), ignore_errors=True)
        for expected in (first, second):
            boot(tree)
            assert tree.pages(0)[0] == expected
        if add:
            assert run(kernel, nodes=[{"node": 0, "count": 4}], add=True, persist="unit")["writes"] == []

    def test_the_unit_fails_when_pages_are_short(self, kernel, tree):
        run(kernel, nodes=[{"node": 0, "count": 4}], persist="unit")
        pages = tree.at("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages")
        pages.unlink()
        pages.symlink_to("/dev/null")
        with pytest.raises(subprocess.CalledProcessError):
            boot(tree)
        assert tree.get("/proc/sys/vm/compact_memory") == "1\n"

    def test_each_page_size_has_its_own(self, kernel, tree):
        run(kernel, count=8, persist="unit")
        run(kernel, page_size="1GiB", count=2, persist="unit")
        assert tree.at(UNIT).exists() and tree.at(UNIT.replace("2048kB", "1048576kB")).exists()

    def test_arguments_with_update_grub(self, kernel, tree):
        run(kernel, nodes=[{"node": 0, "count": 512}, {"node": 1, "count": 256}], persist="kernel_args")
        line = 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX hugepagesz=2M hugepages=0:512,1:256"'
        assert line in tree.get(DROP_IN)
        run(kernel, count=512, persist="unit")
        assert not tree.at(DROP_IN).exists() and not tree.at(MARKER).exists()

    def test_killed_before_update_grub_ended(self, kernel, tree):
        run(kernel, count=512, persist="kernel_args")
        tree.at(MARKER).unlink()
        result = run(kernel, count=512, persist="kernel_args")
        assert [step["path"] for step in result["writes"]] == ["update-grub", MARKER]

    def test_arguments_with_grubby(self, kernel, tree):
        kernel.programs = {"grubby"}
        wanted = Wanted(count=512, page_size="1GiB", persist="kernel_args")
        tree.add_node(0, memory_mib=1 << 20)
        tree.add_node(1, memory_mib=1 << 20)
        manage(kernel, wanted, False)
        assert ["grubby", "--update-kernel=ALL", "--args=hugepagesz=1G hugepages=512"] in kernel.done
        assert not manage(kernel, wanted, False)[0]["changed"]
        kernel.done.clear()
        manage(kernel, Wanted(count=512, page_size="1GiB", persist="none"), False)
        assert ["grubby", "--update-kernel=ALL", "--remove-args=hugepagesz=1G hugepages=512"] in kernel.done

    def test_no_tool(self, kernel):
        kernel.programs = set()
        with pytest.raises(Refusal, match="neither update-grub nor grubby"):
            manage(kernel, Wanted(count=2, persist="kernel_args"), False)

    def test_old_kernel(self, kernel, tree):
        tree.put("/proc/sys/kernel/osrelease", "5.15.0\n")
        run(kernel, count=2, persist="kernel_args")
        with pytest.raises(Refusal, match="kernel 5.15 takes no hugepages per node"):
            manage(kernel, Wanted(nodes=[{"node": 0, "count": 2}], persist="kernel_args"), False)

    def test_an_image(self, tree):
        """Below another root files are written and no program is started."""
        tree.put("/run/systemd/system/x", "")
        result, failed = manage(Host(str(tree.root)), Wanted(count=2, persist="unit", mount="/mnt/huge"), False)
        assert not failed and not [step for step in result["writes"] if step["kind"] == "command"]
        assert not manage(Host(str(tree.root)), Wanted(count=2, persist="unit", mount="/mnt/huge"), False)[0]["changed"]


class TestMount:
    def test_now_and_at_boot(self, kernel, tree):
        result = run(kernel, count=2, mount="/dev/huge-spdk", mount_user="spdk", persist="unit")
        unit = tree.get("/etc/systemd/system/dev-huge\\x2dspdk.mount")
        assert "Where=/dev/huge-spdk\n" in unit and "Options=pagesize=2M,mode=0770,uid=993" in unit
        assert result["after"]["mount"] == {"path": "/dev/huge-spdk", "mounted": True, "at_boot": True}
        run(kernel, state="absent", mount="/dev/huge-spdk")
        assert not tree.at("/etc/systemd/system/dev-huge\\x2dspdk.mount").exists()

    def test_other_pages_there(self, kernel, tree):
        tree.put("/proc/self/mountinfo", "36 35 0:9 / /huge rw - hugetlbfs none rw,pagesize=1024M\n")
        with pytest.raises(Refusal, match="/huge is mounted with other pages"):
            manage(kernel, Wanted(count=2, mount="/huge"), False)
        run(kernel, page_size="1GiB", count=2, mount="/huge")


def test_no_hugepages_at_all(tmp_path):
    with pytest.raises(Refusal, match="this kernel has no hugepages"):
        manage(Kernel(Tree(tmp_path)), Wanted(count=1), False)


@given(data=st.data())
def test_any_request_settles_at_once(tmp_path_factory, data):
    """Plan, apply, plan again is empty; the preview lists exactly the writes; pages in use stay."""
    tree = Tree(tmp_path_factory.mktemp("host"))
    used = {}
    for node in range(data.draw(st.integers(1, 3))):
        total = data.draw(st.integers(0, 30))
        free = data.draw(st.integers(0, total))
        surplus = data.draw(st.integers(0, total - free)) if not free else 0
        tree.add_node(node, pages={2048: (total, free, surplus)})
        used[node] = total - free
    kernel = Kernel(tree)
    for _turn in range(data.draw(st.integers(1, 3))):
        options = {"add": data.draw(st.booleans())}
        if data.draw(st.booleans()):
            options["count"] = data.draw(st.integers(1, 60))
        elif data.draw(st.booleans()):
            chosen = data.draw(st.lists(st.sampled_from(sorted(used)), min_size=1, unique=True))
            options["nodes"] = [{"node": node, "count": data.draw(st.integers(1, 40))} for node in chosen]
        else:
            options["state"] = "absent"
        options["persist"] = data.draw(st.sampled_from([None, "none", "unit"][: 2 if "state" in options else 3]))
        before = tree.snapshot()
        try:
            run(kernel, **options)
        except Refusal:
            assert tree.snapshot() == before
        for node, pages in used.items():
            total, free, _surplus = tree.pages(node)
            assert total - free == pages


def test_unit_names():
    """As systemd-escape --path makes them."""
    assert _hugepages.mount_unit("/mnt/huge_1G").endswith("/mnt-huge_1G.mount")
    assert _hugepages.mount_unit("/dev/.a-b").endswith("/dev-.a\\x2db.mount")
