# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk from a VM's disk down to the rows in the database, which finds the link that is broken. Pure."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.module_utils._naming import (
    address,
    canonical_address,
    controller_of,
    observed_address,
)
from ansible_collections.excloud.diskengine.plugins.module_utils._serving_health import path_state
from ansible_collections.excloud.diskengine.plugins.plugin_utils.compute_node import (
    PRESENT,
    raid_name,
    vhost_name,
    volume_problem,
)
from ansible_collections.excloud.diskengine.plugins.plugin_utils.documents import parsed
from ansible_collections.excloud.diskengine.plugins.plugin_utils.legs import USABLE, mirror_legs

DATABASE = "database"


def diagnose(rows, facts, volume=None, mapping=None):
    """Return the links of one volume, or of one of its mappings, in order from the VM downwards.

    ``rows`` are those of M(desired_state_info) by node, dictionaries or documents, with volumes, mappings, lvols and
    disks; ``facts`` what M(spdk_info) returned by node, or how it failed. A link is ``{link, object, node, ok, found,
    repair}``. Only a broken link that no broken one beneath it explains has a ``repair``, so the first of these is
    what is to be repaired.
    """
    rows = {node: parsed(each) for node, each in rows.items()}
    volumes = {each["id"]: each for node in rows.values() for each in node["volumes"]}
    mappings = {each["id"]: each for node in rows.values() for each in node["mappings"]}
    kind, number, known = ("volume", volume, volumes) if mapping is None else ("mapping", mapping, mappings)
    walk = _Walk(rows, facts)
    if int(number) not in known:
        walk.add(_row(kind, number), DATABASE, False, "no such row", f"name a {kind} that the database knows")
    elif mapping is None:
        asked = [each for each in mappings.values() if each["volume_id"] == int(number) and each["state"] != "DETACHED"]
        walk.down(volumes[int(number)], asked)
    else:
        asked = mappings[int(number)]
        walk.down(volumes[asked["volume_id"]], [asked])
    return walk.result()


