# SPDX-License-Identifier: GPL-3.0-or-later
"""Method name to handler: who may call it when, and how its parameters are decoded.

A handler is ``handler(target, params)``. A plain function answers at once. A generator function is an asynchronous
method: what stands before its first ``yield`` runs when the request is dispatched, the rest on a later poll, and its
return value is the answer (contract section 1, "several requests in flight"). It may yield None (next poll) or a
``Wait``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .decode import Family, Field, Params, Release
from .errors import INVALID_PARAMS, RpcFailure

STARTUP = 1
RUNTIME = 2
BOTH = STARTUP | RUNTIME


class Wait(NamedTuple):
    """Yielded by a handler: go on when ``ready()`` is true or ``until`` (seconds of target time) has come."""

    until: float | None = None
    ready: Callable[[], bool] | None = None


class Method(NamedTuple):
    """One registered method."""

    name: str
    handler: Callable[[Any, Params], Any]
    states: int
    family: Family
    fields: Mapping[str, Field]
    relaxed: bool
    needed: bool
    since: Release | None


METHODS: dict[str, Method] = {}


def method(
    name: str,
    family: Family,
    fields: Mapping[str, Field] | None = None,
    *,
    states: int = RUNTIME,
    relaxed: bool = False,
    needed: bool | None = None,
    since: Release | None = None,
) -> Callable[[Callable[[Any, Params], Any]], Callable[[Any, Params], Any]]:
    """Register a handler. ``needed`` defaults to: at least one field is required."""
    fields = fields or {}

    def register(handler: Callable[[Any, Params], Any]) -> Callable[[Any, Params], Any]:
        must = any(field.required for field in fields.values()) if needed is None else needed
        METHODS[name] = Method(name, handler, states, family, fields, relaxed, must, since)
        return handler

    return register


def bare_method(
    name: str, message: str | None, *, states: int = RUNTIME
) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Register a method without parameters: ``message`` is the -32602 text for any params, None ignores them."""

    def register(handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def checked(target: Any, params: Params) -> Any:
            if params.given and message is not None:
                raise RpcFailure(INVALID_PARAMS, message)
            return handler(target)

        METHODS[name] = Method(name, checked, states, ANYTHING, {}, True, False, None)
        return handler

    return register


ANYTHING = Family(0, "")
