"""`adclick schedule`."""

from __future__ import annotations

from typing import Annotated

import typer

from adclick.pipeline.cli.on_platform import on_platform
from adclick.pipeline.cli.options import ConfigOption, TargetOption, WindowOption


def schedule(
    config: ConfigOption,
    target: TargetOption,
    cron: Annotated[str, typer.Option(help='Minute, hour, day of month, month, day of week, such as "0 6 2 * *".')],
    time_zone: Annotated[str, typer.Option(help="An IANA name, such as Europe/Berlin; Vertex AI only.")] = "",
    name: Annotated[str | None, typer.Option(help="The schedule's name; by default the model's and -monthly.")] = None,
    window: WindowOption = 0,
) -> None:
    """Let the platform submit a run of the newest months again and again."""
    with on_platform() as console:
        from adclick.pipeline.targets.command import run_schedule

        run_schedule(config, target, cron=cron, time_zone=time_zone, name=name, months=window, console=console)
