"""Compiles runs and the monthly pipeline for a platform, and hands them to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions

from pipeline.beam_runner import LOCAL_BEAM_ARGUMENTS
from pipeline.config import Config
from pipeline.dag import create_pipeline
from pipeline.platform.compiler import DEFAULT_STEP, compile_job
from pipeline.platform.monthly import MonthlySubmission, create_monthly_pipeline
from pipeline.platform.schedule import Schedule
from pipeline.platform.settings import Target
from pipeline.platform.window import LATEST, Window, record_submission, resolve_window
from schema.errors import ConfigError

_MONTHLY_STEP = MonthlySubmission.__name__


@dataclass(frozen=True)
class Submitted:
    """What the platform took.

    Attributes:
        address: The run's or schedule's name at the platform.
        months: The months of a run; empty for a schedule.
    """

    address: str
    months: str = ""


def compile_run(config: Config, target: Target, window: Window) -> dict[str, Any]:
    """Compiles the DAG of one run, the same that runs locally, as a PipelineJob.

    Raises:
        ConfigError: A setting of `platform` is missing or wrong.
    """
    pipeline = create_pipeline(
        config=config,
        drops=window.drops,
        schema_file=window.schema_file,
        pipeline_root=window.pipeline_root,
        push_base=window.push_base,
        baseline=window.baseline,
        beam_pipeline_args=beam_arguments(config),
        enable_cache=config.platform.caching,
    )
    return compile_job(pipeline, config.platform, target)


def compile_monthly(config: Config, target: Target, *, month: str = LATEST, months: int = 0) -> dict[str, Any]:
    """Compiles the monthly pipeline as a PipelineJob; see `pipeline.platform.monthly`.

    Raises:
        ConfigError: A setting of `platform` is missing or wrong.
    """
    # What the step will need is checked now, when a person looks on.
    beam_arguments(config)
    resources = {
        name: wanted for name, wanted in config.platform.steps.items() if name in (DEFAULT_STEP, _MONTHLY_STEP)
    }
    settings = config.platform.model_copy(update={"steps": resources})
    return compile_job(create_monthly_pipeline(config, target, month=month, months=months), settings, target)


def beam_arguments(config: Config) -> list[str]:
    """Beam's arguments of the steps.

    Raises:
        ConfigError: Dataflow is the runner, and what it needs is missing.
    """
    given = config.platform.beam_arguments
    if not given:
        return list(LOCAL_BEAM_ARGUMENTS)
    options = PipelineOptions(given)
    if (options.view_as(StandardOptions).runner or "").lower() in ("dataflow", "dataflowrunner"):
        cloud = options.view_as(GoogleCloudOptions)
        missing = [f"--{name}" for name in ("project", "region", "temp_location") if not getattr(cloud, name)]
        if missing:
            raise ConfigError(
                f"platform.beam_arguments: Dataflow needs {', '.join(missing)}", "Add what is missing to the arguments."
            )
    return list(given)


def submit_run(config: Config, target: Target, *, month: str = LATEST, months: int = 0) -> Submitted:
    """Resolves the window, compiles the run and submits it.

    Raises:
        ConfigError: The config, the data root or the month is wrong; nothing was submitted.
        SubmissionRefused: The platform refused the run or could not be reached.
    """
    window = resolve_window(config, month, months)
    job = compile_run(config, target, window)
    name = f"{config.serving.model_name} {window.drops[-1].name}"
    if target == "vertex":
        from pipeline.platform import vertex

        address = vertex.submit(job, config.platform.vertex, name)
    else:
        from pipeline.platform import kubeflow

        address = kubeflow.submit(job, config.platform.kubeflow, name)
    record_submission(config, window, address)
    return Submitted(address, window.months)


def submit_schedule(
    config: Config, target: Target, schedule: Schedule, *, month: str = LATEST, months: int = 0
) -> Submitted:
    """Schedules the monthly pipeline on the platform.

    Raises:
        ConfigError: The config or the schedule is wrong; nothing was submitted.
        SubmissionRefused: The platform refused the schedule or could not be reached.
    """
    job = compile_monthly(config, target, month=month, months=months)
    if target == "vertex":
        from pipeline.platform import vertex

        return Submitted(vertex.create_schedule(job, config.platform.vertex, schedule))
    from pipeline.platform import kubeflow

    return Submitted(kubeflow.create_schedule(job, config.platform.kubeflow, schedule))
