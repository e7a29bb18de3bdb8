"""The role `numeric`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from adclick.schema.roles.inputs import ColumnInputs, bucket_name, missing_name, quantile_field
from adclick.schema.roles.role import RawType, Role, Scaling


class Numeric(Role):
    """A quantity; beyond what training held, outliers aside, the model reads the nearest that it held."""

    raw_type = RawType.FLOAT
    is_input = True
    is_quantity = True

    role: Literal["numeric"]
    scaling: Scaling = Field(
        "standard",
        description="`standard` subtracts the mean and divides by the deviation; `log` first takes sign(x)·log(1+|x|).",
    )
    buckets: int = Field(
        0, ge=0, description="If above 1, the quantile bucket is embedded too, beside the scaled value."
    )

    def network_inputs(self, tensor: str, vocabulary_size: Callable[[str], int]) -> ColumnInputs:
        buckets = self.quantile_buckets
        return ColumnInputs(
            categories=(quantile_field(bucket_name(tensor), buckets),) if buckets else (),
            numbers=(tensor, missing_name(tensor)),
        )

    @property
    def quantity_scaling(self) -> Scaling:
        return self.scaling

    @property
    def quantile_buckets(self) -> int:
        return self.buckets if self.buckets > 1 else 0
