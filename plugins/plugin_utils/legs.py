# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which replicas of a volume its mirror has, and what is recorded of each. Pure.

A mirror has two places for life. So a leg is replaced by taking it out and bringing another one in sync, one at a time,
and what decides is what was recorded of each replica (``membership``, docs/database.md).
"""

from __future__ import annotations

USABLE = ("UP", "RESIZING")
PLACES = 2
MEMBERS = ("IN_SYNC", "JOINING")
_PREFERENCE = {"IN_SYNC": 0, "JOINING": 1, "CONNECTED": 2, "NONE": 3}


def usable_legs(volume):
    """Return the replicas of a volume that a mirror may get."""
    return [leg for leg in volume["legs"] if leg["state"] in USABLE]


def mirror_legs(volume):
    """Return the replicas that the mirror should have, at most two: those that it has, and what takes their place.

    One that is DELETING is kept until there is another one, and as long as no other one is in sync.
    """
    going = [leg for leg in volume["legs"] if leg["state"] == "DELETING" and leg["membership"] in MEMBERS]
    wanted = (_preferred(usable_legs(volume)) + _preferred(going))[:PLACES]
    if not any(_is_in_sync(leg) for leg in wanted):
        return ([leg for leg in _preferred(going) if _is_in_sync(leg)][:1] + wanted)[:PLACES]
    return wanted


def stale_legs(volume):
    """Return those of the mirror's replicas that do not hold the data while another one does."""
    legs = mirror_legs(volume)
    return [leg for leg in legs if not _is_in_sync(leg)] if any(map(_is_in_sync, legs)) else []


def connected_legs(volume):
    """Return the replicas that the node is to be connected to: those of the mirror, further ones, and members that go.

    A member that goes is in the mirror until it was seen to be out, and a mirror that waits for it needs it.
    """
    return [
        leg
        for leg in volume["legs"]
        if leg["state"] in USABLE or leg["state"] == "DELETING" and leg["membership"] in MEMBERS
    ]


def claims(volume):
    """Return (replica, membership) of those that this run may connect to or make a leg of, to be recorded before."""
    mirror = [leg["lvol_id"] for leg in mirror_legs(volume)]
    wanted = [(leg, "JOINING" if leg["lvol_id"] in mirror else "CONNECTED") for leg in connected_legs(volume)]
    return [(leg, claim) for leg, claim in wanted if _PREFERENCE[claim] < _PREFERENCE[leg["membership"]]]


def memberships(volume, in_sync, rebuilding, detached):
    """Return (replica, membership) of those of which something else is recorded than was seen after a run.

    ``in_sync`` and ``rebuilding`` are replicas' ids as their mirror has them, ``detached`` those that the node is not
    connected to. A replica that goes is let go when it is out and the mirror whole.
    """
    mirror = [leg["lvol_id"] for leg in mirror_legs(volume)]
    whole = all(number in in_sync for number in mirror)
    found = []
    for leg in volume["legs"]:
        number, membership = leg["lvol_id"], leg["membership"]
        if number in in_sync:
            seen = "IN_SYNC"
        elif number in rebuilding or number in mirror:
            seen = "JOINING"
        elif membership == "NONE" or number in detached and leg["state"] == "DELETING" and whole:
            seen = "NONE"
        else:
            seen = "CONNECTED"
        if seen != membership:
            found.append((leg, seen))
    return found


def released(volume, in_sync):
    """Return (replica, membership) of those of which something else is recorded than is true without the mirror.

    ``in_sync`` are ids as the mirror had them before it was deleted, None if it was not there any more.
    """
    found = []
    for leg in volume["legs"]:
        good = _is_in_sync(leg) if in_sync is None else leg["lvol_id"] in in_sync
        seen = "IN_SYNC" if good else "NONE"
        if seen != leg["membership"]:
            found.append((leg, seen))
    return found


def _preferred(legs):
    return sorted(legs, key=lambda leg: (_PREFERENCE[leg["membership"]], leg["lvol_id"]))


def _is_in_sync(leg):
    return leg["membership"] == "IN_SYNC"
