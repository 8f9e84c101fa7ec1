# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections of the kernel, against a tree like the kernel's, and an nvme program that reacts."""

from __future__ import annotations

import json
import shlex
from unittest.mock import ANY

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils import _naming
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import Refusal
from ansible_collections.excloud.diskengine.plugins.module_utils._host import _nvme_discovery
from ansible_collections.excloud.diskengine.plugins.module_utils._host._host import Host, HostError
from ansible_collections.excloud.diskengine.plugins.module_utils._host._nvme_connection import (
    discovery_of,
    manage,
    wanted_of,
)
from ansible_collections.excloud.diskengine.plugins.module_utils._host._nvme_fabrics import PATH
from ansible_collections.excloud.diskengine.plugins.modules.nvme_connection import CONNECTION, DISCOVERY
from support.documented import returned
from support.sysfs import Kernel, Tree

NQN = "nqn.2024-01.io.excloud:node1.disk1.vol1"
OTHER = "nqn.2024-01.io.excloud:node1.disk1.vol2"
HOST = "nqn.2014-08.org.nvmexpress:uuid:0a6ae1a6-6d3c-4a94-b3a0-1d4cf4c0a001"
ME = "nqn.2014-08.org.nvmexpress:uuid:0a6ae1a6-6d3c-4a94-b3a0-1d4cf4c0a002"
HOSTID = "0a6ae1a6-6d3c-4a94-b3a0-1d4cf4c0a001"
KEY = "DHHC-1:00:c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0AAAAAA==:"
UNITS = "/etc/systemd/system"
TMO = ["--reconnect-delay=1", "--ctrl-loss-tmo=10"]
A, B = {"traddr": "10.0.1.11"}, {"traddr": "10.0.2.11"}


def entry(*paths, nqn=NQN, **options):
    """A connection as the module hands it on, defaults filled in."""
    filled = [{name: path.get(name, spec.get("default")) for name, spec in PATH.items()} for path in paths]
    given = {"nqn": nqn, "paths": filled, **options}
    return wanted_of({name: given.get(name, spec.get("default")) for name, spec in CONNECTION.items()})


def portal(traddr="10.0.1.11", **options):
    """A discovery controller as the module hands it on."""
    given = {"traddr": traddr, **options}
    return discovery_of({name: given.get(name, spec.get("default")) for name, spec in DISCOVERY.items()})


def offer(nqn=NQN, traddr="10.0.1.11", trsvcid="4420", trtype="tcp", subtype="nvme subsystem"):
    """A record of a discovery log."""
    adrfam = "ipv6" if ":" in traddr else "ipv4"
    return {"trtype": trtype, "adrfam": adrfam, "subtype": subtype, "treq": "not required", "portid": 1,
            "trsvcid": trsvcid, "subnqn": nqn, "traddr": traddr, "sectype": "none"}  # fmt: skip


class Initiator(Kernel):
    """A kernel with native multipath, and an nvme program that connects and disconnects in it."""

    def __init__(self, tree):
        super().__init__(tree, programs=("modprobe", "systemctl", "nvme"))
        self.dead = set()  # addresses where nobody answers
        self.state = "live"
        self.empty = False
        self.late = 0
        self.offers = {}  # what the discovery controller at an address answers: records, or text

    def discover(self, arguments):
        given = dict(argument[2:].split("=", 1) for argument in arguments[2:])
        told = self.offers.get(given["traddr"])
        if told is None:
            raise HostError(f"{' '.join(arguments)} failed with 1: failed to add controller, error connection refused")
        assert given["output-format"] == "json"
        return told if isinstance(told, str) else json.dumps({"genctr": 1, "records": told})

    def run(self, arguments):
        if arguments[:2] == ["nvme", "discover"]:
            return self.discover(arguments)
        super().run(arguments)
        if arguments[:2] == ["nvme", "connect"]:
            given = dict(argument[2:].split("=", 1) for argument in arguments[2:])
            if given["traddr"] in self.dead:
                raise HostError(f"nvme connect failed with 1: {given.get('config', '')}dhchap_secret={KEY}")
            self.tree.connect(given, self.state, self.empty)
            if self.late:
                name = self.tree.connected[-1]
                self.tree.put(f"/sys/class/nvme/{name}/state", "connecting\n")
                self._later.append(
                    (self._time + self.late, lambda: self.tree.put(f"/sys/class/nvme/{name}/state", "live\n"))
                )
        elif arguments[:2] == ["nvme", "disconnect"]:
            self.tree.disconnect(arguments[2].partition("=")[2])
        return ""


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    made.put(
        "/lib/modules/6.1.0-18-amd64/modules.dep", "kernel/nvme/host/nvme-tcp.ko: a\nkernel/nvme/host/nvme-rdma.ko:\n"
    )
    made.put("/etc/nvme/hostnqn", f"{ME}\n")
    made.at("/run/systemd/system").mkdir(parents=True)
    return made


