"""Rows whose times lie outside the month that they were delivered as."""

from __future__ import annotations

from typing import Any

import numpy as np

#: A clock in another time zone shows at most this much of a neighbouring month.
_MARGIN = np.timedelta64(1, "D")


def months_outside(seconds: Any, span: int) -> dict[str, int]:
    """Rows by the month that they are dated in, of those more than a day outside their own.

    Args:
        seconds: int64 [rows], seconds since 1970.
        span: The rows' own month as a number, such as 202610; 0 for a drop that is no month's.
    """
    if not span:
        return {}
    month = np.datetime64(f"{span // 100:04d}-{span % 100:02d}", "M")
    times = np.asarray(seconds, np.int64).astype("datetime64[s]")
    outside = (times < month.astype("datetime64[s]") - _MARGIN) | (
        times >= (month + 1).astype("datetime64[s]") + _MARGIN
    )
    found, rows = np.unique(times[outside].astype("datetime64[M]"), return_counts=True)
    return dict(zip(found.astype(str).tolist(), rows.tolist(), strict=True))
