"""The roles of columns: a role is one file here, which declares its settings and facts, and one line of `Column`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import Field

from adclick.schema.roles.bucketised import Bucketised
from adclick.schema.roles.categorical import Categorical
from adclick.schema.roles.identifier import Identifier
from adclick.schema.roles.ignored import Ignored
from adclick.schema.roles.image import Image
from adclick.schema.roles.label import Label
from adclick.schema.roles.multi_valued import MultiValued
from adclick.schema.roles.numeric import Numeric
from adclick.schema.roles.role import Role
from adclick.schema.roles.text import Text
from adclick.schema.roles.timestamp import Timestamp

#: In the order in which they are explained.
Column = Annotated[
    Identifier | Timestamp | Label | Categorical | MultiValued | Numeric | Bucketised | Text | Image | Ignored,
    Field(discriminator="role"),
]
#: By its name in the config, each role.
ROLES: Mapping[str, type[Role]] = {
    get_args(role.model_fields["role"].annotation)[0]: role for role in get_args(get_args(Column)[0])
}
