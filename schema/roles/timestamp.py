"""The role `timestamp`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import Field

from adclick.schema.roles.cells import TimeCells
from adclick.schema.roles.inputs import CategoryField, ColumnInputs, Numbering, time_name
from adclick.schema.roles.role import RawType, Role

#: By part of a time: how it is numbered, how many numbers it has, and which an explanation starts from: a Wednesday at
#: noon.
_PARTS: Mapping[str, tuple[Numbering, int, int]] = {"hour": ("hour", 24, 12), "weekday": ("weekday", 7, 2)}


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

    @property
    def cells(self) -> TimeCells:
        return TimeCells(self.format)

    def network_inputs(self, tensor: str, vocabulary_size: Callable[[str], int]) -> ColumnInputs:
        parts = ((part, *_PARTS[part]) for part in self.derive)
        return ColumnInputs(
            derived=tuple(
                CategoryField(time_name(tensor, part), 1, size, None, by=numbering, neutral=neutral)
                for part, numbering, size, neutral in parts
            )
        )
