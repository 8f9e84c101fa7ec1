# SPDX-License-Identifier: GPL-3.0-or-later
"""An export that is otherwise than it should is repaired while a host is connected, and keeps a path all the time."""

from __future__ import annotations

import threading

import pytest
from support.modules import three_steps
from support.targets import free_port

NQN = "nqn.2024-01.io.excloud:storage.test"
HOST = "nqn.2024-01.io.excloud:host"
OTHER = "nqn.2024-01.io.excloud:other"
ADD, REMOVE = "nvmf_subsystem_add_", "nvmf_subsystem_remove_"


def address(port):
    return {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port}


class Site:
    """A target with an export on the first two of four ports, for one host, which is connected over both."""

    def __init__(self, target, host):
        self.target, self.call, self._host = target, target.call, host
        self.ports = [str(free_port()) for _number in range(4)]
        self.call("nvmf_create_transport", {"trtype": "TCP"})
        for name in "ab":
            self.call("bdev_malloc_create", {"name": name, "num_blocks": 8192, "block_size": 512})
        self.call("nvmf_create_subsystem", {"nqn": NQN, "ana_reporting": True, "max_namespaces": 2})
        self.call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "a", "nsid": 1}})
        self.call("nvmf_subsystem_add_host", {"nqn": NQN, "host": HOST})
        for port in self.ports[:2]:
            self.call("nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": address(port)})
        for port, state in zip(self.ports, ("non_optimized", "optimized")):
            params = {"nqn": NQN, "listen_address": address(port), "ana_state": state}
            self.call("nvmf_subsystem_listener_set_ana_state", params)
        for port in self.ports[:2]:
            path = {"name": "n0", "subnqn": NQN, "hostnqn": HOST, **address(port), "multipath": "multipath"}
            patience = {"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1}
            self._host.call("bdev_nvme_attach_controller", {**path, **patience})

    def repair(self, methods, **wanted):
        export = {"nqn": NQN, "ana_reporting": True, "max_namespaces": 2, **wanted}
        (run,) = three_steps(self.target, ("repair", "spdk_subsystem", export, methods))
        return [(call["method"], call["params"]) for call in self.target.recorder.mutations], run

    def paths(self):
        """The state of each path, by port."""
        (controller,) = self._host.call("bdev_nvme_get_controllers")
        return {path["trid"]["trsvcid"]: path["state"] for path in controller["ctrlrs"]}

    def ana(self):
        """The ANA state of each listener, by port."""
        listeners = self.call("nvmf_subsystem_get_listeners", {"nqn": NQN})
        return {each["address"]["trsvcid"]: each["ana_states"][0]["ana_state"] for each in listeners}

    def connections(self):
        return {each["cntlid"] for each in self.call("nvmf_subsystem_get_controllers", {"nqn": NQN})}


@pytest.fixture(name="site")
def _site(make_targets):
    return Site(*make_targets(2))


class Watch:
    """Looks all the time whether the host has a path."""

    def __init__(self, site):
        self.seen = []
        self._site = site
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *unused):
        self._stop.set()
        self._thread.join()

    def _look(self):
        while not self._stop.wait(0.02):
            self.seen.append("enabled" in self._site.paths().values())


def listeners(*ports):
    return [{"traddr": "127.0.0.1", "trsvcid": port} for port in ports]


def test_a_wrong_listener_goes_after_the_new_one_came(site):
    kept, wrong, new = site.ports[:3]
    with Watch(site) as watch:
        calls, _run = site.repair(
            [ADD + "listener", REMOVE + "listener"], listeners=listeners(kept, new), purge=["listeners"]
        )
    assert calls == [
        (ADD + "listener", {"nqn": NQN, "listen_address": address(new)}),
        (REMOVE + "listener", {"nqn": NQN, "listen_address": address(wrong)}),
    ]
    assert watch.seen and all(watch.seen)
    assert site.paths()[kept] == "enabled"
    assert site.ana() == {kept: "non_optimized", new: "optimized"}


def test_a_wrong_listener_without_purge_stays(site):
    kept, extra, new = site.ports[:3]
    _calls, run = site.repair([ADD + "listener"], listeners=listeners(kept, new))
    assert f"listener TCP 127.0.0.1:{extra} not in the desired state, left alone" in run["results"][0]["notes"][0]
    assert site.paths() == {kept: "enabled", extra: "enabled"}
    assert site.ana() == {kept: "non_optimized", extra: "optimized", new: "optimized"}


def test_hosts_come_before_others_go(site):
    before = site.connections()
    site.call("nvmf_subsystem_add_host", {"nqn": NQN, "host": OTHER})
    wanted = "nqn.2024-01.io.excloud:wanted"
    with Watch(site) as watch:
        calls, _run = site.repair([ADD + "host", REMOVE + "host"], hosts=[HOST, wanted], purge=["hosts"])
    assert calls == [
        (ADD + "host", {"nqn": NQN, "host": wanted}),
        (REMOVE + "host", {"nqn": NQN, "host": OTHER}),
    ]
    assert watch.seen and all(watch.seen)
    assert site.connections() == before
    assert site.ana() == dict(zip(site.ports, ("non_optimized", "optimized")))


def test_all_listeners_are_wrong(site):
    """What is new comes first, so that who knows the new addresses finds them before the old ones go."""
    old, new = site.ports[:2], site.ports[2:]
    calls, _run = site.repair(
        [ADD + "listener"] * 2 + [REMOVE + "listener"] * 2, listeners=listeners(*new), purge=["listeners"]
    )
    assert [method for method, _params in calls] == [ADD + "listener"] * 2 + [REMOVE + "listener"] * 2
    assert set(site.ana()) == set(new)
    assert not set(site.ana()) & set(old)


def test_another_bdev_behind_the_namespace(site):
    """Without purge it is refused (test_plan.py); with it the connections stay."""
    before = site.connections()
    calls, _run = site.repair([REMOVE + "ns", ADD + "ns"], namespaces=[{"bdev": "b", "nsid": 1}], purge=["namespaces"])
    assert calls == [
        (REMOVE + "ns", {"nqn": NQN, "nsid": 1}),
        (ADD + "ns", {"nqn": NQN, "namespace": {"bdev_name": "b", "nsid": 1}}),
    ]
    assert site.connections() == before
    assert site.paths() == dict.fromkeys(site.ports[:2], "enabled")
    assert site.ana() == dict(zip(site.ports, ("non_optimized", "optimized")))
    (shown,) = site.call("nvmf_get_subsystems", {"nqn": NQN})[0]["namespaces"]
    assert (shown["nsid"], shown["bdev_name"]) == (1, "b")


def test_only_one_of_the_listeners_has_to_change(site):
    """A listener that wants TLS now is replaced while the host has the other path."""
    kept, wrong = site.ports[:2]
    secure = [*listeners(kept), {**listeners(wrong)[0], "secure_channel": True}]
    with Watch(site) as watch:
        calls, run = site.repair([REMOVE + "listener", ADD + "listener"], listeners=secure, purge=["listeners"])
    assert [params["listen_address"]["trsvcid"] for _method, params in calls] == [wrong, wrong]
    assert run["results"][0]["after"]["listeners"] == sorted(
        [f"TCP 127.0.0.1:{kept}", f"TCP 127.0.0.1:{wrong} with TLS"]
    )
    assert watch.seen and all(watch.seen)
    assert site.paths()[kept] == "enabled"
    assert site.ana()[kept] == "non_optimized"
