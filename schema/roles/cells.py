"""How the cells of a drop are read: a role is read by one of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TextCells:
    """Texts exactly as they stand.

    Attributes:
        separator: What stands between two texts of one cell; None where a cell is one text.
    """

    separator: str | None = None


@dataclass(frozen=True)
class NumberCells:
    """Numbers.

    Attributes:
        rewrites: Regular expressions of RE2, each with what stands for its matches before a cell is read as a number.
    """

    rewrites: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class LabelCells:
    """Whether an impression was clicked.

    Attributes:
        values: 1 or 0 by the `label_key` of each text.
    """

    values: Mapping[str, int]


@dataclass(frozen=True)
class TimeCells:
    """Times, as seconds since 1970-01-01 of the clock that wrote them.

    Attributes:
        format: As in the role `timestamp`.
    """

    format: str


Cells = TextCells | NumberCells | LabelCells | TimeCells
