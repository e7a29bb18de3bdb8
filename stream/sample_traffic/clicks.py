"""Clicks as columns, before they are written."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR


@dataclass(frozen=True)
class Clicks:
    """Clicks, a row each; impressions that nobody clicked are the same without a delay to them.

    Attributes:
        time: In microseconds since 1970.
        ip: The address, as the number of an IPv4 address.
        device: The device's number.
        browser: The browser's number.
        country: The country's number.
        site: The site's number.
        ad: The ad's number.
        delay: Seconds since the impression; NaN where there is none.
        kind: The number of what they are in truth, see `KINDS`.
    """

    time: Ints
    ip: Ints
    device: Ints
    browser: Ints
    country: Ints
    site: Ints
    ad: Ints
    delay: Floats
    kind: Ints

    def __len__(self) -> int:
        return len(self.time)

    def at(self, rows: Ints) -> Clicks:
        """Some of the rows, or all in another order."""
        return Clicks(*(getattr(self, field.name)[rows] for field in fields(self)))


#: What clicks are in truth: the honest ones first, those that look like fraud among them.
HONEST = ("user", "office", "heavy_user", "flash_sale", "crawler")
FRAUD = ("click_farm", "scripted_bot", "click_injection", "hijacked_device", "ad_stacking", "competitor")
KINDS = (*HONEST, *FRAUD)


def together(parts: list[Clicks]) -> Clicks:
    """All the rows of several."""
    return Clicks(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Clicks)))


def clicks_of(kind: str, time: Ints, **columns: Ints | Floats | int | float) -> Clicks:
    """Clicks of one kind; a column may be one value for all."""
    number = len(time)
    values = {"kind": KINDS.index(kind), **columns}
    full: dict[str, Any] = {
        name: np.broadcast_to(np.asarray(value, np.float64 if name == "delay" else np.int64), (number,)).copy()
        for name, value in values.items()
    }
    return Clicks(time=np.asarray(time, np.int64), **full)
