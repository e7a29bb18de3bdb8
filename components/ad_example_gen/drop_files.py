"""The files of a drop."""

from __future__ import annotations

from components import filesystem
from schema.errors import DataRefused

CSV_PATTERNS = ("*.csv", "*.tsv", "*.txt", "*.csv.gz", "*.tsv.gz", "*.txt.gz")


def drop_fingerprint(drop_uri: str) -> str:
    """A text that changes when any file of a drop does, CSV or image: by relative path, size and modification time."""
    return filesystem.fingerprint(drop_uri)


def list_csv_files(drop_uri: str) -> list[str]:
    """Addresses of the CSV files of a drop, a folder or one file, sorted.

    Raises:
        DataRefused: There is none.
    """
    if not filesystem.exists(drop_uri):
        raise DataRefused(f"{drop_uri}: no such file or folder", "Correct data.root in the config, or give --data.")
    if not filesystem.isdir(drop_uri):
        return [drop_uri]
    files = filesystem.list_files(drop_uri, CSV_PATTERNS)
    if not files:
        raise DataRefused(
            f"{drop_uri}: holds no CSV file",
            f"Files are looked for directly in the folder, as {', '.join(CSV_PATTERNS)}.",
        )
    return files
