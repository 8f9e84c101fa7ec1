# SPDX-License-Identifier: GPL-3.0-or-later
"""Equality of a recorded and a simulated answer: all but UUIDs, controller ids, times and I/O counters."""

from __future__ import annotations

import re
from typing import Any

from spdk_sim.not_simulated import NOT_SIMULATED
from spdk_sim.qos import COUNTERS

UUID_RE = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?<![0-9A-F])[0-9A-F]{32}(?![0-9A-F])")
SUMMARY: list[str] = []
"""What the terminal summary prints, one line per scenario."""

VOLATILE = {"ticks", *COUNTERS}


class Mapping:
    """Which simulated UUID and controller id stands for which recorded one, one to one."""

    def __init__(self) -> None:
        self.uuids: dict[str, str] = {}
        self.taken: dict[str, str] = {}
        self.cntlids: dict[int, int] = {}

    def pair(self, recorded: str, simulated: str) -> bool:
        """Note that two UUIDs are the same thing; False when one of them already has another partner."""
        if recorded.isupper() != simulated.isupper():
            return False
        old, new = _plain(recorded), _plain(simulated)
        return self.uuids.setdefault(old, new) == new and self.taken.setdefault(new, old) == old

    def translate(self, value: Any) -> Any:
        """A recorded request with the simulated ids."""
        if isinstance(value, dict):
            return {
                key: self.cntlids.get(item, item) if key == "cntlid" else self.translate(item)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.translate(item) for item in value]
        return UUID_RE.sub(self._translate_uuid, value) if isinstance(value, str) else value

    def _translate_uuid(self, found: re.Match[str]) -> str:
        text = found[0]
        plain = self.uuids.get(_plain(text), _plain(text))
        if plain == _plain(text):
            return text
        if "-" in text:
            plain = "-".join((plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:]))
        return plain.upper() if text.isupper() else plain


def _plain(uuid: str) -> str:
    return uuid.replace("-", "").lower()


def differences(recorded: Any, simulated: Any, mapping: Mapping, where: str = "") -> list[str]:
    """Every place where the two differ, as text; empty when they are equal."""
    if isinstance(recorded, dict) and isinstance(simulated, dict):
        if list(recorded) != list(simulated):
            return [f"{where}: members {list(recorded)} but simulated {list(simulated)}"]
        out = []
        for key, item in recorded.items():
            if key == "cntlid":
                mapping.cntlids[item] = simulated[key]
            elif key == "peer_address":
                out += differences(item | {"trsvcid": ""}, simulated[key] | {"trsvcid": ""}, mapping, where)
            elif key not in VOLATILE:
                out += differences(item, simulated[key], mapping, f"{where}.{key}")
        return out
    if isinstance(recorded, list) and isinstance(simulated, list):
        if len(recorded) != len(simulated):
            return [f"{where}: {len(recorded)} elements but simulated {len(simulated)}"]
        pairs = enumerate(zip(recorded, simulated, strict=True))
        return [text for n, (one, other) in pairs for text in differences(one, other, mapping, f"{where}[{n}]")]
    if isinstance(recorded, str) and isinstance(simulated, str) and recorded != simulated:
        if UUID_RE.sub("*", recorded) == UUID_RE.sub("*", simulated):
            pairs = zip(UUID_RE.findall(recorded), UUID_RE.findall(simulated), strict=True)
            if all(mapping.pair(*pair) for pair in pairs):
                return []
        return [f"{where}: {recorded!r} but simulated {simulated!r}"]
    if type(recorded) is not type(simulated) or recorded != simulated:
        return [f"{where}: {recorded!r} but simulated {simulated!r}"]
    return []


def without_unsimulated(method: str, answer: Any) -> Any:
    """A recorded answer of rpc_get_methods without the methods that are not simulated."""
    if method == "rpc_get_methods" and isinstance(answer.get("result"), list):
        return answer | {"result": [name for name in answer["result"] if name not in NOT_SIMULATED]}
    return answer