@pytest.fixture
def kernel(tree):
    return Initiator(tree)


def run(kernel, *wanted, discovery=()):
    """Manage, and hold the run to what the preview said, and the run after it to do nothing."""
    before = kernel.tree.snapshot()
    preview = manage(kernel, list(wanted), discovery, 5.0, True)
    assert kernel.tree.snapshot() == before and not kernel.done
    result = manage(kernel, list(wanted), discovery, 5.0, False)
    assert all(result[key] == preview[key] for key in ("changed", "writes", "before", "after", "notes"))
    told = [[step["path"], *shlex.split(step["value"])] for step in result["writes"] if step["kind"] == "command"]
    assert [done for done in kernel.done if isinstance(done, list)] == told
    kernel.done.clear()
    again = manage(kernel, list(wanted), discovery, 5.0, False)
    assert not again["changed"] and again["before"] == again["after"] == result["after"] and not kernel.done
    return result


def refused(kernel, match, *wanted):
    before = kernel.tree.snapshot()
    for check in (True, False):
        with pytest.raises(Refusal, match=match):
            manage(kernel, list(wanted), [], 5.0, check)
    assert kernel.tree.snapshot() == before and not kernel.done


def commands(result):
    return [f"{step['path']} {step['value']}" for step in result["writes"] if step["kind"] == "command"]


def units(tree):
    return sorted(path for path in tree.at(UNITS).glob("diskengine-nvme-*.service"))


