# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVMe-oF subsystems with their namespaces, hosts and listeners. Private to the collection.

A duplicate listener, namespace or host is answered like a wrong parameter (contract section 2), so everything here is
decided from what was read. A new subsystem gets its namespaces and hosts first and its listeners last: no host can
connect before there is something to see.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from .. import _naming, _options
from .._errors import Refusal
from .._graph import HOST_KEYS, SUBSYSTEM_ATTRIBUTES, Bdev, Graph, Namespace, Subsystem
from .._plan import DISRUPTIVE, Action, Change, Missing

_MAX_LISTENERS = 16
_MAX_CNTLID = 65519
_DEFAULT_MAX_NAMESPACES = 32


class SubsystemResource:
    """A subsystem is compared part by part; what nobody wants is reported, and removed only where purge says so."""

    kind = "subsystem"
    plural = "subsystems"
    rank = 7
    options = _options.SUBSYSTEM

    @staticmethod
    def identity(options: dict) -> dict:
        """Return what names the object in results."""
        return {"nqn": options["nqn"]}

    @staticmethod
    def title(options: dict, graph: Graph) -> str:
        """Return the object's name for messages."""
        return options["nqn"]

    @staticmethod
    def keys(options: dict, graph: Graph) -> list:
        """Return the keys under which others rely on this object."""
        return [("subsystem", options["nqn"])]

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        nqn = _naming.nqn(options["nqn"])
        found = graph.subsystems.get(nqn)
        if options["state"] == "absent":
            return _delete(found, options, graph) if found else Change(None, None)
        _require_valid_attributes(options)
        wanted = _wanted(options, graph)
        if found:
            _require_same_attributes(options, found)
        elif graph.max_subsystems and len(graph.subsystems) + 1 >= graph.max_subsystems:
            raise Refusal(
                f"the target takes {graph.max_subsystems} subsystems, the discovery subsystem among them, and has them "
                f"all; more can be had only at its start (nvmf_set_max_subsystems)"
            )
        current = found or Subsystem(nqn, bool(options["allow_any_host"]), {}, frozenset(), frozenset(), {})
        return _Comparison(wanted, current, options, graph, found is None).change()


class _Wanted(NamedTuple):
    listeners: dict  # whether with TLS, or None if either is fine, by address
    hosts: list
    host_keys: dict
    namespaces: dict


def _wanted(options: dict, graph: Graph) -> _Wanted:
    listeners = {_naming.address(item): item["secure_channel"] for item in options["listeners"] or ()}
    if len(listeners) > _MAX_LISTENERS:
        raise Refusal(f"{len(listeners)} listeners are wanted, SPDK takes {_MAX_LISTENERS} for a subsystem")
    for address in listeners:
        if address.trtype not in graph.transports:
            raise Missing(
                ("transport", address.trtype),
                f"listener {address} needs the {address.trtype} transport, which the target does not have",
            )
    if options["allow_any_host"] and any(listeners.values()):
        raise Refusal("a listener with secure_channel knows its hosts by their keys; do without allow_any_host")
    hosts = list(dict.fromkeys(_naming.nqn(host, "host NQN") for host in options["hosts"] or ()))
    return _Wanted(listeners, hosts, _wanted_host_keys(options, hosts, graph), _wanted_namespaces(options, graph))


def _wanted_host_keys(options: dict, hosts: list, graph: Graph) -> dict:
    """Return the names of the keys of each host whose keys are managed: those that are listed, and all in hosts."""
    items = options["host_keys"]
    if items is None:
        return {}
    found = graph.subsystems.get(options["nqn"])
    let_in = hosts if options["hosts"] is not None or found is None else found.hosts
    wanted: dict[str, dict] = {}
    for item in items:
        host = item["host"]
        if host in wanted:
            raise Refusal(f"host_keys names host {host} twice")
        if host not in let_in:
            raise Refusal(f"host_keys names host {host}, which is not let in: name it in hosts too")
        keys = {purpose: item[purpose] for purpose in HOST_KEYS if item[purpose] is not None}
        if "dhchap_ctrlr_key" in keys and "dhchap_key" not in keys:
            raise Refusal(f"host {host} has a dhchap_ctrlr_key and no dhchap_key; SPDK takes it only with both")
        for purpose, name in keys.items():
            if name not in graph.keys:
                raise Missing(("key", name), f"the keyring of the target has no key {name}, the {purpose} of {host}")
        if "psk" in keys and "TCP" not in graph.transports:
            raise Missing(("transport", "TCP"), f"the psk of {host} needs the TCP transport; SPDK drops it without one")
        wanted[host] = keys
    return {**dict.fromkeys(hosts, {}), **wanted}


