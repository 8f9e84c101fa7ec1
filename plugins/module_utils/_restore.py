# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the configuration of a target and brings a target to one, through the start of its framework. Private."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, NamedTuple

from ._config import START, Entry, by_object, check, parse, require_settings, stages, with_startup, work
from ._errors import DiskengineError, Refusal, UnknownOutcome, Unreachable
from ._rpc import Call, Client

_ROUNDS = 3

# These can be called once in the life of a target. When that was done, whether with these values shows after the start.
_ONCE = {"nvmf_set_max_subsystems", "iscsi_set_options"}


@dataclass
class Outcome:
    """What was sent, or would be, what it replaced, and by entry key why the target is not as wanted in the end."""

    waited: bool
    sent: list = field(default_factory=list)
    replaced: list = field(default_factory=list)
    errors: dict = field(default_factory=dict)

    @property
    def diff(self) -> dict:
        """Before and after by object."""
        started = any(entry.method == START for entry in self.sent)
        return {
            "before": {**({"framework": "waiting"} if self.waited else {}), **by_object(self.replaced)},
            "after": {
                **({"framework": "started" if started else "waiting"} if self.waited else {}),
                **by_object([entry for entry in self.sent if entry.method != START]),
            },
        }


class _Look(NamedTuple):
    """What was found: whether the target waits, its entries by key, what to send, and what sending cannot change."""

    waits: bool
    live: dict
    todo: list
    conflicts: dict


def read_document(client: Client) -> dict:
    """Return the configuration of a running target, as SPDK's own ``save_config`` has it. Raises Unreachable."""
    client.release.require_started(client.path)
    names = [item["subsystem"] for item in client.call("framework_get_subsystems")]
    configs = client.read([Call("framework_get_config", {"name": name}) for name in names])
    return {"subsystems": [{"subsystem": name, "config": config} for name, config in zip(names, configs)]}


def restore(connect: Callable[[], Client], saved: list, startup: dict, dry_run: bool) -> Outcome:
    """Bring a target to the entries ``saved``, with the values of ``startup`` over theirs; ``dry_run`` only plans.

    A target that waits gets what can be set before the start, ``framework_start_init``, and the rest; one that runs
    gets what it lacks. An entry that fails stops only what lies in it, but before the start it stops the start. What
    failed or was lost with the connection is judged by what is there afterwards; what was lost is then sent again, at
    most twice. Raises DiskengineError while nothing was sent.
    """
    check(saved, "the file")
    client = connect()
    try:
        look = _look(client, saved, startup)
        outcome = Outcome(look.waits)
        if dry_run:
            outcome.errors = look.conflicts
            outcome.sent = [entry for stage in stages(look.todo) for entry in stage]
            outcome.replaced = _replaced(look.todo, look.live)
            return outcome
        found = look.live
        failed: dict[tuple, str] = {}
        for rounds_left in reversed(range(_ROUNDS)):
            run = _Run(client, failed)
            run.send([entry for entry in look.todo if entry.key not in failed])
            outcome.sent += run.sent
            outcome.errors = look.conflicts
            if not failed and not run.lost:
                break
            again = bool(run.lost and client.broken and not client.hung and rounds_left)
            causes = {**run.lost, **failed}
            try:
                client.close()
                client = connect()  # also where it is whole: what can be called was asked before the start
                look = _look(client, saved, startup)
            except DiskengineError as error:
                outcome.errors.update({key: f"{cause}; looking again failed: {error}" for key, cause in causes.items()})
                break
            missing = {entry.key for entry in look.todo}
            outcome.errors = {**look.conflicts, **{key: cause for key, cause in causes.items() if key in missing}}
            if not again:
                break
        outcome.sent = [entry for entry in outcome.sent if entry.key not in outcome.errors]
        outcome.replaced = _replaced(outcome.sent, found)
        return outcome
    finally:
        client.close()


def _replaced(sent: list, live: dict) -> list:
    return [live[entry.key] for entry in sent if entry.key in live]


def _look(client: Client, saved: list, startup: dict) -> _Look:
    release = client.release
    waits = START in release.methods
    require_settings(startup, waits, release.methods)
    known = release._replace(methods=frozenset(client.call("rpc_get_methods")))
    entries = []
    refused: dict[str, None] = {}
    for entry in with_startup(saved, startup):
        try:
            known.require(entry.method, entry.params)
        except Refusal as error:
            refused[str(error)] = None
        kept = {name: value for name, value in entry.params.items() if release.has_effect(entry.method, name)}
        entries.append(entry._replace(params=kept))
    if refused:
        raise Refusal(f"nothing was sent: {'; '.join(refused)}")
    if waits:
        todo, conflicts = work(entries, [], known.methods)
        first = [entry for entry in todo if entry.method in release.methods]
        rest = [entry for entry in todo if entry.method not in release.methods]
        return _Look(True, {}, [*first, Entry("framework", START, {}), *rest], conflicts)
    live = parse(read_document(client), client.path)
    todo, conflicts = work(entries, live, release.methods)
    return _Look(False, {entry.key: entry for entry in live}, todo, conflicts)


class _Run:
    """One try to send entries: what was sent, what failed, and what was lost or held back, with the reasons by key."""

    def __init__(self, client: Client, failed: dict) -> None:
        self.sent: list[Entry] = []
        self.failed = failed
        self.lost: dict[tuple, str] = {}
        self._client = client
        self._cut_off: dict[tuple, str] = {}

    def send(self, entries: list) -> None:
        for stage in stages(entries):
            if stage[0].method == START and not self._may_start():
                return
            self._send_stage(stage)
            if START in (key[0] for key in self.failed):
                return

    def _may_start(self) -> bool:
        wrong = [message for key, message in self.failed.items() if key[0] not in _ONCE]
        if wrong:
            self.failed[(START,)] = f"{START} was not sent, so that the target can still be set up: {wrong[0]}"
        return not wrong

    def _send_stage(self, stage: list) -> None:
        out = []
        for entry in stage:
            if self._client.broken:
                self.lost[entry.key] = f"{entry.object}: not sent, because the target stopped answering"
            elif entry.lane in self._cut_off:
                self.failed[entry.key] = f"{entry.object}: skipped, because {self._cut_off[entry.lane]}"
            else:
                out.append(entry)
        replies = self._client.ask([Call(entry.method, entry.params, entry.object) for entry in out])
        for entry, reply in zip(out, replies):
            if isinstance(reply.error, (UnknownOutcome, Unreachable)):
                self.lost[entry.key] = f"{entry.object}: {reply.error}"
            elif reply.error is not None:
                self.failed[entry.key] = f"{entry.object}: {reply.error}"
                if entry.begins_lane:
                    self._cut_off[entry.lane] = str(reply.error)
            if reply.error is None or isinstance(reply.error, UnknownOutcome):
                self.sent.append(entry)
