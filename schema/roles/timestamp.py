"""The role `timestamp`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adclick.schema.roles.role import RawType, Role


class Timestamp(Role):
    """When the impression was shown; splits the data by time and gives hour and weekday to the model."""

    raw_type = RawType.INT
    is_input = True
    is_single = True
    recurs = False

    role: Literal["timestamp"]
    format: str = Field(
        "iso8601",
        description="`iso8601`, `epoch_seconds`, `epoch_milliseconds`, or a strptime pattern such as %y%m%d%H.",
    )
    derive: tuple[Literal["hour", "weekday"], ...] = Field(
        ("hour", "weekday"), description="The features derived from the time, in the time zone of the data."
    )
