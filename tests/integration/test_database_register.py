# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives that were found become disks, and no disk goes because its drive was not found."""

from __future__ import annotations

import threading

import psycopg
import pytest
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import (
    connected,
    read_desired,
    register,
)
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_schema import ensure_login_role
from support.ansible import play, run_playbook
from support.documented import differences, own_keys, returned
from support.estate import COMPUTE, invented_lvstores, make_estate
from support.sysfs import Tree
from support.targets import is_real

NODE, OTHER = "storage-1", "storage-2"
NEW = {"serial": "S5XNNG0R100234", "bdf": "0000:a1:00.0", "model": "Fast"}
KNOWN = {"serial": f"{NODE}-disk-0", "bdf": "0000:5e:00.0", "model": "Sample NVMe"}


@pytest.fixture
def estate(conn):
    return make_estate(conn, lvols=4, lvstores=invented_lvstores())


def one(conn, disk, node=NODE, **options):
    (result,) = register(conn, node, [disk], **options)
    return result


def disks(conn):
    """The disks by serial, as the view shows them."""
    return {row["serial"]: row for node in read_desired(conn, kinds=["disk"]).values() for row in node["disks"]}


def test_a_new_drive(conn, estate):
    conn.execute(
        "INSERT INTO diskengine.node_address (node, position, trtype, address) VALUES (%s, 1, 'RDMA', '10.0.0.1')",
        [NODE],
    )
    result = one(conn, NEW)
    row = disks(conn)[NEW["serial"]]
    assert (result["outcome"], result["state"], result["reason"], result["id"]) == ("changed", "NEW", None, row["id"])
    assert [(entry["trtype"], entry["traddr"], entry["trsvcid"]) for entry in row["listeners"]] == [
        ("TCP", "127.0.0.1", "4421"),
        ("RDMA", "10.0.0.1", "4420"),
    ]
    assert (row["node"], row["state"], row["bdf"], row["model"]) == (NODE, "NEW", NEW["bdf"], "Fast")
    assert result["before"] == {"state": "GONE"}
    assert result["after"] == {key: row[key] for key in ("state", "bdf", "model", "listeners")}
    again = one(conn, NEW)
    assert (again["outcome"], again["id"], again["before"], again["after"]) == ("unchanged", row["id"], None, None)
    assert disks(conn)[NEW["serial"]] == row


def test_a_disk_that_is_up_stays_so_wherever_it_is_plugged_in(conn, estate):
    before = disks(conn)[KNOWN["serial"]]
    assert one(conn, KNOWN)["outcome"] == "unchanged"
    result = one(conn, {**KNOWN, "bdf": "0000:77:00.0"})
    assert (result["outcome"], result["state"], result["id"]) == ("changed", "UP", before["id"])
    assert (result["before"]["bdf"], result["after"]["bdf"]) == (KNOWN["bdf"], "0000:77:00.0")
    after = disks(conn)[KNOWN["serial"]]
    ignored = ("bdf", "updated_at")
    assert {**after, **dict.fromkeys(ignored)} == {**before, **dict.fromkeys(ignored)}


def test_a_model_that_nobody_knows_now_is_kept(conn, estate):
    for model in ("", None):
        assert one(conn, {**KNOWN, "model": model})["outcome"] == "unchanged"
    assert one(conn, {**KNOWN, "model": "Better"})["after"]["model"] == "Better"


@pytest.mark.parametrize(
    "disk, outcome, reason",
    [
        ({**KNOWN, "serial": f"{OTHER}-disk-0"}, "refused", "it is disk 3 of node storage-2; move that row"),
        ({**NEW, "bdf": "a1:00.0"}, "refused", "disk_bdf_check"),
        ({**NEW, "bdf": None}, "refused", '"bdf"'),
        ({**NEW, "serial": None}, "refused", '"serial"'),
        ({**NEW, "serial": ""}, "refused", "disk_serial_check"),
        ({**KNOWN, "bdf": "nvme0"}, "refused", "disk_bdf_check"),
    ],
    ids=str,
)
def test_what_is_not_registered(conn, estate, disk, outcome, reason):
    """And the next one is."""
    before = disks(conn)
    first, second = register(conn, NODE, [disk, {**NEW, "serial": "next"}])
    assert first["outcome"] == outcome and reason in first["reason"], first
    assert second["outcome"] == "changed"
    after = disks(conn)
    assert after.pop("next") and after == before


def test_one_serial_at_two_places(conn, estate):
    results = register(conn, NODE, [NEW, {**NEW, "bdf": "0000:a2:00.0"}])
    assert {(row["outcome"], row["reason"]) for row in results} == {
        ("refused", "the serial was found at 0000:a1:00.0 and 0000:a2:00.0")
    }
    assert NEW["serial"] not in disks(conn)


