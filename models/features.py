"""Names and sizes of what Transform gives and the network takes, derived from the feature table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from schema.feature_table import Bucketised, Categorical, FeatureTable, MultiValued, Numeric, Timestamp

#: Stands for a missing value in a vocabulary; a value like any other, so that what is missing not at random is learned.
MISSING_VALUE = "<missing>"
DAY_SECONDS = 86_400
#: 1970-01-01 was a Thursday; weekdays count from Monday.
EPOCH_WEEKDAY = 3
DERIVED_SIZES = {"hour": 24, "weekday": 7}


def transformed_name(name: str) -> str:
    """The name of a column's transformed feature."""
    return f"{name}_xf"


def bucket_name(name: str) -> str:
    """The name under which a numeric column's quantile bucket is a category."""
    return f"{name}_bucket"


def missing_name(name: str) -> str:
    """The name of a numeric column's missing flag."""
    return f"{name}_missing"


def known_name(name: str) -> str:
    """The slicing feature that tells whether the model knows a vocabulary column's value."""
    return f"{name}_known"


@dataclass(frozen=True)
class CategoryField:
    """One field of category numbers that the network embeds.

    Attributes:
        name: The field, `transformed_name(name)` in Transform's output.
        width: How many numbers an impression has; above 1 for multi-valued columns, padded with -1.
        unknown: The number that stands for unseen values, or None where every value has one.
        size: How many numbers there are: they run from 0 to size - 1.
    """

    name: str
    width: int
    size: int
    unknown: int | None


@dataclass(frozen=True)
class InputLayout:
    """Everything the network needs to know of its inputs, in a fixed order."""

    categories: tuple[CategoryField, ...]
    numbers: tuple[str, ...]
    has_image: bool

    @property
    def singles(self) -> tuple[CategoryField, ...]:
        return tuple(field for field in self.categories if field.width == 1)

    @property
    def multiples(self) -> tuple[CategoryField, ...]:
        return tuple(field for field in self.categories if field.width > 1)


def vocabulary_columns(features: FeatureTable) -> dict[str, Categorical]:
    """The columns whose values Transform collects in a vocabulary."""
    return {name: column for name, column in features.of(Categorical).items() if column.encoding == "vocabulary"}


def input_layout(features: FeatureTable, vocabulary_size: Callable[[str], int]) -> InputLayout:
    """Derives the network's inputs.

    Args:
        features: The feature table.
        vocabulary_size: Gives the number of values in a vocabulary column's vocabulary.
    """
    categories: list[CategoryField] = []
    numbers: list[str] = []
    for name, column in features.model_inputs.items():
        if isinstance(column, Categorical):
            width = column.max_values if isinstance(column, MultiValued) else 1
            if column.encoding == "vocabulary":
                known = vocabulary_size(name)
                categories.append(CategoryField(name, width, known + 1, known))
            else:
                categories.append(CategoryField(name, width, column.hash_buckets, None))
        elif isinstance(column, Bucketised):
            categories.append(CategoryField(name, 1, column.buckets + 1, None))
        elif isinstance(column, Numeric):
            numbers += [name, missing_name(name)]
            if column.buckets > 1:
                categories.append(CategoryField(bucket_name(name), 1, column.buckets + 1, None))
    if features.timestamp_name is not None:
        for derived in derived_times(features):
            categories.append(CategoryField(derived, 1, DERIVED_SIZES[derived], None))
    return InputLayout(tuple(categories), tuple(numbers), features.image_name is not None)


def derived_times(features: FeatureTable) -> tuple[str, ...]:
    """The features derived from the timestamp column."""
    return tuple(part for column in features.of(Timestamp).values() for part in column.derive)


def column_of_field(features: FeatureTable) -> dict[str, str]:
    """By field or quantity of the network's inputs, the column that it comes from."""
    found = {name: name for name in features.model_inputs}
    found |= {made: name for name in features.of(Numeric) for made in (bucket_name(name), missing_name(name))}
    found |= {derived: name for name, column in features.of(Timestamp).items() for derived in column.derive}
    return found
