"""Names and sizes of what Transform gives and the network takes, derived from the feature table."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from adclick.schema.feature_table import FeatureTable
from adclick.schema.roles.inputs import CategoryField, ColumnInputs, Numbering, TextField, VocabularyLimits

#: Stands for a missing value in a vocabulary; a value like any other, so that what is missing not at random is learned.
MISSING_VALUE = "<missing>"
DAY_SECONDS = 86_400
#: 1970-01-01 was a Thursday; weekdays count from Monday.
EPOCH_WEEKDAY = 3


def transformed_name(field: str) -> str:
    """The name of a field or a quantity in Transform's output."""
    return f"{field}_xf"


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


def vocabulary_columns(features: FeatureTable) -> dict[str, VocabularyLimits]:
    """The columns whose values Transform collects in a vocabulary, and which of them."""
    limits = {name: column.vocabulary for name, column in features.model_inputs.items()}
    return {name: limit for name, limit in limits.items() if limit is not None}


def input_layout(features: FeatureTable, vocabulary_size: Callable[[str], int]) -> InputLayout:
    """Derives the network's inputs.

    Args:
        features: The feature table.
        vocabulary_size: Gives the number of values in a vocabulary column's vocabulary, by the column's tensor name.
    """
    inputs = _inputs(features, vocabulary_size).values()
    return InputLayout(
        categories=(
            *(field for column in inputs for field in column.categories),
            *(field for column in inputs for field in column.derived),
        ),
        numbers=tuple(name for column in inputs for name in column.numbers),
        has_image=features.image_name is not None,
        texts=tuple(text for column in inputs for text in column.texts),
    )


def fields_numbered(features: FeatureTable, by: Collection[Numbering]) -> list[tuple[str, CategoryField]]:
    """The category fields that are numbered so, each with its column; a vocabulary's size is not known here, but 0."""
    return [
        (name, field)
        for name, column in _inputs(features).items()
        for field in (*column.categories, *column.derived)
        if field.by in by
    ]


def column_of_field(features: FeatureTable) -> dict[str, str]:
    """By field, quantity or text of the network's inputs, and by the image's tensor name, its column."""
    tensors = features.tensor_names
    columns = {tensors[name]: name for name in features.model_inputs}
    return columns | {field: name for name, column in _inputs(features).items() for field in column.names}


def text_columns(features: FeatureTable) -> list[str]:
    """The columns whose words have effects."""
    return [name for name, column in _inputs(features).items() for _ in column.texts]


def quantity_columns(features: FeatureTable) -> list[str]:
    """The columns that give the network a scaled number."""
    return [name for name, column in features.model_inputs.items() if column.quantity_scaling is not None]


def _inputs(
    features: FeatureTable, vocabulary_size: Callable[[str], int] = lambda _tensor: 0
) -> dict[str, ColumnInputs]:
    tensors = features.tensor_names
    return {
        name: column.network_inputs(tensors[name], vocabulary_size) for name, column in features.model_inputs.items()
    }
