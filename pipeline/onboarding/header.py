"""Decides whether the first row of a log names its columns or is data, by all columns together.

Each column is asked how likely its first cell is as one more of its values, and how likely as a name; the answers are
multiplied. So neither a column that is named `12e3` nor a first row of plain words decides alone.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from adclick.pipeline.onboarding.profile import MISSING_WORDS

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_TIME = re.compile(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}([T ].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}( .*)?|\d{1,2}:\d{2}(:\d{2})?")
_CODE = re.compile(r"(?=.*\d)[0-9a-fA-F-]{6,7}|[0-9a-fA-F-]{8,}")
_ADDRESS = re.compile(r"https?://|.*/.*\.\w{2,4}$")
_HTML = re.compile(r"<[a-zA-Z/!]")
_LONGEST_NAME = 128
#: How likely a name is of each form, of which a value of the column is not.
_NAME = 0.5
_NUMBER_AS_NAME = 0.02
_FURTHER_NUMBER_AS_NAME = 0.3
_EMPTY_NAME = 0.02
_VALUE_AS_NAME = 0.02
_TEXT_AS_NAME = 1e-4
_REPEATED_NAME = 0.05
#: A cell of another form than its column's values is rare: so much of a row stands for those not yet seen.
_STRAY = 0.05
#: Most files have a header.
_PRIOR = math.log(20)
#: A column that speaks so clearly for a header is told where there is none.
_TOLD = math.log(10)


@dataclass(frozen=True)
class HeaderDecision:
    """What the first row is.

    Attributes:
        is_header: Whether it names the columns.
        dissent: The cells of the first row that say otherwise, as the row has them.
    """

    is_header: bool
    dissent: tuple[str, ...]

    @property
    def warning(self) -> str | None:
        """What a person should look at; None where all columns agree."""
        if not self.dissent:
            return None
        cells = ", ".join(repr(cell if len(cell) <= 40 else f"{cell[:37]}...") for cell in self.dissent[:5])
        if self.is_header:
            return (
                f"the first row was taken for the header, though its {cells} could be data: the other columns decide. "
                "If it is data, set csv.header to false and csv.columns to the columns' names."
            )
        return (
            f"the first row was taken for data, though its {cells} could be a name: the other columns decide. "
            "If it is the header, set csv.header to true and each column's `source` to its name."
        )


def decide_header(rows: Sequence[Sequence[str]]) -> HeaderDecision:
    """Decides what the first of some rows is."""
    first = rows[0]
    # Files joined end to end repeat their header.
    rest = [row for row in rows[1:] if len(row) == len(first) and row != first]
    columns = list(zip(*rest, strict=True)) or [()] * len(first)
    scores: list[float] = []
    number_as_name = _NUMBER_AS_NAME
    for cell, column in zip(first, columns, strict=True):
        scores.append(_score(cell, column, number_as_name, is_first=not scores))
        if _form(cell) not in ("word", "empty"):
            # Where one name is a number, others are: the first of them is the surprise.
            number_as_name = _FURTHER_NUMBER_AS_NAME
    repeated = len(first) - len(set(first))
    is_header = sum(scores) + repeated * math.log(_REPEATED_NAME) + _PRIOR > 0
    told = [
        cell
        for cell, column, score in zip(first, columns, scores, strict=True)
        if (cell in column or _form(cell) not in ("word", "empty") if is_header else score > _TOLD)
    ]
    return HeaderDecision(is_header, tuple(told))


def _score(cell: str, values: Sequence[str], number_as_name: float, *, is_first: bool) -> float:
    """The logarithm of how much likelier the cell is as the column's name than as one of its values."""
    form = _form(cell)
    if form == "word":
        if _HTML.search(cell) or len(cell) > _LONGEST_NAME:
            as_name = _TEXT_AS_NAME
        else:
            as_name = _VALUE_AS_NAME if cell in values else _NAME
    elif form == "empty":
        # An index written by a data frame library has an empty name, always the first.
        as_name = _NAME if is_first and not cell.strip() else _EMPTY_NAME
    else:
        as_name = min(number_as_name, _VALUE_AS_NAME) if cell in values else number_as_name
    score = math.log(as_name) - math.log(_as_value(cell, values))
    # That a number or a code is no value of its column does not make it a name.
    return score if form == "word" or as_name == _NAME else min(score, 0.0)


def _as_value(cell: str, values: Sequence[str]) -> float:
    """Of a further row: the share of values of the cell's form, times that of the very value, or of one never seen."""
    form = _form(cell)
    alike = Counter(value for value in values if _form(value) == form)
    rows = alike.total()
    of_form = (rows + _STRAY) / (len(values) + 2 * _STRAY)
    seen = alike[cell]
    once = sum(count == 1 for count in alike.values())
    return of_form * (seen / (rows + 1) if seen else (once + 1) / (rows + 1))


def _form(cell: str) -> str:
    text = cell.strip()
    if not text or text.lower() in MISSING_WORDS:
        return "empty"
    for form, pattern in (("number", _NUMBER), ("time", _TIME), ("code", _CODE), ("address", _ADDRESS)):
        if pattern.fullmatch(text) or (form == "address" and pattern.match(text)):
            return f"code of {len(text)}" if form == "code" else form
    return "word"
