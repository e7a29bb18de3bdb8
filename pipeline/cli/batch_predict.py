"""`adclick batch-predict`."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from adclick.pipeline.cli.options import ConfigOption, QuietOption


class PredictionForm(enum.Enum):
    """What batch predictions are written as."""

    parquet = "parquet"
    csv = "csv"


def batch_predict(
    config: ConfigOption,
    output: Annotated[str, typer.Option(help="A folder of shards, or one file ending in .parquet, .csv or .csv.gz.")],
    month: Annotated[str | None, typer.Option(help="The month (YYYY-MM) to score; the newest if not given.")] = None,
    data: Annotated[str | None, typer.Option(help="Replaces data.root.")] = None,
    form: Annotated[PredictionForm | None, typer.Option("--format", help="Parquet by default.")] = None,
    gzip: Annotated[bool, typer.Option("--gzip", help="Compress with gzip.")] = False,
    version: Annotated[
        int | None, typer.Option(help="The pushed version to score with; by default the newest.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace an output that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Score a month's impressions, clicked or not yet, with the served model: id, click probability, version."""
    from adclick.pipeline.console import noise_to_temporary, result_console

    with noise_to_temporary("batch-predict") as real:
        from adclick.pipeline.prediction.batch import run_batch_predict

        result = run_batch_predict(
            config,
            output=output,
            data=data,
            month=month,
            version=version,
            form=form.value if form is not None else None,
            gzip=gzip,
            force=force,
        )
        if as_json:
            print(result.to_json(), file=real)
        elif not quiet:
            result_console(real).print(result.describe(), highlight=False, soft_wrap=True)
