"""The role `categorical`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from adclick.schema.roles.inputs import CategoryField, ColumnInputs, VocabularyLimits
from adclick.schema.roles.role import Role


class Categorical(Role):
    """One of many names or codes; embedded by the model."""

    is_input = True

    role: Literal["categorical"]
    encoding: Literal["vocabulary", "hashed"] = Field(
        "vocabulary",
        description="`vocabulary` learns the values of the training window and keeps one bucket for all others; "
        "`hashed` maps any value to one of `hash_buckets`.",
    )
    min_count: int = Field(
        2, ge=1, description="Values seen less often than this in the training window share the unknown bucket."
    )
    max_size: int = Field(
        200_000, ge=1, description="At most this many values, the most frequent, enter the vocabulary."
    )
    hash_buckets: int = Field(65_536, ge=2, description="Number of buckets of a hashed column.")

    def network_inputs(self, tensor: str, vocabulary_size: Callable[[str], int]) -> ColumnInputs:
        if self.encoding == "hashed":
            return ColumnInputs(categories=(CategoryField(tensor, self.width, self.hash_buckets, None, by="hash"),))
        values = vocabulary_size(tensor)
        return ColumnInputs(categories=(CategoryField(tensor, self.width, values + 1, values, by="vocabulary"),))

    @property
    def width(self) -> int:
        """How many values of a cell the model reads."""
        return 1

    @property
    def vocabulary(self) -> VocabularyLimits | None:
        return VocabularyLimits(self.min_count, self.max_size) if self.encoding == "vocabulary" else None
