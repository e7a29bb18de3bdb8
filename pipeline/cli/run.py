"""`adclick run`."""

from __future__ import annotations

import enum
import gc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from adclick.pipeline.cli.options import ConfigOption, QuietOption, WaitOption, tell
from adclick.pipeline.runs.beam_runner import BeamRunner

if TYPE_CHECKING:
    from adclick.pipeline.runs.record import RunRecord


class PipelineName(enum.StrEnum):
    """Which model is trained."""

    CLICK = "click"
    RECOGNITION = "recognition"


def run(
    context: typer.Context,
    config: ConfigOption,
    data: Annotated[str | None, typer.Option(help="Replaces data.root.")] = None,
    output: Annotated[str | None, typer.Option(help="Replaces output.")] = None,
    month: Annotated[str | None, typer.Option(help="The newest month (YYYY-MM) to train on.")] = None,
    cache: Annotated[bool, typer.Option(help="Reuse the components whose inputs are unchanged.")] = True,
    compare: Annotated[
        bool,
        typer.Option(help="Also train what the model should beat, and set it beside the known best of sample data."),
    ] = False,
    beam_runner: Annotated[
        BeamRunner, typer.Option(help="Where Beam's work is done; all but direct need --beam-option.")
    ] = BeamRunner.DIRECT,
    beam_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Any option of Beam or the engine; repeatable.")
    ] = None,
    pipeline: Annotated[
        PipelineName, typer.Option(help="Which model is trained: the click model, or the recogniser of devices.")
    ] = PipelineName.CLICK,
    wait: WaitOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the pipeline: ingest, validate, transform, train, evaluate, and push a blessed model.

    The libraries' own output goes to a log file, whose path it prints.
    """
    from adclick.pipeline.config.settings import check_local_output, load_config
    from adclick.pipeline.console import noise_to, result_console
    from adclick.pipeline.report.write import report_at_end
    from adclick.pipeline.runs.record import COMPARISON_FILE, LOG_FILE
    from adclick.pipeline.runs.record_store import new_run_id, record_folder
    from adclick.schema.errors import ConfigError
    from adclick.storage.folder_lock import FolderLock

    settings = load_config(config, data_root=data, output=output)
    check_local_output(settings)
    if pipeline is PipelineName.RECOGNITION and compare:
        raise ConfigError("--compare is of the click model alone", "Leave --compare or --pipeline out.")
    if pipeline is PipelineName.RECOGNITION and not settings.has_images:
        raise ConfigError("features: no column has the role image", "A recogniser is learned from the ads' images.")
    lock = context.with_resource(FolderLock(settings.output, command="run", waits=wait, tell=tell))
    run_id = new_run_id(settings.output)
    lock.name_run(run_id)
    log_file = record_folder(settings.output, run_id) / LOG_FILE
    with noise_to(log_file) as real:
        console = result_console(real)
        if not quiet:
            console.print(f"Run {run_id}. Data: {settings.data.root}. Log: {log_file}", highlight=False, soft_wrap=True)
        with nullcontext() if quiet or not console.is_terminal else console.status("loading TFX"):
            with _no_collection():
                from adclick.pipeline.config.schema_file import read_schema
                from adclick.pipeline.drops import find_drops
            # What is wrong with the input is said before TensorFlow and TFX are loaded.
            read_schema(settings)
            drops = find_drops(settings.data.root, settings.data.window, month)
            with _no_collection():
                from adclick.pipeline.runs.local import run_local
                from adclick.pipeline.runs.summary import print_comparison, print_summary
        if pipeline is PipelineName.RECOGNITION:
            from adclick.pipeline.runs.recognition import run_recognition

            run_recognition(
                settings,
                drops,
                use_cache=cache,
                beam_runner=beam_runner,
                beam_options=beam_option or (),
                console=console,
                shows_progress=not quiet,
                run_id=run_id,
            )
            return
        with report_at_end(settings.output, run_id, console):
            record = run_local(
                settings,
                drops,
                use_cache=cache,
                beam_runner=beam_runner,
                beam_options=beam_option or (),
                console=None if quiet else console,
                run_id=run_id,
            )
            print_summary(console, record)
            if compare and record.evaluation:
                with nullcontext() if quiet or not console.is_terminal else console.status("training what to beat"):
                    from adclick.pipeline.runs.comparison import compare as compare_run
                    from adclick.pipeline.runs.comparison import write_comparison

                    comparison = compare_run(settings, record)
                    write_comparison(comparison, log_file.with_name(COMPARISON_FILE))
                print_comparison(console, comparison)
    _exit_by(record)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keeps the garbage collector from walking TFX's modules over and over while they are imported, a sixth of it."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _exit_by(record: RunRecord) -> None:
    from adclick.schema.errors import ModelHeld, ModelRefused

    if record.state == "held":
        raise ModelHeld(
            "the model is blessed and not served:\n" + "\n".join(f"  {reason}" for reason in record.reasons),
            "`adclick rollback --release` serves the newest version that is held and lets later ones through.",
        )
    if record.state != "pushed":
        raise ModelRefused(
            "the model is refused and was not pushed:\n" + "\n".join(f"  {reason}" for reason in record.reasons),
            "The version that was served before stays. Look at the slices above, the data of the newest month and the "
            "thresholds of the config.",
        )
