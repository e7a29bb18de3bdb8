"""The role `bucketised`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adclick.schema.roles.role import RawType, Role


class Bucketised(Role):
    """A quantity of which only the quantile bucket matters."""

    raw_type = RawType.FLOAT
    is_input = True
    is_quantity = True

    role: Literal["bucketised"]
    buckets: int = Field(10, ge=2, description="Number of quantile buckets, learned from the training window.")