def _wanted_namespaces(options: dict, graph: Graph) -> dict:
    """Return the bdev wanted behind each nsid; without an nsid a bdev keeps the one it has, or gets the lowest free."""
    items = options["namespaces"] or []
    found = graph.subsystems.get(options["nqn"])
    limit = found.attributes["max_namespaces"] if found else options["max_namespaces"] or _DEFAULT_MAX_NAMESPACES
    taken = set(found.namespaces) if found else set()
    taken.update(item["nsid"] for item in items if item["nsid"])
    wanted: dict[int, Bdev] = {}
    for item in items:
        bdev = _exportable(item["bdev"], options["nqn"], graph)
        if item["bdev_uuid"] and bdev.uuid != _naming.uuid(item["bdev_uuid"], "bdev_uuid"):
            raise Refusal(
                f"bdev {item['bdev']} has the UUID {bdev.uuid or 'of a new lvol'}, wanted {item['bdev_uuid']}: it "
                f"is not the one that was exported, so its data is not what hosts expect"
            )
        nsid = item["nsid"]
        if nsid is None:
            exported_as = graph.exports.get(bdev.name)
            nsid = exported_as[1] if exported_as else min(set(range(1, len(taken) + 2)) - taken)
            taken.add(nsid)
        if not 1 <= nsid <= limit:
            raise Refusal(f"namespace ID {nsid} of bdev {item['bdev']} is not from 1 to {limit} (max_namespaces)")
        if nsid in wanted or bdev in wanted.values():
            raise Refusal(f"namespace {nsid} or bdev {item['bdev']} is named twice")
        wanted[nsid] = bdev
    return wanted


def _exportable(reference: str, nqn: str, graph: Graph) -> Bdev:
    bdev = graph.bdev(reference)
    if bdev is None:
        name = graph.canonical(reference)
        raise Missing(("bdev", name), f"there is no bdev {name} on this target")
    exported_as = graph.exports.get(bdev.name)
    if exported_as and exported_as[0] != nqn:
        raise Refusal(f"bdev {reference} is already exported as namespace {exported_as[1]} of {exported_as[0]}")
    if bdev.name in graph.vhost:
        raise Refusal(
            f"bdev {reference} is served by the vhost controller {graph.vhost[bdev.name]}; "
            f"SPDK would let both write to it"
        )
    if bdev.claimed and not exported_as:
        raise Refusal(f"bdev {reference} is claimed by another user within the target (a RAID or an lvstore)")
    return bdev


def _require_valid_attributes(options: dict) -> None:
    """Refuse what the target would refuse with an error that names nothing (contract section 6)."""
    for name, limit in (("serial_number", 20), ("model_number", 40)):
        value = options[name]
        if value is not None and not (0 < len(value) <= limit and value.isascii() and value.isprintable()):
            raise Refusal(f"{name} {value!r} is not 1 to {limit} printable ASCII characters")
    if options["max_namespaces"] is not None and options["max_namespaces"] < 1:
        raise Refusal(f"max_namespaces {options['max_namespaces']} is not a positive number")
    lowest, highest = options["min_cntlid"] or 1, options["max_cntlid"] or _MAX_CNTLID
    if not 1 <= lowest <= highest <= _MAX_CNTLID:
        raise Refusal(f"controller IDs from {lowest} to {highest} are not a range within 1 to {_MAX_CNTLID}")


def _require_same_attributes(options: dict, found: Subsystem) -> None:
    different = [
        f"{name} is {found.attributes.get(name)}, wanted {options[name]}"
        for name in SUBSYSTEM_ATTRIBUTES
        if options[name] is not None and options[name] != found.attributes.get(name)
    ]
    if different:
        raise Refusal(
            f"{'; '.join(different)}; SPDK cannot change that: delete the subsystem and create it again when "
            f"no host needs it"
        )


