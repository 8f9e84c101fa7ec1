# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that are RESIZING: nobody reads old data in what is new, wherever a run is cut off."""

from __future__ import annotations

import base64
import struct
import time

from support.runs import at, kill_target
from support.targets import is_real

MIB = 1 << 20
OLD = b"\xab"
STEP = ["bdev_lvol_create", "bdev_lvol_delete", "bdev_lvol_resize"]


def grow(site, number, mib):
    site.conn.execute(
        "UPDATE diskengine.lvol SET state = 'RESIZING', size_bytes = %s WHERE id = %s", [mib * MIB, number]
    )


def sizes(site):
    """MiB of each lvol by name, whatever it is for."""
    found = {bdev["aliases"][0]: bdev["num_blocks"] * bdev["block_size"] // MIB for bdev in lvols(site)}
    return {alias.partition("/")[2]: size for alias, size in found.items()}


def lvols(site):
    return [bdev for bdev in site.target.call("bdev_get_bdevs") if bdev["product_name"] == "Logical Volume"]


def sent(site):
    return [call["method"] for call in site.mutations()]


def fill_with_old_data(site):
    """What a deleted lvol has left, where bytes are moved: everything beyond the lvols that are there."""
    if not is_real():
        return
    (image,) = site.target.directory.glob("*.img")
    with open(image, "r+b") as file:
        size = file.seek(0, 2)
        file.seek(64 * MIB)
        while file.tell() < size:
            file.write(OLD * MIB)


class Host:
    """A host that stays connected to an export. Only the real program moves bytes, so only there it reads."""

    def __init__(self, site, make_target, row):
        (address,) = row["listeners"]
        self._target = make_target() if is_real() else None
        self.connected_as = row["hosts"][0]
        if self._target:
            where = {"trtype": "TCP", "adrfam": "IPv4", "traddr": address["traddr"], "trsvcid": address["trsvcid"]}
            attach = {"name": "leg", "subnqn": row["nqn"], "hostnqn": self.connected_as, **where}
            self._target.call("bdev_nvme_attach_controller", attach)
            (bdev,) = self._target.call("bdev_get_bdevs", {"name": "legn1"})
            self._block = bdev["block_size"]

    def reads_only_zeroes(self, first_mib, last_mib):
        """Whether both ends of some clusters are zero, once the host has seen the new size."""
        if not self._target:
            return True
        until(lambda: self._size() >= last_mib * MIB)
        clusters = range(first_mib, last_mib, 4 * max(1, (last_mib - first_mib) // 64))
        places = [mib * MIB + offset for mib in clusters for offset in (0, 4 * MIB - 4096)]
        return all(self._read(place) == bytes(4096) for place in (*places, last_mib * MIB - 4096))

    def _size(self):
        (bdev,) = self._target.call("bdev_get_bdevs", {"name": "legn1"})
        return bdev["num_blocks"] * bdev["block_size"]

    def _read(self, offset):
        command = struct.pack("<BBHI32xQI12x", 2, 0, 0, 1, offset // self._block, 4096 // self._block - 1)
        params = {"name": "leg", "cmd_type": "io", "data_direction": "c2h", "data_len": 4096}
        encoded = base64.urlsafe_b64encode(command).decode()
        data = self._target.call("bdev_nvme_send_cmd", {**params, "cmdbuf": encoded})["data"]
        return base64.urlsafe_b64decode(data + "==")


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to this"
        time.sleep(0.05)


def test_lvols_grow_under_their_hosts(make_site, make_target):
    """Preview and run are the same calls, hosts stay connected and read zeroes in what is new."""
    site = make_site(lvols=3, thin=False)
    assert site.converge().rc == 0
    fill_with_old_data(site)
    first, second, _third = site.estate.lvols
    hosts = [Host(site, make_target, row) for row in site.rows()[:2]]
    grow(site, first, 40)
    grow(site, second, 61)
    site.clear()
    check = site.converge(check=True, diff=True)
    assert check.rc == 0 and not site.mutations(), check.output
    run = site.converge(times=2)
    assert run.rc == 0, run.output
    foretold = check.result("Converge the SPDK target")["actions"]
    assert [(call["method"], call["params"]) for call in site.mutations()] == [
        (call["method"], call["params"]) for call in foretold
    ]
    assert sent(site) == STEP * 2
    assert sizes(site) == {str(first): 40, str(second): 64, str(_third): 12}
    assert all(host.reads_only_zeroes(12, 40) for host in hosts)
    assert [(row["state"], row["zeroed_bytes"]) for row in site.rows()] == [("UP", None)] * 3
    site.check_served()


def test_a_run_zeroes_no_more_than_the_limit_and_the_next_goes_on(make_site):
    site = make_site(lvols=1, thin=False)
    assert site.converge().rc == 0
    grow(site, site.estate.lvols[0], 36)
    for state, mib in (("RESIZING", 20), ("RESIZING", 28), ("UP", None)):
        run = site.converge(host_vars={"storage_node_zero_limit": "8MiB"})
        assert run.rc == 0, run.output
        (row,) = site.rows()
        assert (row["state"], row["zeroed_bytes"]) == (state, mib and mib * MIB)
    assert sizes(site) == {str(row["id"]): 36}


def test_a_resize_that_was_cut_off(make_site, make_target):
    """The target dies after any call of two steps, each on a node of its own.

    What has grown is zero, and the next run goes on from there.
    """
    points = [(method, occurrence) for method in STEP for occurrence in (1, 2)]
    site = make_site(nodes=len(points), lvols=len(points), replicas=1, thin=False, disk_bytes=1536 * MIB)
    assert site.converge().rc == 0
    nodes = site.each()
    for node in nodes:
        fill_with_old_data(node)
        grow(node, node.rows()[0]["id"], 12 + 1024 + 100)
        node.clear()
    died = [at(node, method, kill_target, occurrence) for node, (method, occurrence) in zip(nodes, points)]
    assert site.converge().rc != 0
    assert [len(requests) for requests in died] == [1] * len(points)
    for node in nodes:
        node.target.start()
        (row,) = node.rows()
        assert row["state"] == "RESIZING" and row["zeroed_bytes"] in (12 * MIB, 1036 * MIB)
        assert sizes(node)[str(row["id"])] in (12, 1036, 1136)
    done = site.converge(times=2)
    assert done.rc == 0, done.output
    for node in nodes:
        assert done.results("Converge the SPDK target", node.name)[1]["changed"] is False
        (row,) = node.rows()
        assert sizes(node) == {str(row["id"]): 1136}
        assert (row["state"], row["zeroed_bytes"]) == ("UP", None)
        assert Host(node, make_target, row).reads_only_zeroes(12, 1136)
        node.check_served()


def test_a_thin_lvol_waits_unless_free_space_is_known_to_be_zero(make_site):
    """So does a thick one beside it, because the thin one may take its zeroed clusters."""
    site = make_site(lvols=2, thin=True)
    thin, thick = site.estate.lvols
    site.conn.execute("UPDATE diskengine.lvol SET thin = false WHERE id = %s", [thick])
    assert site.converge().rc == 0
    site.clear()
    grow(site, thin, 20)
    grow(site, thick, 20)
    waits = site.converge()
    message = waits.failure
    assert waits.rc == 2 and not site.mutations()
    assert "it is thin, so it would grow by bytes that show old data" in message
    assert f"the thin lvol {thin} takes free clusters of lvstore lvs-0 at any time" in message
    assert [(row["state"], row["zeroed_bytes"]) for row in site.rows()] == [("RESIZING", 12 * MIB)] * 2
    run = site.converge(host_vars={"storage_node_growth": "plain"})
    assert run.rc == 0, run.output
    assert sent(site) == ["bdev_lvol_resize"] * 2
    site.check_served()


def test_a_smaller_size_is_refused(make_site):
    site = make_site(lvols=1, thin=False)
    assert site.converge().rc == 0
    site.clear()
    grow(site, site.estate.lvols[0], 4)
    refused = site.converge()
    assert refused.rc == 2 and not site.mutations()
    assert "shrinking from 12 MiB to 4 MiB gives up data" in refused.failure
    assert site.rows()[0]["state"] == "RESIZING"


def test_an_lvol_is_deleted_with_what_its_resize_left(make_site):
    site = make_site(lvols=2, thin=False)
    assert site.converge().rc == 0
    number = site.estate.lvols[0]
    left = {"lvs_name": "lvs-0", "lvol_name": f"diskengine_zero_{number}", "size_in_mib": 8}
    site.target.call("bdev_lvol_create", left)
    site.conn.execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE id = %s", [number])
    run = site.converge(times=2)
    assert run.rc == 0, run.output
    assert sizes(site) == {str(site.estate.lvols[1]): 12}
    site.check_served()
