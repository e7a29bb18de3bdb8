"""`adclick monitor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adclick.pipeline.cli.options import ConfigOption, QuietOption


def monitor(
    config: ConfigOption,
    predictions: Annotated[str, typer.Option(help="The gateway's prediction log: a file, a folder or a quoted glob.")],
    clicks: Annotated[
        str | None,
        typer.Option(help="CSV files of clicks: impression_id, or request_id and ad_index; and click_time."),
    ] = None,
    shown: Annotated[
        str | None, typer.Option(help="CSV files that name the ads that were shown, where more were scored.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only predictions of this date or time or later; UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="Only predictions before this date or time; UTC.")] = None,
    version: Annotated[int | None, typer.Option(help="Only predictions of this version.")] = None,
    click_window: Annotated[
        str | None, typer.Option(help="How long after its prediction a click may come, such as 7d; from the config.")
    ] = None,
    clicks_until: Annotated[
        str | None, typer.Option(help="The clicks are complete until then; until the newest of them by default.")
    ] = None,
    json_file: Annotated[str | None, typer.Option("--json", help="Write the report as JSON; `-` prints it.")] = None,
    prometheus: Annotated[
        Path | None, typer.Option(help="Write metrics for a node exporter's textfile collector.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--output", help="Write the tables as a page of HTML.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Compare the prediction log with what the served model was trained on, and with the clicks that came.

    Exit code 6 where they stand further apart than they may.
    """
    from adclick.pipeline.console import noise_to_temporary, result_console

    with noise_to_temporary("monitor") as real:
        from adclick.pipeline.monitor.command import run_monitor

        run_monitor(
            config,
            predictions=predictions,
            clicks=clicks,
            shown=shown,
            since=since,
            until=until,
            version=version,
            click_window=click_window,
            clicks_until=clicks_until,
            json_file=json_file,
            prometheus=prometheus,
            html=html,
            quiet=quiet,
            console=result_console(real),
        )
