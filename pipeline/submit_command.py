"""`adclick submit` and `adclick schedule`: runs on Vertex AI Pipelines or Kubeflow Pipelines."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from pipeline.config import Config, load_config
from pipeline.platform.schedule import Schedule, check_schedule
from pipeline.platform.settings import Target
from pipeline.platform.submission import submit_run, submit_schedule


def run_submit(config: Path, target: Target, *, month: str, months: int, console: Console) -> None:
    """Submits a run of the months that there are now, and prints its name at the platform.

    Raises:
        ConfigError: The config, the data root or the month is wrong; nothing was submitted.
        SubmissionRefused: The platform refused the run or could not be reached.
    """
    settings = load_config(config)
    _warn_of_local_folders(settings, console)
    submitted = submit_run(settings, target, month=month, months=months)
    console.print(f"Submitted a run of {submitted.months}: {submitted.address}", highlight=False)


def run_schedule(
    config: Path, target: Target, *, cron: str, time_zone: str, name: str | None, months: int, console: Console
) -> None:
    """Schedules the monthly pipeline, and prints the schedule's name at the platform.

    Raises:
        ConfigError: The config or the schedule is wrong; nothing was submitted.
        SubmissionRefused: The platform refused the schedule or could not be reached.
    """
    settings = load_config(config)
    schedule = Schedule(cron, name or f"{settings.serving.model_name}-monthly", time_zone)
    check_schedule(schedule, target)
    _warn_of_local_folders(settings, console)
    submitted = submit_schedule(settings, target, schedule, months=months)
    console.print(f"Scheduled {schedule.name} at {cron}: {submitted.address}", highlight=False)


def _warn_of_local_folders(config: Config, console: Console) -> None:
    for key, address in (("data.root", config.data.root), ("output", config.output)):
        if "://" not in address:
            console.print(
                f"[yellow]warning:[/yellow] {key} is {address}: every step's container must find it there.",
                highlight=False,
            )
