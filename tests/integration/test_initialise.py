# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume with a source snapshot holds what that holds before anybody is served, wherever a run is cut off."""

from __future__ import annotations

import base64
import os
import random
import signal
import struct

import psycopg
import pytest
from support.estate import invented_lvstores, make_estate
from support.targets import free_port, is_real

MIB = 1 << 20
TASK = "Converge the SPDK target"
PIECE = 128 * 1024


class Image:
    """A fleet whose first volume was written to and snapshotted; the second one is to be made of that."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.port = free_port()
        self.origin, self.volume = fleet.estate.volumes
        for state in ("DETACHING", "DETACHED"):
            fleet.wish(state, fleet.estate.mappings[1])
        fleet.conn.execute("DELETE FROM diskengine.mapping WHERE state = 'DETACHED'")
        assert self.site().rc == 0
        written = random.Random(7)
        self.bytes = {at: written.randbytes(PIECE) for at in (0, 3 * MIB, 4 * MIB + PIECE, 11 * MIB - PIECE)}
        for leg in self.legs(self.origin):
            for at, data in self.bytes.items():
                self._command(leg, 1, at, data)
        (self.snapshot,) = fleet.conn.execute(
            "INSERT INTO diskengine.snapshot (lvol_id) VALUES (%s) RETURNING id", [fleet.estate.lvols[0]]
        ).fetchone()
        fleet.conn.execute(
            "UPDATE diskengine.volume SET source_snapshot_id = %s WHERE id = %s", [self.snapshot, self.volume]
        )
        (self.mapping,) = fleet.conn.execute(
            "INSERT INTO diskengine.mapping (volume_id, node) VALUES (%s, 'compute-1') RETURNING id", [self.volume]
        ).fetchone()

    def site(self, times=1, limit="64GiB", **options):
        return self.fleet.site(times, compute_vars={"copy_port": self.port, "copy_limit": limit}, **options)

    def row(self):
        return next(row for row in self.fleet.rows() if row["id"] == self.mapping)

    def legs(self, volume):
        return [row for row in self.fleet.rows("v_lvol") if row["volume_id"] == volume]

    def check_initialised(self):
        """Each leg of the new volume holds what was written to the old one, and zeroes elsewhere."""
        row = self.row()
        assert (row["state"], row["initialised_bytes"]) == ("ATTACHED", 11 * MIB)
        for leg in self.legs(self.volume):
            for at in range(0, 11 * MIB, PIECE):
                assert self._command(leg, 2, at) == self.bytes.get(at, bytes(PIECE)), at
        self.fleet.check_served()
        assert not self.fleet.compute.exports()

    def _command(self, leg, opcode, offset, data=None):
        """Read or write a piece of a leg, behind the superblock, through the controller of the compute node."""
        compute = self.fleet.compute
        (name,) = (
            each["name"]
            for each in compute.call("bdev_nvme_get_controllers")
            if each["ctrlrs"][0]["trid"]["subnqn"] == leg["nqn"]
        )
        (bdev,) = compute.call("bdev_get_bdevs", {"name": f"{name}n1"})
        block = bdev["block_size"]
        command = struct.pack("<B3xI32xQI12x", opcode, 1, (MIB + offset) // block, PIECE // block - 1)
        params = {"name": name, "cmd_type": "io", "cmdbuf": base64.urlsafe_b64encode(command).decode()}
        if data is None:
            params |= {"data_direction": "c2h", "data_len": PIECE}
        else:
            params |= {"data_direction": "h2c", "data": base64.urlsafe_b64encode(data).decode()}
        answer = compute.call("bdev_nvme_send_cmd", params)
        status = struct.unpack_from("<H", base64.urlsafe_b64decode(answer["cpl"] + "=="), 14)[0] >> 1
        assert status == 0, status
        return base64.urlsafe_b64decode(answer["data"] + "==") if data is None else None


@pytest.fixture
def image(make_fleet):
    return Image(make_fleet())


def test_a_volume_is_initialised_and_served(image):
    """Preview and run are the same calls; the snapshot is exported as long as that takes and no longer."""
    fleet = image.fleet
    assert fleet.run("converge").rc == 0
    fleet.clear()
    check = image.site(check=True)
    assert check.rc == 0 and not fleet.sent(), check.output
    run = image.site()
    assert run.rc == 0, run.output
    foretold = [
        (call["method"], call["params"])
        for result in check.results(TASK)
        for call in result.get("actions", ())
        if call["method"] != "copy"
    ]
    assert [(call["method"], call["params"]) for call in fleet.sent()] == foretold
    image.check_initialised()
    assert len([nqn for nqn in fleet.targets["storage-1"].exports() if "snap_" in nqn]) == 1
    again = image.site(times=2)
    assert again.rc == 0, again.output
    changed = [result["changed"] for result in again.results(TASK)]
    assert sum(changed[:3]) == 1 and not any(changed[3:])
    assert not [nqn for nqn in fleet.targets["storage-1"].exports() if "snap_" in nqn]
    image.check_initialised()


def at(recorder, method, happen):
    """Have something happen once, between a call of the method and its answer."""
    happened = []

    def look(number):
        request = recorder.requests[number - 1]
        if number and not happened and request["method"] == method:
            happened.append(request)
            happen(request)

    recorder.clear()
    recorder.before_answer = look
    return happened


def test_a_copy_goes_on_where_a_run_ended(image):
    """A run copies no more than it may, and one that is killed is made good by the next."""
    fleet = image.fleet
    assert fleet.run("converge").rc == 0
    limited = image.site(limit="4MiB")
    assert limited.rc == 0, limited.output
    assert (image.row()["state"], image.row()["initialised_bytes"]) == ("ASSIGNED", 4 * MIB)
    assert [each["ctrlr"] for each in fleet.compute.call("vhost_get_controllers")] == [
        f"vhost{fleet.estate.mappings[0]}"
    ]
    killed = at(
        fleet.compute.recorder, "nvmf_delete_subsystem", lambda request: os.kill(request["pid"], signal.SIGKILL)
    )
    assert image.site().rc != 0 and killed
    assert (image.row()["state"], image.row()["initialised_bytes"]) == ("ASSIGNED", 4 * MIB)
    done = image.site()
    assert done.rc == 0, done.output
    image.check_initialised()


def test_a_storage_node_that_dies_meanwhile(image):
    """The run says so and serves nothing; the compute node's target lives."""
    fleet = image.fleet
    assert fleet.run("converge").rc == 0
    storage = fleet.targets["storage-1"]

    def lose(_request):
        if is_real():
            storage.kill()
            return
        for nqn in storage.exports():
            storage.call("nvmf_delete_subsystem", {"nqn": nqn})

    lost = at(fleet.compute.recorder, "nvmf_subsystem_add_listener", lose)
    failed = image.site()
    assert failed.rc == 2 and lost and "Traceback" not in failed.output
    said = " ".join(str(event["result"].get("msg")) for event in failed.events)
    assert f"copy raid_{image.volume}: " in said, said
    assert fleet.compute.is_running() or not is_real()
    assert image.row()["state"] == "ASSIGNED"


