"""What a pushed version keeps of the held-out rows it was judged by: metrics, its predictions' quantiles, an audience.

The audience is a uniform sample of the newest month's held-out impressions as requests give them, without label or
identifier, so that new creatives can be scored before they are shown.
"""

from __future__ import annotations

import bisect
import gzip
import io
import math
import zlib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

#: In the folders of an evaluation and of its blessing, and in `assets.extra` of a version.
HELD_OUT_FILE = "held_out.json.gz"
#: The most impressions of an audience.
AUDIENCE_ROWS = 2_000
#: The most bytes of its rows as JSON: texts may be long.
AUDIENCE_BYTES = 8_000_000
#: What quantiles are kept of predictions: every half of a percent.
QUANTILE_SHARES = tuple(number / 200 for number in range(201))
#: A version's file is not unpacked beyond this.
_MOST_BYTES = 64_000_000


class Estimate(BaseModel):
    """A metric with its 95 % confidence interval; None where it is not defined."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    value: float | None
    lower: float | None = None
    upper: float | None = None

    @classmethod
    def defined(cls, value: float, lower: float | None, upper: float | None) -> Estimate:
        """An estimate, None in place of NaN and infinities."""
        finite = [None if bound is None or not math.isfinite(bound) else bound for bound in (value, lower, upper)]
        return cls(value=finite[0], lower=finite[1], upper=finite[2])


class HeldOut(BaseModel):
    """What a version keeps of its held-out rows.

    Attributes:
        span: The month as a number, such as 202610; None where it has none.
        metrics: By name, over all held-out rows.
        quantiles: The predicted click probabilities below which lie the shares `QUANTILE_SHARES` of all traffic like
            the held-out rows, ascending; empty for versions that do not say.
        audience: By row, the values of the columns that are not missing, as a request's context gives them; an image
            is its creative's key.
        replaced_values: Values of the audience that are no Unicode text; what cannot be read stands replaced.
        left_out_rows: Drawn rows that are not in the audience, because it would have been larger than `AUDIENCE_BYTES`.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    span: int | None = None
    metrics: dict[str, Estimate] = {}
    quantiles: tuple[float, ...] = ()
    audience: tuple[dict[str, Any], ...] = ()
    replaced_values: int = 0
    left_out_rows: int = 0

    def to_bytes(self) -> bytes:
        """The content of its file; the same for the same facts."""
        return gzip.compress(self.model_dump_json().encode(), mtime=0)

    @classmethod
    def from_bytes(cls, content: bytes) -> HeldOut:
        """Reads a file.

        Raises:
            ValueError: It is none, or larger than any that is written.
        """
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
                document = stream.read(_MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"not gzip, or cut off: {error}") from error
        if len(document) > _MOST_BYTES:
            raise ValueError(f"larger than {_MOST_BYTES:,} bytes")
        return cls.model_validate_json(document)


def place_among(quantiles: Sequence[float], probability: float) -> float | None:
    """The share of predictions that a probability is higher than, in [0, 1]; None where there are no quantiles.

    Between two quantiles it is interpolated; a probability that many share lies in their middle.
    """
    if len(quantiles) < 2:
        return None
    last = len(quantiles) - 1
    below, up_to = bisect.bisect_left(quantiles, probability), bisect.bisect_right(quantiles, probability)
    if up_to > below:
        # Equal to one or several quantiles.
        return (below + up_to - 1) / 2 / last
    if below == 0 or below > last:
        return 0.0 if below == 0 else 1.0
    lower, upper = quantiles[below - 1], quantiles[below]
    return (below - 1 + (probability - lower) / (upper - lower)) / last