class TestPresent:
    def test_two_paths_now_and_at_boot(self, kernel, tree):
        result = run(kernel, entry(A, B))
        assert [line.split()[0] for line in commands(result)] == ["modprobe", "systemctl", "nvme", "nvme"]
        (shown,) = result["connections"]
        assert shown["devices"] == ["/dev/nvme0n1"]
        assert [(path["traddr"], path["state"], path["wanted"]) for path in shown["paths"]] == [
            ("10.0.1.11", "live", True),
            ("10.0.2.11", "live", True),
        ]
        assert result["before"][NQN] == {"paths": [], "at_boot": []}
        assert result["after"][NQN]["paths"] == ["TCP 10.0.1.11:4420", "TCP 10.0.2.11:4420"]
        assert [path.name for path in units(tree)] == result["after"][NQN]["at_boot"]
        line = f'"connect" "--transport=tcp" "--traddr=10.0.1.11" "--trsvcid=4420" "--nqn={NQN}"'
        texts = [path.read_text() for path in units(tree)]
        assert sum(f"\nExecStart=/usr/sbin/nvme {line}" in text for text in texts) == 1
        links = {path.name for path in tree.at(f"{UNITS}/multi-user.target.wants").iterdir()}
        assert links == {path.name for path in units(tree)}

    def test_only_what_is_missing(self, kernel):
        run(kernel, entry(A, persistent=False))
        result = run(kernel, entry(A, B, persistent=False))
        assert [line.split()[3] for line in commands(result)] == ["--traddr=10.0.2.11"]

    def test_all_options(self, kernel):
        path = {**A, "trsvcid": "4421", "host_traddr": "10.0.1.5", "host_iface": "eth1"}
        options = {"hostnqn": HOST, "hostid": HOSTID, "reconnect_delay": 2, "ctrl_loss_tmo": -1, "nr_io_queues": 4}
        result = run(kernel, entry(path, persistent=False, **options))
        assert commands(result)[-1].split() == [
            "nvme", "connect", "--transport=tcp", "--traddr=10.0.1.11", "--trsvcid=4421",
            "--host-traddr=10.0.1.5", "--host-iface=eth1", f"--nqn={NQN}", f"--hostnqn={HOST}", f"--hostid={HOSTID}",
            "--reconnect-delay=2", "--ctrl-loss-tmo=-1", "--nr-io-queues=4",
        ]  # fmt: skip

    def test_rdma_and_ipv6_in_another_spelling(self, kernel):
        run(kernel, entry({"traddr": "fd00:0:0::1"}, trtype="rdma", persistent=False))
        assert not run(kernel, entry({"traddr": "fd00::1"}, trtype="rdma", persistent=False))["changed"]

    def test_not_at_boot_any_more(self, kernel, tree):
        run(kernel, entry(A, B))
        run(kernel, entry(A, nqn=OTHER))
        result = run(kernel, entry(A, B, persistent=False))
        assert commands(result) == ["systemctl daemon-reload"]
        assert len(units(tree)) == 1 and not result["after"][NQN]["at_boot"]

    def test_another_host_name_is_another_path(self, kernel):
        run(kernel, entry(A, persistent=False))
        result = run(kernel, entry(A, persistent=False, hostnqn=HOST, hostid=HOSTID))
        assert len(commands(result)) == 1 and "other paths as well: TCP 10.0.1.11:4420 (nvme0)" in result["notes"][0]

    def test_a_path_that_is_lost_is_left_alone_and_named(self, kernel, tree):
        run(kernel, entry(A, B, persistent=False))
        tree.put("/sys/class/nvme/nvme1/state", "connecting\n")
        with pytest.raises(HostError, match=r"at TCP 10.0.2.11:4420 is not live: nvme1 is connecting"):
            manage(kernel, [entry(A, B, persistent=False)], [], 5.0, False)
        assert not kernel.done and kernel.now() >= 5

    def test_a_dead_target_keeps_nobody_from_the_others(self, kernel, tree):
        kernel.dead.add("10.0.1.11")
        with pytest.raises(HostError, match=r"could not connect .* at TCP 10.0.1.11:4420: nvme connect failed"):
            manage(kernel, [entry(A, B)], [], 5.0, False)
        assert len(tree.connected) == 1 and len(units(tree)) == 2

    def test_it_waits(self, kernel):
        kernel.late = 3
        assert run(kernel, entry(A))["connections"][0]["paths"][0]["state"] == "live"

    def test_no_block_device(self, kernel):
        kernel.empty = True
        with pytest.raises(HostError, match="is live and shows no block device"):
            manage(kernel, [entry(A)], [], 5.0, False)

    def test_an_image(self, tree):
        result = manage(Host(str(tree.root)), [entry(A)], [], 5.0, False)
        assert {step["kind"] for step in result["writes"]} == {"file", "link"}
        assert "because this is an image" in result["notes"][0] and not result["after"][NQN]["paths"]


class TestSecret:
    wanted = {"hostnqn": HOST, "hostid": HOSTID, "dhchap_secret": KEY}

    def test_it_is_in_a_file_alone(self, kernel, tree):
        result = run(kernel, entry(A, **self.wanted))
        (file,) = tree.at("/etc/nvme").glob("diskengine-nvme-*.json")
        assert KEY in file.read_text() and file.stat().st_mode & 0o777 == 0o600
        assert KEY not in repr(result) and f"--config=/etc/nvme/{file.name}" in commands(result)[-1]
        assert not any(KEY in path.read_text() for path in units(tree))
        run(kernel, entry(nqn=NQN, state="absent"))
        assert not file.exists()

    def test_what_nvme_says_is_not_repeated(self, kernel):
        kernel.dead.add("10.0.1.11")
        with pytest.raises(HostError, match="the kernel's log says why") as caught:
            manage(kernel, [entry(A, **self.wanted)], [], 5.0, False)
        assert "DHHC" not in str(caught.value)

    def test_what_is_none(self):
        with pytest.raises(Refusal, match="it looks like DHHC-1") as caught:
            entry(A, **{**self.wanted, "dhchap_secret": "hush"})
        assert "hush" not in str(caught.value)


