# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From desired objects to results: read, plan, apply, and look again where the outcome is not known. Private."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, NamedTuple, Optional

from ._apply import apply
from ._errors import DiskengineError
from ._graph import Graph, read_graph, read_lvstores
from ._plan import ObjectPlan, Plan, make_plan
from ._rpc import Call, Client

_ROUNDS = 3


@dataclass
class Outcome:
    """What became of one desired object over all rounds; ``after`` is as planned, or as found when it failed.

    ``turn`` is its place in the plan, which need not be its place among the desired objects.
    """

    planned: ObjectPlan
    turn: int
    before: Optional[dict]
    after: Optional[dict]
    facts: dict
    notes: list
    error: Optional[str]
    deferred: bool = False
    actions: list = field(default_factory=list)

    def result(self, brief: bool = False) -> dict:
        """Return the entry that users see; ``brief`` leaves out what the diff tells, and what nobody misses."""
        entry = {
            "kind": self.planned.wanted.resource.kind,
            **self.planned.identity,
            **self.facts,
            **{name: self.after[name] for name in getattr(self.planned.wanted.resource, "tells", ()) if self.after},
            "changed": bool(self.actions),
            "failed": self.error is not None,
        }
        if self.deferred:
            entry["deferred"] = True
        if self.error is not None:
            entry["msg"] = self.error
        if not brief or self.actions:
            entry["actions"] = [action.summary for action in self.actions]
        if not brief or self.notes:
            entry["notes"] = self.notes
        if not brief:
            entry["before"] = self.before
            entry["after"] = self.after
        return entry


class Convergence(NamedTuple):
    """``outcomes`` of each object in their order, the graph as it was ``found``, and the ``lvstores`` afterwards."""

    outcomes: list
    found: Graph
    lvstores: list


def converge(connect: Callable[[], Client], desired: list, dry_run: bool, assume: tuple = ()) -> Convergence:
    """Bring one target to the ``desired`` state (a list of Wanted).

    ``dry_run`` stops after planning, in which what is of a kind in ``assume`` is taken to be there. After a failed call
    the state is read again, and an object that is as wanted has not failed. After a lost connection the remaining
    actions are planned anew from what is found, at most twice; after a call that got no answer in time nothing more is
    sent to this target. Raises Unreachable, RpcError and UnknownOutcome only while nothing was sent.
    """
    client = connect()
    try:
        found = observe(client, desired)
        plan = make_plan(desired, found, assume if dry_run else (), preview=dry_run)
        outcomes = {id(planned.wanted): _outcome(planned, turn) for turn, planned in enumerate(plan.objects)}
        if dry_run:
            for planned in plan.objects:
                outcome = outcomes[id(planned.wanted)]
                outcome.actions = planned.change.actions
                if planned.change.unread:
                    outcome.notes.append(planned.change.unread)
                if planned.deferred:
                    outcome.deferred = True
                    outcome.notes.append(f"{planned.deferred}; what follows is known when the drives were looked at")
            return Convergence([outcomes[id(wanted)] for wanted in desired], found, list(found.lvstores.values()))
        for rounds_left in reversed(range(_ROUNDS)):
            results = apply(plan.actions, client)
            doubtful = [planned for planned in plan.objects if not _settled(planned, outcomes, results)]
            if not doubtful:
                break
            try:
                hung = client.hung
                lost = bool(client.broken) and not hung
                if client.broken:
                    client.close()
                    client = connect()
                if not hung and any(planned.deferred for planned in doubtful):
                    client.read([Call("bdev_wait_for_examine", subject="all bdevs")])
                observed = observe(client, [planned.wanted for planned in doubtful])
            except DiskengineError as error:
                for planned in doubtful:
                    outcomes[id(planned.wanted)].error = f"{_cause(planned)}; looking again failed: {error}"
                break
            plan = _look_again(doubtful, observed, outcomes, lost, not hung and rounds_left > 0)
        in_order = [outcomes[id(wanted)] for wanted in desired]
        return Convergence(in_order, found, _look_afterwards(client, found, in_order))
    finally:
        client.close()