@pytest.mark.parametrize("node", [NODE, OTHER])
def test_a_retired_drive_stays_retired(conn, estate, node):
    conn.execute("UPDATE diskengine.disk SET state = 'RETIRED' WHERE serial = %s", [KNOWN["serial"]])
    number = disks(conn)[KNOWN["serial"]]["id"]
    result = one(conn, {**KNOWN, "bdf": "0000:77:00.0"}, node)
    assert (result["outcome"], result["state"], result["id"]) == ("unchanged", "RETIRED", number)
    assert result["reason"] == f"it is retired; remove disk {number} to use it again"
    row = disks(conn)[KNOWN["serial"]]
    assert (row["state"], row["bdf"]) == ("RETIRED", KNOWN["bdf"])


def test_a_row_in_use_counts_more_than_a_retired_one(conn, estate):
    first = one(conn, NEW)["id"]
    conn.execute("UPDATE diskengine.disk SET state = 'RETIRED' WHERE id = %s", [first])
    second = conn.execute(
        "INSERT INTO diskengine.disk (node, bdf, serial) VALUES (%(node)s, %(bdf)s, %(serial)s) RETURNING id",
        {**NEW, "node": NODE},
    ).fetchone()[0]
    assert one(conn, NEW)["id"] == second
    conn.execute("DELETE FROM diskengine.disk WHERE id = %s", [first])
    assert one(conn, NEW)["state"] == "NEW"


@pytest.mark.parametrize("node", ["nowhere", COMPUTE])
def test_only_storage_nodes_have_disks(conn, estate, node):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"there is no storage node {node}"):
        register(conn, node, [NEW])


def test_a_dry_run_says_the_same_and_writes_nothing(conn, estate):
    before = disks(conn)
    rows = [NEW, {**KNOWN, "bdf": "0000:77:00.0"}, {**KNOWN, "serial": f"{OTHER}-disk-0"}]
    predicted = register(conn, NODE, rows, dry_run=True)
    assert disks(conn) == before
    real = register(conn, NODE, rows)
    for row in (*predicted, *real):
        if row["state"] == "NEW":
            row["id"] = None
    assert predicted == real


def test_two_runs_at_once(conn, dsn, estate):
    """Of one node and of two, in whatever order: each serial gets one row, and none waits for ever."""

    def run(node, rows, outcomes):
        with psycopg.connect(dsn, autocommit=True) as own:
            outcomes += register(own, node, rows)

    for attempt in range(5):
        rows = [{**NEW, "serial": f"drive-{attempt}-{number}"} for number in range(200)]
        outcomes: list = []
        runs = [
            threading.Thread(target=run, args=(node, ordered, outcomes))
            for node in (NODE, OTHER)
            for ordered in (rows, rows[::-1])
        ]
        for each in runs:
            each.start()
        for each in runs:
            each.join()
        by_serial: dict = {}
        for row in outcomes:
            by_serial.setdefault(row["serial"], []).append(row["outcome"])
        assert len(by_serial) == len(rows)
        assert all(sorted(got) == ["changed", "refused", "refused", "unchanged"] for got in by_serial.values())


def test_the_login_of_convergence_may(conn, dsn, estate):
    ensure_login_role(conn, "registrar", "secret", True)
    try:
        with connected(dsn.replace("user=postgres", "user=registrar"), "secret") as own:
            assert one(own, NEW)["outcome"] == "changed"
    finally:
        conn.execute("DROP OWNED BY registrar; DROP ROLE registrar")


FREE, MOUNTED, TAKEN, FOREIGN = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0"


@pytest.fixture
def tree(tmp_path):
    """A drive that is free, one that is mounted, one that was bound, and one that somebody else has bound."""
    made = Tree(tmp_path / "host")
    made.add_driver("vfio-pci")
    made.add_nvme(FREE, 0)
    made.add_nvme(MOUNTED, 1)
    made.mount("nvme1n1", "/data")
    made.add_pci(TAKEN, driver="vfio-pci", group=30)
    made.put(
        f"/var/lib/diskengine/pci/{TAKEN}.json",
        '{"driver": "nvme", "serial": "TAKEN", "model": "M", "size": 5, "namespaces": 1, "vendor": "0x1b36", '
        '"device": "0x0010"}',
    )
    made.add_pci(FOREIGN, driver="vfio-pci", group=31)
    return made


def playbook(tree, dsn, look=None, **options):
    return play(
        {
            "name": "Look",
            "excloud.diskengine.nvme_disk_info": {"root": str(tree.root), **(look or {})},
            "register": "found",
        },
        {
            "name": "Register",
            "excloud.diskengine.register_disks": {"dsn": dsn, "node": NODE, "disks": "{{ found.disks }}", **options},
            "ignore_errors": True,
        },
    )


