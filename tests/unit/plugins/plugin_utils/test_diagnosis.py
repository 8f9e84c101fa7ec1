# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk from a VM's disk to the rows: for each link that breaks, which one is named."""

from __future__ import annotations

import json

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._naming import controller_of
from ansible_collections.excloud.diskengine.plugins.plugin_utils.diagnosis import diagnose

MIB = 1 << 20
HOSTNQN = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"
LEGS = (1, 2)


def nqn(leg):
    return f"nqn.2024-01.io.excloud:storage.n{leg}.d1.{leg}"


def name(leg):
    return controller_of(nqn(leg))


def listener(leg, port="4420"):
    return {"trtype": "TCP", "adrfam": "IPv4", "traddr": f"10.0.0.{leg}", "trsvcid": port}


class Case:
    """Volume 17, mapped as 3 on compute-1, with the lvols 1 on storage-1 and 2 on storage-2, all as it should be."""

    def __init__(self):
        self.legs = [
            {
                "lvol_id": leg,
                "node": f"storage-{leg}",
                "state": "UP",
                "size_bytes": 101 * MIB,
                "uuid": f"uuid-{leg}",
                "nqn": nqn(leg),
                "listeners": [listener(leg)],
                "membership": "NONE",
            }
            for leg in LEGS
        ]
        self.volume = {"id": 17, "state": "UP", "size_bytes": 100 * MIB, "legs": self.legs, "source": None}
        self.mapping = {"id": 3, "node": "compute-1", "volume_id": 17, "state": "ATTACHED"}
        self.node = {"name": "compute-1", "hostnqn": HOSTNQN}
        self.lvols = [
            {
                "id": leg,
                "disk_id": leg,
                "state": "UP",
                "uuid": f"uuid-{leg}",
                "defect": None,
                "lvstore_uuid": f"store-{leg}",
                "lvstore_name": "lvs-0",
            }
            for leg in LEGS
        ]
        self.disks = [{"id": leg, "state": "UP"} for leg in LEGS]
        self.vhost = {"controller": "vhost3", "bdev": "raid_17", "socket": "/run/vhost3", "sessions": ["vs0"]}
        members = [{"name": f"{name(leg)}n1", "present": True} for leg in LEGS]
        self.raid = {"name": "raid_17", "state": "online", "members": members, "rebuilding": "", "percent": 0}
        self.compute = {
            "release": "v26.09",
            "desired": {},
            "vhost": [self.vhost],
            "raids": [self.raid],
            "bdevs": [{"name": "raid_17"}, *({"name": f"{name(leg)}n1"} for leg in LEGS)],
            "controllers": [{"name": name(leg), "paths": [{**listener(leg), "state": "enabled"}]} for leg in LEGS],
        }
        self.subsystems = [
            {
                "nqn": nqn(leg),
                "listeners": [listener(leg)],
                "allow_any_host": False,
                "hosts": [HOSTNQN],
                "namespaces": [{"nsid": 1, "bdev": f"lvs-0/{leg}"}],
            }
            for leg in LEGS
        ]
        self.storage = [
            {
                "release": "v26.09",
                "desired": {"subsystems": [self.subsystems[leg - 1]]},
                "lvstores": [{"uuid": f"store-{leg}", "name": "lvs-0"}],
                "lvols": [{"alias": f"lvs-0/{leg}", "uuid": f"uuid-{leg}", "size": 101 * MIB}],
            }
            for leg in LEGS
        ]
        self.mappings = [self.mapping]
        self.facts = {"compute-1": self.compute, "storage-1": self.storage[0], "storage-2": self.storage[1]}

    def without_leg(self, leg):
        """The compute node lost a leg, as it does when anything beneath breaks for good."""
        self.raid["members"][leg - 1]["present"] = False
        self.compute["bdevs"] = [each for each in self.compute["bdevs"] if each["name"] != f"{name(leg)}n1"]

    def without_controller(self, leg):
        self.without_leg(leg)
        self.compute["controllers"] = [each for each in self.compute["controllers"] if each["name"] != name(leg)]

    def without_mirror(self):
        self.compute["vhost"], self.compute["raids"] = [], []
        self.compute["bdevs"] = self.compute["bdevs"][1:]

    def row(self, leg, state, **changes):
        self.legs[leg - 1]["state"] = state
        self.lvols[leg - 1].update(state=state, **changes)

    def rows(self):
        nothing = {"lvols": [], "disks": [], "mappings": []}
        compute = {**nothing, "node": self.node, "volumes": [self.volume], "mappings": self.mappings}
        rows = {"compute-1": compute}
        for leg in LEGS:
            own = {"volumes": [self.volume], "lvols": [self.lvols[leg - 1]], "disks": [self.disks[leg - 1]]}
            rows[f"storage-{leg}"] = {**nothing, "node": {"name": f"storage-{leg}", "hostnqn": None}, **own}
        return {node: json.dumps(each) for node, each in rows.items()}

    def walk(self, **asked):
        return diagnose(self.rows(), self.facts, **(asked or {"volume": 17}))


