# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health of local drives: what their logs say, and the class that follows. Pure. Private."""

from __future__ import annotations

from typing import Optional

from ._graph import Controller
from ._rpc import Reply

OK, WARNING, CRITICAL, UNKNOWN = CLASSES = ("ok", "warning", "critical", "unknown")

# Bits of the byte "critical warning" of the health log, in the words of the NVM Express specification.
_CRITICAL_WARNING = (
    (CRITICAL, "the available spare capacity is below the drive's own threshold"),
    (WARNING, "the temperature is beyond a threshold of the drive"),
    (CRITICAL, "the reliability of the drive is degraded"),
    (CRITICAL, "the drive has become read-only"),
    (CRITICAL, "the backup of its volatile memory has failed"),
    (CRITICAL, "its persistent memory region has become read-only or unreliable"),
    *[(WARNING, "it warns of something that the specification did not name yet")] * 2,
)

# A limit is reached from its value on: option without the class, field of the log, what to call it, unit.
_LIMITS = (
    ("temperature", "temperature_celsius", "the temperature", " degrees Celsius"),
    ("used", "percentage_used", "the endurance used", " %"),
    ("media_errors", "media_errors", "the number of media errors", ""),
    ("unsafe_shutdowns", "unsafe_shutdowns", "the number of unsafe shutdowns", ""),
)
_SPARE_LIMIT = "spare_warning"

# Option: the value without it, None for a limit that nothing reaches.
THRESHOLDS = {
    "temperature_warning": 70,
    "temperature_critical": 80,
    "used_warning": 80,
    "used_critical": 100,
    "media_errors_warning": 1,
    "media_errors_critical": None,
    "unsafe_shutdowns_warning": None,
    "unsafe_shutdowns_critical": None,
    _SPARE_LIMIT: 20,
}
OPTION = {
    "thresholds": {
        "type": "dict",
        "apply_defaults": True,
        "options": {name: {"type": "int", "default": value} for name, value in THRESHOLDS.items()},
    }
}

FIELDS = (
    "critical_warning",
    "temperature_celsius",
    "available_spare_percentage",
    "available_spare_threshold_percentage",
    "percentage_used",
    "data_units_read",
    "data_units_written",
    "host_read_commands",
    "host_write_commands",
    "controller_busy_time",
    "power_cycles",
    "power_on_hours",
    "unsafe_shutdowns",
    "media_errors",
    "num_err_log_entries",
    "warning_temperature_time_minutes",
    "critical_composite_temperature_time_minutes",
)
_NO_TEMPERATURE = -273  # 0 K, the log's word for none


def describe_drive(controller: Controller, reply: Optional[Reply], thresholds: dict) -> dict:
    """Return the controller of a local drive as users read it; without a reply it was not asked."""
    answer = reply.result if reply and not reply.error else {}
    log = read_log(answer) if answer else None
    if log is not None:
        health, reasons = classify(log, thresholds)
    elif reply is not None:
        health, reasons = UNKNOWN, [f"its health could not be read: {reply.error}"]
    else:
        health = CRITICAL if controller.state == "failed" else UNKNOWN
        reasons = [f"its health was not asked for, because the controller is in the state {controller.state}"]
    return {
        "name": controller.name,
        "trtype": controller.trtype,
        "traddr": controller.traddr,
        "subnqn": "",
        "bdf": controller.traddr,
        "state": controller.state,
        "paths": [],
        "usable_paths": int(controller.state == "enabled"),
        "serial": answer.get("serial_number", ""),
        "model": answer.get("model_number", ""),
        "firmware": answer.get("firmware_revision", ""),
        "health": health,
        "reasons": reasons,
        "log": log,
    }


def read_log(answer: dict) -> dict:
    """Return the log with temperatures as signed numbers, and None for what the controller does not report. Pure.

    SPDK prints degrees Celsius as an unsigned number. A spare capacity of nothing with a threshold of nothing is how
    emulated drives and SPDK's own targets say that they do not know.
    """
    log = {field: answer[field] for field in FIELDS}
    temperature = (log["temperature_celsius"] + 2**63) % 2**64 - 2**63
    log["temperature_celsius"] = None if temperature == _NO_TEMPERATURE else temperature
    if not log["available_spare_percentage"] and not log["available_spare_threshold_percentage"]:
        log["available_spare_percentage"] = log["available_spare_threshold_percentage"] = None
    return log


def classify(log: dict, thresholds: dict) -> tuple[str, list]:
    """Return the class of a log, and sentences on what made it so, the worst first. Pure."""
    found = [
        (health, text) for bit, (health, text) in enumerate(_CRITICAL_WARNING) if log["critical_warning"] & 1 << bit
    ]
    found += filter(None, [_spare(log, thresholds[_SPARE_LIMIT])])
    for name, field, words, unit in _LIMITS:
        for health in (CRITICAL, WARNING):
            limit = thresholds[f"{name}_{health}"]
            if limit is not None and log[field] is not None and log[field] >= limit:
                found.append((health, f"{words} is {log[field]}{unit}, {health} from {limit}{unit} on"))
                break
    if found:
        found.sort(key=lambda each: each[0] != CRITICAL)
        return found[0][0], list(dict.fromkeys(text for _health, text in found))
    if log["temperature_celsius"] is None and log["available_spare_percentage"] is None:
        return UNKNOWN, ["it reports neither a temperature nor its spare capacity, as a target made of software does"]
    return OK, []


def _spare(log: dict, limit: int) -> Optional[tuple]:
    spare, threshold = log["available_spare_percentage"], log["available_spare_threshold_percentage"]
    if spare is None:
        return None
    if spare < threshold:
        return CRITICAL, _CRITICAL_WARNING[0][1]
    if spare < limit:
        return WARNING, f"the available spare capacity is {spare} %, warning below {limit} %"
    return None
