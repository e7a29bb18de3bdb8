"""The feature table: every column of a drop, declared once with its role.

The curated schema, the Transform graph, the model's inputs and the serving signature all derive from it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

_COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class RawType(enum.Enum):
    """The type of a column's value in a `tf.Example` and in the serving signature."""

    STRING = "string"
    FLOAT = "float"
    INT = "int"


class _Column(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str | None = Field(None, description="The column's name in the CSV header, where it differs from ours.")
    description: str = Field("", description="What the column means, for people.")
    missing: tuple[str, ...] = Field(
        (), description="Texts that mean a missing value in this column, beside those of `csv.missing_values`."
    )
    required: bool = Field(
        False, description="Whether a request to score an ad must give it; a missing value stands for it if not."
    )


class Identifier(_Column):
    """Names one impression; used to find duplicates and to join predictions with clicks, never as a feature."""

    role: Literal["identifier"]


class Timestamp(_Column):
    """When the impression was shown; splits the data by time and gives hour and weekday to the model."""

    role: Literal["timestamp"]
    format: str = Field(
        "iso8601",
        description="`iso8601`, `epoch_seconds`, `epoch_milliseconds`, or a strptime pattern such as %y%m%d%H.",
    )
    derive: tuple[Literal["hour", "weekday"], ...] = Field(
        ("hour", "weekday"), description="The features derived from the time, in the time zone of the data."
    )


class Label(_Column):
    """1 where the impression was clicked, 0 where it was not."""

    role: Literal["label"]


class Categorical(_Column):
    """One of many names or codes; embedded by the model."""

    role: Literal["categorical"]
    encoding: Literal["vocabulary", "hashed"] = Field(
        "vocabulary",
        description="`vocabulary` learns the values of the training window and keeps one bucket for all others; "
        "`hashed` maps any value to one of `hash_buckets`.",
    )
    min_count: int = Field(
        2, ge=1, description="Values seen less often than this in the training window share the unknown bucket."
    )
    max_size: int = Field(
        200_000, ge=1, description="At most this many values, the most frequent, enter the vocabulary."
    )
    hash_buckets: int = Field(65_536, ge=2, description="Number of buckets of a hashed column.")


class MultiValued(Categorical):
    """Several names or codes in one cell; the model averages their embeddings."""

    role: Literal["multi_valued"]  # type: ignore[assignment]
    separator: str = Field("|", min_length=1, description="What stands between two values of one cell.")
    max_values: int = Field(16, ge=1, description="Only the first so many values of a cell reach the model.")


class Numeric(_Column):
    """A quantity."""

    role: Literal["numeric"]
    scaling: Literal["standard", "log", "none"] = Field(
        "standard",
        description="`standard` subtracts the mean and divides by the deviation; `log` first takes sign(x)·log(1+|x|).",
    )
    buckets: int = Field(
        0, ge=0, description="If above 1, the quantile bucket is embedded too, beside the scaled value."
    )


class Bucketised(_Column):
    """A quantity of which only the quantile bucket matters."""

    role: Literal["bucketised"]
    buckets: int = Field(10, ge=2, description="Number of quantile buckets, learned from the training window.")


class Image(_Column):
    """The creative: a path relative to the CSV's folder, or an absolute local or gs:// address."""

    role: Literal["image"]


class Ignored(_Column):
    """Present in the drop, unused."""

    role: Literal["ignored"]


Column = Annotated[
    Identifier | Timestamp | Label | Categorical | MultiValued | Numeric | Bucketised | Image | Ignored,
    Field(discriminator="role"),
]
_ColumnType = TypeVar("_ColumnType", bound=_Column)

#: Roles whose values the model reads.
MODEL_ROLES = (Timestamp, Categorical, Numeric, Bucketised, Image)


class FeatureTable(RootModel[dict[str, Column]]):
    """The columns of a drop by name, in the order in which they are declared."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="after")
    def _check(self) -> FeatureTable:
        for name in self.root:
            if not _COLUMN_NAME.fullmatch(name):
                raise ValueError(
                    f"column name {name!r} must be letters, digits and underscores, starting with a letter; "
                    "give the name of the CSV header in `source`"
                )
        if len(self.of(Label)) != 1:
            raise ValueError(f"exactly one column must have the role label, found {sorted(self.of(Label)) or 'none'}")
        for role in (Identifier, Timestamp, Image):
            if len(self.of(role)) > 1:
                raise ValueError(
                    f"at most one column may have the role {role.__name__.lower()}: {sorted(self.of(role))}"
                )
        if not any(isinstance(column, MODEL_ROLES) for column in self.root.values()):
            raise ValueError("no column is a feature: give at least one a role that the model reads")
        sources = [self.source_of(name) for name in self.root]
        repeated = sorted({source for source in sources if sources.count(source) > 1})
        if repeated:
            raise ValueError(f"two columns read the same CSV column: {repeated}")
        # A timestamp is no feature under its own name: a column `hour` may well be the one that `hour` is derived from.
        taken = sorted(self._derived_names() & (set(self.root) - set(self.of(Timestamp))))
        if taken:
            raise ValueError(
                f"the column name {taken[0]!r} is reserved for a feature derived from another column; give the column "
                "another name, with its name in the CSV header as `source`, or shorten `derive`"
            )
        return self

    def _derived_names(self) -> set[str]:
        """Names of features that come from a column of another name."""
        names: set[str] = {part for column in self.of(Timestamp).values() for part in column.derive}
        for name in self.of(Numeric):
            names |= {f"{name}_bucket", f"{name}_missing"}
        if self.image_name is not None:
            names.add(self.image_status_name)
        return names

    def of(self, role: type[_ColumnType]) -> dict[str, _ColumnType]:
        """Columns of one role by name; `Categorical` includes the multi-valued ones."""
        return {name: column for name, column in self.root.items() if isinstance(column, role)}

    def source_of(self, name: str) -> str:
        """The name in the CSV header of a declared column."""
        return self.root[name].source or name

    def _only(self, role: type[_Column]) -> str | None:
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
        return f"{self.image_name}_status"

    @property
    def used(self) -> dict[str, Column]:
        """Every column that is read from the drop."""
        return {name: column for name, column in self.root.items() if not isinstance(column, Ignored)}

    @property
    def model_inputs(self) -> dict[str, Column]:
        """The columns that a prediction request carries, in declared order."""
        return {name: column for name, column in self.root.items() if isinstance(column, MODEL_ROLES)}

    def raw_type(self, name: str) -> RawType:
        """The type of the column's value in examples and requests.

        A timestamp is in seconds since 1970-01-01 of the data's own clock; a label is 0 or 1; an image is a creative's
        key or encoded bytes.
        """
        column = self.root[name]
        if isinstance(column, Numeric | Bucketised):
            return RawType.FLOAT
        if isinstance(column, Timestamp | Label):
            return RawType.INT
        return RawType.STRING

    def without_image(self) -> FeatureTable:
        """The same table with its image column ignored."""
        return FeatureTable(
            {
                name: Ignored(role="ignored", source=column.source) if isinstance(column, Image) else column
                for name, column in self.root.items()
            }
        )


def parse_feature_table(columns: Mapping[str, object] | str) -> FeatureTable:
    """Reads a feature table from its JSON text or from plain dictionaries; raises `pydantic.ValidationError`."""
    if isinstance(columns, str):
        return FeatureTable.model_validate_json(columns)
    return FeatureTable.model_validate(columns)
