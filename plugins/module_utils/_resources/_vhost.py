# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""vhost-blk controllers, through which virtual machines reach bdevs. Private to the collection."""

from __future__ import annotations

from .. import _naming, _options
from .._errors import Refusal
from .._graph import Bdev, Graph, Vhost
from .._plan import DISRUPTIVE, SAFE, Action, Change, Missing
from ._named import Named

_CREATE = "vhost_create_blk_controller"


class VhostResource(Named):
    """A controller serves one bdev, which SPDK does not claim for it: nothing but this keeps other writers away."""

    kind = "vhost"
    plural = "vhosts"
    rank = 8
    options = _options.VHOST

    @staticmethod
    def keys(options: dict, graph: Graph) -> list:
        """Return the keys under which others rely on this object."""
        return [("vhost", options["name"])]

    @staticmethod
    def facts(options: dict, graph: Graph) -> dict:
        """Return the socket, who is connected, and what QEMU needs to connect."""
        found = graph.vhosts.get(options["name"])
        return _facts(found) if found else {}

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        name = _naming.vhost_name(options["name"])
        found = graph.vhosts.get(name)
        if found and found.scsi is not None:
            raise Refusal("a vhost-scsi controller has that name; this module manages vhost-blk controllers")
        if options["state"] == "absent":
            return _delete(found, options["allow_sessions"], graph) if found else Change(None, None)
        if _CREATE not in graph.release.methods:
            raise Refusal("this target has no vhost: run spdk_tgt or vhost, built with it, and not nvmf_tgt")
        if not options["bdev"]:
            if found:
                return Change(_fields(found, graph), _fields(found, graph), facts=_facts(found))
            raise Refusal("the controller does not exist; name the bdev that it serves (bdev)")
        mask = _naming.cpumask(options["cpumask"]) if options["cpumask"] else None
        bdev = graph.bdev(options["bdev"])
        if bdev is None:
            raid = graph.raids.get(options["bdev"])
            why = f", because the RAID of that name is {raid.state}" if raid else " on this target"
            raise Missing(("bdev", graph.canonical(options["bdev"])), f"there is no bdev {options['bdev']}{why}")
        planned = Vhost(name, bdev.name, "", mask, options["readonly"])
        if found is None or found.bdev is None:
            return _create(planned, bdev, found, graph)
        _require_same(found, planned, graph)
        return Change(_fields(found, graph), _fields(found, graph), facts=_facts(found))


def _fields(controller: Vhost, graph: Graph) -> dict:
    bdev = graph.key(controller.bdev)[1] if controller.bdev else None
    return {"name": controller.name, "bdev": bdev, "readonly": controller.readonly}


def _facts(controller: Vhost) -> dict:
    if not controller.socket:
        return {}
    return {
        "socket": controller.socket,
        "sessions": list(controller.sessions),
        "qemu": {
            "object": f"memory-backend-memfd,id=mem-{controller.name},share=on",
            "chardev": f"socket,id=char-{controller.name},path={controller.socket.replace(',', ',,')},reconnect=1",
            "device": f"vhost-user-blk-pci,id={controller.name},chardev=char-{controller.name}",
        },
    }


def _require_same(found: Vhost, wanted: Vhost, graph: Graph) -> None:
    different = []
    if found.bdev != wanted.bdev:
        different.append(f"it serves bdev {graph.key(found.bdev or '')[1]}, wanted {graph.key(wanted.bdev or '')[1]}")
    if found.readonly != wanted.readonly:
        different.append(f"it is {'read-only' if found.readonly else 'writable'}")
    if wanted.cpumask and found.cpumask != wanted.cpumask:
        different.append(f"its cpumask is {found.cpumask:#x}, wanted {wanted.cpumask:#x}")
    if different:
        raise Refusal(f"{'; '.join(different)}; SPDK cannot change that: delete the controller first")


def _create(planned: Vhost, bdev: Bdev, found: Vhost | None, graph: Graph) -> Change:
    user = graph.user(bdev.name)
    if user:
        raise Refusal(f"bdev {graph.key(bdev.name)[1]} is {user}; two writers would destroy what is on it")
    keys = (("vhost", planned.name), bdev.key)
    actions = []
    if found:
        _require_nobody(found)
        actions.append(_deletion(found, keys, "delete the controller whose bdev is gone", SAFE))
    params: dict = {"ctrlr": planned.name, "dev_name": bdev.name}
    if planned.readonly:
        params["readonly"] = True
    if planned.cpumask:
        params["cpumask"] = f"{planned.cpumask:#x}"
    actions.append(Action(_CREATE, params, f"serve bdev {graph.key(bdev.name)[1]} to a virtual machine", holds=keys))
    before = _fields(found, graph) if found else None
    return Change(before, _fields(planned, graph), actions, predict=lambda world: world.put_vhost(planned))


def _deletion(found: Vhost, keys: tuple, summary: str, risk: str) -> Action:
    return Action("vhost_delete_controller", {"ctrlr": found.name}, summary, holds=keys, risk=risk)


def _require_nobody(found: Vhost) -> None:
    if found.sessions:
        raise Refusal(
            f"a client is connected (session {', '.join(found.sessions)}), and SPDK deletes the controller only when "
            f"it is gone: shut the virtual machine down, or take the device away from it"
        )


def _delete(found: Vhost, allow_sessions: bool, graph: Graph) -> Change:
    if not allow_sessions:
        _require_nobody(found)
    bdev = (graph.key(found.bdev),) if found.bdev else ()
    risk = DISRUPTIVE if found.sessions else SAFE
    action = _deletion(found, (("vhost", found.name), *bdev), "stop serving the bdev", risk)
    return Change(
        _fields(found, graph),
        None,
        [action],
        facts=_facts(found),
        predict=lambda world: world.remove_vhost(found.name),
    )
