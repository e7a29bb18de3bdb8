"""Whether a column's values come back: in how many held-out rows stands one that training rows hold.

What a model learns of a value it can use only where the value returns. Those of a session, a request or a basket do
not: their rows stand close together, and later ones have new values.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
import numpy.typing as npt

from adclick.pipeline.onboarding.guesses import Guesses
from adclick.pipeline.onboarding.profile import parse_time

#: As a run holds back by default.
_HELD_OUT_SHARE = 0.2
#: Where at most so many held-out rows have a value that training knows, nothing can be learned from values.
LEAST_CARRIED = 0.1


def most_carried(cells: Sequence[str], values: Container[str], order: npt.NDArray[np.int64], share: float) -> float:
    """The largest share of held-out rows, of those that have a value, whose value training rows hold; an upper bound.

    Of a log of which rows are left out, a row's value is found in a sample of the training rows with at least the
    chance that one of them is sampled; so the share found in the sample, over the share sampled, bounds that of all.

    Args:
        cells: The column's cells [rows].
        values: Those that are not missing.
        order: The rows, the last of them held out.
        share: The share of the log's rows that are sampled.

    Returns:
        The bound with two standard errors on it, at most 1.
    """
    held_out = round(len(order) * _HELD_OUT_SHARE)
    known = {cells[row] for row in order[: len(order) - held_out]}
    judged = [cells[row] for row in order[len(order) - held_out :] if cells[row] in values]
    if not judged:
        return 1.0
    found = sum(value in known for value in judged)
    # Of a rare event, none in n rows leaves 3 in n possible.
    return min(1.0, (found + 2 * found**0.5 + 3) / len(judged) / share)


def in_time(guesses: Guesses) -> npt.NDArray[np.int64] | None:
    """The sampled rows that have a time, in the order of their times; None where no column is the time."""
    for index, (settings, _) in guesses.by_index.items():
        if settings["role"] == "timestamp":
            name = settings.get("format", "iso8601")
            found = [parse_time(cell, name) for cell in guesses.profiles[index].cells]
            times = np.array([np.nan if time is None else time for time in found])
            # NaN comes last.
            return np.argsort(times, kind="stable")[: int(np.isfinite(times).sum())]
    return None


def at_random(rows: int) -> npt.NDArray[np.int64]:
    """The rows in an order that a hash could give them."""
    return np.random.default_rng(0).permutation(rows)
