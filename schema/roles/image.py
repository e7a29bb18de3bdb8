"""The role `image`."""

from __future__ import annotations

from typing import Literal

from adclick.schema.roles.role import Role


class Image(Role):
    """The creative: a path relative to its file's folder, or an absolute local, gs:// or s3:// address."""

    is_input = True
    is_single = True
    recurs = False

    role: Literal["image"]
