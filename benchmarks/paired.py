"""How two models' scores differ on the same rows, seed by seed, and what can be said of it."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class Verdict(enum.Enum):
    """What a mean difference says when its standard error is the measure."""

    BETTER = "better"
    LEVEL = "level"
    WORSE = "worse"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class PairedDifference:
    """Ours minus another model's score on the same rows.

    Attributes:
        mean: Over the seeds; NaN where any score is not finite.
        standard_error: Of that mean; NaN there and of fewer than two seeds. Seeds that part one log anew share rows, so
            that the true error is somewhat larger.
        seeds: How many.
        lower_is_better: Whether a negative difference is a gain.
    """

    mean: float
    standard_error: float
    seeds: int
    lower_is_better: bool

    @property
    def gain_in_errors(self) -> float:
        """By how many standard errors ours is better, below 0 where it is worse; NaN where nothing can be said."""
        gain = -self.mean if self.lower_is_better else self.mean
        if not math.isfinite(gain) or not math.isfinite(self.standard_error):
            return math.nan
        if not self.standard_error:
            return math.copysign(math.inf, gain) if gain else 0.0
        return gain / self.standard_error

    @property
    def verdict(self) -> Verdict:
        """Better or worse by one standard error at least; unknown where a score is none or there are too few seeds."""
        gain = self.gain_in_errors
        if math.isnan(gain):
            return Verdict.UNKNOWN
        return Verdict.BETTER if gain >= 1 else Verdict.WORSE if gain < -1 else Verdict.LEVEL

    @property
    def is_not_worse(self) -> bool:
        """Whether ours is at most one standard error behind; false where nothing can be said."""
        return self.gain_in_errors >= -1


def paired_difference(
    ours: Mapping[int, float], other: Mapping[int, float], *, lower_is_better: bool
) -> PairedDifference:
    """Sets two models' scores side by side.

    Args:
        ours: Our score by seed.
        other: The other model's.
        lower_is_better: Whether the score is a loss.

    Returns:
        The mean difference; a seed that only one of them has counts as a score that is none.
    """
    seeds = sorted({*ours, *other})
    differences = [ours.get(seed, math.nan) - other.get(seed, math.nan) for seed in seeds]
    if not seeds or not all(map(math.isfinite, differences)):
        return PairedDifference(math.nan, math.nan, len(seeds), lower_is_better)
    mean, error = mean_and_standard_error(differences)
    return PairedDifference(mean, error, len(seeds), lower_is_better)


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean of at least one value and its standard error, NaN of one value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def best_of(means: Mapping[str, float], *, lower_is_better: bool) -> str | None:
    """The name of the best mean; what is not finite never is, and None if nothing is."""
    finite = {name: value for name, value in means.items() if math.isfinite(value)}
    if not finite:
        return None
    return (min if lower_is_better else max)(finite, key=lambda name: finite[name])
