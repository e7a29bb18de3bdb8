"""The kinds of features: a line each, here and in the type."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from adclick.stream.features.count import Count
from adclick.stream.features.distinct import Distinct
from adclick.stream.features.feature import Feature
from adclick.stream.features.hour_entropy import HourEntropy
from adclick.stream.features.share_with_impression import ShareWithImpression
from adclick.stream.features.sums import Mean, Sum
from adclick.stream.features.time_since_last import TimeSinceLast
from adclick.stream.features.time_to_click import TimeToClick

KINDS: tuple[type[Feature], ...] = (
    Count,
    Distinct,
    Sum,
    Mean,
    TimeSinceLast,
    TimeToClick,
    ShareWithImpression,
    HourEntropy,
)

#: A feature as a config declares it.
AnyFeature = Annotated[
    Count | Distinct | Sum | Mean | TimeSinceLast | TimeToClick | ShareWithImpression | HourEntropy,
    Field(discriminator="kind"),
]