def test_playbook(tree, conn, dsn, estate):
    """Preview, run, run again: from what the host shows to rows."""
    conn.execute("UPDATE diskengine.disk SET bdf = %s WHERE serial = %s", [FOREIGN, f"{NODE}-disk-1"])
    before = disks(conn)
    preview = run_playbook(playbook(tree, dsn), check=True, diff=True).result("Register")
    assert disks(conn) == before
    done = run_playbook(playbook(tree, dsn), diff=True).result("Register")
    rows = disks(conn)
    assert {serial: rows[serial]["bdf"] for serial in rows.keys() - before.keys()} == {"SERIAL0": FREE, "TAKEN": TAKEN}
    assert [entry["id"] for entry in done["results"]] == [rows["SERIAL0"]["id"], rows["TAKEN"]["id"]]
    assert (
        done["left_out"]
        == preview["left_out"]
        == [
            {"bdf": MOUNTED, "serial": "SERIAL1", "reason": "nvme1n1 is mounted on /data"},
            {
                "bdf": FOREIGN,
                "serial": "",
                "reason": "its serial is not known; ask the SPDK target that has it (socket of nvme_disk_info)",
            },
        ]
    )
    # The drive of the first disk is nowhere; the second may be the one whose serial nobody knows.
    assert (
        done["unseen"]
        == preview["unseen"]
        == [{key: before[KNOWN["serial"]][key] for key in ("id", "serial", "bdf", "state")}]
    )
    for entry in done["results"]:
        entry["id"] = None
    assert done["results"] == preview["results"] and done["diff"] == preview["diff"]
    assert done["changed"] and preview["changed"]
    assert done["diff"]["before"] == {"disk SERIAL0": {"state": "GONE"}, "disk TAKEN": {"state": "GONE"}}
    for result in (preview, done):
        own = own_keys("register_disks", result)
        assert own.keys() == returned("register_disks").keys()
        assert not differences(returned("register_disks"), own, False, False, "result")
    again = run_playbook(playbook(tree, dsn), diff=True).result("Register")
    assert not again["changed"] and [entry["outcome"] for entry in again["results"]] == ["unchanged"] * 2
    assert disks(conn) == rows


def test_playbook_with_serials(tree, conn, dsn, estate):
    done = run_playbook(playbook(tree, dsn, serials=["SERIAL1"])).result("Register")
    assert [(entry["serial"], entry["outcome"]) for entry in done["results"]] == [("SERIAL1", "changed")]
    assert done["left_out"] == []
    done = run_playbook(playbook(tree, dsn, serials=["SERIAL1", "OTHER"])).result("Register")
    assert done["msg"] == "No drive of the host has serial OTHER (known: SERIAL0, SERIAL1, TAKEN)."


@pytest.mark.parametrize(
    "options, said",
    [
        ({"node": "nowhere"}, "The database knows no node named nowhere."),
        ({"node": COMPUTE}, f"there is no storage node {COMPUTE}"),
        ({"disks": [{"bdf": FREE}]}, "An entry of disks has no serial, model, owner, bindable, reasons: hand over"),
    ],
    ids=str,
)
def test_playbook_bad_input(tree, dsn, estate, options, said):
    done = run_playbook(playbook(tree, dsn, **options))
    assert said in done.result("Register")["msg"] and "Traceback" not in done.output


def test_playbook_refused(tree, conn, dsn, estate):
    conn.execute("UPDATE diskengine.disk SET serial = 'SERIAL0' WHERE serial = %s", [f"{OTHER}-disk-0"])
    done = run_playbook(playbook(tree, dsn)).result("Register")
    said = "1 of 2 rows were not recorded: disk SERIAL0: refused, it is disk 3 of node storage-2"
    assert done["msg"].startswith(said)
    assert disks(conn)["TAKEN"]["state"] == "NEW" and done["changed"]


def test_a_drive_that_spdk_has(tree, make_target, conn, dsn, estate):
    """Bound by somebody else, its serial is known only to the target."""
    if is_real():
        pytest.skip("the real program would need the drive")
    target = make_target(["--nvme", f"{FOREIGN}=64MiB"])
    target.call("bdev_nvme_attach_controller", {"name": "disk-3", "trtype": "PCIe", "traddr": FOREIGN})
    done = run_playbook(playbook(tree, dsn, look={"socket": str(target.socket)})).result("Register")
    (serial,) = [row["serial"] for row in disks(conn).values() if row["bdf"] == FOREIGN]
    assert len(serial) == 20 and [entry["bdf"] for entry in done["left_out"]] == [MOUNTED]
