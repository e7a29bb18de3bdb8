"""`adclick submit`."""

from __future__ import annotations

from adclick.pipeline.cli.on_platform import on_platform
from adclick.pipeline.cli.options import ConfigOption, MonthOption, TargetOption, WindowOption


def submit(config: ConfigOption, target: TargetOption, month: MonthOption = "latest", window: WindowOption = 0) -> None:
    """Compile a run of the months that there are now and start it on Vertex AI Pipelines or Kubeflow Pipelines."""
    with on_platform() as console:
        from adclick.pipeline.targets.command import run_submit

        run_submit(config, target, month=month, months=window, console=console)