class _Comparison:
    """Compares the parts of one subsystem and collects the actions, one after the other on the same subsystem."""

    def __init__(self, wanted: _Wanted, current: Subsystem, options: dict, graph: Graph, is_new: bool) -> None:
        self._wanted = wanted
        self._current = current
        self._options = options
        self._graph = graph
        self._is_new = is_new
        self._key = ("subsystem", current.nqn)
        self._actions: list[Action] = []
        self._notes: list[str] = []

    def change(self) -> Change:
        current = self._current
        if self._is_new:
            self._create()
        namespaces = self._namespaces()
        hosts = self._hosts()
        host_keys = self._host_keys(hosts)
        allow_any_host = self._allow_any_host()
        listeners = self._listeners()
        attributes = {key: self._options[key] for key in SUBSYSTEM_ATTRIBUTES if self._options[key] is not None}
        planned = Subsystem(
            current.nqn,
            allow_any_host,
            current.attributes or attributes,
            frozenset(listeners),
            hosts,
            namespaces,
            frozenset(address for address, secure in listeners.items() if secure),
            host_keys,
        )
        return Change(
            None if self._is_new else _fields(current, self._graph),
            _fields(planned, self._graph),
            self._actions,
            predict=lambda world: _predict(world, planned),
            notes=self._notes,
        )

    def _act(
        self, method: str, params: dict, summary: str, claims: tuple = (), uses: tuple = (), risk: str = "safe"
    ) -> None:
        holds = (self._key, *claims)
        self._actions.append(
            Action(method, {"nqn": self._current.nqn, **params}, summary, holds=holds, uses=uses, risk=risk)
        )

    def _create(self) -> None:
        given = (*SUBSYSTEM_ATTRIBUTES, "ana_reporting")
        params = {name: self._options[name] for name in given if self._options[name] is not None}
        params["allow_any_host"] = self._current.allow_any_host
        self._act(
            "nvmf_create_subsystem",
            params,
            "create the subsystem",
            uses=tuple(bdev.key for bdev in self._wanted.namespaces.values()),
        )

    def _extra(self, part: str, extras: list, describe: str) -> bool:
        """Note what nobody wants and tell whether it is to be removed."""
        if not extras:
            return False
        purge = part in self._options["purge"]
        if not purge:
            self._notes.append(f"{describe} not in the desired state, left alone (purge: [{part}] removes)")
        return purge

    def _namespaces(self) -> dict:
        namespaces = dict(self._current.namespaces)
        for nsid, bdev in self._wanted.namespaces.items() if "namespaces" not in self._options["purge"] else ():
            exported_as = self._graph.exports.get(bdev.name)
            if exported_as and exported_as[1] != nsid:
                raise Refusal(
                    f"bdev {bdev.key[1]} is shown as namespace {exported_as[1]}, wanted {nsid}; a bdev has one "
                    f"namespace at a time: add purge: [namespaces] to move it"
                )
            shown = namespaces.get(nsid)
            if shown and shown.bdev != bdev.name:
                raise Refusal(
                    f"namespace {nsid} shows bdev {self._graph.key(shown.bdev)[1]}, wanted {bdev.key[1]}; hosts would "
                    f"see other data under the same name: add purge: [namespaces] to replace it"
                )
        wanted = {nsid: bdev.name for nsid, bdev in self._wanted.namespaces.items()}
        extras = [ns for nsid, ns in sorted(namespaces.items()) if wanted.get(nsid) != ns.bdev]
        described = ", ".join(f"namespace {ns.nsid} (bdev {self._graph.key(ns.bdev)[1]})" for ns in extras)
        if self._options["namespaces"] is not None and self._extra("namespaces", extras, described):
            for namespace in extras:
                self._act(
                    "nvmf_subsystem_remove_ns",
                    {"nsid": namespace.nsid},
                    f"remove namespace {namespace.nsid}",
                    claims=(self._graph.key(namespace.bdev),),
                    risk=DISRUPTIVE,
                )
                del namespaces[namespace.nsid]
        for nsid, bdev in self._wanted.namespaces.items():
            if nsid not in namespaces:
                self._act(
                    "nvmf_subsystem_add_ns",
                    {"namespace": {"bdev_name": bdev.key[1], "nsid": nsid}},
                    f"show bdev {bdev.key[1]} as namespace {nsid}",
                    claims=(bdev.key,),
                )
                namespaces[nsid] = Namespace(nsid, bdev.name, bdev.uuid)
        return namespaces

    def _hosts(self) -> frozenset:
        current = self._current.hosts
        for host in self._wanted.hosts:
            if host not in current:
                self._let_in(host)
        extras = sorted(current.difference(self._wanted.hosts))
        hosts = current.union(self._wanted.hosts)
        if self._options["hosts"] is not None and self._extra("hosts", extras, f"host {', '.join(extras)}"):
            for host in extras:
                self._shut_out(host)
            hosts = hosts.difference(extras)
        return hosts

    def _let_in(self, host: str) -> None:
        keys = self._wanted.host_keys.get(host, {})
        params = {"host": host, **keys}
        self._act("nvmf_subsystem_add_host", params, f"let host {host} in{_with(keys)}", uses=_keys(keys))

    def _shut_out(self, host: str) -> None:
        self._act(
            "nvmf_subsystem_remove_host",
            {"host": host},
            f"shut host {host} out",
            uses=_keys(self._current.host_keys.get(host, {})),
            risk=DISRUPTIVE,
        )

    def _host_keys(self, hosts: frozenset) -> dict:
        """Give hosts that are in other keys; a connected host stays connected, unless its PSK has to change."""
        current = {host: keys for host, keys in self._current.host_keys.items() if host in hosts}
        for host, wanted in self._wanted.host_keys.items():
            found = current.get(host, {})
            if host not in self._current.hosts or found == wanted:
                continue
            in_place = "nvmf_subsystem_set_keys" in self._graph.release.methods
            if in_place and found.get("psk") == wanted.get("psk"):
                keys = {purpose: name for purpose, name in wanted.items() if purpose != "psk"}
                self._act(
                    "nvmf_subsystem_set_keys",
                    {"host": host, **keys},
                    f"let host {host} authenticate{_with(keys) or ' with nothing'}",
                    uses=_keys(found, keys),
                )
            else:
                self._shut_out(host)
                self._let_in(host)
        given = {host: keys for host, keys in {**current, **self._wanted.host_keys}.items() if keys}
        return dict(sorted(given.items()))

    def _allow_any_host(self) -> bool:
        wanted = bool(self._options["allow_any_host"])
        if wanted != self._current.allow_any_host:
            self._act(
                "nvmf_subsystem_allow_any_host",
                {"allow_any_host": wanted},
                "let any host in" if wanted else "let in only the hosts that are named",
                risk="safe" if wanted else DISRUPTIVE,
            )
        return wanted

    def _listeners(self) -> dict:
        """New ones first and wrong ones then, so that hosts have a path at each moment if there can be one."""
        secure = {address: address in self._current.secure for address in sorted(self._current.listeners)}
        canonical = {_naming.canonical_address(address): address for address in secure}
        extras = [a for a in secure if _naming.canonical_address(a) not in self._wanted.listeners]
        described = ", ".join(f"listener {address}" for address in extras)
        purge = self._options["listeners"] is not None and self._extra("listeners", extras, described)
        missing = [address for address in self._wanted.listeners if address not in canonical]
        if len(secure) + len(missing) > _MAX_LISTENERS:
            raise Refusal(
                f"it has {len(secure)} listeners and {len(missing)} more are wanted; SPDK takes {_MAX_LISTENERS}: "
                f"remove some first"
            )
        wrong = {
            canonical[address]: wanted
            for address, wanted in self._wanted.listeners.items()
            if address in canonical and wanted not in (None, secure[canonical[address]])
        }
        for address, wanted in wrong.items() if "listeners" not in self._options["purge"] else ():
            raise Refusal(
                f"listener {address} has secure_channel {'on' if secure[address] else 'off'}, wanted "
                f"{'on' if wanted else 'off'}; hosts would lose it: use another port, or add purge: [listeners] to "
                f"replace it"
            )
        for address in missing:
            secure[address] = self._listen(address, self._wanted.listeners[address])
        for address, wanted in wrong.items():
            self._stop_listening(address)
            secure[address] = self._listen(address, wanted)
        if purge:
            for address in extras:
                self._stop_listening(address)
                del secure[address]
        return secure

    def _listen(self, address: _naming.Address, secure: Optional[bool]) -> bool:
        self._act(
            "nvmf_subsystem_add_listener",
            {"listen_address": address._asdict(), **({"secure_channel": True} if secure else {})},
            f"listen on {_shown(address, bool(secure))}",
            uses=(("transport", address.trtype),),
        )
        return bool(secure)

    def _stop_listening(self, address: _naming.Address) -> None:
        self._act(
            "nvmf_subsystem_remove_listener",
            {"listen_address": address._asdict()},
            f"stop listening on {address}",
            risk=DISRUPTIVE,
        )


