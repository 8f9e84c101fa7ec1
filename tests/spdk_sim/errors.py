# SPDX-License-Identifier: GPL-3.0-or-later
"""How a call fails: an error answer, a crash of the whole target, or never an answer."""

from __future__ import annotations

import errno

STRERROR = {
    errno.EPERM: "Operation not permitted",
    errno.EACCES: "Permission denied",
    errno.ENOENT: "No such file or directory",
    errno.EIO: "Input/output error",
    errno.ENXIO: "No such device or address",
    errno.EAGAIN: "Resource temporarily unavailable",
    errno.ENOMEM: "Cannot allocate memory",
    errno.EBUSY: "Device or resource busy",
    errno.EEXIST: "File exists",
    errno.ENODEV: "No such device",
    errno.EISDIR: "Is a directory",
    errno.EINVAL: "Invalid argument",
    errno.ENOSPC: "No space left on device",
    errno.ERANGE: "Numerical result out of range",
    errno.ETIMEDOUT: "Connection timed out",
    errno.EALREADY: "Operation already in progress",
    errno.ENOKEY: "Required key not available",
}

INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
PARSE_ERROR = -32700
INVALID_STATE = -1

STARTUP_ONLY = (
    "Method may only be called before framework is initialized. Use --wait-for-rpc command line parameter "
    "and then issue this RPC before the framework_start_init RPC."
)
RUNTIME_ONLY = "Method may only be called after framework is initialized using framework_start_init RPC."


class RpcFailure(Exception):
    """An error answer with the JSON-RPC ``code`` and ``message`` of the real program (contract section 1)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class TargetCrash(BaseException):
    """The real target would have died here (contract section 12).

    ``rule`` is the number in the table of section 12 (or "17.2"), ``signal`` names what killed the real one.
    """

    def __init__(self, rule: int | str, signal: str, message: str) -> None:
        super().__init__(rule, signal, message)
        self.rule = rule
        self.signal = signal
        self.message = message

    def __str__(self) -> str:
        return f"{self.signal}, contract section 12, rule {self.rule}: {self.message}"


class Blocked(Exception):
    """Raised by ``Target.call`` where the real program would not answer (a vhost client is connected, ...)."""


def failure(number: int, code: int | None = None) -> RpcFailure:
    """The answer for an errno: ``-errno`` as the code unless ``code`` is given, its text as the message."""
    return RpcFailure(-number if code is None else code, STRERROR[number])
