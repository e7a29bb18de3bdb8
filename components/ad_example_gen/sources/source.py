"""What a form of files must do for its rows to be read: whatever it holds becomes columns of text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from adclick.components.ad_example_gen.settings import CsvSettings
from adclick.components.ad_example_gen.sources.csv_records import Bools, Ints
from adclick.components.ad_example_gen.sources.text_encoding import UTF_8
from adclick.schema.errors import DataRefused
from adclick.schema.feature_table import FeatureTable

__all__ = ["Bools", "Ints"]


@dataclass(frozen=True)
class DataFile:
    """A file of a drop.

    Attributes:
        path: Its address.
        folder: The folder of its day within the drop; empty where it lies in the drop's own.
    """

    path: str
    folder: str = ""


@dataclass(frozen=True)
class DropFile:
    """A file whose columns are known.

    Attributes:
        path: Its address.
        index: Its place among the files of the drop.
        fields: The names of its columns, in order.
        data_offset: Of text, position of the first row in the stream of UTF-8; otherwise 0.
        first_line: The line of the first row, as quarantine counts them.
        folder: The folder of its day within the drop; empty where it lies in the drop's own.
        encoding: What its text is encoded in.
    """

    path: str
    index: int
    fields: tuple[str, ...]
    data_offset: int
    first_line: int
    folder: str = ""
    encoding: str = UTF_8

    @property
    def name(self) -> str:
        """Its path within the drop."""
        name = self.path.rpartition("/")[2]
        return f"{self.folder}/{name}" if self.folder else name


@dataclass(frozen=True)
class Chunk:
    """A stretch of whole rows of a file that a worker reads on its own.

    Attributes:
        file: The file.
        part: Its place among the parts of the file; a chunk that is read in several takes as many numbers.
        start: Where it begins: in text the position of its first byte, in Parquet its first row group.
        length: Its length in the same unit; 0 for all that follows.
        first_line: The line of its first row.
        overlong: Whether it is one line of text, longer than any good row can be.
    """

    file: DropFile
    part: int
    start: int
    length: int
    first_line: int
    overlong: bool = False


@dataclass(frozen=True)
class QuarantinedRow:
    """A row that cannot be used.

    Attributes:
        file: The file's name.
        line: Its physical line in a text, from 1; the number of the row in other files, from 1.
        reason: One of `reasons`.
        field: The column that is bad, where it is one.
        value: What offends.
        text: The row as it stands, bytes that are not UTF-8 as backslash escapes.
    """

    file: str
    line: int
    reason: str
    field: str
    value: str
    text: str


@dataclass(frozen=True)
class TextRows:
    """Rows as columns of text.

    Attributes:
        part: Their place among the parts of the file.
        rows_in: Rows read: those of `columns` and the rejected.
        columns: A `pa.BinaryArray` for each wanted column, all of one length, without nulls.
        lines: int64 [rows], the line of each.
        text_of: From a row's place in `columns`, the row as it stands.
        rejected: Rows that could not be taken apart.
    """

    part: int
    rows_in: int
    columns: list[Any]
    lines: Ints
    text_of: Callable[[int], str]
    rejected: list[QuarantinedRow] = field(default_factory=list)


@dataclass(frozen=True)
class SampledRows:
    """Rows spread over a file that says by itself what its columns are.

    Attributes:
        fields: The columns' names.
        rows: The cells of each sampled row, as texts.
        total: How many rows the file holds.
    """

    fields: tuple[str, ...]
    rows: list[list[str]]
    total: int


class Source(ABC):
    """A form of files."""

    #: What people call it.
    name: ClassVar[str]
    #: How the names of such files end, in lower case.
    suffixes: ClassVar[tuple[str, ...]]
    #: The same, for people.
    endings: ClassVar[str]

    @abstractmethod
    def open(
        self, file: DataFile, index: int, csv: CsvSettings, features: FeatureTable, *, labelled: bool
    ) -> DropFile | None:
        """Finds a file's columns; None if it is empty.

        Args:
            file: The file.
            index: Its place among the files of the drop.
            csv: The dialect of texts.
            features: The feature table; every column that it reads must be there once, see `check_columns`.
            labelled: Whether the label must be there, too.

        Raises:
            ConfigError: The account may not read the file.
            DataRefused: The file cannot be read, or lacks a column.
        """

    @abstractmethod
    def plan(self, file: DropFile, csv: CsvSettings, max_field_bytes: int, chunk_bytes: int) -> Iterator[Chunk]:
        """Cuts a file into chunks of about `chunk_bytes` that workers can read on their own."""

    @abstractmethod
    def read(
        self, chunk: Chunk, wanted: Sequence[str], csv: CsvSettings, max_field_bytes: int, chunk_bytes: int
    ) -> Iterator[TextRows]:
        """Reads the wanted columns of a chunk, about `chunk_bytes` at a time.

        Raises:
            DataRefused: The file is damaged where no row can be named.
        """

    def sample(self, path: str, rows: int) -> SampledRows | None:
        """About so many rows spread over a file; None of text, whose dialect must be found out first.

        Raises:
            DataRefused: The file cannot be read.
        """
        return None


def as_declared(names: Sequence[str], features: FeatureTable) -> tuple[str, ...]:
    """A file's names of columns, without blanks around one that the table declares without them."""
    declared = {features.source_of(name) for name in features.root} - set(names)
    return tuple(name.strip() if name.strip() in declared else name for name in names)


def check_columns(
    path: str, names: Sequence[str], features: FeatureTable, *, labelled: bool, shown: str, remedy: str
) -> None:
    """Raises `DataRefused` where a column is absent that the table reads, or is there twice.

    Args:
        path: The file.
        names: Its columns.
        features: The feature table.
        labelled: Whether the label must be there, too.
        shown: What of the file lets a person see it.
        remedy: What may help where a column is absent.
    """
    wanted = [features.source_of(name) for name in features.used]
    optional = () if labelled else (features.source_of(features.label_name),)
    missing = [source for source in wanted if source not in names and source not in optional]
    if missing:
        raise DataRefused(f"{path}: the header has no column {', '.join(missing)}; {shown}", remedy)
    repeated = sorted({source for source in wanted if list(names).count(source) > 1})
    if repeated:
        raise DataRefused(
            f"{path}: the header names {', '.join(repeated)} twice", "Rename or remove one of the columns."
        )