class TestPurge:
    def test_after_the_new_one(self, kernel, tree):
        run(kernel, entry(A))
        result = run(kernel, entry(B, purge_paths=True))
        assert [line.split()[1] for line in commands(result)] == ["daemon-reload", "connect", "disconnect"]
        assert result["after"][NQN]["paths"] == ["TCP 10.0.2.11:4420"] and len(units(tree)) == 1

    def test_in_use(self, kernel, tree):
        run(kernel, entry(A, persistent=False))
        tree.mount("nvme0n1", "/data")
        refused(
            kernel, "nvme0n1 is mounted on /data; .* connected before", entry(B, persistent=False, purge_paths=True)
        )
        run(kernel, entry(B, persistent=False))
        run(kernel, entry(B, persistent=False, purge_paths=True))

    def test_not_before_the_new_one_is_live(self, kernel, tree):
        run(kernel, entry(A))
        kernel.dead.add("10.0.2.11")
        with pytest.raises(HostError, match="could not connect"):
            manage(kernel, [entry(B, purge_paths=True)], [], 5.0, False)
        assert len(tree.connected) == 1


class TestAbsent:
    def test_all_paths(self, kernel, tree):
        run(kernel, entry(A, B), entry(A, nqn=OTHER))
        result = run(kernel, entry(state="absent"))
        assert commands(result) == [
            "systemctl daemon-reload", "nvme disconnect --device=nvme0", "nvme disconnect --device=nvme1",
        ]  # fmt: skip
        assert tree.connected == ["nvme2"] and len(units(tree)) == 1

    def test_in_use(self, kernel, tree):
        run(kernel, entry(A, B))
        tree.add_virtual("dm-0", "nvme0n1", dm_uuid="LVM-x", dm_name="vg-lv")
        refused(kernel, "is in use: nvme0n1 is part of the logical volume vg-lv .*; stop", entry(state="absent"))

    def test_open(self, kernel, tree):
        run(kernel, entry(A))
        tree.add_process(77, "fio", opened=["/dev/nvme0n1"])
        refused(kernel, r"is in use: fio \(process 77\) has nvme0 or its namespaces open", entry(state="absent"))


def loaded(tree):
    tree.put("/sys/module/nvme_tcp/initstate", "live\n")