def _shown(address: _naming.Address, secure: bool) -> str:
    return f"{address} with TLS" if secure else str(address)


def _with(keys: dict) -> str:
    return f" with {', '.join(f'{purpose} {name}' for purpose, name in keys.items())}" if keys else ""


def _keys(*named: dict) -> tuple:
    """Return how plans name the keys of hosts, and what takes them."""
    tcp = (("transport", "TCP"),) if any("psk" in keys for keys in named) else ()
    return (*tcp, *dict.fromkeys(("key", name) for keys in named for name in keys.values()))


def _fields(subsystem: Subsystem, graph: Graph) -> dict:
    return {
        "nqn": subsystem.nqn,
        "allow_any_host": subsystem.allow_any_host,
        "listeners": [_shown(address, address in subsystem.secure) for address in sorted(subsystem.listeners)],
        "hosts": sorted(subsystem.hosts),
        "host_keys": subsystem.host_keys,
        "namespaces": {
            str(nsid): graph.key(namespace.bdev)[1] for nsid, namespace in sorted(subsystem.namespaces.items())
        },
    }


def _predict(world: Graph, planned: Subsystem) -> None:
    before = world.subsystems.get(planned.nqn)
    world.put_subsystem(planned)
    shown = {namespace.bdev for namespace in planned.namespaces.values()}
    hidden = {namespace.bdev for namespace in before.namespaces.values()} - shown if before else set()
    for names, claimed in ((shown, True), (hidden, False)):
        for name in names & world.bdevs.keys():
            world.bdevs[name] = world.bdevs[name]._replace(claimed=claimed)


