# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The estate as a graph of objects, from disks up to VMs, each in a state. Pure."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError
from ansible_collections.excloud.diskengine.plugins.module_utils._naming import (
    address,
    controller_of,
    observed_address,
)
from ansible_collections.excloud.diskengine.plugins.plugin_utils.compute_node import (
    path_listeners,
    raid_name,
    vhost_name,
)
from ansible_collections.excloud.diskengine.plugins.plugin_utils.storage_node import snapshot_name

STATES = ("broken", "differs", "unknown", "changing", "ok")  # the worst first

# How the kinds of differences are called in the picture, where they are called otherwise.
KINDS = {"subsystem": "export", "controller": "path", "raid": "mirror", "transport": "node", "key": "node"}


def worst(states):
    """Return the worst of some states; C(ok) if there are none."""
    return min(states, key=STATES.index, default="ok")


def severity(difference):
    """Return the state of an object that differs so: C(broken) if it is not there or no plan makes it work."""
    refused = difference["class"] == "different" and difference["risk"] == "manual"
    return "broken" if refused or difference["class"] in ("missing", "blocked") else "differs"


class Picture:
    """Objects by id, in the order from nodes up to VMs.

    ``estate`` are the rows by node as M(desired_state_info) reads them, with all kinds; ``compared`` the names of the
    nodes that were compared. What was not compared is C(unknown).
    """

    def __init__(self, estate, compared):
        self.objects = {}
        self._compared = compared
        self._known = {}
        self._exports = {}
        for name, rows in estate.items():
            self._add("node", name, name, name, [], _facts(rows["node"], "kind", "state", "failure_domain", "hostnqn"))
            self._know(name, "transport", "", f"node:{name}")
        for name, rows in estate.items():
            self._storage(name, rows)
        for name, rows in estate.items():
            self._compute(name, rows)

    def place(self, number, difference):
        """Note a difference, the ``number`` of which is its place in the report, at the objects that it is about.

        Returns these objects; of what no row names one is made.
        """
        node, kind, name = (difference[key] for key in ("node", "kind", "object"))
        found = self._find(node, kind, name)
        if not found:
            about = {"class": difference["class"], **(difference["found"] or {})}
            beneath = [f"node:{node}"] if f"node:{node}" in self.objects else []
            found = [self._add(KINDS.get(kind, kind), f"{node}:{name}", name, node, beneath, about)]
        if (kind, difference["class"]) == ("disk", "counter"):
            found = found[1:] or found  # what is counted is the lvstore
        for each in found:
            each["differences"].append(number)
            each["state"] = worst([each["state"], severity(difference)])
        return found

    def finish(self):
        """Let VMs share the fate of what they stand on; call it when all differences were placed."""
        for each in self.objects.values():
            if each["kind"] in ("vhost", "vm") and "broken" in (self.objects[name]["state"] for name in each["on"]):
                each["state"] = "broken"

    def _add(self, kind, key, name, node, beneath, facts, volume=None, settled=True):
        state = "unknown" if node not in self._compared else "ok" if settled else "changing"
        made = {
            "id": f"{kind}:{key}",
            "kind": kind,
            "name": name,
            "node": node,
            "volume": volume,
            "state": state,
            "on": beneath,
            "differences": [],
            "facts": facts,
        }
        return self.objects.setdefault(made["id"], made)

    def _know(self, node, kind, name, *ids):
        self._known.setdefault((node, kind, name), []).extend(ids)

    def _find(self, node, kind, name):
        if kind in ("transport", "key"):
            name, kind = "", "transport"
        elif kind == "disk":
            name = name.partition(" at ")[0]
        elif kind in ("lvol", "snapshot"):
            name = name.rpartition("/")[2]
        elif kind == "qos":
            kind = "raid"
        found = self._known.get((node, kind, name))
        if not found and kind == "path":
            found = self._known.get((node, "controller", name.partition(" ")[0]))
        return [self.objects[each] for each in found or ()]

    def _storage(self, node, rows):
        disks = {row["id"]: row for row in rows["disks"]}
        for number, row in disks.items():
            facts = _facts(row, "state", "serial", "bdf", "model", "health")
            disk = self._add("disk", number, row["serial"], node, [f"node:{node}"], facts, settled=row["state"] == "UP")
            self._know(node, "disk", row["serial"], disk["id"])
            if row["state"] == "FAULTY":
                disk["state"] = "broken"
            if row["lvstore_name"]:
                facts = _facts(row, "lvstore_uuid", "total_bytes", "free_bytes")
                settled = row["state"] in ("UP", "FAULTY")
                store = self._add("lvstore", number, row["lvstore_name"], node, [disk["id"]], facts, settled=settled)
                self._know(node, "disk", row["serial"], store["id"])
        volume_of = {row["id"]: row["volume_id"] for row in rows["lvols"]}
        for row in rows["lvols"]:
            self._lvol(node, row, disks[row["disk_id"]])
        for row in rows["snapshots"]:
            name = snapshot_name(row["id"])
            self._add(
                "snapshot",
                row["id"],
                f"{row['lvstore_name']}/{name}",
                node,
                [f"lvol:{row['lvol_id']}"] if row["lvol_id"] in volume_of else [self._store(disks[row["disk_id"]])],
                _facts(row, "state", "uuid"),
                volume_of.get(row["lvol_id"]),
                row["state"] == "UP",
            )
            self._know(node, "snapshot", name, f"snapshot:{row['id']}")

    def _store(self, disk):
        return f"lvstore:{disk['id']}" if disk["lvstore_name"] else f"disk:{disk['id']}"

    def _lvol(self, node, row, disk):
        number, volume = row["id"], row["volume_id"]
        settled = row["state"] == "UP" and disk["state"] != "RETIRED"
        facts = _facts(row, "state", "size_bytes", "thin", "uuid", "zeroed_bytes", "defect")
        name = f"{row['lvstore_name']}/{number}"
        lvol = self._add("lvol", number, name, node, [self._store(disk)], facts, volume, settled)
        self._know(node, "lvol", str(number), lvol["id"])
        if row["nqn"]:
            listeners = ", ".join(map(_address, row["listeners"]))
            facts = {"listeners": listeners, "hosts": ", ".join(row["hosts"])}
            export = self._add("export", number, row["nqn"], node, [lvol["id"]], facts, volume, settled)
            self._know(node, "subsystem", row["nqn"], export["id"])
            self._exports[number] = export["id"]

    def _compute(self, node, rows):
        volumes = {row["id"]: row for row in rows["volumes"]}
        mappings = [row for row in rows["mappings"] if row["state"] != "DETACHED"]
        attached = {row["volume_id"] for row in mappings if row["state"] == "ATTACHED"}
        for number in dict.fromkeys(row["volume_id"] for row in mappings):
            self._mirror(node, volumes[number], number in attached)
        for row in mappings:
            number, settled = row["volume_id"], row["state"] == "ATTACHED"
            beneath = [f"mirror:{node}:{number}"]
            vhost = self._add("vhost", row["id"], vhost_name(row["id"]), node, beneath, {}, number, settled)
            self._know(node, "vhost", vhost["name"], vhost["id"])
            name = row["vm"] or f"mapping {row['id']}"
            facts = {"mapping": row["id"], **_facts(row, "state", "initialised_bytes")}
            self._add("vm", row["id"], name, node, [vhost["id"]], facts, number, settled)

    def _mirror(self, node, volume, settled):
        number, paths = volume["id"], []
        for leg in (leg for leg in volume["legs"] if leg["nqn"]):
            controller = controller_of(leg["nqn"])
            for listener in map(_address, path_listeners(leg)):
                facts = {"controller": controller, "subsystem": leg["nqn"]}
                path = self._add(
                    "path",
                    f"{node}:{leg['lvol_id']}:{listener}",
                    listener,
                    node,
                    [self._exports[leg["lvol_id"]]] if leg["lvol_id"] in self._exports else [],
                    facts,
                    number,
                    settled and leg["state"] in ("UP", "RESIZING"),
                )
                self._know(node, "controller", controller, path["id"])
                self._know(node, "path", f"{controller} {listener}", path["id"])
                paths.append(path["id"])
        facts = {name: value for name, value in volume.items() if name.endswith("_per_sec") and value}
        facts = {**_facts(volume, "size_bytes"), **facts}
        mirror = self._add("mirror", f"{node}:{number}", raid_name(number), node, paths, facts, number, settled)
        self._know(node, "raid", mirror["name"], mirror["id"])
        self._know(node, "volume", str(number), mirror["id"])


def _facts(row, *names):
    return {name: row[name] for name in names if row.get(name) is not None}


def _address(listener):
    try:
        return str(address(listener))
    except DiskengineError:
        return str(observed_address(listener))  # a row that is corrupt is shown as it is
