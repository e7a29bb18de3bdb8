"""The role `identifier`."""

from __future__ import annotations

from typing import Literal

from adclick.schema.roles.role import Role


class Identifier(Role):
    """Names one impression; used to find duplicates and to join predictions with clicks, never as a feature."""

    is_single = True
    is_of_log = True
    recurs = False

    role: Literal["identifier"]
