"""What a threshold decides where chance moves the metric: met, missed, or not to be told from so few clicks.

A metric of few clicks misses a threshold that the model would keep if there were more: of 72 clicks, the calibration
ratio of a sound model lies beyond 1.25 in one month of ten. A threshold is therefore missed only where the metric is
beyond it and a sound model would not have come there by chance:

- a calibration ratio, where its interval excludes 1;
- a change against the last blessed model, where its interval excludes no change;
- a metric of skill (AUC, normalised entropy, …), where its interval excludes the threshold; or includes what no skill
  at all would give and excludes skill that is worth having: more clicks would not show any.

Each of many gates would refuse a sound model now and then, and one refusal suffices. So the error that is allowed is
shared out among the gates of a model (Bonferroni; where one refusal decides, Holm's later steps change nothing). The
interval of a metric per click is symmetric on the scale of roots, where a count's error does not depend on the count:
Anscombe 1948, "The transformation of Poisson, binomial and negative-binomial data".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from scipy import stats

from adclick.models.metrics import BY_NAME

#: How sure all gates of a model together are that chance alone did not move a metric so far, either way.
CONFIDENCE = 0.99
#: Of fewer clicks, or impressions without one, no interval can be computed that holds.
LEAST_CLICKS = 20

#: Begins what is said of a threshold that too few clicks decide; also the setting's name.
UNDECIDED = "undecided"

#: A metric so many times nearer to what excuses it than its interval is wide is as good as there.
_MOST_MARGINS = 1e4


class Verdict(Enum):
    """What a threshold says of a metric."""

    MET = "met"
    MISSED = "missed"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Bounds:
    """The least and the most that a metric, or its change against the last blessed model, may be."""

    lower: float = -math.inf
    upper: float = math.inf

    def keep(self, value: float) -> bool:
        """Whether a value is within them, which one that is no number is not."""
        return self.lower <= value <= self.upper


@dataclass(frozen=True)
class Measurement:
    """A metric of one slice.

    Attributes:
        metric: Its name.
        value: Its value, or its change against the last blessed model.
        is_change: Which of both.
        deviation: Its standard error; None where none was computed.
        freedom: Degrees of freedom of that.
        clicks: The rarer of clicks and impressions without one in the slice.
        click_rate: The slice's.
        gates: How many gates judge the model, this one among them.
        is_overall: Whether the slice is all impressions.
    """

    metric: str
    value: float
    is_change: bool
    deviation: float | None
    freedom: int
    clicks: float
    click_rate: float
    gates: int = 1
    is_overall: bool = True

    @property
    def confidence(self) -> float:
        """How sure this gate must be."""
        return 1 - (1 - CONFIDENCE) / self.gates

    @property
    def margin(self) -> float | None:
        """Half the width of the interval, on the scale of `distance`; None where there is no interval."""
        if self.deviation is None or not math.isfinite(self.deviation):
            return None
        deviation = self.deviation
        if self._is_per_click:
            if not self.value > 0:
                return None
            deviation *= 0.5 * self.value**-1.5
        return float(stats.t.ppf(0.5 + self.confidence / 2, self.freedom)) * deviation

    @property
    def interval(self) -> tuple[float, float] | None:
        """The values that chance may have made this one of."""
        margin = self.margin
        if margin is None:
            return None
        if self._is_per_click:
            root = self.value**-0.5
            return (root + margin) ** -2, (root - margin) ** -2 if root > margin else math.inf
        return self.value - margin, self.value + margin

    def distance(self, other: float) -> float:
        """From the value to another, of a metric per click as the root of its inverse."""
        if self._is_per_click:
            return abs(self.value**-0.5 - other**-0.5) if self.value > 0 and other > 0 else math.inf
        return abs(self.value - other)

    @property
    def _is_per_click(self) -> bool:
        return not self.is_change and BY_NAME[self.metric].is_per_click


def judge(measured: Measurement, bounds: Bounds) -> Verdict:
    """Says whether a metric keeps its bounds."""
    if bounds.keep(measured.value):
        return Verdict.MET
    if not math.isfinite(measured.value):
        # Without clicks there is no metric. Of all impressions that is a fault of the data, of a slice its size.
        return Verdict.MISSED if measured.is_overall else Verdict.UNDECIDED
    if measured.deviation is None:
        return Verdict.MISSED
    if measured.clicks < LEAST_CLICKS:
        return Verdict.UNDECIDED
    margin = measured.margin
    if margin is None or measured.distance(_excuse(measured, bounds)) > margin:
        return Verdict.MISSED
    skill_by_rate = BY_NAME[measured.metric].skill
    if skill_by_rate is not None and not measured.is_change:
        skill = skill_by_rate(measured.click_rate)
        if measured.distance(skill.none) <= margin < measured.distance(skill.worthwhile):
            return Verdict.MISSED
    return Verdict.UNDECIDED


def clicks_to_decide(measured: Measurement, bounds: Bounds) -> float:
    """About how many clicks would tell an undecided metric from what excuses it; infinite where none would.

    The width of an interval falls with the square root of the clicks.
    """
    margin = measured.margin
    if margin is None or not math.isfinite(measured.value):
        return math.inf
    distance = measured.distance(_excuse(measured, bounds))
    if not distance * _MOST_MARGINS > margin:
        return math.inf
    return max(LEAST_CLICKS, measured.clicks * (margin / distance) ** 2)


def describe_undecided(measured: Measurement, bounds: Bounds) -> str:
    """Why nothing is decided, and what would decide, in words."""
    interval = measured.interval
    if interval is None or measured.clicks < LEAST_CLICKS or not math.isfinite(measured.value):
        return f"{UNDECIDED}: {measured.clicks:,.0f} clicks tell nothing; at least {LEAST_CLICKS} are needed"
    needed = clicks_to_decide(measured, bounds)
    return (
        f"{UNDECIDED}: with {measured.clicks:,.0f} clicks chance alone may have done it "
        f"({100 * measured.confidence:.6g}% interval {interval[0]:.4g} to {interval[1]:.4g})"
        + (f"; about {needed:,.0f} clicks would decide" if math.isfinite(needed) else "")
    )


def _excuse(measured: Measurement, bounds: Bounds) -> float:
    """The value from which chance may have led beyond the bounds: a sound model's, or the nearest bound."""
    sound = 0.0 if measured.is_change else BY_NAME[measured.metric].sound
    if sound is not None and bounds.keep(sound):
        return sound
    return bounds.lower if measured.value < bounds.lower else bounds.upper
