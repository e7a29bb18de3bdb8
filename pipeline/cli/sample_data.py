"""`adclick sample-data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adclick.pipeline.cli.options import QuietOption
from adclick.pipeline.console import plain_console


def sample_data(
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    rows: Annotated[int, typer.Option(min=100, help="Impressions over all months; with --stream, clicks.")] = 60_000,
    creatives: Annotated[int, typer.Option(min=10, help="Distinct ad images.")] = 800,
    months: Annotated[int, typer.Option(min=1, max=36, help="Months, each a drop.")] = 3,
    seed: Annotated[int, typer.Option(help="The same seed writes the same bytes.")] = 1,
    image_effect: Annotated[bool, typer.Option(help="Whether images move the click rate.")] = True,
    stream: Annotated[
        bool, typer.Option("--stream", help="Write events in place of drops: clicks, fraud among them, for `stream`.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Write months of synthetic drops whose true click probability is known, and the truth beside them."""
    if stream:
        from adclick.stream.sample_traffic.writer import write_sample_traffic

        written = write_sample_traffic(output, clicks=rows, months=months, seed=seed)
        if not quiet:
            plain_console(soft_wrap=True).print(written.describe(), highlight=False)
        return
    from rich.progress import Progress

    from adclick.pipeline.sample_data.generator import write_sample_data

    with Progress(console=plain_console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("sample data", total=1.0)

        def show(what: str, share: float) -> None:
            progress.update(task, description=what, completed=share)

        summary = write_sample_data(
            output, rows=rows, creatives=creatives, months=months, seed=seed, image_effect=image_effect, progress=show
        )
    if not quiet:
        plain_console(soft_wrap=True).print(summary.describe(), highlight=False)
