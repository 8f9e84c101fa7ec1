# SPDX-License-Identifier: GPL-3.0-or-later
"""Replays the recordings of the real program against the core of the simulator and compares every answer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from compare import SUMMARY, Mapping, differences, without_unsimulated
from scenes import Scene
from spdk_sim import RpcFailure, Target, TargetCrash
from spdk_sim.catalogue import ORDER
from spdk_sim.not_simulated import NOT_SIMULATED
from spdk_sim.registry import METHODS

TRANSCRIPTS = Path(__file__).parent / "transcripts"
SCENARIOS = sorted(path.stem for path in TRANSCRIPTS.glob("*.jsonl") if not path.stem.startswith("16-"))
BURST = 1000
NOTHING = object()


def read(scenario: str) -> list[dict[str, Any]]:
    """The lines of a transcript."""
    return [json.loads(line) for line in (TRANSCRIPTS / f"{scenario}.jsonl").read_text("utf-8").splitlines()]


def outcome(answer: Any) -> dict[str, Any]:
    """An answer of the core as a recording shows it."""
    if isinstance(answer, RpcFailure):
        return {"error": {"code": answer.code, "message": answer.message}}
    return {"result": json.loads(json.dumps(answer))}


class Replay:
    """One scenario: sends what was sent and compares what comes back."""

    def __init__(self, scenario: str, directory: Path) -> None:
        self.scenario = scenario
        self.scene = Scene(scenario, directory)
        self.mappings: dict[Any, Mapping] = {}
        self.mapping = Mapping()
        self.compared = 0
        self.excused: list[int] = []
        self.failures: list[str] = []

    def run(self) -> None:
        """Replay every line; consecutive lines with "sent" are written together."""
        entries = list(enumerate(read(self.scenario), 1))
        at = 0
        while at < len(entries):
            line, entry = entries[at]
            size = 1
            if "sent" in entry:
                while at + size < len(entries) and self.same_write(entries[at + size - 1][1], entries[at + size][1]):
                    size += 1
                self.scene.before(line, entry)
                self.together(entries[at : at + size])
            else:
                self.scene.before(line, entry)
                if "request" in entry:
                    self.single(line, entry)
            at += size

    @staticmethod
    def same_write(one: dict[str, Any], following: dict[str, Any]) -> bool:
        """Whether two lines belong to one write; a sampled burst is sorted by outcome."""
        if "one of" in one.get("note", ""):
            return "one of" in following.get("note", "")
        return following.get("sent", 0) > one["sent"]

    def target_of(self, entry: dict[str, Any]) -> Target:
        """The process a line was sent to."""
        return self.scene.targets[entry.get("target")]

    def single(self, line: int, entry: dict[str, Any]) -> None:
        """One call on an idle connection."""
        request = self.mapping.translate(entry["request"])
        answers: list[Any] = []
        target = self.target_of(entry)
        if self.scene.held is not None and self.scene.held["request"] == entry["request"]:
            answers, self.scene.held = self.scene.held["answers"], None
            while not answers and target.poll():
                pass
        else:
            try:
                self.send(target, request, answers)
            except TargetCrash as crash:
                answers.append(crash)
        if not answers:
            self.scene.held = {"request": entry["request"], "answers": answers}
        for other in self.scene.targets.values():
            other.refresh()
        self.check(line, entry, answers[0] if answers else NOTHING)

    def send(self, target: Target, request: dict[str, Any], answers: list[Any]) -> None:
        """Submit and let time pass until the answer is there or will not come."""
        target.submit(request["method"], request.get("params"), answers.append)
        while not answers:
            if target.poll():
                continue
            deadline = target.next_deadline()
            if deadline is None:
                return
            target.now = max(target.now, deadline)

    def together(self, entries: list[tuple[int, dict[str, Any]]]) -> None:
        """Calls written in one write; their answers come in the recorded order."""
        requests = [entry["request"] for _line, entry in entries]
        positions = [entry["sent"] for _line, entry in entries]
        sampled = "one of" in entries[0][1].get("note", "")
        if sampled:
            text = json.dumps(requests[0])
            requests = [json.loads(re.sub(r"v0000", f"v{n:04}", text)) for n in range(BURST)]
        target = self.target_of(entries[0][1])
        arrived: list[int] = []
        answers: dict[int, Any] = {}

        def reply_to(position: int) -> Any:
            def reply(answer: Any) -> None:
                arrived.append(position)
                answers[position] = answer

            return reply

        try:
            for position, request in enumerate(requests):
                request = self.mapping.translate(request)
                target.submit(request["method"], request.get("params"), reply_to(position))
            while len(answers) < len(requests) and target.poll():
                pass
        except TargetCrash as crash:
            answers = dict.fromkeys(range(len(requests)), crash)
        for (line, entry), position in zip(entries, positions, strict=True):
            self.check(line, entry, answers[position])
        if not sampled and entries[0][1].get("arrived") is not None:
            recorded = [entry["arrived"] for _line, entry in entries]
            ours = [arrived.index(position) for position in positions]
            if recorded != ours:
                self.failures.append(f"line {entries[0][0]}: answers arrived as {ours}, recorded {recorded}")
        if sampled:
            self.check_counts(entries[0][0], answers)

    def check_counts(self, line: int, answers: dict[int, Any]) -> None:
        """The note before a sampled burst tells how many answers of each kind there were."""
        note = read(self.scenario)[line - 2]["note"]
        recorded = json.loads(re.search(r"outcomes (\{.*?\})", note)[1])
        ours: dict[str, int] = {}
        for answer in answers.values():
            kind = f"{answer.code} {answer.message}" if isinstance(answer, RpcFailure) else "result"
            ours[kind] = ours.get(kind, 0) + 1
        if ours != recorded:
            self.failures.append(f"line {line}: outcomes {ours}, recorded {recorded}")

    def check(self, line: int, entry: dict[str, Any], answer: Any) -> None:
        """Compare one answer, unless the table excuses it; an excuse that is not needed is a failure."""
        method, recorded = entry["request"]["method"], entry["response"]
        if recorded is None:
            blocked = "no answer within" in entry.get("note", "")
            wrong = [] if (answer is NOTHING if blocked else isinstance(answer, TargetCrash)) else ["an answer came"]
        elif isinstance(answer, TargetCrash) or answer is NOTHING:
            wrong = [f"no answer ({answer})"]
        else:
            ours = outcome(answer)
            expected = without_unsimulated(
                method, {key: recorded[key] for key in ("result", "error") if key in recorded}
            )
            wrong = differences(expected, ours, self.mapping)
        excuse = NOT_SIMULATED.get((self.scenario, line)) or (method in ORDER and NOT_SIMULATED.get(method))
        if excuse:
            self.excused.append(line)
            if not wrong:
                self.failures.append(f"line {line}: the excuse is not needed: {excuse}")
            return
        self.compared += 1
        self.failures += [f"line {line} {method}: {text}" for text in wrong]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_answers_are_the_recorded_ones(scenario: str, tmp_path: Path) -> None:
    replay = Replay(scenario, tmp_path)
    replay.run()
    SUMMARY.append(f"{scenario}: {replay.compared} answers compared, {len(replay.excused)} excused {replay.excused}")
    assert not replay.failures, "\n".join(replay.failures)
    assert replay.compared


def test_every_method_is_simulated_or_listed() -> None:
    listed = {name for name in NOT_SIMULATED if isinstance(name, str)}
    assert set(ORDER) == listed | set(METHODS)
    assert not listed & set(METHODS)


def test_excuses_name_lines_that_exist() -> None:
    for scenario, line in (key for key in NOT_SIMULATED if isinstance(key, tuple)):
        assert "response" in read(scenario)[line - 1] or "responses" in read(scenario)[line - 1]
