# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Subsystems of other nodes, attached over TCP or RDMA by one or several paths. Private to the collection.

A path is its address; from where it is reached makes no second one (contract section 7). Paths are added one by one,
because two equal attaches in flight are two connections, and each whatever became of the one before: a dead path is
what multipath is for.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any, Optional

from .. import _naming, _options
from .._errors import Refusal
from .._graph import HOST_KEYS, NVME_PRODUCT, Bdev, Controller, Graph, Path
from .._naming import Address
from .._plan import DISRUPTIVE, Action, Change

_ATTACH = "bdev_nvme_attach_controller"


def plan_paths(name: str, options: dict, found: Optional[Controller], graph: Graph) -> Change:
    """Work out what to do for a subsystem that is wanted. Raises Refusal."""
    if options["traddr"]:
        raise Refusal(f"traddr is the address of a local drive; over {options['trtype']} give paths")
    _require_possible(options)
    if found is None and not options["paths"]:
        raise Refusal("the subsystem is not attached; give its addresses (paths)")
    if found:
        _require_same(found, options)
    return _Comparison(name, options, found, graph).change()


def _require_possible(options: dict) -> None:
    """Refuse what the target would answer with Invalid argument (contract section 7)."""
    loss, delay, fast = (
        options[f"{name}_sec"] for name in ("ctrlr_loss_timeout", "reconnect_delay", "fast_io_fail_timeout")
    )
    if loss < -1 or delay < 0 or fast < 0:
        raise Refusal("a time is negative; only ctrlr_loss_timeout_sec can be, as -1 for never")
    if loss == 0 and (delay or fast):
        raise Refusal("with ctrlr_loss_timeout_sec 0 reconnect_delay_sec and fast_io_fail_timeout_sec have to be 0 too")
    if loss and not delay:
        raise Refusal(f"with ctrlr_loss_timeout_sec {loss} reconnect_delay_sec has to be 1 or more")
    if loss > 0 and max(delay, fast) > loss or fast and fast < delay:
        raise Refusal(
            f"reconnect_delay_sec {delay}, fast_io_fail_timeout_sec {fast} and ctrlr_loss_timeout_sec {loss} have to "
            f"be in ascending order, as far as they are set"
        )
    if options["multipath_selector"] and options["multipath_policy"] != "active_active":
        raise Refusal("multipath_selector is for multipath_policy active_active")
    if options["hostnqn"]:
        _naming.nqn(options["hostnqn"], "hostnqn")


def _require_same(found: Controller, options: dict) -> None:
    """Refuse to go on with a controller that hosts or keys tell from the wanted one."""
    wanted = {name: options[name] for name in ("hostnqn", *HOST_KEYS) if options[name]}
    for path in found.paths:
        has = {**path.settings, "hostnqn": found.hostnqn} if path.settings else {"hostnqn": found.hostnqn}
        for name, value in wanted.items():
            if (path.settings or name == "hostnqn") and has.get(name) != value:
                raise Refusal(
                    f"path {path.address} is attached with {name} {has.get(name) or 'not set'}, wanted {value}; SPDK "
                    f"cannot change that: detach the controller when nothing uses it"
                )


