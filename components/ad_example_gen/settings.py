"""How a drop is read: the CSV dialect, the limits beyond which rows are quarantined, the split."""

from __future__ import annotations

import codecs
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

#: Python's encodings of text that no file is in.
_NO_FILE_ENCODINGS = ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined")
_PROBE = 'a,"1"\r\n'
_VALIDATION_SHARE = 0.1


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CsvSettings(_Settings):
    """The dialect of the CSV files (RFC 4180)."""

    encoding: str = Field(
        "utf-8",
        description="What the files are encoded in: utf-8, utf-16, latin-1, windows-1252, shift_jis or any other text "
        "encoding that Python knows. A row that cannot be decoded is quarantined.",
    )

    delimiter: str = Field(",", description="One character between fields; \\t for a tab.")
    header: bool = Field(True, description="Whether each file's first row names its columns.")
    columns: tuple[str, ...] = Field((), description="Without a header: the name of every column, in order.")
    missing_values: tuple[str, ...] = Field(
        ("", "null", "NULL", "NaN", "nan", "NA", "\\N"), description="Texts that mean a missing value in any column."
    )

    @field_validator("encoding")
    @classmethod
    def _is_text_encoding(cls, value: str) -> str:
        try:
            name = codecs.lookup(value).name
            if name in _NO_FILE_ENCODINGS or _PROBE.encode(name).decode(name) != _PROBE:
                raise LookupError
            codecs.getincrementaldecoder(name)
        except (LookupError, UnicodeError, ValueError):
            raise ValueError(
                f"{value!r} is not a text encoding; give utf-8, utf-16, latin-1, windows-1252, shift_jis or the like"
            ) from None
        return "utf-8" if name == "utf-8-sig" else name

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


#: The limits by which DataGate judges what ingestion counted; to change them changes no example.
GATE_LIMITS = frozenset(
    {
        "max_quarantine_share",
        "max_missing_image_share",
        "max_conflict_share",
        "max_outside_month_share",
        "max_copied_share",
    }
)


class IngestionSettings(_Settings):
    """Limits of ingestion and the form of what it writes."""

    max_quarantine_share: float = Field(
        0.01, ge=0, le=1, description="The run stops before training if more than this share of rows is quarantined."
    )
    max_missing_image_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="The run stops before training if more than this share of the impressions that name an image "
        "cannot have it: it is missing, corrupt or oversized.",
    )
    max_conflict_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="The run stops before training if more than this share of rows repeats an identifier and differs "
        "from its first row in more than the label.",
    )
    max_outside_month_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="The run stops before training if more than this share of a month's rows is dated more than a day "
        "outside it.",
    )
    max_copied_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="The run stops before training if more than this share of the newest month's rows stands in an "
        "earlier month or in another file of it too, or of its held-out rows in training: by identifier, or in every "
        "column beyond what chance explains.",
    )
    max_field_bytes: int = Field(16_384, ge=64, description="A row with a longer field is quarantined.")
    chunk_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        le=1024**3,
        description="How much of a file is read and encoded at a time; bounds memory.",
    )
    image_size: int = Field(
        64, ge=16, le=1024, description="Creatives are stored and modelled as squares of this many pixels."
    )
    max_image_bytes: int = Field(20 * 1024 * 1024, ge=1024, description="A larger image file has the status oversized.")
    max_image_pixels: int = Field(40_000_000, ge=256, description="An image of more pixels has the status oversized.")
    compress: bool = Field(False, description="Whether example files are compressed with gzip: smaller, slower.")


class SplitSettings(_Settings):
    """How a month is parted into training, validation and evaluation."""

    by: Literal["time", "hash"] = Field(
        "time",
        description="`time`: a month's last part is for evaluation and the one before it for validation (click logs "
        "drift: a random split flatters); `hash`: rows are parted by the hash of `column`.",
    )
    eval_share: float = Field(
        0.2, gt=0, lt=1, description="The share of a month's rows that judge the model and do nothing else."
    )
    validation_share: float = Field(
        _VALIDATION_SHARE,
        gt=0,
        lt=1,
        description="The share of a month's rows that training stops and chooses by; taken from what is trained on. Of "
        "the window only the newest month is held back so: earlier ones are trained on whole.",
    )
    column: str | None = Field(
        None,
        description="With `by: hash`: the column whose hash decides; by default the identifier, or the whole row where "
        "there is none.",
    )

    @model_validator(mode="before")
    @classmethod
    def _validation_beside_much_evaluation(cls, values: Any) -> Any:
        """Where a config leaves validation to its default, evaluation may take nearly all."""
        if isinstance(values, dict) and values.get("validation_share") is None:
            share = values.get("eval_share")
            if isinstance(share, int | float) and 1 - 2 * _VALIDATION_SHARE < share < 1:
                return {**values, "validation_share": (1 - share) / 2}
        return values

    @model_validator(mode="after")
    def _something_to_train_on(self) -> SplitSettings:
        if self.eval_share + self.validation_share >= 1:
            raise ValueError("`eval_share` and `validation_share` leave nothing to train on: together they must be < 1")
        return self
