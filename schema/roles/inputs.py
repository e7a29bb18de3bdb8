"""What the network takes of a column: a role composes it of category fields, numbers and texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: How a value becomes a category number: by its place in a vocabulary, its hash, the quantile bucket that it falls
#: into, or a part of the time that it is.
Numbering = Literal["vocabulary", "hash", "quantiles", "hour", "weekday"]


@dataclass(frozen=True)
class CategoryField:
    """One field of category numbers that the network embeds.

    Attributes:
        name: The field, `transformed_name(name)` in Transform's output: the tensor name of the column that it is, or
            that with a dot and what is derived from the column.
        width: How many numbers an impression has; above 1 for multi-valued columns, padded with -1.
        unknown: The number that stands for unseen values, or None where every value has one.
        size: How many numbers there are: they run from 0 to size - 1.
        ordered: How many of them, from 0 on, stand in an order, such as a quantity's buckets; 0 for none.
        by: How values are numbered.
        neutral: Where no number stands for unseen values, the one that an explanation starts from; None for that of the
            missing value.
    """

    name: str
    width: int
    size: int
    unknown: int | None
    ordered: int = 0
    by: Numbering = "vocabulary"
    neutral: int | None = None


@dataclass(frozen=True)
class TextField:
    """A text whose words have effects.

    Attributes:
        name: The tensor name of the column.
        buckets: How many effects its words, pairs and parts of words share.
        max_words: How many words of it are read.
    """

    name: str
    buckets: int
    max_words: int


@dataclass(frozen=True)
class VocabularyLimits:
    """Which values of the training window get a number of their own.

    Attributes:
        min_count: Those that occur so often.
        max_size: At most so many, the most frequent.
    """

    min_count: int
    max_size: int


@dataclass(frozen=True)
class ColumnInputs:
    """What the network takes of one column.

    Attributes:
        categories: Its fields, in the table's order among those of the other columns.
        derived: Fields that stand behind those of all columns.
        numbers: Names of its quantities: the scaled one, and the flag of its missing values.
        texts: Its texts.
    """

    categories: tuple[CategoryField, ...] = ()
    derived: tuple[CategoryField, ...] = ()
    numbers: tuple[str, ...] = ()
    texts: tuple[TextField, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All fields, quantities and texts."""
        fields = [field.name for field in (*self.categories, *self.derived)]
        return (*fields, *self.numbers, *(text.name for text in self.texts))


def quantile_field(name: str, buckets: int) -> CategoryField:
    """The quantile buckets of a quantity, and one more for missing values."""
    return CategoryField(name, 1, buckets + 1, None, buckets, "quantiles", buckets // 2)


def bucket_name(tensor: str) -> str:
    """The field that a numeric column's quantile bucket is; of the column by its tensor name, as the others below."""
    return f"{tensor}.bucket"


def missing_name(tensor: str) -> str:
    """The quantity that flags a numeric column's missing values."""
    return f"{tensor}.missing"


def time_name(tensor: str, part: str) -> str:
    """The field that a part of a timestamp is."""
    return f"{tensor}.{part}"
