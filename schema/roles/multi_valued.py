"""The role `multi_valued`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adclick.schema.roles.categorical import Categorical
from adclick.schema.roles.cells import TextCells


class MultiValued(Categorical):
    """Several names or codes in one cell; the model averages their embeddings."""

    is_list = True

    role: Literal["multi_valued"]  # type: ignore[assignment]
    separator: str = Field("|", min_length=1, description="What stands between two values of one cell.")
    # A cell of which one value is read is the role `categorical`.
    max_values: int = Field(16, ge=2, description="Only the first so many values of a cell reach the model.")

    @property
    def cells(self) -> TextCells:
        return TextCells(self.separator)

    @property
    def width(self) -> int:
        return self.max_values