class _Walk:
    """Collects links. Each has a key (link, what it belongs to, object), by which those above say that they need it."""

    def __init__(self, rows, facts):
        self._rows, self._facts = rows, facts
        self._links: dict = {}

    def add(self, key, node, ok, found, repair, needs=()):
        """Add a link, once; what it needs are keys of links beneath, of which some may not be in this walk."""
        self._links.setdefault(key, (node, bool(ok), found, repair, needs))

    def result(self):
        """Return the links as users get them."""
        broken = {key for key, (_node, ok, *_rest) in self._links.items() if not ok}
        return [
            {
                "link": key[0],
                "object": key[2],
                "node": node,
                "ok": ok,
                "found": found,
                "repair": "" if ok or broken.intersection(needs) else repair,
            }
            for key, (node, ok, found, repair, needs) in self._links.items()
        ]

    def down(self, volume, mappings):
        """Walk down from mappings of a volume: compute nodes, then storage nodes, then rows."""
        for mapping in mappings:
            self._compute(mapping, volume)
        for leg in volume["legs"]:
            self._export(leg, mappings)
        for mapping in mappings:
            self._mapping_rows(mapping, volume["source"])
        problem = volume_problem(volume)
        self.add(
            _row("volume", volume["id"]),
            DATABASE,
            not problem,
            problem or volume["state"],
            "correct the rows: a volume is a mirror of two legs with placement",
            [_row("lvol", leg["lvol_id"]) for leg in volume["legs"]],
        )
        for leg in volume["legs"]:
            self._leg_rows(leg)

    def _target(self, node):
        """Add the link to a node's target and return what it has, or None if it could not be read."""
        info = self._facts.get(node) or {"msg": "nothing was read from it; the inventory may not have it"}
        reached = "desired" in info
        found = f"{info['release']} answers" if reached else " ".join(str(info.get("msg")).split())
        repair = f"see that {node} is up and in the inventory, and that its SPDK target runs and answers"
        self.add(_target(node), node, reached, found, repair)
        return info if reached else None

    def _compute(self, mapping, volume):
        node, number = mapping["node"], mapping["id"]
        info = self._target(node)
        if info is None:
            return
        legs = [leg for leg in mirror_legs(volume) if leg["nqn"]]
        vhost, raid = vhost_name(number), raid_name(volume["id"])
        rows = [_row("volume", volume["id"]), _row("node", node)]
        if mapping["state"] not in PRESENT:
            rows.append(_row("mapping", number))
        online = any(each["name"] == raid and each["state"] == "online" for each in info["raids"])
        above = [*rows, _row("mapping", number), *([] if online else [("raid", number, raid)])]
        served = next((each for each in info["vhost"] if each["controller"] == vhost), None)
        serves, found = _vhost(served, raid)
        self.add(("vhost", number, vhost), node, serves, found, _converge(node), above)
        if mapping["state"] == "ATTACHED":
            sessions, socket = (served["sessions"], served["socket"]) if served else ([], "")
            self.add(
                ("session", number, vhost),
                node,
                sessions,
                "connected" if sessions else f"no VM is connected to {socket}" if served else "there is no socket",
                f"start the VM on {node}, or see that its QEMU uses the socket {socket}",
                [("vhost", number, vhost)],
            )
        self._raid(mapping, raid, {_base(leg): leg for leg in legs}, info, rows)
        for leg in legs:
            self._leg(mapping, leg, info, rows)

    def _raid(self, mapping, name, legs, info, rows):
        found = next((each for each in info["raids"] if each["name"] == name), None)
        there = {each["name"] for each in info["bdevs"]}  # a mirror may count on a leg whose bdev is gone
        members = {each["name"] for each in found["members"] if each["present"]} & there if found else set()
        missing, strange = sorted(set(legs) - members), sorted(members - set(legs))
        repair = _converge(mapping["node"])
        if found is None:
            said = "is not there"
        elif found["state"] != "online":
            said = f"{found['state']}, has {len(members)} of {len(found['members'])} members"
        elif strange:
            said = f"has {', '.join(strange)}, which is no leg of the volume"
            repair = "find out which of its members holds the data before anything is changed"
        elif missing:
            said = f"online without {', '.join(missing)}"
        else:
            said = "online" + (
                f", rebuilds {found['rebuilding']} ({found['percent']} %)" if found["rebuilding"] else ""
            )
        self.add(
            ("raid", mapping["id"], name),
            mapping["node"],
            found and found["state"] == "online" and not missing and not strange,
            said,
            repair,
            [*rows, *(("base bdev", mapping["id"], base) for base in missing)],
        )

    def _leg(self, mapping, leg, info, rows):
        """Walk from a member of the mirror to the network."""
        node, number, lvol = mapping["node"], mapping["id"], leg["lvol_id"]
        base, name = _base(leg), controller_of(leg["nqn"])
        reach = [_target(leg["node"]), ("subsystem", lvol, leg["nqn"]), self._host(mapping, leg)]
        listeners = [("listener", lvol, str(each)) for each in _listeners(leg)]
        controller = next((each for each in info["controllers"] if each["name"] == name), None)
        states = {_observed(path): path["state"] for path in controller["paths"]} if controller else {}
        paths = [("path", (number, lvol), str(each)) for each in _listeners(leg)]
        there = any(each["name"] == base for each in info["bdevs"])
        self.add(
            ("base bdev", number, base),
            node,
            there,
            "is there" if there else "is not there",
            f"its controller shows no namespace: detach {name} and {_converge(node)}",
            [*rows, ("controller", number, name), *paths, *reach, *listeners, ("namespace", lvol, leg["nqn"])],
        )
        attached = "attached" if controller else "is not attached"
        needs = [*rows, *reach, *listeners]
        self.add(("controller", number, name), node, controller, attached, _converge(node), needs)
        for each, path, listener in zip(_listeners(leg), paths, listeners):
            state = states.get(each)
            self.add(
                path,
                node,
                state == "enabled",
                path_state(state) if state else "is not attached",
                _path_repair(node, leg, each, state),
                [*rows, *reach, listener, *([] if controller else [("controller", number, name)])],
            )

    def _export(self, leg, mappings):
        """Walk through a storage node: what shows the lvol, and the lvol."""
        node, number = leg["node"], leg["lvol_id"]
        info = self._target(node)
        if info is None:
            return
        row = next(each for each in self._rows[node]["lvols"] if each["id"] == number)
        nqn = leg["nqn"] or f"of lvol {number}"
        store = next((each for each in info["lvstores"] if each["uuid"] == row["lvstore_uuid"]), None)
        alias = f"{store['name'] if store else row['lvstore_name']}/{number}"
        subsystem = next((each for each in info["desired"]["subsystems"] if each["nqn"] == nqn), None)
        above, lvol = [("subsystem", number, nqn)], ("lvol", number, alias)
        found = "is there" if subsystem else "is not there"
        self.add(above[0], node, subsystem, found, _converge(node), [_row("lvol", number), lvol])
        subsystem = subsystem or {"listeners": [], "allow_any_host": False, "hosts": [], "namespaces": []}
        heard = {_observed(each) for each in subsystem["listeners"]}
        for each in _listeners(leg):
            found = "listens" if each in heard else "does not listen"
            self.add(("listener", number, str(each)), node, each in heard, found, _converge(node), above)
        for mapping in mappings:
            key = self._host(mapping, leg)
            allowed = subsystem["allow_any_host"] or key[2] in subsystem["hosts"]
            needs = [*above, _row("node", mapping["node"])]
            if mapping["state"] == "DETACHED":
                needs.append(_row("mapping", mapping["id"]))
            self.add(key, node, allowed, "allowed" if allowed else "is not allowed", _converge(node), needs)
        shown = [(each["nsid"], each["bdev"]) for each in subsystem["namespaces"]]
        found = ", ".join(f"namespace {nsid} is {bdev}" for nsid, bdev in shown) or "has no namespace"
        repair = f"it must show {alias} as namespace 1 and nothing else: remove what differs, then {_converge(node)}"
        self.add(
            ("namespace", number, nqn),
            node,
            shown == [(1, alias)],
            found,
            repair if shown else _converge(node),
            [*above, lvol],
        )
        self._lvol(node, row, alias, store, info)

    def _lvol(self, node, row, alias, store, info):
        lvol = next((each for each in info["lvols"] if each["alias"] == alias), None)
        lvstore = ("lvstore", row["id"], row["lvstore_name"] or "unknown")
        if lvol is None:
            found, repair = "is not there", "its data is gone: do not create it anew, replace this leg of the volume"
        elif row["uuid"] not in (None, lvol["uuid"]):
            found = f"has the UUID {lvol['uuid']}, its row {row['uuid']}"
            repair = "another lvol has its name: find out which of them holds the data before anything is changed"
        elif lvol["size"] is None:
            found, repair = "has no bdev", "it is half deleted or lacks its snapshot: look at the log of the target"
        else:
            found, repair = f"has the UUID {lvol['uuid']}", ""
        self.add(("lvol", row["id"], alias), node, not repair, found, repair, [lvstore, _row("lvol", row["id"])])
        self.add(
            lvstore,
            node,
            store,
            "is loaded" if store else "is not loaded",
            f"see that its drive is in {node} and attached ({_converge(node)}); create nothing in its place",
            [_row("disk", row["disk_id"])],
        )

    def _mapping_rows(self, mapping, source):
        node = mapping["node"]
        waits = mapping["state"] == "ASSIGNED" and source
        if waits:
            repair = f"{_converge(node)}, which copies snapshot {source['snapshot_id']} into the volume or says why not"
        else:
            repair = "map the volume again if a VM is to have it"
        said = f"{mapping['state']}, waits for a snapshot" if waits else mapping["state"]
        ok = mapping["state"] in PRESENT and not waits
        self.add(_row("mapping", mapping["id"]), DATABASE, ok, said, repair)
        hostnqn = self._rows[node]["node"]["hostnqn"]
        self.add(_row("node", node), DATABASE, hostnqn, hostnqn or "has no host NQN", f"give {node} a host NQN")

    def _leg_rows(self, leg):
        row = next(each for each in self._rows[leg["node"]]["lvols"] if each["id"] == leg["lvol_id"])
        disk = next(each for each in self._rows[leg["node"]]["disks"] if each["id"] == row["disk_id"])
        if row["defect"]:
            repair = "give its disk a listener with address and port, and the lvol an NQN"
        elif row["state"] == "CREATING":
            repair = f"{_converge(leg['node'])}, which makes it or says why not"
        else:
            repair = "give the volume another leg"
        self.add(
            _row("lvol", row["id"]),
            DATABASE,
            row["state"] in USABLE and not row["defect"],
            f"{row['state']}, {row['defect']}" if row["defect"] else row["state"],
            repair,
            [_row("disk", disk["id"])],
        )
        self.add(
            _row("disk", disk["id"]),
            DATABASE,
            disk["state"] == "UP",
            disk["state"],
            f"{_converge(leg['node'])}, which takes it into use" if disk["state"] == "NEW" else "replace this leg",
        )

    def _host(self, mapping, leg):
        """The key of the link that lets a mapping's node in."""
        return ("host", leg["lvol_id"], self._rows[mapping["node"]]["node"]["hostnqn"] or mapping["node"])


def _path_repair(node, leg, address, state):
    """Return how a path in a state comes back."""
    if state is None:
        return _converge(node)
    if state == "deleting":
        return f"if that lasts, its mirror lost all legs at once: restart SPDK on {node}, then {_converge(node)}"
    return f"look at the network between {node} and {address}, where {leg['node']} listens"


def _vhost(served, raid):
    """Return whether a vhost controller is all right, and what was found."""
    if served is None:
        return False, "is not there"
    if served["bdev"] is None:
        return False, "serves nothing, because its bdev is gone"
    return served["bdev"] == raid, f"serves {served['bdev']}" + ("" if served["bdev"] == raid else f", not {raid}")


def _row(kind, number):
    return ("row", "", f"{kind} {number}")


def _target(node):
    return ("target", node, "SPDK")


def _base(leg):
    return f"{controller_of(leg['nqn'])}n1"


def _listeners(leg):
    return [address(each) for each in leg["listeners"] if each.get("traddr") and each.get("trsvcid")]


def _observed(listener):
    return canonical_address(observed_address(listener))


def _converge(node):
    return f"converge {node} (excloud.diskengine.site --limit {node})"