def first(links):
    """The link to repair, as (link, object, node), and its sentences."""
    broken = next(each for each in links if not each["ok"] and each["repair"])
    return (broken["link"], broken["object"], broken["node"]), broken["found"], broken["repair"]


@pytest.mark.parametrize("asked", [{"volume": 17}, {"mapping": 3}, {"volume": "17"}, {"mapping": "3", "volume": None}])
def test_all_is_well(asked):
    links = Case().walk(**asked)
    assert [each for each in links if not each["ok"] or each["repair"]] == []
    layers = list(dict.fromkeys(each["link"] for each in links))
    assert layers == [
        *("target", "vhost", "session", "raid", "base bdev", "controller", "path"),
        *("subsystem", "listener", "host", "namespace", "lvol", "lvstore", "row"),
    ]


def test_without_facts_it_names_the_nodes():
    links = diagnose(Case().rows(), {}, volume=17)
    targets = [each for each in links if each["link"] == "target"]
    assert [each["node"] for each in targets] == ["compute-1", "storage-1", "storage-2"]
    assert first(links)[0] == ("target", "SPDK", "compute-1")


def no_vhost(case):
    case.compute["vhost"] = []


def no_bdev_behind_vhost(case):
    case.vhost["bdev"] = None


def other_bdev_behind_vhost(case):
    case.vhost["bdev"] = "raid_18"


def no_session(case):
    case.vhost["sessions"] = []


def raid_configuring(case):
    """Nothing beneath is broken, so the mirror itself is to be looked at."""
    no_vhost(case)
    case.raid["state"] = "configuring"
    case.raid["members"][1]["present"] = False


def raid_without_a_member(case):
    case.raid["members"][1]["present"] = False


def raid_with_a_stranger(case):
    case.compute["bdevs"].append({"name": "mallory"})
    case.raid["members"].append({"name": "mallory", "present": True})


def no_namespace_seen(case):
    case.without_leg(2)


def no_controller(case):
    case.without_controller(2)


def path_down(case):
    case.compute["controllers"][1]["paths"][0]["state"] = "reconnect_is_delayed"


def path_missing(case):
    case.compute["controllers"][1]["paths"] = []


def compute_unread(case):
    case.facts["compute-1"] = {"unreachable": True, "msg": "Failed to connect\nto the host"}


def storage_unread(case):
    case.without_controller(2)
    case.facts["storage-2"] = {"failed": True, "msg": "the target does not answer"}


def no_subsystem(case):
    case.without_controller(2)
    case.storage[1]["desired"]["subsystems"] = []


def no_listener(case):
    case.without_controller(2)
    case.subsystems[1]["listeners"] = [listener(2, "4421")]


def host_not_allowed(case):
    case.without_controller(2)
    case.subsystems[1]["hosts"] = []


def no_namespace(case):
    case.without_leg(2)
    case.subsystems[1]["namespaces"] = []


def other_namespace(case):
    case.subsystems[1]["namespaces"].append({"nsid": 2, "bdev": "lvs-0/9"})


def no_lvol(case):
    no_namespace(case)
    case.storage[1]["lvols"] = []


def other_lvol(case):
    case.storage[1]["lvols"][0]["uuid"] = "uuid-9"


def half_lvol(case):
    no_namespace(case)
    case.storage[1]["lvols"][0]["size"] = None


def no_lvstore(case):
    no_subsystem(case)
    no_lvol(case)
    case.storage[1]["lvstores"] = []


def row_creating(case):
    """A new volume: nothing is there yet of its second leg, and so not its mirror."""
    case.without_mirror()
    case.without_controller(2)
    no_lvol(case)
    case.storage[1]["desired"]["subsystems"] = []
    case.row(2, "CREATING", uuid=None)


def row_without_placement(case):
    row_creating(case)
    case.legs[1]["nqn"], case.lvols[1]["defect"] = None, "no NQN"


def disk_new(case):
    row_creating(case)
    case.disks[1]["state"] = "NEW"
    case.storage[1]["lvstores"] = []
    case.lvols[1].update(lvstore_uuid=None, lvstore_name=None)


def disk_faulty(case):
    case.disks[1]["state"] = "FAULTY"


def row_deleting(case):
    case.row(2, "DELETING")


def volume_of_one_leg(case):
    case.without_mirror()
    del case.legs[1]


def leg_too_small(case):
    case.without_mirror()
    case.legs[1]["size_bytes"] = 100 * MIB


