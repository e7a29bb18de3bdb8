"""The roles of columns: a role is one file here, which declares its settings and facts, and one line of `Column`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schema.roles.bucketised import Bucketised
from schema.roles.categorical import Categorical
from schema.roles.identifier import Identifier
from schema.roles.ignored import Ignored
from schema.roles.image import Image
from schema.roles.label import Label
from schema.roles.multi_valued import MultiValued
from schema.roles.numeric import Numeric
from schema.roles.text import Text
from schema.roles.timestamp import Timestamp

#: In the order in which they are explained.
Column = Annotated[
    Identifier | Timestamp | Label | Categorical | MultiValued | Numeric | Bucketised | Text | Image | Ignored,
    Field(discriminator="role"),
]
