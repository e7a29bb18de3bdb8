"""What a metric is: how it is computed, called, read and judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScoredSets:
    """Sets of scored impressions: all of a slice, and all but one fold of a jackknife, a row each.

    Attributes:
        clicked: float64 [sets, bins], the weight of clicked impressions by bin of their prediction, ascending.
        unclicked: float64 [sets, bins], of unclicked ones.
        loss: float64 [sets], the sum of weighted log losses, in nats.
        clicks: float64 [sets], of clicks.
        weight: float64 [sets], of impressions.
        predicted: float64 [sets], of predictions.
    """

    clicked: Floats
    unclicked: Floats
    loss: Floats
    clicks: Floats
    weight: Floats
    predicted: Floats

    @property
    def rate(self) -> Floats:
        """The click rates [sets]."""
        return self.clicks / self.weight


@dataclass(frozen=True)
class TfmaMetric:
    """The metric of TensorFlow Model Analysis that measures the same; the Evaluator's config is written in its terms.

    Attributes:
        class_name: Its class.
        module: Where that is; TFMA's or Keras's own if empty.
        config: Its arguments.
    """

    class_name: str
    module: str = ""
    config: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Skill:
    """What a metric is without any skill, and with so much that a model is worth having."""

    none: float
    worthwhile: float


@dataclass(frozen=True)
class Metric:
    """A metric of click predictions.

    Attributes:
        name: What config, records and dashboards call it.
        title: What the report calls it.
        heading: What a terminal's table calls it.
        meaning: What it says, in the report's words.
        compute: Its values [sets]; what is not finite is taken for NaN.
        tfma: The same in TFMA's terms.
        higher_is_better: None where neither direction is better.
        is_of_model: Whether it judges predictions, and so can have a threshold; else it tells of the impressions.
        is_shown: Whether tables show it where no threshold asks for it.
        needs_both_classes: Whether it is none without a click and an impression without one.
        sound: The value of a model that predicts rightly, whatever there is to predict; None where that depends.
        is_per_click: Whether it is in inverse proportion to the count of clicks, whose error is then its own.
        skill: By click rate; None where it measures none.
    """

    name: str
    title: str
    heading: str
    meaning: str
    compute: Callable[[ScoredSets], Floats]
    tfma: TfmaMetric
    higher_is_better: bool | None = None
    is_of_model: bool = True
    is_shown: bool = True
    needs_both_classes: bool = False
    sound: float | None = None
    is_per_click: bool = False
    skill: Callable[[float], Skill] | None = None


def from_the_top(histograms: Floats) -> Floats:
    """Cumulative sums [sets, bins + 1] of histograms [sets, bins] from the highest bin, starting from 0."""
    sums: Any = np.cumsum(histograms[:, ::-1], axis=1)
    return np.concatenate([np.zeros((len(histograms), 1)), sums], axis=1)