class TestDiscovery:
    DISCOVERED = ("TCP 10.0.1.11:4420", "TCP 10.0.2.11:4420")

    @pytest.fixture(autouse=True)
    def load(self, tree):
        loaded(tree)

    def test_what_is_offered_is_connected_now_and_at_boot(self, kernel, tree):
        kernel.offers["10.0.1.11"] = [
            offer(_naming.DISCOVERY_NQN, subtype="current discovery subsystem"),
            offer(_naming.DISCOVERY_NQN, "10.0.9.1", subtype="discovery subsystem referral"),
            offer(), offer(traddr="10.0.2.11"), offer(OTHER, "0.0.0.0", "4421"), offer(OTHER, trtype="rdma"),
        ]  # fmt: skip
        result = run(kernel, discovery=[portal()])
        assert {nqn: after["paths"] for nqn, after in result["after"].items()} == {
            NQN: [*self.DISCOVERED],
            OTHER: ["TCP 10.0.1.11:4421"],
        }
        assert len(tree.connected) == len(units(tree)) == 3 and not result["notes"]
        assert [path["wanted"] for shown in result["connections"] for path in shown["paths"]] == [True] * 3

    def test_two_portals_that_offer_the_same(self, kernel, tree):
        kernel.offers.update(dict.fromkeys(("10.0.1.11", "10.0.2.11"), [offer(), offer(traddr="10.0.2.11")]))
        result = run(kernel, discovery=[portal(), portal("10.0.2.11")])
        assert len(tree.connected) == 2 and result["after"][NQN]["paths"] == [*self.DISCOVERED]

    def test_from_an_interface_only_the_address_that_was_asked(self, kernel):
        kernel.offers.update(dict.fromkeys(("10.0.1.11", "10.0.2.11"), [offer(), offer(traddr="10.0.2.11")]))
        portals = [portal(host_iface="eth1"), portal("10.0.2.11", host_iface="eth2")]
        assert run(kernel, discovery=portals)["after"][NQN]["paths"] == [
            "TCP 10.0.1.11:4420 from eth1",
            "TCP 10.0.2.11:4420 from eth2",
        ]

    @pytest.mark.parametrize("nqns", [[NQN], ["*.vol1"]])
    def test_only_the_nqns_that_are_wanted(self, kernel, nqns):
        kernel.offers["10.0.1.11"] = [offer(), offer(OTHER)]
        assert list(run(kernel, discovery=[portal(nqns=nqns)])["after"]) == [NQN]

    def test_what_is_named_as_well(self, kernel):
        kernel.offers["10.0.1.11"] = [offer(), offer(traddr="10.0.2.11"), offer(OTHER)]
        named = entry({**A, "host_iface": "eth1"}, reconnect_delay=7)
        result = run(kernel, named, entry(nqn=OTHER, state="absent"), discovery=[portal(ctrl_loss_tmo=-1)])
        connects = [line for line in commands(result) if line.startswith("nvme connect")]
        assert len(connects) == 2 and all("--reconnect-delay=7 --ctrl-loss-tmo=10" in line for line in connects)
        assert result["after"] == {
            NQN: {"paths": ["TCP 10.0.1.11:4420 from eth1", "TCP 10.0.2.11:4420"], "at_boot": ANY},
            OTHER: {"paths": [], "at_boot": []},
        }

    def test_what_is_not_offered_any_more_stays_now_and_at_boot(self, kernel, tree):
        kernel.offers["10.0.1.11"] = [offer(), offer(traddr="10.0.2.11"), offer(OTHER)]
        run(kernel, discovery=[portal(**TestSecret.wanted)])
        kernel.offers["10.0.1.11"] = [offer()]
        before = tree.snapshot()
        result = run(kernel, discovery=[portal(**TestSecret.wanted)])
        assert not result["changed"] and tree.snapshot() == before and len(units(tree)) == 3
        assert [note.partition(" (")[0] for note in result["notes"]] == [
            f"{OTHER} is connected at TCP 10.0.1.11:4420",
            f"{NQN} has other paths as well: TCP 10.0.2.11:4420",
        ]
        result = run(kernel, entry(nqn=OTHER, state="absent"), discovery=[portal(**TestSecret.wanted)])
        assert len(tree.connected) == len(units(tree)) == 2 and len(result["notes"]) == 1

    def test_a_path_that_is_asked_for_another_way_has_one_unit(self, kernel, tree):
        kernel.offers["10.0.1.11"] = [offer()]
        run(kernel, discovery=[portal()])
        run(kernel, discovery=[portal(host_iface="eth1")])
        (unit,) = units(tree)
        assert "--host-iface=eth1" in unit.read_text()

    def test_a_portal_that_does_not_answer_keeps_nobody_from_the_others(self, kernel, tree):
        run(kernel, entry(A, {"traddr": "10.0.3.11"}))
        kernel.offers["10.0.2.11"] = [offer(traddr="10.0.2.11")]
        for check, connected in ((True, 2), (False, 3)):
            with pytest.raises(HostError, match=r"^could not discover at TCP 10.0.1.11:4420: .* connection refused$"):
                portals = [portal(), portal("10.0.2.11")]
                manage(kernel, [entry(A, purge_paths=True)], portals, 5.0, check)
            assert len(tree.connected) == len(units(tree)) == connected  # nothing was purged that may be offered

    def test_names_that_are_none(self, kernel):
        kernel.offers["10.0.1.11"] = [offer("testnqn"), offer(traddr="node1"), offer(OTHER)]
        result = run(kernel, discovery=[portal()])
        assert list(result["after"]) == [OTHER]
        assert [note.partition(", offered at TCP 10.0.1.11:4420, is left alone")[0] for note in result["notes"]] == [
            "'testnqn'",
            f"'{NQN}'",
        ]

    @pytest.mark.parametrize("told", ["No discovery log entries to fetch.\n", '{"genctr": 0, "records": []}'])
    def test_nothing_is_offered(self, kernel, told):
        kernel.offers["10.0.1.11"] = told
        assert not run(kernel, discovery=[portal()])["changed"]

    def test_the_kernel_module_is_loaded_first(self, kernel, tree):
        tree.at("/sys/module/nvme_tcp/initstate").unlink()
        tree.at("/sys/module/nvme_tcp").rmdir()
        kernel.offers["10.0.1.11"] = [offer()]
        preview = manage(kernel, [], [portal()], 5.0, True)
        assert commands(preview) == ["modprobe nvme-tcp"] and not kernel.done
        assert preview["notes"] == ["what is offered at TCP 10.0.1.11:4420 is not known before nvme-tcp is loaded"]
        result = manage(kernel, [], [portal()], 5.0, False)
        assert commands(result)[0] == "modprobe nvme-tcp" and len(tree.connected) == 1
        assert [done for done in kernel.done if done[0] == "modprobe"] == [["modprobe", "nvme-tcp"]]

    def test_an_image(self, tree):
        result = manage(Host(str(tree.root)), [], [portal()], 5.0, False)
        assert not result["changed"] and "because this is an image" in result["notes"][0]


