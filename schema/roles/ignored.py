"""The role `ignored`."""

from __future__ import annotations

from typing import Literal

from adclick.schema.roles.role import Role


class Ignored(Role):
    """Present in the drop, unused."""

    is_read = False

    role: Literal["ignored"]
