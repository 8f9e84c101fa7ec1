# SPDX-License-Identifier: GPL-3.0-or-later
"""Rate limits and I/O statistics (contract section 10). No I/O is simulated: every counter is zero."""

from __future__ import annotations

import errno
from typing import Any

from .bdevs import RATES
from .decode import BDEV, BOOL, STR, U64, Params, array, one_of, optional, required
from .errors import INVALID_PARAMS, STRERROR, RpcFailure, failure
from .registry import method

TICK_RATE = 2596100000
IOPS_STEP = 1000
MAX_MEGABYTES = 2**44 - 1
"""Kept as bytes in 64 bits."""
COUNTERS = (
    "bytes_read num_read_ops bytes_written num_write_ops bytes_unmapped num_unmap_ops bytes_copied num_copy_ops "
    "read_latency_ticks max_read_latency_ticks min_read_latency_ticks "
    "write_latency_ticks max_write_latency_ticks min_write_latency_ticks "
    "unmap_latency_ticks max_unmap_latency_ticks min_unmap_latency_ticks "
    "copy_latency_ticks max_copy_latency_ticks min_copy_latency_ticks"
).split()


def setup(target: Any) -> None:
    """This family keeps its state at the bdevs."""


@method("bdev_set_qos_limit", BDEV, {"name": required(STR)} | {rate: optional(U64) for rate in RATES})
def set_qos_limit(target: Any, params: Params) -> Any:
    """Set rate limits; the kinds not named keep theirs.

    A bdev that has limits and no I/O channel starts to enforce them whenever somebody opens it, which this call does
    itself: it comes too early then.
    """
    bdev = target.bdevs.get(params.name)
    wanted = {rate: params.values[rate] for rate in RATES if rate in params.values}
    if not wanted:
        raise RpcFailure(-errno.EINVAL, "No rate limits specified")
    if bdev.rate_change_runs or (any(bdev.rates.values()) and not bdev.has_channel(target)):
        text = f"Failed to configure rate limit: {STRERROR[errno.EAGAIN]}"
        raise RpcFailure(INVALID_PARAMS, text)
    return _set(bdev, wanted)


def _set(bdev: Any, wanted: dict[str, int]) -> Any:
    if wanted.get("rw_ios_per_sec"):
        wanted["rw_ios_per_sec"] = -(-wanted["rw_ios_per_sec"] // IOPS_STEP) * IOPS_STEP
    for rate in wanted.keys() - {"rw_ios_per_sec"}:
        wanted[rate] = min(wanted[rate], MAX_MEGABYTES)
    bdev.rate_change_runs = True
    yield
    bdev.rates |= wanted
    bdev.rate_change_runs = False
    return True


def _statistics(bdev: Any) -> dict[str, Any]:
    return {"name": bdev.name} | dict.fromkeys(COUNTERS, 0) | {"io_error": {}}


@method(
    "bdev_get_iostat",
    BDEV,
    {
        "name": optional(STR, until=(26, 1)),
        "names": optional(array(STR), since=(26, 1)),
        "per_channel": optional(BOOL),
        "reset_mode": optional(one_of("all", "maxmin", "error", "none"), since=(25, 5)),
    },
)
def get_iostat(target: Any, params: Params) -> Any:
    """Counters of all bdevs or of the named ones."""
    names = params.names if params.name is None else [params.name]
    if params.per_channel and (names is None or len(names) != 1):
        raise failure(errno.EINVAL)
    chosen = list(target.bdevs) if names is None else [target.bdevs.get(name) for name in names]
    return _get_iostat(target, chosen, bool(params.per_channel))


def _get_iostat(target: Any, chosen: list[Any], per_channel: bool) -> Any:
    yield
    out: dict[str, Any] = {"tick_rate": TICK_RATE, "ticks": int(target.now * TICK_RATE)}
    if per_channel:
        bdev = chosen[0]
        channel = {"thread_id": 1} | {k: v for k, v in _statistics(bdev).items() if k != "name"}
        return out | {"name": bdev.name, "channels": [channel] if bdev.has_channel(target) else []}
    return out | {"bdevs": [_statistics(bdev) for bdev in chosen]}


@method(
    "bdev_reset_iostat",
    BDEV,
    {"name": optional(STR), "mode": optional(one_of("all", "maxmin", "error", "none"))},
)
def reset_iostat(target: Any, params: Params) -> Any:
    """Set counters back."""
    if params.name is not None:
        target.bdevs.get(params.name)
    return _after_reset()


def _after_reset() -> Any:
    yield
    return True


@method("bdev_set_qd_sampling_period", BDEV, {"name": required(STR), "period": required(U64)})
def set_qd_sampling_period(target: Any, params: Params) -> bool:
    """Sample the queue depth every ``period`` microseconds; shown nowhere without I/O."""
    target.bdevs.get(params.name)
    return True
