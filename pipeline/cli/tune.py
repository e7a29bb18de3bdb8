"""`adclick tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adclick.pipeline.cli.options import ConfigOption, QuietOption, WaitOption, tell


def tune(
    config: ConfigOption,
    trials: Annotated[int, typer.Option(min=2, help="Sets of values to try, the config's own included.")] = 20,
    max_rows: Annotated[
        int, typer.Option(min=100, help="Search on at most this many, the newest, training impressions.")
    ] = 500_000,
    month: Annotated[str | None, typer.Option(help="The newest month (YYYY-MM) of the run to tune on.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="The config to write; tuned.yaml beside the config by default.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Overwrite an existing file.")] = False,
    wait: WaitOption = False,
    quiet: QuietOption = False,
) -> None:
    """Search hyperparameters on a finished run's data and write a config with the best; `run` trains with it.

    They are tried on its training and validation rows; the best is then tested on its held-out ones.
    """
    from adclick.pipeline.runs.tuning import run_tune

    run_tune(
        config,
        trials=trials,
        max_rows=max_rows,
        month=month,
        output=output,
        force=force,
        quiet=quiet,
        waits=wait,
        tell=tell,
    )
