"""The role `numeric`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adclick.schema.roles.role import RawType, Role


class Numeric(Role):
    """A quantity; beyond what training held, outliers aside, the model reads the nearest that it held."""

    raw_type = RawType.FLOAT
    is_input = True
    is_quantity = True

    role: Literal["numeric"]
    scaling: Literal["standard", "log", "none"] = Field(
        "standard",
        description="`standard` subtracts the mean and divides by the deviation; `log` first takes sign(x)·log(1+|x|).",
    )
    buckets: int = Field(
        0, ge=0, description="If above 1, the quantile bucket is embedded too, beside the scaled value."
    )
