# SPDX-License-Identifier: GPL-3.0-or-later
"""Which replicas a mirror has, over all combinations of rows and of what a mirror can have by then."""

from __future__ import annotations

import itertools

from ansible_collections.excloud.diskengine.plugins.plugin_utils.legs import (
    claims,
    connected_legs,
    memberships,
    mirror_legs,
    released,
    stale_legs,
)

STATES = ("CREATING", "UP", "RESIZING", "DELETING")
MEMBERSHIPS = ("NONE", "CONNECTED", "JOINING", "IN_SYNC")


def volume(*rows):
    return {"legs": [{"lvol_id": n, "state": state, "membership": of} for n, (state, of) in enumerate(rows, 1)]}


def ids(legs):
    return {leg["lvol_id"] for leg in legs}


def all_volumes():
    """Up to three replicas in every state and membership; a new one has no membership."""
    each = [(s, m) for s, m in itertools.product(STATES, MEMBERSHIPS) if s != "CREATING" or m == "NONE"]
    for rows in itertools.combinations_with_replacement(each, 3):
        yield volume(*rows)


def test_the_mirror_always_has_one_that_is_in_sync():
    """If there is any, the mirror is made of it, and the other one is known to be stale. It never has more than two."""
    for each in all_volumes():
        legs = mirror_legs(each)
        in_sync = [leg for leg in each["legs"] if leg["membership"] == "IN_SYNC"]
        assert len(ids(legs)) == len(legs) <= 2
        assert all(leg["state"] != "CREATING" for leg in legs)
        if in_sync:
            assert ids(legs) & ids(in_sync)
            assert ids(stale_legs(each)) == ids(legs) - ids(in_sync)
        else:
            assert stale_legs(each) == []


def test_what_is_used_is_connected_and_claimed():
    """What a mirror may have is connected, and nothing is connected that is not claimed before."""
    for each in all_volumes():
        connected = ids(connected_legs(each))
        assert ids(mirror_legs(each)) <= connected
        claimed = {leg["lvol_id"]: claim for leg, claim in claims(each)}
        assert set(claimed) <= connected
        for leg in each["legs"]:
            now = claimed.get(leg["lvol_id"], leg["membership"])
            if leg["lvol_id"] in connected:
                assert now != "NONE"
            if leg["lvol_id"] in ids(mirror_legs(each)):
                assert now in ("JOINING", "IN_SYNC")


def test_nothing_is_let_go_that_the_mirror_has_or_before_it_is_whole():
    """Whatever a run saw, a replica of which NONE is recorded is out, going, and others are in sync in its place."""
    for each in all_volumes():
        numbers = [leg["lvol_id"] for leg in each["legs"]]
        for size in (0, 1, 2):
            for seen in itertools.combinations(numbers, size):
                rebuilding = set(seen[1:]) if size == 2 and seen[0] % 2 else set()
                in_sync = set(seen) - rebuilding
                found = memberships(each, in_sync, rebuilding, set(numbers))
                for leg, membership in found:
                    number = leg["lvol_id"]
                    assert membership == "IN_SYNC" if number in in_sync else membership != "IN_SYNC"
                    if membership == "NONE":
                        assert leg["state"] == "DELETING" and number not in seen
                        assert ids(mirror_legs(each)) <= in_sync


def test_a_replica_in_whose_place_another_one_comes():
    """a goes, c takes its place; a is kept until c is in sync."""
    rows = volume(("DELETING", "IN_SYNC"), ("UP", "IN_SYNC"), ("UP", "NONE"))
    assert ids(mirror_legs(rows)) == {2, 3} and ids(connected_legs(rows)) == {1, 2, 3}
    assert [(leg["lvol_id"], claim) for leg, claim in claims(rows)] == [(3, "JOINING")]
    rows = volume(("DELETING", "IN_SYNC"), ("UP", "IN_SYNC"), ("UP", "JOINING"))
    assert [(leg["lvol_id"], of) for leg, of in memberships(rows, {2}, {3}, set())] == [(1, "CONNECTED")]
    rows = volume(("DELETING", "CONNECTED"), ("UP", "IN_SYNC"), ("UP", "JOINING"))
    assert ids(connected_legs(rows)) == {2, 3}
    assert memberships(rows, {2}, {3}, {1}) == []
    assert [(leg["lvol_id"], of) for leg, of in memberships(rows, {2, 3}, set(), {1})] == [(1, "NONE"), (3, "IN_SYNC")]


def test_without_a_mirror_only_what_is_in_sync_counts():
    rows = volume(("UP", "IN_SYNC"), ("UP", "IN_SYNC"), ("DELETING", "CONNECTED"))
    assert [(leg["lvol_id"], of) for leg, of in released(rows, {1})] == [(2, "NONE"), (3, "NONE")]
    assert [(leg["lvol_id"], of) for leg, of in released(rows, None)] == [(3, "NONE")]
