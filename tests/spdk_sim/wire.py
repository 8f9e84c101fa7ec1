# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON as it comes through a stream socket, and the JSON-RPC envelope (contract section 1)."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from .decode import DuplicateKeys

MAX_DEPTH = 64

_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"')
_OPEN_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+(?:\\(?:u[0-9a-fA-F]{0,3})?)?')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_OPEN_NUMBER = re.compile(rb"-|-?(?:0|[1-9][0-9]*)(?:\.|(?:\.[0-9]+)?[eE][+-]?)")
_WORDS = (b"true", b"false", b"null")


class Malformed(Exception):
    """The bytes can never become JSON, or are beyond a limit; the real program closes the connection."""


class Limits(NamedTuple):
    """Sizes of the receive side of one release."""

    buffer: int
    values: int


def limits(release: tuple[int, int]) -> Limits:
    """The limits of a release: they grew in v26.05."""
    return Limits(256 * 1024, 8192) if release >= (26, 5) else Limits(32 * 1024, 1024)


class Number(float):
    """A float that remembers how it was written, so that an id comes back verbatim."""

    text: str

    def __new__(cls, text: str) -> Number:
        number = super().__new__(cls, text)
        number.text = text
        return number


def scan(data: bytes | bytearray, start: int, max_values: int) -> int | None:
    """The end of the first complete JSON value in ``data`` from ``start`` on, None when more bytes are needed."""
    stack: list[bytes] = []
    values = 0
    at = start
    want = "value"
    size = len(data)
    while True:
        at = _SPACE.match(data, at).end()
        if at >= size:
            return None
        char = data[at : at + 1]
        if want == "value" or (want == "first" and char != b"]"):
            values += 1
            if char in (b"{", b"["):
                stack.append(char)
                if len(stack) > MAX_DEPTH:
                    raise Malformed
                want = "key" if char == b"{" else "first"
                want = "first_key" if char == b"{" else want
                at += 1
                continue
            end = _scalar(data, at)
            if end is None:
                return None
            at = end
            want = "after"
        elif want in ("key", "first_key") and char == b'"':
            values += 1
            end = _scalar(data, at)
            if end is None:
                return None
            at = end
            want = "colon"
        elif want == "colon" and char == b":":
            at += 1
            want = "value"
        elif want == "after" and char == b"," and stack:
            at += 1
            want = "key" if stack[-1] == b"{" else "value"
        elif char == b"}" and stack and stack[-1] == b"{" and want in ("after", "first_key"):
            values += 1
            stack.pop()
            at += 1
            want = "after"
        elif char == b"]" and stack and stack[-1] == b"[" and want in ("after", "first"):
            values += 1
            stack.pop()
            at += 1
            want = "after"
        else:
            raise Malformed
        if values > max_values:
            raise Malformed
        if want == "after" and not stack:
            return at


def _scalar(data: bytes | bytearray, at: int) -> int | None:
    char = data[at : at + 1]
    if char == b'"':
        found = _STRING.match(data, at)
        if found:
            return found.end()
        if _OPEN_STRING.match(data, at).end() == len(data):
            return None
        raise Malformed
    for word in _WORDS:
        if data.startswith(word, at):
            return at + len(word)
        if word.startswith(data[at : at + len(word)]):
            return None
    found = _NUMBER.match(data, at)
    if found:
        rest = _OPEN_NUMBER.match(data, at)
        if rest and rest.end() == len(data) and rest.end() > found.end():
            return None
        return found.end()
    if bytes(data[at:]) == b"-":
        return None
    raise Malformed


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    return out if len(out) == len(pairs) else DuplicateKeys(out)


def _constant(text: str) -> Any:
    raise Malformed(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=Number, parse_constant=_constant)


def parse(data: bytes) -> Any:
    """Decode one complete value."""
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except ValueError:
        raise Malformed from None


def dumps(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"))


def dump_id(ident: Any) -> str:
    """An id as it was sent."""
    return ident.text if isinstance(ident, Number) else json.dumps(ident)


class Request(NamedTuple):
    """A decoded request. ``error``: the envelope is wrong, answer -32600 with ``ident``."""

    ident: Any
    method: str
    params: Any
    error: bool


BAD = Request(None, "", None, True)


def request(value: Any) -> Request:
    """Read the envelope: jsonrpc optional, no unknown and no repeated member; null params are no params."""
    if not isinstance(value, dict) or isinstance(value, DuplicateKeys):
        return BAD
    if value.keys() - {"jsonrpc", "id", "method", "params"} or value.get("jsonrpc", "2.0") != "2.0":
        return BAD
    ident, method, params = value.get("id"), value.get("method"), value.get("params")
    if isinstance(ident, bool) or not isinstance(ident, (str, int, float, type(None))) or not isinstance(method, str):
        return BAD
    if params is not None and not isinstance(params, (dict, list)):
        return Request(ident, method, None, True)
    return Request(ident, method, params, False)
