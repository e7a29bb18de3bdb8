"""The role `bucketised`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from adclick.schema.roles.inputs import ColumnInputs, quantile_field
from adclick.schema.roles.role import RawType, Role


class Bucketised(Role):
    """A quantity of which only the quantile bucket matters."""

    raw_type = RawType.FLOAT
    is_input = True
    is_quantity = True

    role: Literal["bucketised"]
    buckets: int = Field(10, ge=2, description="Number of quantile buckets, learned from the training window.")

    def network_inputs(self, tensor: str, vocabulary_size: Callable[[str], int]) -> ColumnInputs:
        return ColumnInputs(categories=(quantile_field(tensor, self.buckets),))

    @property
    def quantile_buckets(self) -> int:
        return self.buckets