def mapping_gone(case):
    case.mapping["state"] = "DETACHING"
    case.without_mirror()
    for subsystem in case.subsystems:
        subsystem["hosts"] = [HOSTNQN]


def mapping_waits(case):
    no_vhost(case)
    case.mapping["state"] = "ASSIGNED"
    case.volume["source"] = {"snapshot_id": 5}


def node_without_hostnqn(case):
    case.without_mirror()
    case.node["hostnqn"] = None
    case.compute["controllers"] = []


BASE, LVOL, STORAGE = f"{name(2)}n1", "lvs-0/2", "storage-2"
CONVERGE = "excloud.diskengine.site --limit "


@pytest.mark.parametrize(
    ("broken", "link", "found", "repair"),
    [
        (no_vhost, ("vhost", "vhost3", "compute-1"), "is not there", CONVERGE + "compute-1"),
        (no_bdev_behind_vhost, ("vhost", "vhost3", "compute-1"), "serves nothing", CONVERGE + "compute-1"),
        (other_bdev_behind_vhost, ("vhost", "vhost3", "compute-1"), "serves raid_18, not raid_17", CONVERGE),
        (no_session, ("session", "vhost3", "compute-1"), "no VM is connected to /run/vhost3", "start the VM"),
        (raid_configuring, ("raid", "raid_17", "compute-1"), "configuring, has 1 of 2 members", CONVERGE),
        (raid_without_a_member, ("raid", "raid_17", "compute-1"), f"online without {BASE}", CONVERGE + "compute-1"),
        (raid_with_a_stranger, ("raid", "raid_17", "compute-1"), "has mallory", "find out which"),
        (no_namespace_seen, ("base bdev", BASE, "compute-1"), "is not there", f"detach {name(2)}"),
        (no_controller, ("controller", name(2), "compute-1"), "is not attached", CONVERGE + "compute-1"),
        (path_down, ("path", "TCP 10.0.0.2:4420", "compute-1"), "reconnecting (reconnect_is_delayed)", "the network"),
        (path_missing, ("path", "TCP 10.0.0.2:4420", "compute-1"), "is not attached", CONVERGE + "compute-1"),
        (compute_unread, ("target", "SPDK", "compute-1"), "Failed to connect to the host", "is up"),
        (storage_unread, ("target", "SPDK", STORAGE), "the target does not answer", "answers"),
        (no_subsystem, ("subsystem", nqn(2), STORAGE), "is not there", CONVERGE + STORAGE),
        (no_listener, ("listener", "TCP 10.0.0.2:4420", STORAGE), "does not listen", CONVERGE + STORAGE),
        (host_not_allowed, ("host", HOSTNQN, STORAGE), "is not allowed", CONVERGE + STORAGE),
        (no_namespace, ("namespace", nqn(2), STORAGE), "has no namespace", CONVERGE + STORAGE),
        (other_namespace, ("namespace", nqn(2), STORAGE), "namespace 2 is lvs-0/9", f"show {LVOL} as namespace 1"),
        (no_lvol, ("lvol", LVOL, STORAGE), "is not there", "do not create it anew"),
        (other_lvol, ("lvol", LVOL, STORAGE), "has the UUID uuid-9, its row uuid-2", "find out which"),
        (half_lvol, ("lvol", LVOL, STORAGE), "has no bdev", "look at the log"),
        (no_lvstore, ("lvstore", "lvs-0", STORAGE), "is not loaded", "create nothing in its place"),
        (row_creating, ("row", "lvol 2", "database"), "CREATING", CONVERGE + STORAGE),
        (row_without_placement, ("row", "lvol 2", "database"), "CREATING, no NQN", "and the lvol an NQN"),
        (disk_new, ("row", "disk 2", "database"), "NEW", CONVERGE + STORAGE),
        (disk_faulty, ("row", "disk 2", "database"), "FAULTY", "replace this leg"),
        (row_deleting, ("row", "lvol 2", "database"), "DELETING", "another leg"),
        (volume_of_one_leg, ("row", "volume 17", "database"), "needs two legs", "a mirror of two legs"),
        (leg_too_small, ("row", "volume 17", "database"), "a leg needs 1 MiB more", "correct the rows"),
        (mapping_gone, ("row", "mapping 3", "database"), "DETACHING", "map the volume again"),
        (mapping_waits, ("row", "mapping 3", "database"), "waits for a snapshot", "which copies snapshot 5"),
        (node_without_hostnqn, ("row", "node compute-1", "database"), "has no host NQN", "give compute-1 a host NQN"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_first_broken_link(broken, link, found, repair):
    case = Case()
    broken(case)
    named, said, cure = first(case.walk(mapping=3))
    assert named == link
    assert found in said and repair in cure


def both_paths(case, state):
    for controller in case.compute["controllers"]:
        controller["paths"][0]["state"] = state


def both_paths_down(case):
    both_paths(case, "reconnect_is_delayed")


def both_legs_given_up(case):
    """The mirror says that it has both, but their bdevs are gone and their controllers never end."""
    both_paths(case, "deleting")
    case.compute["bdevs"] = case.compute["bdevs"][:1]


@pytest.mark.parametrize(
    ("cause", "link", "cure"),
    [
        (no_vhost, "vhost", CONVERGE + "compute-1"),
        (no_bdev_behind_vhost, "vhost", CONVERGE + "compute-1"),
        (no_session, "session", "start the VM"),
        (both_paths_down, "path", "look at the network"),
        (both_legs_given_up, "path", "restart SPDK on compute-1"),
        (storage_unread, "target", "see that storage-2 is up"),
    ],
)
def test_a_guests_write_hangs(cause, link, cure):
    case = Case()
    cause(case)
    (named, _object, _node), _said, repair = first(case.walk(mapping=3))
    assert named == link and cure in repair


@pytest.mark.parametrize(
    ("cause", "link", "node"),
    [
        (lambda case: None, "raid", "compute-1"),
        (no_controller, "controller", "compute-1"),
        (path_down, "path", "compute-1"),
        (no_listener, "listener", STORAGE),
        (no_namespace, "namespace", STORAGE),
        (no_lvstore, "lvstore", STORAGE),
        (row_deleting, "row", "database"),
    ],
)
def test_a_raid_stays_configuring(cause, link, node):
    """What keeps its leg away is named, and the mirror itself only when nothing does."""
    case = Case()
    raid_configuring(case)
    cause(case)
    case.compute["bdevs"] = [each for each in case.compute["bdevs"] if link == "raid" or each["name"] != BASE]
    (named, _object, where), _said, _repair = first(case.walk())
    assert (named, where) == (link, node)


@pytest.mark.parametrize(
    ("cause", "link"),
    [
        (no_subsystem, "subsystem"),
        (no_listener, "listener"),
        (host_not_allowed, "host"),
        (no_lvstore, "lvstore"),
        (row_creating, "row"),
        (row_without_placement, "row"),
        (node_without_hostnqn, "row"),
    ],
)
def test_a_new_volume_cannot_be_connected_to(cause, link):
    """Nothing of it is on the compute node yet, and the cause is on the storage node or in the rows."""
    case = Case()
    case.mapping["state"] = "ASSIGNED"
    cause(case)
    case.without_controller(2)
    case.without_mirror()
    assert first(case.walk())[0][0] == link


def test_links_that_a_broken_one_beneath_explains_have_no_repair():
    case = Case()
    no_listener(case)
    links = case.walk()
    broken = [(each["link"], bool(each["repair"])) for each in links if not each["ok"]]
    follows = [(link, False) for link in ("raid", "base bdev", "controller", "path")]
    assert broken == [*follows, ("listener", True)]


def test_a_vhost_that_is_gone_is_named_before_a_leg_that_is_lost():
    """The mirror serves on with one leg, so the leg is not why the guest hangs."""
    case = Case()
    no_vhost(case)
    no_listener(case)
    assert first(case.walk())[0][0] == "vhost"


def test_a_rebuild_is_all_right():
    case = Case()
    case.raid.update(rebuilding=BASE, percent=40)
    links = case.walk()
    assert all(each["ok"] for each in links)
    assert next(each["found"] for each in links if each["link"] == "raid") == f"online, rebuilds {BASE} (40 %)"


def test_one_path_of_two():
    case = Case()
    case.legs[1]["listeners"].append(listener(2, "4421"))
    case.subsystems[1]["listeners"].append(listener(2, "4421"))
    assert first(case.walk())[0] == ("path", "TCP 10.0.0.2:4421", "compute-1")


def test_a_volume_that_nobody_maps():
    case = Case()
    case.mappings = []
    no_listener(case)
    links = case.walk()
    assert "compute-1" not in {each["node"] for each in links}
    assert first(links)[0][0] == "listener"


def test_a_volume_is_looked_at_in_each_mapping_that_is_not_gone():
    case = Case()
    case.mappings += [{**case.mapping, "id": 4}, {**case.mapping, "id": 5, "state": "DETACHED"}]
    links = case.walk()
    assert [each["object"] for each in links if each["link"] == "vhost"] == ["vhost3", "vhost4"]
    assert first(links)[0] == ("vhost", "vhost4", "compute-1")


@pytest.mark.parametrize("asked", [{"volume": 18}, {"mapping": 18}])
def test_an_id_that_nobody_knows(asked):
    (kind,) = asked
    assert first(Case().walk(**asked))[0] == ("row", f"{kind} 18", "database")
