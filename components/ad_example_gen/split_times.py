"""Where in time a month is parted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adclick.components.ad_example_gen.settings import SplitSettings
from adclick.components.splits import SPLITS

MINUTE = 60


@dataclass(frozen=True)
class SplitTimes:
    """Where in time a month is parted.

    Attributes:
        validation_from: The first second of the validation split.
        evaluation_from: That of the evaluation split.
    """

    validation_from: int
    evaluation_from: int


def choose_split_times(rows_by_minute: Mapping[int, int], split: SplitSettings) -> SplitTimes | None:
    """Finds where in time to split: at the starts of the minutes that come closest to the shares wanted.

    Args:
        rows_by_minute: Rows of each minute since 1970.
        split: The shares.

    Returns:
        The times; None if the rows lie in fewer than three minutes.
    """
    minutes = np.array(sorted(rows_by_minute), np.int64)
    if len(minutes) < len(SPLITS):
        return None
    rows = np.array([rows_by_minute[minute] for minute in minutes.tolist()], np.int64)
    # The share of the rows that come at or after each minute.
    later = np.cumsum(rows[::-1])[::-1] / rows.sum()
    evaluation = 2 + int(np.argmin(np.abs(later[2:] - split.eval_share)))
    held_back = split.eval_share + split.validation_share
    validation = 1 + int(np.argmin(np.abs(later[1:evaluation] - held_back)))
    return SplitTimes(int(minutes[validation]) * MINUTE, int(minutes[evaluation]) * MINUTE)
