"""The role `label`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from adclick.schema.roles.cells import LabelCells
from adclick.schema.roles.role import RawType, Role


class Label(Role):
    """Whether the impression was clicked."""

    raw_type = RawType.INT
    is_single = True
    is_of_log = True

    role: Literal["label"]
    positive: tuple[str, ...] = Field(
        ("1", "1.0"),
        min_length=1,
        description="Texts that mean a click, in any case. Quote words such as yes and true: YAML would read a truth "
        "value. A row whose label is neither of these nor of `negative` is quarantined.",
    )
    negative: tuple[str, ...] = Field(
        ("0", "0.0"), min_length=1, description='Texts that mean no click, in any case; `""` for an empty cell.'
    )

    @field_validator("positive", "negative", mode="before")
    @classmethod
    def _as_texts(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        if any(isinstance(text, bool) for text in value):
            raise ValueError(f"YAML reads {value} as truth values: write the texts in quotes, as they stand in the CSV")
        return tuple(str(text) if isinstance(text, int | float) else text for text in value)

    @model_validator(mode="after")
    def _distinct(self) -> Label:
        both = sorted({label_key(text) for text in self.positive} & {label_key(text) for text in self.negative})
        if both:
            raise ValueError(f"{both[0]!r} stands both in `positive` and in `negative`")
        return self

    @property
    def cells(self) -> LabelCells:
        return LabelCells(self.values)

    @property
    def values(self) -> dict[str, int]:
        """1 or 0 by the `label_key` of each text."""
        return {
            **{label_key(text): 1 for text in self.positive},
            **{label_key(text): 0 for text in self.negative},
        }


def label_key(text: str) -> str:
    """What of a label's text counts: not its case, and not blanks around it."""
    return text.strip().casefold()
