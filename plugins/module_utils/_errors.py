# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong, as types. Private to the collection."""

from __future__ import annotations


class DiskengineError(Exception):
    """Base of every error that a user may see; its text is one clear sentence."""


class Refusal(DiskengineError):
    """One object cannot reach the wanted state from the state that was read; nothing was sent for it."""


class Unreachable(DiskengineError):
    """There is no target behind the socket: missing, not a socket, refused, not permitted or silent."""


class RpcError(DiskengineError):
    """The target answered a call with an error.

    Attributes: ``method``, ``subject`` (the object the call was about), ``code`` and ``message`` as the target sent
    them. The code's meaning depends on the method (contract section 2), so nothing is decided by it.
    """

    def __init__(self, method: str, subject: str, code: int, message: str) -> None:
        super().__init__(f"{method} was answered with error {code} ({message})")
        self.method = method
        self.subject = subject
        self.code = code
        self.message = message


class UnknownOutcome(DiskengineError):
    """A call was sent and no answer came: it may have been carried out or not. Read the state, never resend."""

    def __init__(self, method: str, subject: str, reason: str) -> None:
        super().__init__(f"the outcome of {method} for {subject or 'the target'} is unknown: {reason}")
        self.method = method
        self.subject = subject
        self.reason = reason
