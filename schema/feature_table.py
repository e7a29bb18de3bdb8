"""The feature table: every column of a drop, declared once with its role.

The curated schema, the Transform graph, the model's inputs and the serving signature all derive from it.
"""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import TypeVar

from pydantic import ConfigDict, RootModel, model_validator

from adclick.schema.roles import Column
from adclick.schema.roles.bucketised import Bucketised
from adclick.schema.roles.categorical import Categorical
from adclick.schema.roles.identifier import Identifier
from adclick.schema.roles.ignored import Ignored
from adclick.schema.roles.image import Image
from adclick.schema.roles.label import Label, label_key
from adclick.schema.roles.multi_valued import MultiValued
from adclick.schema.roles.numeric import Numeric
from adclick.schema.roles.role import RawType, Role
from adclick.schema.roles.text import Text
from adclick.schema.roles.timestamp import Timestamp

#: What TensorFlow, Python and every file system take as a name.
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,199}")


_ColumnType = TypeVar("_ColumnType", bound=Role)

__all__ = [
    "Bucketised",
    "Categorical",
    "Column",
    "FeatureTable",
    "Identifier",
    "Ignored",
    "Image",
    "Label",
    "MultiValued",
    "Numeric",
    "RawType",
    "Text",
    "Timestamp",
    "label_key",
    "parse_feature_table",
]


class FeatureTable(RootModel[dict[str, Column]]):
    """The columns of a drop by name, in the order in which they are declared."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="after")
    def _check(self) -> FeatureTable:
        if any(not name.strip() for name in self.root):
            raise ValueError("a column has an empty name: give it one, with its name in the files as `source`")
        if len(self.of(Label)) != 1:
            raise ValueError(f"exactly one column must have the role label, found {sorted(self.of(Label)) or 'none'}")
        for role in sorted({column.role for column in self.root.values() if column.is_single}):
            names = sorted(name for name, column in self.root.items() if column.role == role)
            if len(names) > 1:
                raise ValueError(f"at most one column may have the role {role}: {names}")
        if not self.model_inputs:
            raise ValueError("no column is a feature: give at least one a role that the model reads")
        sources = [self.source_of(name) for name in self.root]
        repeated = sorted({source for source in sources if sources.count(source) > 1})
        if repeated:
            raise ValueError(f"two columns read the same CSV column: {repeated}")
        return self

    def of(self, role: type[_ColumnType]) -> dict[str, _ColumnType]:
        """Columns of one role by name; `Categorical` includes the multi-valued ones."""
        return {name: column for name, column in self.root.items() if isinstance(column, role)}

    def source_of(self, name: str) -> str:
        """The name in the files of a declared column."""
        return self.root[name].source or name

    def _only(self, role: type[Role]) -> str | None:
        return next(iter(self.of(role)), None)

    @property
    def label_name(self) -> str:
        return next(iter(self.of(Label)))

    @property
    def identifier_name(self) -> str | None:
        return self._only(Identifier)

    @property
    def timestamp_name(self) -> str | None:
        return self._only(Timestamp)

    @property
    def image_name(self) -> str | None:
        return self._only(Image)

    @property
    def image_status_name(self) -> str:
        """The example feature that holds the ingestion status of the impression's image; for slices, not the model."""
        return _free_name(f"{self.image_name}_status", self.root)

    def known_name(self, name: str) -> str:
        """The slicing feature that tells whether the model knows a vocabulary column's value."""
        return _free_name(f"{name}_known", self.root)

    @property
    def creative_embedding_name(self) -> str:
        """The input of the signature `score` that takes the image's embedding in place of the image."""
        return _free_name("creative_embedding", {name.lower() for name in self.root})

    @property
    def tensor_names(self) -> dict[str, str]:
        """By column, its name where only plain ones will do: in TensorFlow's graphs, as an argument, as a file.

        That is the column's own name where it is a plain one, and its place in the table otherwise. No two are equal,
        not even without regard to case, and none holds a dot, which parts them from what is derived from the column.
        """
        spellings = Counter(name.lower() for name in self.root)
        plain = {name for name in self.root if _is_plain(name) and spellings[name.lower()] == 1}
        taken = {name.lower() for name in plain}
        return {
            name: name if name in plain else _free_name(f"column_{place}", taken)
            for place, name in enumerate(self.root, 1)
        }

    @property
    def used(self) -> dict[str, Column]:
        """Every column that is read from the drop."""
        return {name: column for name, column in self.root.items() if column.is_read}

    @property
    def model_inputs(self) -> dict[str, Column]:
        """The columns that a prediction request carries, in declared order."""
        return {name: column for name, column in self.root.items() if column.is_input}

    def raw_type(self, name: str) -> RawType:
        """The type of the column's value in examples and requests.

        A timestamp is in seconds since 1970-01-01 of the data's own clock; a label is 0 or 1; an image is a creative's
        key or encoded bytes.
        """
        return self.root[name].raw_type

    def without_image(self) -> FeatureTable:
        """The same table with its image column ignored."""
        return FeatureTable(
            {
                name: Ignored(role="ignored", source=column.source) if isinstance(column, Image) else column
                for name, column in self.root.items()
            }
        )


def _is_plain(name: str) -> bool:
    # `self` is an argument that functions called by keyword have already.
    return _PLAIN_NAME.fullmatch(name) is not None and not keyword.iskeyword(name) and name != "self"


def _free_name(name: str, taken: Collection[str]) -> str:
    """The name, with as many underscores behind it as it takes to be none of `taken`."""
    while name in taken:
        name += "_"
    return name


def parse_feature_table(columns: Mapping[str, object] | str) -> FeatureTable:
    """Reads a feature table from its JSON text or from plain dictionaries; raises `pydantic.ValidationError`."""
    if isinstance(columns, str):
        return FeatureTable.model_validate_json(columns)
    return FeatureTable.model_validate(columns)
