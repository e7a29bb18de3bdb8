"""How a drop is read: the CSV dialect, the limits beyond which rows are quarantined, the split."""

from __future__ import annotations

import codecs
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CsvSettings(_Settings):
    """The dialect of the CSV files (RFC 4180, UTF-8)."""

    delimiter: str = Field(",", description="One character between fields; \\t for a tab.")
    header: bool = Field(True, description="Whether each file's first row names its columns.")
    columns: tuple[str, ...] = Field((), description="Without a header: the name of every column, in order.")
    missing_values: tuple[str, ...] = Field(
        ("", "null", "NULL", "NaN", "nan", "NA", "\\N"), description="Texts that mean a missing value in any column."
    )

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        character = codecs.decode(value, "unicode_escape") if value.startswith("\\") else value
        if len(character) != 1 or not character.isascii() or character in '"\r\n':
            raise ValueError("must be a single ASCII character that is neither a quote nor a line end")
        return character

    @model_validator(mode="after")
    def _columns_without_header(self) -> CsvSettings:
        if self.header and self.columns:
            raise ValueError("`columns` names the columns of files without a header: set `header: false` or remove it")
        if not self.header and not self.columns:
            raise ValueError("files without a header need `columns`, the name of every column in order")
        if len(set(self.columns)) != len(self.columns):
            raise ValueError("`columns` names a column twice")
        return self


class IngestionSettings(_Settings):
    """Limits of ingestion and the form of what it writes."""

    max_quarantine_share: float = Field(
        0.01, ge=0, le=1, description="The run stops before training if more than this share of rows is quarantined."
    )
    max_field_bytes: int = Field(16_384, ge=64, description="A row with a longer field is quarantined.")
    chunk_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        le=1024**3,
        description="How much of a CSV file is read and encoded at a time; bounds memory.",
    )
    image_size: int = Field(
        64, ge=16, le=1024, description="Creatives are stored and modelled as squares of this many pixels."
    )
    max_image_bytes: int = Field(20 * 1024 * 1024, ge=1024, description="A larger image file has the status oversized.")
    max_image_pixels: int = Field(40_000_000, ge=256, description="An image of more pixels has the status oversized.")
    compress: bool = Field(False, description="Whether example files are compressed with gzip: smaller, slower.")


class SplitSettings(_Settings):
    """How impressions are held out for evaluation."""

    by: Literal["time", "hash"] = Field(
        "time",
        description="`time`: the last part of each month is held out (click logs drift: a random split flatters); "
        "`hash`: rows are held out by the hash of `column`.",
    )
    eval_share: float = Field(0.2, gt=0, lt=1, description="The share of rows to hold out.")
    column: str | None = Field(
        None,
        description="With `by: hash`: the column whose hash decides; by default the identifier, or the whole row where "
        "there is none.",
    )
