"""The role `text`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from adclick.schema.roles.inputs import ColumnInputs, TextField
from adclick.schema.roles.role import Role


class Text(Role):
    """Words that people read: a headline, a description; HTML is taken away. Each word adds what clicks say of it."""

    is_input = True
    recurs = False

    role: Literal["text"]
    hash_buckets: int = Field(
        65_536,
        ge=1_024,
        le=4_194_304,
        description="Words, pairs of words and parts of words share so many effects, by their hash.",
    )
    max_words: int = Field(100, ge=1, le=1_000, description="Only the first so many words of a text are read.")

    def network_inputs(self, tensor: str, vocabulary_size: Callable[[str], int]) -> ColumnInputs:
        return ColumnInputs(texts=(TextField(tensor, self.hash_buckets, self.max_words),))
