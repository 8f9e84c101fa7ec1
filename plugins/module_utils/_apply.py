# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sends a plan's actions over one connection, as many in flight as their order allows. Private to the collection."""

from __future__ import annotations

from collections import deque

from ._errors import DiskengineError, UnknownOutcome
from ._plan import Action
from ._rpc import Call, Client


def apply(actions: list, client: Client) -> dict:
    """Send ``actions`` and note in each what became of it (``state``, ``error``); return the results by action.

    An action goes out when all that it needs is done; when one of these is not, it is ``skipped``. Of actions in a
    row that say ``one_will_do`` each goes out whatever became of the one before. Once a call's
    outcome is unknown nothing more is sent: what was not sent yet is ``withheld``. No call is sent twice.
    """
    run = _Run(actions, client)
    run.start()
    while not client.idle or run.performs():
        for reply in client.settle():
            run.end(run.action_of(reply.call), reply.result, reply.error)
        if client.broken:
            client.withdraw()
    run.withhold_rest()
    return run.results


class _Run:
    def __init__(self, actions: list, client: Client) -> None:
        self.results: dict[Action, object] = {}
        self._client = client
        self._actions = actions
        self._own: deque[Action] = deque()
        self._by_call: dict[int, tuple[Call, Action]] = {}
        planned = set(map(id, actions))
        self._waits = {id(a): sum(1 for need in a.needs if id(need) in planned) for a in actions}
        self._dependents: dict[int, list[Action]] = {}
        for action in actions:
            for need in action.needs:
                self._dependents.setdefault(id(need), []).append(action)

    def start(self) -> None:
        for action in [action for action in self._actions if not self._waits[id(action)]]:
            self._submit(action)

    def action_of(self, call: Call) -> Action:
        return self._by_call.pop(id(call))[1]

    def end(self, action: Action, result: object, error: Exception | None) -> None:
        if error is None:
            action.state = "done"
            self.results[action] = result
            for dependent in self._dependents.get(id(action), ()):
                self._release(dependent)
            return
        action.state = "unknown" if isinstance(error, UnknownOutcome) else "failed"
        action.error = error
        if action.state == "failed":
            for dependent in self._dependents.get(id(action), ()):
                if next_try(dependent, action) or made_up_for(action):
                    self._release(dependent)
                else:
                    self._skip(dependent, action)

    def withhold_rest(self) -> None:
        for action in self._actions:
            if action.state == "planned":
                action.state = "withheld"

    def _release(self, action: Action) -> None:
        self._waits[id(action)] -= 1
        if not self._waits[id(action)] and action.state == "planned":
            self._submit(action)

    def _submit(self, action: Action) -> None:
        if action.perform is not None:
            self._own.append(action)
            return
        call = Call(action.method, action.params, action.subject)
        self._by_call[id(call)] = (call, action)
        self._client.submit([call])

    def performs(self) -> bool:
        """Do the next of what this node does by itself, while no answer is waited for; tell whether there was one."""
        if not self._own or self._client.broken:
            return False
        action = self._own.popleft()
        try:
            result = action.perform()  # type: ignore[misc]
        except DiskengineError as error:
            self.end(action, None, error)
        except OSError as error:
            self.end(action, None, DiskengineError(f"could not {action.summary}: {error.strerror}"))
        else:
            self.end(action, result, None)
        return True

    def _skip(self, action: Action, failed: Action) -> None:
        reason = DiskengineError(f"skipped, because {failed.subject} failed: {failed.error}")
        actions = [action]
        while actions:
            skipped = actions.pop()
            if skipped.state == "planned":
                skipped.state = "skipped"
                skipped.error = reason
                actions += self._dependents.get(id(skipped), ())


def next_try(action: Action, before: Action) -> bool:
    """Tell whether an action goes out even after the one before it has failed."""
    return action.one_will_do and before.one_will_do and action.subject == before.subject


def made_up_for(failed: Action) -> bool:
    """Tell whether an action before the failed one has done what those that wait for it rely on."""
    return any(next_try(failed, need) and (need.state == "done" or made_up_for(need)) for need in failed.needs)
