"""Moments and lengths of time as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from adclick.schema.errors import ConfigError

_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhd])")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def seconds_of(length: str, option: str) -> float:
    """A length of time such as `7d` or `90m`, in seconds.

    Raises:
        ConfigError: It is not of that form; names the option.
    """
    match = _LENGTH.fullmatch(length)
    if match is None:
        raise ConfigError(
            f"{option}: {length!r} is no length of time", "Give a number and ms, s, m, h or d, such as 7d."
        )
    return float(match[1]) * _SECONDS[match[2]]


def microseconds_of(length: str) -> int:
    """A length of time such as `7d` or `20ms`, in microseconds.

    Raises:
        ValueError: It is not of that form.
    """
    match = _LENGTH.fullmatch(length)
    if match is None:
        raise ValueError(f"{length!r} is no length of time: give a number and ms, s, m, h or d, such as 7d")
    return round(float(match[1]) * _SECONDS[match[2]] * 1_000_000)


def moment_of(text: str, option: str) -> float:
    """An ISO 8601 date or time, UTC unless it says otherwise, in seconds since 1970.

    Raises:
        ConfigError: It is not of that form; names the option.
    """
    try:
        return seconds_since_1970(text)
    except ValueError:
        raise ConfigError(
            f"{option}: {text!r} is no date or time", "Give one such as 2026-10-31 or 2026-10-31T18:00:00Z."
        ) from None


def seconds_since_1970(text: str) -> float:
    """An ISO 8601 date or time, UTC unless it says otherwise, in seconds since 1970; raises ValueError."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def moment_text(seconds: float) -> str:
    """A moment in ISO 8601, UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