class _Comparison:
    """Compares the paths of one controller and collects the actions, one after the other."""

    def __init__(self, name: str, options: dict, found: Optional[Controller], graph: Graph) -> None:
        self._name = name
        self._options = options
        self._found = found
        self._graph = graph
        self._nqn = _naming.nqn(options["subnqn"] or (found.subnqn if found else ""), "subnqn")
        self._known = {_naming.canonical_address(path.address): path for path in found.paths} if found else {}
        items = options["paths"] or []
        self._wanted = {_naming.address({**item, "trtype": options["trtype"]}): item for item in items}
        if not items:
            self._wanted = dict.fromkeys(self._known)
        self._settings = {key: options[key] for key in _options.SETTINGS if options[key] is not None}
        self._policy = tuple(filter(None, (options["multipath_policy"], options["multipath_selector"])))
        self._bdevs = graph.bdevs_of(name)
        self._actions: list[Action] = []
        self._notes: list[str] = []

    def change(self) -> Change:
        missing = [address for address in self._wanted if address not in self._known]
        if missing:
            self._attach(missing)
        set_bdevs = self._set_policy()
        removed = self._detach(bool(missing))
        self._note_state()
        paths = [path for address, path in self._known.items() if address not in removed]
        planned = self._controller(paths + [Path(address, "", {}) for address in missing])
        before = self._fields(list(self._known)) if self._found else None
        if before and set_bdevs:
            before["multipath"] = " ".join(set_bdevs[0].multipath)

        def predict(world: Graph) -> None:
            world.controllers[self._name] = planned
            if not self._found:
                world.add_bdev(Bdev(f"{self._name}n1", (), None, NVME_PRODUCT, 0, None, False, multipath=self._policy))
            for bdev in set_bdevs:
                world.bdevs[bdev.name] = bdev._replace(multipath=self._policy)

        addresses = [_naming.canonical_address(path.address) for path in planned.paths]
        facts = {"bdevs": [bdev.name for bdev in self._bdevs]}
        return Change(before, self._fields(addresses), self._actions, facts=facts, predict=predict, notes=self._notes)

    def _fields(self, addresses: list) -> dict:
        return {
            "name": self._name,
            "trtype": self._options["trtype"],
            "subnqn": self._nqn,
            "paths": sorted(map(str, addresses)),
            **({"hostnqn": self._options["hostnqn"]} if self._options["hostnqn"] else {}),
            **({"multipath": " ".join(self._policy)} if self._policy else {}),
        }

    def _controller(self, paths: list) -> Controller:
        first = paths[0]
        hostnqn = self._found.hostnqn if self._found else self._options["hostnqn"] or ""
        about = (self._name, first.address.trtype, first.address.traddr, first.state)
        return Controller(*about, self._nqn, hostnqn, tuple(paths))

    def _act(self, method: str, params: dict, summary: str, holds: tuple = (), **more: Any) -> None:
        holds = (("controller", self._name), *holds)
        self._actions.append(Action(method, {"name": params.pop("name", self._name), **params}, summary, holds, **more))

    def _attach(self, missing: list) -> None:
        for path in self._known.values():
            if path.alternate or ("multipath_opts" in path.settings and "multipath" not in path.settings):
                raise Refusal(
                    "it was attached for one path at a time; SPDK cannot change that: detach it when nothing uses it, "
                    "and attach it again"
                )
        hostnqn = self._options["hostnqn"] or (self._found.hostnqn if self._found else "")
        for address in missing:
            source = _source(address, self._wanted[address], self._options, self._graph)
            self._act(
                _ATTACH,
                {
                    **address._asdict(),
                    "subnqn": self._nqn,
                    **({"hostnqn": hostnqn} if hostnqn else {}),
                    **({"hostaddr": source} if source else {}),
                    "multipath": "multipath",
                    **self._multipath_opts(),
                    **self._settings,
                },
                f"attach {self._nqn} at {address}",
                holds=() if self._found else (("attached", self._nqn), ("bdev", f"{self._name}n1")),
                uses=tuple(("key", self._settings[key]) for key in HOST_KEYS if key in self._settings),
                learns="bdevs",
                reveals=not self._found,
                one_will_do=True,
            )

    def _multipath_opts(self) -> dict:
        """Return what each attach has to say in the same words as the first one, where the release takes it."""
        if self._found:
            had = next((path.settings.get("multipath_opts") for path in self._known.values()), None)
            return {"multipath_opts": had} if had else {}
        if not self._policy or not self._graph.release.knows(_ATTACH, "multipath_opts"):
            return {}
        return {"multipath_opts": dict(zip(("policy", "selector"), self._policy))}

    def _set_policy(self) -> list:
        """Plan the change of the policy where it is not set by the attach; return the bdevs whose policy changes."""
        different = [bdev for bdev in self._bdevs if bdev.multipath[: len(self._policy)] != self._policy]
        names = [bdev.name for bdev in different]
        if not self._found and self._policy and not self._multipath_opts():
            names = [f"{self._name}n1"]
        for name in names:
            self._act(
                "bdev_nvme_set_multipath_policy",
                {"name": name, **dict(zip(("policy", "selector"), self._policy))},
                f"set the multipath policy of {name} to {' '.join(self._policy)}",
                holds=(("bdev", name),),
            )
        return different

    def _detach(self, is_attaching: bool) -> set:
        """Plan the removal of paths that nobody wants, as long as one is left that works; return their addresses."""
        wrong = [address for address in self._known if address not in self._wanted]
        works = is_attaching or any(
            path.state == "enabled" for address, path in self._known.items() if address in self._wanted
        )
        if wrong and not works and "paths" not in self._options["purge"]:
            named = ", ".join(map(str, wrong))
            self._notes.append(
                f"{named} is left, though nobody wants it, because none of the wanted paths works (purge)"
            )
            return set()
        for address in wrong:
            self._act(
                "bdev_nvme_detach_controller",
                {**self._known[address].address._asdict(), "subnqn": self._nqn},
                f"detach the path at {address}",
                risk=DISRUPTIVE,
            )
        return set(wrong)

    def _note_state(self) -> None:
        for address, path in self._known.items():
            if address in self._wanted and path.state != "enabled":
                self._notes.append(f"path {address} is not connected: its state is {path.state}")
            different = [
                f"{name} is {path.settings[name]}, wanted {value}"
                for name, value in self._settings.items()
                if address in self._wanted and path.settings.get(name, value) != value
            ]
            if different:
                self._notes.append(
                    f"path {address} was attached with other settings, which SPDK changes only by a new attach: "
                    f"{', '.join(different)}"
                )
        if self._found and not self._bdevs:
            self._notes.append("its subsystem shows no namespace, or one that another controller shows already")


def _source(address: Address, item: dict, options: dict, graph: Graph) -> Optional[str]:
    """Return the local address to connect from: of those that can be used the one most like the path's address."""
    if (address.trtype, address.adrfam) != ("RDMA", "IPv4"):
        return item["hostaddr"]
    choices = [item["hostaddr"]] if item["hostaddr"] else options["source_addresses"] or []
    choices = [_naming.ipv4(choice, "source address") for choice in choices]
    if not choices:
        raise Refusal(f"RDMA over IPv4 needs a local address to connect to {address} from; give source_addresses")
    usable = [choice for choice in choices if not graph.sources.get(choice)]
    if not usable:
        raise Refusal(f"cannot connect to {address}: {'; '.join(graph.sources[choice] for choice in choices)}")
    return min(usable, key=lambda choice: int(IPv4Address(choice)) ^ int(IPv4Address(address.traddr)))
