"""What every role of columns has, and the facts that a role declares of itself."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from adclick.schema.roles.cells import Cells, NumberCells, TextCells
from adclick.schema.roles.inputs import ColumnInputs, VocabularyLimits

#: How a quantity is scaled; `log` first takes sign(x)·log(1+|x|).
Scaling = Literal["standard", "log", "none"]


class RawType(enum.Enum):
    """The type of a column's value in a `tf.Example` and in the serving signature."""

    STRING = "string"
    FLOAT = "float"
    INT = "int"


class Role(BaseModel):
    """A column's declaration. The facts below are of the role, not of the column."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str | None = Field(None, description="The column's name in the files, where it differs from ours.")
    description: str = Field("", description="What the column means, for people.")
    missing: tuple[str, ...] = Field(
        (), description="Texts that mean a missing value in this column, beside those of `csv.missing_values`."
    )
    required: bool = Field(
        False, description="Whether a request to score an ad must give it; a missing value stands for it if not."
    )

    #: The type of its values in examples and requests.
    raw_type: ClassVar[RawType] = RawType.STRING
    #: Whether the drop's column is read at all.
    is_read: ClassVar[bool] = True
    #: Whether the model reads it, so that requests carry it.
    is_input: ClassVar[bool] = False
    #: Whether only one column may have the role.
    is_single: ClassVar[bool] = False
    #: Whether a cell holds several values.
    is_list: ClassVar[bool] = False
    #: Whether its values are amounts, of which more is more.
    is_quantity: ClassVar[bool] = False
    #: Whether every impression of a log must have a value, which no request has.
    is_of_log: ClassVar[bool] = False
    #: Whether its values come again from month to month, so that their distribution means something.
    recurs: ClassVar[bool] = True

    @property
    def cells(self) -> Cells:
        """How the cells of the column are read."""
        return NumberCells() if self.is_quantity else TextCells()

    def network_inputs(self, tensor: str, vocabulary_size: Callable[[str], int]) -> ColumnInputs:
        """What the network takes of the column, but for an image.

        Args:
            tensor: The column's tensor name.
            vocabulary_size: Gives the number of values in the column's vocabulary, by its tensor name.
        """
        return ColumnInputs()

    @property
    def vocabulary(self) -> VocabularyLimits | None:
        """What enters the column's vocabulary; None for a column without one."""
        return None

    @property
    def quantity_scaling(self) -> Scaling | None:
        """How the number that the network takes is scaled; None for a column that gives none."""
        return None

    @property
    def quantile_buckets(self) -> int:
        """How many quantile buckets are learned from the training window; 0 for none."""
        return 0
