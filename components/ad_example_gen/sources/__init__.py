"""The forms of files that rows are read from: a form is one file here and one line of `SOURCES`."""

from __future__ import annotations

from adclick.components.ad_example_gen.sources.csv_files import CsvFiles
from adclick.components.ad_example_gen.sources.parquet_files import ParquetFiles
from adclick.components.ad_example_gen.sources.source import Source

#: The first is what a file is whose name says nothing.
SOURCES: tuple[Source, ...] = (CsvFiles(), ParquetFiles())

#: How the names of files end that are read, in any case.
SUFFIXES = tuple(suffix for source in SOURCES for suffix in source.suffixes)
#: The same, for people.
ENDINGS = ", ".join(source.endings for source in SOURCES)
#: The forms' names, for a sentence such as "holds no CSV or Parquet file".
FORMS = " or ".join(source.name for source in SOURCES)


def source_of(path: str) -> Source:
    """The form of a file, by its name."""
    return next((source for source in SOURCES if path.lower().endswith(source.suffixes)), SOURCES[0])


def is_read(name: str) -> bool:
    """Whether a file of this name is read."""
    return name.lower().endswith(SUFFIXES)
