# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on order: delays, lost answers, sudden death, wrong answers, silence.

A rule is a JSON object::

    {"action": "delay", "ms": 50}                        every answer 50 ms late; with "method" only its answers
    {"action": "drop",  "call": 3}                       call 3 is executed, then its connection is closed
    {"action": "die",   "call": 3, "when": "before"}     the process ends before call 3 is executed ("after": after it)
    {"action": "error", "method": M, "call": 2, "code": -32603, "message": "..."}   call 2 of M fails, not executed
    {"action": "hang",  "method": M, "call": 1}          call 1 of M is never executed nor answered

``call`` counts received calls from 1; with ``method`` it counts calls of that method. ``times`` (default: 1, for
delay: no limit) is how many calls from that one on are hit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

ACTIONS = ("delay", "drop", "die", "error", "hang")
KEYS = {"action", "method", "call", "times", "ms", "when", "code", "message"}


class BadRule(ValueError):
    """A rule that makes no sense."""


class Effects(NamedTuple):
    """What the rules say about one call."""

    delay: float = 0.0
    drop: bool = False
    die: str | None = None
    error: tuple[int, str] | None = None
    hang: bool = False


class Faults:
    """The rules in force and the counts of received calls."""

    def __init__(self) -> None:
        self.rules: list[dict[str, Any]] = []
        self.calls = 0
        self.by_method: dict[str, int] = {}

    def add(self, rule: dict[str, Any]) -> None:
        """Add one rule; BadRule when it has unknown members or lacks one."""
        if not isinstance(rule, dict) or rule.get("action") not in ACTIONS or rule.keys() - KEYS:
            raise BadRule(f"a rule has an action out of {', '.join(ACTIONS)} and members out of {', '.join(KEYS)}")
        if rule["action"] != "delay" and "call" not in rule:
            raise BadRule(f"{rule['action']} needs call")
        if rule["action"] == "delay" and "ms" not in rule:
            raise BadRule("delay needs ms")
        if rule.get("when", "before") not in ("before", "after"):
            raise BadRule("when is before or after")
        self.rules.append(rule)

    def received(self, method: str) -> tuple[int, Effects]:
        """Count a call; returns its number and what happens to it."""
        self.calls += 1
        self.by_method[method] = self.by_method.get(method, 0) + 1
        out: dict[str, Any] = {}
        for rule in self.rules:
            if not self._hits(rule, method):
                continue
            action = rule["action"]
            if action == "delay":
                out["delay"] = max(out.get("delay", 0.0), rule["ms"] / 1000)
            elif action == "die":
                out["die"] = rule.get("when", "before")
            elif action == "error":
                out["error"] = (rule.get("code", -32603), rule.get("message", "Internal error"))
            else:
                out[action] = True
        return self.calls, Effects(**out)

    def _hits(self, rule: dict[str, Any], method: str) -> bool:
        if rule.get("method") not in (None, method):
            return False
        if "call" not in rule:
            return True
        count = self.calls if rule.get("method") is None else self.by_method[method]
        return rule["call"] <= count < rule["call"] + rule.get("times", 1)
