"""`adclick report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[
        str | None, typer.Argument(help="The run, as `adclick status` names it; the newest if left out.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="The config file.")] = None,
    output: Annotated[Path | None, typer.Option(help="The output folder, where no config is given.")] = None,
) -> None:
    """Write a run's report anew, one HTML page, and print its path."""
    from adclick.pipeline.console import noise_to_temporary

    with noise_to_temporary("report") as real:
        from adclick.pipeline.report.command import run_report

        print(run_report(run, config, output), file=real)
