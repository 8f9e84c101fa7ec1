# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The planner: desired and observed in, ordered actions out. Private to the collection.

Pure: no I/O, no clock, no random. Modules, bulk, check mode and the drift report all use ``make_plan``; a kind of
object is described by a class in ``_resources``.

The one rule of order (contract section 12): an action *holds* the keys of the objects that it changes and *uses* the
keys of those that it relies on. It needs the last planned action that held any of these keys, and, for keys that it
holds, all that used them since. So no two actions in flight ever change one object, or change one and use it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple, Optional

from ._errors import DiskengineError, Refusal
from ._graph import Bdev, Graph, Key, Lvstore, Transport

SAFE = "safe"
DISRUPTIVE = "disruptive"
DESTRUCTIVE = "destructive"

FILE = "file"
COPY = "copy"

ANYTHING = ("bdev", "lvstore", "transport", "key")


class Missing(Refusal):
    """Something the object relies on is not there; ``key`` tells what, as plans name it."""

    def __init__(self, key: tuple, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(eq=False)
class Action:
    """One mutating call, or what this node does itself: ``perform`` does that, and ``method`` is ``FILE`` or ``COPY``.

    ``risk`` is ``safe``, ``disruptive`` (interrupts hosts) or ``destructive`` (gives up data). ``learns`` names the
    fact of the object that the call's result is, e.g. ``uuid``; one that ``reveals`` brings up what nobody can know
    before, such as the lvstore on a drive. Of an object's actions that say ``one_will_do`` one success is enough for
    what waits for the last of them. The planner fills in ``subject`` and ``needs``;
    ``state`` is ``planned``, then what became of it: ``done``, ``failed``, ``unknown``, ``skipped`` or ``withheld``.
    """

    method: str
    params: dict
    summary: str
    holds: tuple = ()
    uses: tuple = ()
    risk: str = SAFE
    learns: Optional[str] = None
    reveals: bool = False
    perform: Optional[Callable[[], Any]] = None
    one_will_do: bool = False
    subject: str = ""
    needs: tuple = ()
    state: str = "planned"
    error: Optional[Exception] = None

    def describe(self) -> dict:
        """Return the action as users see it."""
        return {
            "object": self.subject,
            "method": self.method,
            "params": self.params,
            "summary": self.summary,
            "risk": self.risk,
        }


@dataclass
class Change:
    """What a resource finds necessary for one object.

    ``before`` and ``after`` are the managed fields (None: not there), ``facts`` what is known besides (UUID, alias),
    ``predict`` applies the change to the graph, ``notes`` are sentences for the user. ``waits`` says what is not known
    before the actions were carried out; the rest is planned then. ``unread`` says that all of this rests on something
    that an earlier action of the plan brings up: a preview shows it, a run plans the object when that is there.
    ``later`` says why the object is not as wanted yet though there is nothing to do for it now.
    """

    before: Optional[dict]
    after: Optional[dict]
    actions: list = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    predict: Callable[[Graph], None] = lambda graph: None
    notes: list = field(default_factory=list)
    waits: Optional[str] = None
    unread: Optional[str] = None
    later: Optional[str] = None


class Wanted(NamedTuple):
    """One desired object: a resource class and its options."""

    resource: Any
    options: dict


@dataclass(eq=False)
class ObjectPlan:
    """The plan for one desired object; ``refusal`` says why nothing can be done for it.

    ``deferred`` says what it waits for that another object's action may reveal; it is planned when that was done.
    """

    wanted: Wanted
    identity: dict
    subject: str
    change: Change
    refusal: Optional[str] = None
    deferred: Optional[str] = None


@dataclass
class Plan:
    """Plans of all objects in the order they were worked out, and the graph as it will be afterwards."""

    objects: list
    predicted: Graph

    @property
    def actions(self) -> list:
        """All actions in an order in which they could be sent one by one."""
        return [action for planned in self.objects for action in planned.change.actions]


def make_plan(desired: list, observed: Graph, assume: tuple = (), preview: bool = False) -> Plan:
    """Work out the actions that lead from ``observed`` to ``desired`` (a list of Wanted).

    Removals come first, users before what they use; then creations, the other way round. What an object relies on, is
    of a kind in ``assume``, and no object of this plan is about, is taken to be there, with a note: in check mode an
    earlier task that would have made it did not run. What misses something that an action of the plan may reveal is
    deferred, and so is what rests on something that was not read yet, but in a ``preview``.
    """
    planner = _Planner(observed, assume, preview)
    subjects = [f"{wanted.resource.kind} {wanted.resource.title(wanted.options, observed)}" for wanted in desired]
    times = Counter(subjects)
    planner.expect_absent(desired)
    for subject, wanted in sorted(zip(subjects, desired), key=lambda pair: _phase(pair[1])):
        planner.add(subject, wanted, times[subject])
    planner.defer()
    return Plan(planner.objects, planner.graph)


def _phase(wanted: Wanted) -> int:
    resource, options = wanted
    absent = options.get("state") == "absent"
    rank = resource.rank
    if absent or options.get("clone_of") or options.get("independent"):  # after its snapshots, and gone before them
        rank = getattr(resource, "clone_rank", rank)
    return getattr(resource, "removal_rank", -rank) if absent else rank


class _Planner:
    def __init__(self, observed: Graph, assume: tuple, preview: bool) -> None:
        self.graph = observed.copy()
        self.objects: list[ObjectPlan] = []
        self._assume = assume
        self._preview = preview
        self._refused: dict[tuple, str] = {}
        self._absent: set[tuple] = set()
        self._missing: list[ObjectPlan] = []
        self._gates: dict[tuple, ObjectPlan] = {}
        self._reveals = False
        self._holder: dict[tuple, Action] = {}
        self._users: dict[tuple, list[Action]] = {}

    def expect_absent(self, desired: list) -> None:
        """Note what is wanted to be absent: what lies in it is absent when it is."""
        for resource, options in desired:
            if options.get("state") == "absent":
                self._absent.update(resource.keys(options, self.graph))

    def add(self, subject: str, wanted: Wanted, times: int) -> None:
        resource, options = wanted
        planned = ObjectPlan(wanted, resource.identity(options), subject, Change(None, None))
        self.objects.append(planned)
        try:
            if times > 1:
                raise Refusal(f"it is named {times} times in the desired state; name it once")
            planned.change = self._work_out(resource, options)
            for action in planned.change.actions:
                if action.perform is None:
                    self.graph.release.require(action.method, action.params)
                self._require_none_refused((*action.holds, *action.uses))
            if self._holds_back(planned):
                return
        except DiskengineError as error:
            known = getattr(resource, "facts", None)
            planned.change = Change(None, None, facts=known(options, self.graph) if known else {})
            planned.refusal = str(error)
            if isinstance(error, Missing):
                self._missing.append(planned)
                if self._reveals:
                    return
            for key in resource.keys(options, self.graph):
                self._refused[key] = f"{subject} failed: {error}"
            return
        for action in planned.change.actions:
            action.subject = subject
            self._reveals = self._reveals or action.reveals
            self._order(action)
        planned.change.predict(self.graph)
        planned.deferred = planned.change.waits
        if planned.change.later:
            self._close_gate(planned)

    def _holds_back(self, planned: ObjectPlan) -> bool:
        """Hold an object back that cannot be planned yet, or that needs one which is not complete yet."""
        if planned.change.unread and not self._preview:
            planned.deferred, planned.change = planned.change.unread, Change(None, None)
            self._close_gate(planned)
            return True
        gate = next((self._gates[key] for a in planned.change.actions for key in a.holds if key in self._gates), None)
        if gate is None:
            return False
        later = f"it follows when {gate.subject} is complete"
        planned.deferred = gate.deferred and later
        before = planned.change.before
        planned.change = Change(before, before, later=None if gate.deferred else later)
        return True

    def _close_gate(self, planned: ObjectPlan) -> None:
        resource, options = planned.wanted
        if getattr(resource, "gates", False):
            self._gates.update((key, planned) for key in resource.keys(options, self.graph))

    def defer(self) -> None:
        """Turn the refusal of what misses something into a deferral, if the plan may reveal it."""
        for planned in self._missing if self._reveals else ():
            planned.deferred, planned.refusal = planned.refusal, None

    def _require_none_refused(self, keys: tuple) -> None:
        for key in keys:
            if key in self._refused:
                raise Refusal(f"skipped, because {self._refused[key]}")

    def _work_out(self, resource: Any, options: dict) -> Change:
        assumed: list[str] = []
        while True:
            try:
                change = resource.plan(options, self.graph)
            except Missing as missing:
                if options.get("state") == "absent" and missing.key in self._absent:
                    return Change(None, None)
                self._require_none_refused((missing.key,))
                if missing.key[0] not in self._assume:
                    raise
                assumed.append(f"{missing}; in check mode it is taken to come from an earlier task")
                _assume(missing.key, self.graph)
                continue
            change.notes.extend(assumed)
            return change

    def _order(self, action: Action) -> None:
        needs: dict[int, Action] = {}
        for key in (*action.holds, *action.uses):
            if key in self._holder:
                needs[id(self._holder[key])] = self._holder[key]
        for key in action.holds:
            needs.update((id(user), user) for user in self._users.pop(key, ()))
            self._holder[key] = action
        for key in action.uses:
            self._users.setdefault(key, []).append(action)
        action.needs = tuple(needs.values())


def _assume(key: tuple, graph: Graph) -> None:
    kind, name = key
    if kind == "bdev":
        graph.add_bdev(Bdev(name, (), None, "", 0, None, False))
    elif kind == "lvstore":
        graph.lvstores[name] = Lvstore(name, None, "", 4 << 20, None, None)
    elif kind == "transport":
        graph.transports[name] = Transport(name, {})
    elif kind == "key":
        graph.keys[name] = Key(name, None, 0)
