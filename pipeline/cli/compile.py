"""`adclick compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adclick.pipeline.cli.on_platform import on_platform
from adclick.pipeline.cli.options import ConfigOption, MonthOption, QuietOption, TargetOption, WindowOption


def compile_(
    config: ConfigOption,
    target: TargetOption,
    output: Annotated[Path, typer.Option(help="The file to write: .json for Vertex AI, .yaml for Kubeflow.")],
    monthly: Annotated[
        bool, typer.Option("--monthly", help="Compile what `schedule` schedules: a step that submits the run.")
    ] = False,
    month: MonthOption = "latest",
    window: WindowOption = 0,
    quiet: QuietOption = False,
) -> None:
    """Compile a run of the months that there are now for Vertex AI Pipelines or Kubeflow Pipelines."""
    with on_platform() as console:
        from adclick.pipeline.targets.command import run_compile

        run_compile(
            config, target, output, monthly=monthly, month=month, months=window, console=None if quiet else console
        )
