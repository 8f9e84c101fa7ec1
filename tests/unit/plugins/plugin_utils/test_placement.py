# SPDX-License-Identifier: GPL-3.0-or-later
"""Where replicas go: what holds for every choice, and what is said of it."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import Refusal
from ansible_collections.excloud.diskengine.plugins.plugin_utils.placement import Demand, Disks
from hypothesis import given
from hypothesis import strategies as st

MIB = 1 << 20
CLUSTER = 4 * MIB


def disk(number, node, room=100, domain=None, total=100, **changes):
    """A row of v_room; room and total are clusters."""
    return {
        "disk_id": number,
        "node": node,
        "node_state": "active",
        "failure_domain": domain,
        "state": "UP",
        "health": "ok",
        "cluster_size": CLUSTER,
        "total_bytes": total * CLUSTER,
        "room_bytes": room * CLUSTER,
        "objects": 0,
        "draining": False,
        **changes,
    }


def unfit(row):
    return row["node_state"] != "active" or row["state"] != "UP" or row["health"] == "critical"


@st.composite
def estates(draw):
    nodes = {
        f"node-{number}": (
            draw(st.sampled_from(["a", "b", "c", None])),
            draw(st.sampled_from(["active"] * 4 + ["cordoned"])),
        )
        for number in range(draw(st.integers(1, 6)))
    }
    rows = []
    for number in range(1, draw(st.integers(1, 10)) + 1):
        name = draw(st.sampled_from(sorted(nodes)))
        domain, state = nodes[name]
        total = draw(st.integers(1, 40))
        rows.append(
            disk(
                number,
                name,
                draw(st.integers(-2, total)),
                domain,
                total,
                node_state=state,
                state=draw(st.sampled_from(["UP"] * 5 + ["FAULTY"])),
                health=draw(st.sampled_from(["ok"] * 5 + ["critical", None])),
                objects=draw(st.integers(0, 5)),
            )
        )
    return rows


demands = st.builds(Demand, size=st.integers(1, 12 * CLUSTER), count=st.integers(0, 3), allow_same_domain=st.booleans())


@given(estates(), st.lists(demands, max_size=8))
def test_what_holds_for_every_choice(rows, wanted):
    """Sound, complete for the nodes that are there, and the same again."""
    given_rows = copy.deepcopy(rows)
    disks, again = Disks(rows), Disks(rows)
    left = {row["disk_id"]: dict(row) for row in rows}
    for demand in wanted:
        clusters = -(-demand.size // CLUSTER)
        able = [
            row
            for row in left.values()
            if not unfit(row)
            and row["room_bytes"] >= clusters * CLUSTER
            and row["objects"] + 1 < row["total_bytes"] // CLUSTER
        ]
        apart = {row["node" if demand.allow_same_domain else "failure_domain"] or row["node"] for row in able}
        try:
            placement, rejected = disks.place(demand)
        except Refusal as refusal:
            assert len(apart) < demand.count
            with pytest.raises(Refusal, match="^no disk can take"):
                again.place(demand)
            assert "\n" not in str(refusal)
            continue
        assert (placement, rejected) == again.place(demand)
        assert len(apart) >= demand.count == len(placement)
        chosen = [left[entry["disk"]] for entry in placement]
        assert all(row in able for row in chosen)
        assert len({row["node"] for row in chosen}) == len(chosen)
        if not demand.allow_same_domain:
            assert len({row["failure_domain"] or row["node"] for row in chosen}) == len(chosen)
        if chosen:
            assert chosen[0]["room_bytes"] * 10**6 // chosen[0]["total_bytes"] == max(
                row["room_bytes"] * 10**6 // row["total_bytes"] for row in able
            )
        for row in chosen:
            row["room_bytes"] -= clusters * CLUSTER
            row["objects"] += 1
        assert all(entry["why"] for entry in [*placement, *rejected])
    assert rows == given_rows


def test_what_is_said_of_a_choice():
    disks = Disks(
        [
            disk(1, "s1", 50, "rack-1"),
            disk(2, "s2", 90, "rack-1"),
            disk(3, "s2", 80, "rack-1"),
            disk(4, "s3", 30, "rack-2"),
            disk(5, "s4", 10, "rack-2", total=10),
            disk(6, "s5", node_state="cordoned"),
            disk(7, "s5", node_state="cordoned"),
            disk(8, "s6", state="FAULTY"),
            disk(9, "s6", health="critical"),
            disk(10, "s6", cluster_size=None),
            disk(11, "s6", draining=True),
        ]
    )
    assert disks.rejected == [
        {"node": "s5", "disk": None, "why": "the node is cordoned"},
        {"node": "s6", "disk": 8, "why": "the disk is FAULTY"},
        {"node": "s6", "disk": 9, "why": "the health of the disk is critical"},
        {"node": "s6", "disk": 10, "why": "the size of its lvstore is not recorded yet; converge the node"},
        {"node": "s6", "disk": 11, "why": "the disk is being drained"},
    ]
    placement, rejected = disks.place(Demand(size=20 * CLUSTER, count=2))
    first = "the emptiest disk that can take it"
    assert placement == [
        {"node": "s2", "disk": 2, "why": f"{first}: 90% of 400 MiB to give away"},
        {"node": "s3", "disk": 4, "why": f"{first} outside rack-1: 30% of 400 MiB to give away"},
    ]
    assert rejected == [
        {"node": "s4", "disk": 5, "why": "it takes 80 MiB, and the disk has room for 40 MiB"},
        {"node": "s2", "disk": None, "why": "the node has a replica of the volume"},
        {"node": "s1", "disk": None, "why": "failure domain rack-1 has a replica of the volume"},
    ]


def test_a_failure_domain_is_shared_only_if_that_is_allowed():
    rows = [disk(1, "s1", domain="a"), disk(2, "s2", 50, domain="a"), disk(3, "s2", 40, domain="a")]
    with pytest.raises(Refusal) as caught:
        Disks(rows).place(Demand(size=CLUSTER, count=2))
    assert str(caught.value) == (
        "no disk can take a further replica of 4 MiB (its node has a replica of the volume: disk 1; its failure domain "
        "has a replica of the volume: disk 2, 3); allow_same_domain would allow disk 2 of s2"
    )
    placement, _rejected = Disks(rows).place(Demand(size=CLUSTER, count=2, allow_same_domain=True))
    assert [entry["disk"] for entry in placement] == [1, 2]
    assert placement[1]["why"].startswith("no other failure domain has a disk for it; the emptiest disk that can")
    apart = [*rows, disk(4, "s3", 1, domain="b", objects=3)]
    placement, _rejected = Disks(apart).place(Demand(size=CLUSTER, count=2, allow_same_domain=True))
    assert [entry["disk"] for entry in placement] == [1, 4]


def test_a_choice_that_is_limited():
    rows = [disk(number, f"s{number}", 100 - number) for number in range(1, 7)]
    placement, rejected = Disks(rows).place(Demand(size=CLUSTER, count=1, kept=(4,), nodes=["s4", "s5", "s6"]))
    assert [entry["disk"] for entry in placement] == [5] and [entry["node"] for entry in rejected] == ["s4"]
    placement, rejected = Disks(rows).place(Demand(size=CLUSTER, count=2, disks=[3, 6]))
    assert [entry["disk"] for entry in placement] == [3, 6] and rejected == []
    with pytest.raises(Refusal, match="there is none to choose from"):
        Disks(rows).place(Demand(size=CLUSTER, count=1, nodes=["elsewhere"]))


def test_an_lvstore_holds_fewer_lvols_than_it_has_clusters():
    disks = Disks([disk(1, "s1", total=4, room=4, objects=2)])
    disks.place(Demand(size=1, count=1))
    with pytest.raises(Refusal, match="too many lvols: disk 1"):
        disks.place(Demand(size=1, count=1))


def test_growth_takes_room():
    disks = Disks([disk(1, "s1", 10, node_state="cordoned"), disk(2, "s2", 10), disk(3, "s3", 10, state="FAULTY")])

    def lvol(number):
        return {"disk_id": number, "size_bytes": 2 * CLUSTER}

    disks.grow([lvol(1), lvol(2)], 6 * CLUSTER + 1)  # five more
    said = "its replica on disk 1 of s1 cannot grow: it takes 40 MiB, and the disk has room for 20 MiB"
    with pytest.raises(Refusal, match=said):
        disks.grow([lvol(1), lvol(2)], 12 * CLUSTER)
    with pytest.raises(Refusal, match="its replica on disk 3 of s3 cannot grow: the disk is FAULTY"):
        disks.grow([lvol(2), lvol(3)], 3 * CLUSTER)
    placement, _rejected = disks.place(Demand(size=5 * CLUSTER, count=1))
    assert placement[0]["disk"] == 2
