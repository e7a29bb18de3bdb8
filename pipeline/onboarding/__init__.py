"""`adclick init`: guesses what the columns of a click log are and writes a config and a schema for review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adclick.schema.errors import ConfigError


@dataclass(frozen=True)
class ColumnReport:
    """What was decided about one column.

    Attributes:
        name: The column's name in the config.
        role: Its role in the config.
        reason: Why, in one line.
    """

    name: str
    role: str
    reason: str


@dataclass(frozen=True)
class InitResult:
    """What `adclick init` wrote.

    Attributes:
        config_path: The config, for review.
        schema_path: The curated schema, for review.
        columns: Every column of the data, in its order.
        warnings: What is likely to ruin a click model, in plain sentences.
    """

    config_path: Path
    schema_path: Path
    columns: list[ColumnReport]
    warnings: list[str]


def run_init(
    data: Path, output: Path, *, force: bool, label: str | None = None, positive: Sequence[str] = ()
) -> InitResult:
    """Reads a sample of a click log, infers the role of every column and writes `config.yaml` and `schema.pbtxt`.

    Args:
        data: A CSV file, a folder of CSV files, or a folder of month folders (YYYY-MM).
        output: The folder to write to; made if it does not exist.
        force: Whether existing files are overwritten.
        label: The CSV column that says whether an impression was clicked; None to find it.
        positive: The texts of that column that mean a click, in any case; all others mean none. None of them to read
            it by how logs write it.

    Raises:
        ConfigError: There is no data, it cannot be read, it has no label that is 0 or 1, texts are said to mean a click
            but not in which column, or a file to be written exists already.
    """
    from adclick.pipeline.onboarding.inference import infer
    from adclick.pipeline.onboarding.sampling import sample
    from adclick.pipeline.onboarding.writer import refuse_overwriting, write_project

    if positive and label is None:
        raise ConfigError(
            f"--positive {positive[0]} says what means a click, but not in which column", "Name it by --label."
        )
    if not force:
        refuse_overwriting(output)
    inference = infer(sample(data), label, positive)
    config_path, schema_path = write_project(inference, output, force=force)
    columns = [ColumnReport(column.name, column.role, column.reason) for column in inference.columns]
    return InitResult(config_path, schema_path, columns, list(inference.warnings))