class TestInfo:
    portals = (portal().portal, portal("10.0.2.11", trsvcid="8009", hostnqn=HOST, hostid=HOSTID).portal)

    def test_each_is_asked(self, kernel, tree):
        loaded(tree)
        kernel.offers["10.0.2.11"] = [offer(trsvcid="4420   ")]
        shown, failed = _nvme_discovery.manage(kernel, [*self.portals])
        record = {field: offer()[field] for field in ("subtype", "subnqn", "trtype", "adrfam", "traddr", "trsvcid")}
        assert shown == [{"trtype": "tcp", "traddr": "10.0.2.11", "trsvcid": "8009", "records": [record]}]
        assert len(failed) == 1 and failed[0].startswith("could not discover at TCP 10.0.1.11:4420: nvme discover")
        documented = returned("nvme_discovery_info")["portals"]["contains"]
        assert shown[0].keys() == documented.keys() and record.keys() == documented["records"]["contains"].keys()

    @pytest.mark.parametrize("told", ["", "Usage: nvme", "[]", '{"records": [{}]}'])
    def test_what_is_no_log(self, kernel, tree, told):
        loaded(tree)
        kernel.offers["10.0.1.11"] = told
        _shown, failed = _nvme_discovery.manage(kernel, [self.portals[0]])
        assert "answered no discovery log in JSON" in failed[0]

    def test_refusals(self, kernel, tree):
        for match, change in (
            ("nvme-tcp is not loaded, and asking loads nothing", lambda: tree.at("/etc/nvme/hostnqn").unlink()),
            ("this host has no name in /etc/nvme/hostnqn", lambda: kernel.programs.discard("nvme")),
            ("install the package nvme-cli", lambda: setattr(kernel, "live", False)),
            ("cannot be asked from an image", list),
        ):
            with pytest.raises(Refusal, match=match):
                _nvme_discovery.manage(kernel, [*self.portals])
            change()


class TestRefusals:
    def test_no_nvme(self, kernel):
        kernel.programs.discard("nvme")
        refused(kernel, "install the package nvme-cli", entry(A))

    def test_no_module(self, kernel, tree):
        tree.put("/lib/modules/6.1.0-18-amd64/modules.dep", "")
        refused(kernel, "has no module nvme-tcp: install the package", entry(A))

    def test_no_name(self, kernel, tree):
        tree.at("/etc/nvme/hostnqn").unlink()
        refused(kernel, "this host has no name in /etc/nvme/hostnqn", entry(A))

    def test_twice(self, kernel):
        refused(kernel, "names a subsystem twice", entry(A), entry(B))

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({}, "names no path"),
            ({"paths": ({"traddr": "node1"},)}, "is not an IP address"),
            ({"paths": ({**A, "trsvcid": "0"},)}, "is not a port number"),
            ({"paths": ({**A, "host_traddr": "me"},)}, "host_traddr 'me' is not an IP address"),
            ({"paths": ({**A, "host_iface": "a b"},)}, "is not the name of a network interface"),
            ({"paths": (A,), "nqn": "vol1"}, "is not an NQN"),
            ({"paths": (A,), "hostnqn": "me", "hostid": HOSTID}, "hostnqn 'me' is not an NQN"),
            ({"paths": (A,), "hostnqn": HOST, "hostid": "1"}, "hostid '1' is not a UUID"),
            ({"paths": (A,), "reconnect_delay": 0}, "reconnect_delay of connection .* takes 1 or more"),
            ({"paths": (A,), "ctrl_loss_tmo": -2}, "takes -1 or more"),
        ],
    )
    def test_what_cannot_be(self, options, match):
        with pytest.raises(Refusal, match=match):
            entry(*options.pop("paths", ()), **options)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"traddr": "node1"}, "is not an IP address"),
            ({"hostnqn": "me", "hostid": HOSTID}, "hostnqn 'me' is not an NQN"),
            ({"nr_io_queues": 0}, "nr_io_queues of discovery at TCP 10.0.1.11:4420 is 0; the kernel takes 1 or more"),
        ],
    )
    def test_what_cannot_be_discovered(self, options, match):
        with pytest.raises(Refusal, match=match):
            portal(**options)