def test_a_volume_is_initialised_once_in_its_life(conn):
    """Whatever becomes of its mappings: what VMs have written since is not written over."""
    estate = make_estate(conn, lvols=4, lvstores=invented_lvstores())
    volume, (first, _other) = estate.volumes[0], estate.mappings
    conn.execute("UPDATE diskengine.lvol SET state = 'UP', uuid = gen_random_uuid()")
    query = "INSERT INTO diskengine.snapshot (lvol_id) VALUES (%s) RETURNING id"
    (snapshot,) = conn.execute(query, [estate.lvols[-1]]).fetchone()

    def looks():
        with conn.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            row = cursor.execute("SELECT * FROM diskengine.v_volume WHERE id = %s", [volume]).fetchone()
            (hosts,) = cursor.execute("SELECT hosts FROM diskengine.v_snapshot").fetchone().values()
        return row["source"] and row["source"]["mapping_id"], row["revision"], hosts if hosts is None else len(hosts)

    assert looks() == (None, 1, None)
    conn.execute("UPDATE diskengine.volume SET source_snapshot_id = %s WHERE id = %s", [snapshot, volume])
    assert looks() == (first, 2, 1)
    conn.execute("UPDATE diskengine.mapping SET state = 'INITIALISED' WHERE id = %s", [first])
    assert looks() == (None, 2, 0)
    for state in ("DETACHING", "DETACHED"):
        conn.execute("UPDATE diskengine.mapping SET state = %s WHERE id = %s", [state, first])
    conn.execute("INSERT INTO diskengine.mapping (volume_id, node) VALUES (%s, 'compute-1')", [volume])
    assert looks() == (None, 2, 0)
