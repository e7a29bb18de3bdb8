"""`adclick compile`, `submit` and `schedule`: runs on Vertex AI Pipelines or Kubeflow Pipelines.

What is wrong with the config is said before TFX and the platforms' libraries are loaded.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from adclick.pipeline.config.settings import load_config
from adclick.pipeline.config.target import Target
from adclick.pipeline.targets.addresses import check_addresses
from adclick.pipeline.targets.platforms import platform_of
from adclick.pipeline.targets.schedule import Schedule
from adclick.pipeline.targets.window import resolve_window
from adclick.schema.errors import ConfigError


def run_compile(
    config: Path, target: Target, output: Path, *, monthly: bool, month: str, months: int, console: Console | None
) -> None:
    """Compiles a run, or the monthly pipeline, to a file.

    Args:
        config: The config file.
        target: The platform.
        output: The file; .json for Vertex AI, .yaml for Kubeflow.
        monthly: Whether to compile the monthly pipeline instead of one run.
        month: The newest month, or `latest`.
        months: How many months; `data.window` if 0.
        console: Where to say what was written; nowhere if None.

    Raises:
        ConfigError: The config, the data root, the month or the file's name is wrong.
    """
    platform = platform_of(target)
    if output.suffix not in platform.file_endings:
        raise ConfigError(f"{output}: a file for {target} ends in {platform.file_endings[0]}")
    settings = load_config(config)
    check_addresses(settings, platform_of(target))

    from adclick.pipeline.targets.submission import compile_monthly, compile_run, write_files

    if monthly:
        compiled = compile_monthly(settings, target, month=month, months=months)
        what = "the monthly pipeline, runtime parameters month and window"
    else:
        window = resolve_window(settings, month, months)
        if console is not None:
            for line in window.passed_over.describe():
                console.print(line, style="yellow", highlight=False)
        compiled = compile_run(settings, target, window)
        what = f"a run of {window.months}, " + (f"baseline {window.baseline}" if window.baseline else "no baseline yet")
    write_files(compiled)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f"{output.name}.partial")
    partial.write_text(platform.file_text(compiled), encoding="utf-8")
    partial.replace(output)
    if console is not None:
        console.print(f"Wrote {output}: {what}, {compiled.steps} steps.", highlight=False)


def run_submit(config: Path, target: Target, *, month: str, months: int, console: Console) -> None:
    """Submits a run of the months that there are now, and prints its name at the platform.

    Raises:
        ConfigError: The config, the data root or the month is wrong, or an address is local; nothing was submitted.
        SubmissionRefused: The platform refused the run or could not be reached.
    """
    settings = load_config(config)
    check_addresses(settings, platform_of(target))

    from adclick.pipeline.targets.submission import submit_run

    submitted = submit_run(settings, target, month=month, months=months)
    for line in submitted.passed_over.describe():
        console.print(line, style="yellow", highlight=False)
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
    platform_of(target).check_schedule(schedule)
    check_addresses(settings, platform_of(target))

    from adclick.pipeline.targets.submission import submit_schedule

    submitted = submit_schedule(settings, target, schedule, months=months)
    console.print(f"Scheduled {schedule.name} at {cron}: {submitted.address}", highlight=False)
