"""How long after its impression a click came."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adclick.stream.features.feature import Feature


class TimeToClick(Feature):
    """Seconds from the click's impression to the click; missing where the impression is not known."""

    kind: Literal["time_to_click"]
    by: tuple[()] = Field((), exclude=True)
    of: Literal["clicks"] = Field("clicks", exclude=True)

    @property
    def needs_impressions(self) -> bool:
        return True

    @property
    def explanation(self) -> str:
        return "seconds from the click's impression to the click; kept: the time of each impression"
