"""Names and sizes of what Transform gives and the network takes, derived from the feature table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adclick.schema.feature_table import Bucketised, Categorical, FeatureTable, MultiValued, Numeric, Text, Timestamp

#: Stands for a missing value in a vocabulary; a value like any other, so that what is missing not at random is learned.
MISSING_VALUE = "<missing>"
DAY_SECONDS = 86_400
#: 1970-01-01 was a Thursday; weekdays count from Monday.
EPOCH_WEEKDAY = 3
DERIVED_SIZES = {"hour": 24, "weekday": 7}


def transformed_name(field: str) -> str:
    """The name of a field or a quantity in Transform's output."""
    return f"{field}_xf"


def bucket_name(tensor: str) -> str:
    """The field that a numeric column's quantile bucket is; of the column by its tensor name, as the others below."""
    return f"{tensor}.bucket"


def missing_name(tensor: str) -> str:
    """The quantity that flags a numeric column's missing values."""
    return f"{tensor}.missing"


def time_name(tensor: str, part: str) -> str:
    """The field that a part of a timestamp is."""
    return f"{tensor}.{part}"


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
    """

    name: str
    width: int
    size: int
    unknown: int | None
    ordered: int = 0


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
class InputLayout:
    """Everything the network needs to know of its inputs, in a fixed order."""

    categories: tuple[CategoryField, ...]
    numbers: tuple[str, ...]
    has_image: bool
    texts: tuple[TextField, ...] = ()

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
        vocabulary_size: Gives the number of values in a vocabulary column's vocabulary, by the column's tensor name.
    """
    categories: list[CategoryField] = []
    numbers: list[str] = []
    tensors = features.tensor_names
    for column_name, column in features.model_inputs.items():
        name = tensors[column_name]
        if isinstance(column, Categorical):
            width = column.max_values if isinstance(column, MultiValued) else 1
            if column.encoding == "vocabulary":
                known = vocabulary_size(name)
                categories.append(CategoryField(name, width, known + 1, known))
            else:
                categories.append(CategoryField(name, width, column.hash_buckets, None))
        elif isinstance(column, Bucketised):
            categories.append(CategoryField(name, 1, column.buckets + 1, None, column.buckets))
        elif isinstance(column, Numeric):
            numbers += [name, missing_name(name)]
            if column.buckets > 1:
                categories.append(CategoryField(bucket_name(name), 1, column.buckets + 1, None, column.buckets))
    categories += [CategoryField(name, 1, DERIVED_SIZES[part], None) for name, part in derived_times(features).items()]
    texts = tuple(TextField(tensors[n], text.hash_buckets, text.max_words) for n, text in features.of(Text).items())
    return InputLayout(tuple(categories), tuple(numbers), features.image_name is not None, texts)


def derived_times(features: FeatureTable) -> dict[str, str]:
    """The fields derived from the timestamp column, each with its part of the time."""
    tensors = features.tensor_names
    return {
        time_name(tensors[name], part): part
        for name, column in features.of(Timestamp).items()
        for part in column.derive
    }


def column_of_field(features: FeatureTable) -> dict[str, str]:
    """By field or quantity of the network's inputs, the column that it comes from."""
    tensors = features.tensor_names
    found = {tensors[name]: name for name in features.model_inputs}
    for name in features.of(Numeric):
        found |= {bucket_name(tensors[name]): name, missing_name(tensors[name]): name}
    return found | {field: name for name in features.of(Timestamp) for field in derived_times(features)}
