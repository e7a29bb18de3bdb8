"""Runs the recognition pipeline from one machine, and says what came of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from tfx.orchestration.local.local_dag_runner import LocalDagRunner

from adclick.components.code_version import code_version
from adclick.components.recognition.evaluator import RecognitionFacts, read_facts
from adclick.components.worker_errors import readable_worker_errors
from adclick.models.recognition.judging import Share
from adclick.pipeline.config.schema_file import publish_schema
from adclick.pipeline.config.settings import Config
from adclick.pipeline.console import Steps, watching
from adclick.pipeline.drops import Drop
from adclick.pipeline.recognition_dag import create_recognition_pipeline
from adclick.pipeline.runs.beam_runner import BeamRunner, beam_arguments, fetch_job_server
from adclick.pipeline.runs.cleaning import keep_artifacts
from adclick.pipeline.runs.local import check_buckets, metadata_config, outputs_of_last_run, own_artifacts, window
from adclick.pipeline.runs.outside_images import with_outside_images
from adclick.pipeline.runs.recognition_record import RecognitionRecord, write_recognition_record
from adclick.pipeline.runs.record import read_records
from adclick.pipeline.runs.summary import figures_table
from adclick.schema.errors import DataRefused, ModelRefused


def run_recognition(
    config: Config,
    drops: Sequence[Drop],
    *,
    use_cache: bool = True,
    beam_runner: BeamRunner = BeamRunner.DIRECT,
    beam_options: Sequence[str] = (),
    console: Console,
    shows_progress: bool = True,
    run_id: str,
) -> None:
    """Trains a recogniser of the window's creatives, judges it, pushes it if it is blessed, and prints the figures.

    Args:
        config: The config.
        drops: The months of the window, from `find_drops`.
        use_cache: Whether components whose inputs are unchanged are reused.
        beam_runner: Where Beam's work is done.
        beam_options: Options for Beam, see `beam_arguments`.
        console: Where the figures are printed.
        shows_progress: Whether the steps are shown, too.
        run_id: From `new_run_id`.

    Raises:
        ConfigError: Beam's options do not fit together, or a bucket denies something.
        DataRefused: The data is not fit to train on.
        ModelRefused: The recogniser misses a limit of `recognition`.
    """
    arguments = beam_arguments(beam_runner, beam_options, config)
    fetch_job_server(beam_runner, arguments)
    check_buckets(config)
    own_artifacts(config)
    records = read_records(config.output)
    taken, _ = window(config, publish_schema(config), with_outside_images(drops, records), records)
    connection = metadata_config(config.output)
    record = RecognitionRecord(
        run_id=run_id, code_version=code_version(), started=datetime.now(UTC), months=[drop.name for drop in taken]
    )
    write_recognition_record(config.output, record)
    pipeline = create_recognition_pipeline(
        config=config,
        drops=taken,
        beam_pipeline_args=arguments,
        metadata_connection_config=connection,
        enable_cache=use_cache,
    )
    try:
        with watching(console if shows_progress else None, len(pipeline.components), Steps()), readable_worker_errors():
            LocalDagRunner().run(pipeline)
        outputs = outputs_of_last_run(connection)
        artifacts = [artifact.uri for artifacts in outputs.values() for artifact in artifacts]
        keep_artifacts(config.output, run_id, artifacts)
        facts = read_facts(outputs["RecogniserEvaluator.evaluation"][0].uri)
        record.undecided, record.creatives = facts.undecided, facts.creatives
        record.form, record.forms = facts.form, facts.forms
        print_facts(console, facts)
        if facts.refusals:
            logging.getLogger("adclick").info("the recogniser is refused: %s", facts.refusals)
            record.state, record.reasons = "model_refused", facts.refusals
            raise ModelRefused(
                "the recogniser is refused and was not pushed:\n"
                + "\n".join(f"  {reason}" for reason in facts.refusals),
                "The version before stays. Train longer (recognition.steps), on more months (data.window), or let the "
                "limits of recognition say what is enough.",
            )
        pushed = outputs["RecogniserPusher.pushed_model"][0].get_string_custom_property("pushed_destination")
        record.state, record.pushed_to, record.version = "pushed", pushed, int(pushed.rstrip("/").rpartition("/")[2])
    except BaseException as error:
        if isinstance(error, DataRefused):
            record.state, record.reasons = "data_refused", error.message.splitlines()
        elif record.state != "model_refused":
            record.state, record.reasons = "failed", [f"{type(error).__name__}: {error}"]
        raise
    finally:
        record.finished = datetime.now(UTC)
        write_recognition_record(config.output, record)
    console.print(f"Blessed, and pushed: {pushed}", style="green", highlight=False, soft_wrap=True)


def print_facts(console: Console, facts: RecognitionFacts) -> None:
    """Prints how good each form of a recogniser is, and the chosen one by distortion."""
    counts = facts.creatives
    console.print(
        f"{counts['training']:,} creatives are learned from and {counts['held_out']:,} judge the recogniser; left out: "
        f"{counts['alike']:,} that look like another, {counts['unreadable']:,} unreadable, "
        f"{counts['beyond_limit']:,} beyond recognition.max_creatives.",
        highlight=False,
        soft_wrap=True,
    )
    table = figures_table("form", "bytes", "ms", "top-1", "false reject", "false accept", title="Forms")
    for candidate in facts.forms:
        judgement = candidate.judgement
        table.add_row(
            f"{candidate.form} *" if candidate.form == facts.form else candidate.form,
            f"{candidate.size:,}",
            f"{candidate.milliseconds:.2f}",
            *(_cell(share) for share in (judgement.top_1, judgement.false_reject, judgement.false_accept)),
        )
    console.print(table)
    chosen = facts.chosen.judgement
    table = figures_table("distortion alone", "top-1", "false reject", title=f"By distortion, {facts.form}")
    for name, top_1 in chosen.top_1_by_distortion.items():
        table.add_row(name, _cell(top_1), _cell(chosen.false_reject_by_distortion[name]))
    console.print(table)
    for line in facts.undecided:
        console.print(f"Undecided: {line}", style="yellow", highlight=False, soft_wrap=True)


def _cell(share: Share) -> str:
    return f"{100 * share.value:.1f} % [{100 * share.lower:.1f}, {100 * share.upper:.1f}]"