def _look_afterwards(client: Client, found: Graph, outcomes: list) -> list:
    """Add the facts that only a later reading shows, and return the lvstores after the run.

    What the target does not tell any more is left out.
    """
    if not any(outcome.actions for outcome in outcomes):
        return list(found.lvstores.values())
    if client.broken:
        return []
    telling = [o for o in outcomes if o.actions and hasattr(o.planned.wanted.resource, "facts")]
    try:
        if not telling:
            return read_lvstores(client)
        graph = read_graph(client)
    except DiskengineError:
        return []
    for outcome in telling:
        resource, options = outcome.planned.wanted
        outcome.facts.update(resource.facts(options, graph))
    return list(graph.lvstores.values())


def observe(client: Client, desired: list) -> Graph:
    """Read the target, and what no getter tells where ``desired`` depends on it."""
    graph = read_graph(client)
    by_resource: dict = {}
    for resource, options in desired:
        if hasattr(resource, "look"):
            by_resource.setdefault(resource, []).append(options)
    for resource, given in by_resource.items():
        resource.look(client, given, graph)
    return graph


def _outcome(planned: ObjectPlan, turn: int) -> Outcome:
    change = planned.change
    notes = change.notes + ([change.later] if change.later else [])
    outcome = Outcome(planned, turn, change.before, change.after, change.facts, notes, planned.refusal)
    outcome.deferred = change.later is not None
    return outcome


def _settled(planned: ObjectPlan, outcomes: dict, results: dict) -> bool:
    """Note what was sent for an object and tell whether all of it was carried out."""
    outcome = outcomes[id(planned.wanted)]
    for action in planned.change.actions:
        if action.state in ("done", "unknown"):
            outcome.actions.append(action)
        if action.learns and action in results:
            outcome.facts[action.learns] = results[action]
    return not planned.deferred and all(action.state == "done" for action in planned.change.actions)


def _look_again(doubtful: list, observed: Graph, outcomes: dict, lost: bool, may_go_on: bool) -> Plan:
    """Judge the objects that were not carried out by what is there now; return the plan of those to try once more.

    These are, while it ``may_go_on``, those that were deferred and, after a ``lost`` connection, those that were not
    refused by the target.
    """
    plan = make_plan([planned.wanted for planned in doubtful], observed)
    causes = {id(planned.wanted): planned for planned in doubtful}
    given_up: set[int] = set()
    again: list[ObjectPlan] = []
    for planned in plan.objects:
        outcome = outcomes[id(planned.wanted)]
        outcome.facts.update(planned.change.facts)
        actions = planned.change.actions
        undone = {action.summary for action in actions}  # the parameters may name a new lvstore by its UUID now
        outcome.actions = [action for action in outcome.actions if action.summary not in undone]
        earlier = causes[id(planned.wanted)]
        if earlier.deferred:
            if not earlier.change.actions:
                outcome.before = planned.change.before
            outcome.after = planned.change.after
            outcome.notes.extend(planned.change.notes)
        if planned.change.later and not outcome.deferred:
            outcome.deferred = True
            outcome.after = planned.change.after
            outcome.notes.append(planned.change.later)
        if planned.deferred and not actions:
            if any(other.change.actions for other in again):
                again.append(planned)
            else:
                outcome.error = planned.deferred
            continue
        if not actions and planned.refusal is None:
            continue
        retry = may_go_on and (lost or earlier.deferred is not None)
        failed = any(action.state in ("failed", "skipped") for action in earlier.change.actions)
        orphaned = any(id(need) in given_up for action in actions for need in action.needs)
        if retry and planned.refusal is None and not failed and not orphaned:
            again.append(planned)
            continue
        outcome.error = planned.refusal or _cause(earlier)
        outcome.after = planned.change.before
        given_up.update(id(action) for action in actions)
    return Plan(again, plan.predicted)


def _cause(planned: ObjectPlan) -> str:
    """Say why an object's actions were not all carried out."""
    for action in planned.change.actions:
        if action.error is not None:
            return f"{action.summary}: {action.error}" if action.one_will_do else str(action.error)
    return "not sent, because the target stopped answering"