def _require_only(found: Subsystem, wanted: list | None, graph: Graph) -> None:
    """Refuse to take away from hosts what the task does not name, if it names something."""
    if wanted is None:
        return
    named = {graph.canonical(item["bdev"]) for item in wanted}
    uuids = {item["bdev_uuid"].lower() for item in wanted if item["bdev_uuid"]}
    for nsid, namespace in sorted(found.namespaces.items()):
        shown = graph.key(namespace.bdev)[1]
        if not {shown, namespace.bdev} & named or (uuids and namespace.bdev not in uuids):
            raise Refusal(f"namespace {nsid} shows bdev {shown} ({namespace.bdev}), which the task does not name")


def _delete(found: Subsystem, options: dict, graph: Graph) -> Change:
    _require_only(found, options["namespaces"], graph)
    action = Action(
        "nvmf_delete_subsystem",
        {"nqn": found.nqn},
        "delete the subsystem; hosts lose it",
        holds=(("subsystem", found.nqn), *(graph.key(ns.bdev) for ns in found.namespaces.values())),
        uses=_keys(*found.host_keys.values()),
        risk=DISRUPTIVE,
    )

    def predict(world: Graph) -> None:
        world.remove_subsystem(found.nqn)
        for namespace in found.namespaces.values():
            if namespace.bdev in world.bdevs:
                world.bdevs[namespace.bdev] = world.bdevs[namespace.bdev]._replace(claimed=False)

    return Change(_fields(found, graph), None, [action], predict=predict)
