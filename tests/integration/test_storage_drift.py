# SPDX-License-Identifier: GPL-3.0-or-later
"""What the entry point verify finds: nothing after a converge, each kind of difference, and nothing pending."""

from __future__ import annotations

from support.ansible import run_playbook

OTHER = "nqn.2024-01.io.excloud:stranger"


def verify(site):
    """Run the entry point; returns the differences. Nothing is changed anywhere."""
    site.clear()
    before = site.table()
    facts = {"name": "Facts", "ansible.builtin.debug": {"var": "storage_node_drift"}}
    role = {"name": "excloud.diskengine.storage_node", "tasks_from": "verify"}
    play = {
        "name": "Verify",
        "hosts": "storage",
        "gather_facts": False,
        "tasks": [{"name": "Role", "ansible.builtin.include_role": role}, facts],
    }
    (name,) = site.targets
    hosts = {name: {"storage_node_socket": site.target.socket, "storage_node_dsn": site.dsn}}
    done = run_playbook([play], {"all": {"children": {"storage": {"hosts": hosts}}}})
    assert done.rc == 0, done.output
    assert not site.mutations() and site.table() == before
    assert set(done.changed.values()) == {0}
    return done.result("Facts")["storage_node_drift"]


def told(drift, kind, name):
    (entry,) = [entry for entry in drift if entry["kind"] == kind and name in entry["object"]]
    return entry


def test_every_difference_is_found_and_nothing_else(make_site):
    site = make_site(lvols=6, thin=True)
    assert site.converge().rc == 0
    assert verify(site) == []
    rows = {row["id"]: row for row in site.rows()}
    store = next(iter(rows.values()))["lvstore_name"]
    unexported, forbidden, lost, larger, going, fine = rows
    call = site.target.call
    call("nvmf_delete_subsystem", {"nqn": rows[unexported]["nqn"]})
    host = rows[forbidden]["hosts"][0]
    call("nvmf_subsystem_remove_host", {"nqn": rows[forbidden]["nqn"], "host": host})
    call("nvmf_subsystem_add_host", {"nqn": rows[fine]["nqn"], "host": OTHER})
    call("nvmf_delete_subsystem", {"nqn": rows[lost]["nqn"]})
    call("bdev_lvol_delete", {"name": f"{store}/{lost}"})
    call("bdev_lvol_resize", {"name": f"{store}/{larger}", "size_in_mib": 24})
    call("bdev_lvol_create", {"lvs_name": store, "lvol_name": "999", "size_in_mib": 4, "thin_provision": True})
    call("bdev_lvol_create", {"lvs_name": store, "lvol_name": "by-hand", "size_in_mib": 4, "thin_provision": True})
    call("nvmf_create_subsystem", {"nqn": "nqn.2024-01.io.excloud:storage.n.1.998"})
    site.conn.execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE id = %s", [going])
    site.conn.execute("UPDATE diskengine.disk SET free_bytes = 1")
    drift = verify(site)
    subsystem = told(drift, "subsystem", rows[unexported]["nqn"])
    assert (subsystem["class"], subsystem["risk"]) == ("missing", "safe")
    assert subsystem["repair"][0] == "create the subsystem"
    hosts = told(drift, "subsystem", rows[forbidden]["nqn"])
    assert (hosts["class"], hosts["cause"], hosts["risk"]) == ("different", "hosts differs", "safe")
    stranger = told(drift, "subsystem", rows[fine]["nqn"])
    assert (stranger["class"], stranger["risk"]) == ("different", "disruptive")
    assert stranger["repair"] == [f"shut host {OTHER} out"]
    gone = told(drift, "lvol", f"{store}/{lost}")
    assert (gone["class"], gone["risk"], gone["repair"]) == ("missing", "manual", [])
    assert "its data is gone" in gone["cause"]
    blocked = told(drift, "subsystem", rows[lost]["nqn"])
    assert (blocked["class"], blocked["risk"]) == ("missing", "manual")
    size = told(drift, "lvol", f"{store}/{larger}")
    assert size["class"] == "different" and "gives up data" in size["cause"]
    assert "it would belong to lvol 999" in told(drift, "lvol", f"{store}/999")["cause"]
    assert "its name is none of ours" in told(drift, "lvol", f"{store}/by-hand")["cause"]
    assert "it would belong to lvol 998; it shows nothing" in told(drift, "subsystem", "storage.n.1.998")["cause"]
    assert told(drift, "disk", "storage-1-disk-0")["class"] == "counter"
    assert len(drift) == 10


def test_what_nobody_wants_is_removed_when_it_is_named(make_site):
    """One by one, as verify lists it; never what a row names, nor what is used."""
    site = make_site(lvols=3)
    assert site.converge().rc == 0
    site.target.call("bdev_lvol_create", {"lvs_name": "lvs-0", "lvol_name": "998", "size_in_mib": 4})
    site.target.call("bdev_lvol_create", {"lvs_name": "lvs-0", "lvol_name": "999", "size_in_mib": 4})
    site.target.call("bdev_lvol_snapshot", {"lvol_name": "lvs-0/999", "snapshot_name": "snap_9"})
    stranger = "nqn.2024-01.io.excloud:storage.n.1.998"
    site.target.call("nvmf_create_subsystem", {"nqn": stranger})
    site.target.call("nvmf_subsystem_add_ns", {"nqn": stranger, "namespace": {"bdev_name": "lvs-0/998"}})
    extra = [entry for entry in verify(site) if entry["class"] == "extra"]
    listed = [{"kind": entry["kind"], "object": entry["object"]} for entry in extra]
    assert {(item["kind"], item["object"]) for item in listed} == {
        ("lvol", "lvs-0/998"),
        ("lvol", "lvs-0/999"),
        ("snapshot", "lvs-0/snap_9"),
        ("subsystem", stranger),
    }
    row = site.rows()[0]
    wanted = {"kind": "lvol", "object": f"lvs-0/{row['id']}"}
    used = site.converge(host_vars={"storage_node_remove": [{"kind": "lvol", "object": "lvs-0/998"}, wanted]})
    message = used.failure
    assert f"it is exported as namespace 1 of {stranger}" in message
    assert f"lvol lvs-0/{row['id']} is not removed, because a row names it" in message
    done = site.converge(times=2, host_vars={"storage_node_remove": listed})
    assert done.rc == 0, done.output
    assert [result["changed"] for result in done.results("Converge the SPDK target")] == [True, False]
    assert verify(site) == []
    site.check_served()


def test_what_is_being_made_is_no_drift(make_site):
    """Whether it is there or not: a run that was cut off leaves either."""
    site = make_site(lvols=2)
    assert verify(site) == []
    store = site.rows()[0]["lvstore_name"]
    site.target.call("bdev_lvol_create", {"lvs_name": store, "lvol_name": str(site.estate.lvols[0]), "size_in_mib": 12})
    left = [entry for entry in verify(site) if entry["class"] != "counter"]
    assert left == []
