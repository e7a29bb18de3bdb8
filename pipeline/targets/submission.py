"""Compiles runs and the monthly pipeline for a platform, and hands them to it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions

from adclick.components.ad_example_gen.drop_names import PassedOver
from adclick.pipeline.config.platform import DEFAULT_STEP
from adclick.pipeline.config.settings import Config
from adclick.pipeline.config.target import Target
from adclick.pipeline.dag import create_pipeline
from adclick.pipeline.runs.beam_runner import LOCAL_BEAM_ARGUMENTS
from adclick.pipeline.runs.record import find_record, write_record
from adclick.pipeline.targets.compiled_job import CompiledJob
from adclick.pipeline.targets.compiler import check_steps, compile_job
from adclick.pipeline.targets.monthly import MonthlySubmission, create_monthly_pipeline
from adclick.pipeline.targets.platforms import platform_of
from adclick.pipeline.targets.recorder import make_recorder, submitted_record
from adclick.pipeline.targets.schedule import Schedule
from adclick.pipeline.targets.window import LATEST, Window, record_submission, resolve_window
from adclick.schema.errors import ConfigError
from adclick.storage import filesystem

_MONTHLY_STEP = MonthlySubmission.__name__


@dataclass(frozen=True)
class Submitted:
    """What the platform took.

    Attributes:
        address: The run's or schedule's name at the platform.
        months: The months of a run; empty for a schedule.
        passed_over: What of the data root the run does not read.
    """

    address: str
    months: str = ""
    passed_over: PassedOver = field(default_factory=PassedOver)


def compile_run(config: Config, target: Target, window: Window) -> CompiledJob:
    """Compiles the DAG of one run: the one that runs locally, a step that records the run, and a gate for the model.

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
        gate_model=True,
        make_recorder=functools.partial(make_recorder, submitted_record(config, window)),
    )
    platform = platform_of(target)
    compiled = compile_job(pipeline, config.platform, platform, parameters_folder=_parameters_folder(config))
    platform.check_run(compiled, config, window)
    return compiled


def compile_monthly(config: Config, target: Target, *, month: str = LATEST, months: int = 0) -> CompiledJob:
    """Compiles the monthly pipeline; see `pipeline.targets.monthly`. Its step is not retried: it might submit twice.

    Raises:
        ConfigError: A setting of `platform` is missing or wrong.
    """
    # What the step will need is checked now, when a person looks on.
    beam_arguments(config)
    platform = platform_of(target)
    check_steps(config.platform, platform)
    steps = {name: step for name, step in config.platform.steps.items() if name in (DEFAULT_STEP, _MONTHLY_STEP)}
    settings = config.platform.model_copy(update={"steps": steps})
    pipeline = create_monthly_pipeline(config, target, month=month, months=months)
    return compile_job(pipeline, settings, platform, parameters_folder=_parameters_folder(config))


def _parameters_folder(config: Config) -> str:
    return filesystem.join(config.output, "parameters")


def write_files(compiled: CompiledJob) -> None:
    """Writes the files that the steps read; those that are there already have the same content."""
    for address, content in compiled.files.items():
        if not filesystem.exists(address):
            filesystem.make_folder(address.rpartition("/")[0])
            with filesystem.open_write_atomic(address) as stream:
                stream.write(content.encode())


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
    compiled = compile_run(config, target, window)
    write_files(compiled)
    name = f"{config.serving.model_name} {window.drops[-1].name}"
    address = platform_of(target).submit(compiled, config.platform, name)
    record_submission(config, window, address)
    _record_start(config, window, address)
    return Submitted(address, window.months, window.passed_over)


def _record_start(config: Config, window: Window, address: str) -> None:
    """Leaves the record of a run that has not ended; one that ended, whose steps are all reused, keeps its own."""
    record = find_record(config.output, window.run_id)
    if record is not None and record.finished is not None and record.state in ("pushed", "held"):
        return
    write_record(config.output, submitted_record(config, window).model_copy(update={"platform": address}))


def submit_schedule(
    config: Config, target: Target, schedule: Schedule, *, month: str = LATEST, months: int = 0
) -> Submitted:
    """Schedules the monthly pipeline on the platform.

    Raises:
        ConfigError: The config or the schedule is wrong; nothing was submitted.
        SubmissionRefused: The platform refused the schedule or could not be reached.
    """
    compiled = compile_monthly(config, target, month=month, months=months)
    write_files(compiled)
    return Submitted(platform_of(target).create_schedule(compiled, config.platform, schedule))
