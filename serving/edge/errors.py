"""Errors that who looks after a device can act on; each carries the exit code with which the command ends."""

from __future__ import annotations


class EdgeError(Exception):
    """A failure with a cause and a remedy.

    Attributes:
        message: What is wrong.
        remedy: What to do about it, or an empty string.
        exit_code: 2: the command, a file or a setting is wrong.
    """

    exit_code = 2

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}\n{remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


class Refused(EdgeError):
    """What was published and must not be taken.

    Attributes:
        reason: `damaged`, `unsigned`, `altered`, `too_old`, `wrong_runtime`, `unfit` or `self_test`, for logs
            and metrics.
        exit_code: 4, as for a refused model.
    """

    exit_code = 4

    def __init__(self, reason: str, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.reason = reason


class BundleRefused(Refused):
    """A bundle that must not run here."""


class ChannelRefused(Refused):
    """A channel's file that must not be followed."""


class BrokenFrame(Exception):
    """What came from the source is no picture, or one too large to decode."""
