# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameter decoding with the strictness and the error of each family (contract section 1, second table)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .errors import INTERNAL_ERROR, INVALID_PARAMS, PARSE_ERROR, RpcFailure

Release = tuple[int, int]
UUID_RE = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class DecodeError(Exception):
    """A value does not have the type of its field."""


class DuplicateKeys(dict):
    """A JSON object in which a key occurs twice; every decoder refuses it."""


class Family(NamedTuple):
    """The error a family of methods answers when its parameters cannot be decoded."""

    code: int
    message: str


BDEV = Family(INTERNAL_ERROR, "spdk_json_decode_object failed")
RAID = Family(PARSE_ERROR, "spdk_json_decode_object failed")
IOBUF = Family(INVALID_PARAMS, "spdk_json_decode_object failed")
NVMF = Family(INVALID_PARAMS, "Invalid parameters")
ARGUMENT = Family(INVALID_PARAMS, "Invalid argument")
ARGUMENTS = Family(INVALID_PARAMS, "Invalid arguments")
HEALTH = Family(INTERNAL_ERROR, "Invalid parameters")


class Field(NamedTuple):
    """One parameter: its type, whether it must be there, and the releases that know it."""

    type: Callable[[Any], Any]
    required: bool = False
    since: Release | None = None
    until: Release | None = None

    def known(self, release: Release) -> bool:
        """Whether ``release`` knows this parameter (contract section 14)."""
        return (self.since is None or release >= self.since) and (self.until is None or release <= self.until)


class Params:
    """Decoded parameters as attributes; one that was not sent reads None. ``given``: a params member was sent."""

    __slots__ = ("given", "values")

    def __init__(self, values: dict[str, Any], given: bool) -> None:
        self.values = values
        self.given = given

    def __getattr__(self, name: str) -> Any:
        return self.values.get(name)

    def or_default(self, name: str, default: Any) -> Any:
        """The value of ``name``, or ``default`` when it was not sent."""
        value = self.values.get(name)
        return default if value is None else value


def required(kind: Callable[[Any], Any], since: Release | None = None) -> Field:
    """A field that must be present."""
    return Field(kind, True, since)


def optional(kind: Callable[[Any], Any], since: Release | None = None, until: Release | None = None) -> Field:
    """A field that may be absent."""
    return Field(kind, False, since, until)


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def decode(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DecodeError
        if isinstance(value, float) and not value.is_integer():
            raise DecodeError
        number = int(value)
        if not low <= number <= high:
            raise DecodeError
        return number

    return decode


U8 = _integer(0, 2**8 - 1)
U16 = _integer(0, 2**16 - 1)
U32 = _integer(0, 2**32 - 1)
U64 = _integer(0, 2**64 - 1)
I32 = _integer(-(2**31), 2**31 - 1)


def STR(value: Any) -> str:
    """A string without an embedded NUL."""
    if not isinstance(value, str) or "\0" in value:
        raise DecodeError
    return value


def BOOL(value: Any) -> bool:
    """true or false, nothing else."""
    if not isinstance(value, bool):
        raise DecodeError
    return value


def UUID(value: Any) -> str:
    """A UUID in any letter case, returned in lower case."""
    if not isinstance(value, str) or not UUID_RE.fullmatch(value):
        raise DecodeError
    return value.lower()


def one_of(*names: str) -> Callable[[Any], str]:
    """One of the given strings."""

    def decode(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise DecodeError
        return value

    return decode


def text(limit: int) -> Callable[[Any], str]:
    """A string of at most ``limit`` bytes."""

    def decode(value: Any) -> str:
        if len(STR(value).encode()) > limit:
            raise DecodeError
        return value

    return decode


def array(kind: Callable[[Any], Any], limit: int = 2**16) -> Callable[[Any], list[Any]]:
    """An array of at most ``limit`` values of one type."""

    def decode(value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) > limit:
            raise DecodeError
        return [kind(item) for item in value]

    return decode


def nested(fields: Mapping[str, Field]) -> Callable[[Any], Params]:
    """An object; nested objects are strict in every family."""

    def decode(value: Any) -> Params:
        return Params(_decode_object(value, fields, relaxed=False, release=None), True)

    return decode


def _decode_object(
    value: Any, fields: Mapping[str, Field], *, relaxed: bool, release: Release | None
) -> dict[str, Any]:
    if not isinstance(value, dict) or isinstance(value, DuplicateKeys):
        raise DecodeError
    out = {}
    for key, item in value.items():
        field = fields.get(key)
        if field is None or (release is not None and not field.known(release)):
            if relaxed:
                continue
            raise DecodeError
        out[key] = field.type(item)
    for key, field in fields.items():
        if field.required and key not in out:
            raise DecodeError
    return out


def decode(
    params: Any, fields: Mapping[str, Field], family: Family, *, relaxed: bool, needed: bool, release: Release
) -> Params:
    """Decode ``params`` (None when absent) or raise the family's error.

    ``relaxed`` ignores unknown top-level keys; ``needed`` refuses absent parameters even if no field is required.
    """
    try:
        if params is None:
            if needed:
                raise DecodeError
            return Params({}, False)
        return Params(_decode_object(params, fields, relaxed=relaxed, release=release), True)
    except DecodeError:
        raise RpcFailure(family.code, family.message) from None
