"""Runs the pipeline from one machine, Beam's work here or on an engine, and says what came of it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2
from rich.console import Console
from tfx import types
from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.types import artifact_utils

from adclick.components.code_version import code_version
from adclick.components.worker_errors import readable_worker_errors
from adclick.pipeline.config.schema_file import publish_schema
from adclick.pipeline.config.settings import Config
from adclick.pipeline.console import Steps, watching
from adclick.pipeline.dag import create_pipeline, creative_store
from adclick.pipeline.drops import Drop, find_passed_over, gaps
from adclick.pipeline.runs.beam_runner import BeamRunner, beam_arguments, fetch_job_server
from adclick.pipeline.runs.identity import baseline_to_beat, input_key
from adclick.pipeline.runs.lineage import node_of, outputs_of
from adclick.pipeline.runs.outcome import fill_record, find_held
from adclick.pipeline.runs.outside_images import with_outside_images
from adclick.pipeline.runs.record import MonthRecord, RunRecord, StepRecord, read_records, write_record
from adclick.schema.errors import ConfigError, DataRefused, ModelRefused
from adclick.storage import filesystem
from adclick.storage.bucket import check_writable, is_bucket_address
from adclick.storage.model_versions import ModelVersions

#: Names the output that a pipeline root belongs to.
_OWNER = ".adclick-output"


def metadata_config(output: str) -> metadata_store_pb2.ConnectionConfig:
    """The metadata store of local runs."""
    path = os.path.join(output, "metadata.sqlite")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return tfx_metadata.sqlite_metadata_connection_config(path)


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def window(
    config: Config, schema_file: str, drops: Sequence[Drop], records: Sequence[RunRecord]
) -> tuple[list[Drop], list[MonthRecord]]:
    """Numbers the deliveries of each month, and leaves out earlier months that were refused as they are now.

    A refused month would stop every later run whose window holds it. The newest is judged again, whatever came before.
    """
    judged_by = (
        schema_file,
        *(part.model_dump_json() for part in (config.features, config.csv, config.ingestion, config.split)),
    )
    refused = {
        month.gate_key: record.run_id
        for record in records
        for month in record.window
        if record.state == "data_refused" and record.refused_month == month.name
    }
    taken, months = [], []
    for drop in drops:
        known = {
            month.fingerprint: month.version
            for record in records
            for month in record.window
            if (month.name, month.uri) == (drop.name, drop.uri)
        }
        version = known.get(drop.fingerprint, max(known.values(), default=0) + 1)
        key = _key(*judged_by, drop.name, drop.uri, drop.fingerprint)
        left_out = f"refused in run {refused[key]}" if key in refused and drop is not drops[-1] else None
        months.append(
            MonthRecord(
                name=drop.name,
                uri=drop.uri,
                fingerprint=drop.fingerprint,
                version=version,
                gate_key=key,
                left_out=left_out,
            )
        )
        if left_out is None:
            taken.append(replace(drop, version=version))
    return taken, months


def check_buckets(config: Config) -> None:
    """Asks the buckets of artifacts and models whether they may be written to."""
    for folder in (config.artifacts, config.push_base):
        if is_bucket_address(folder):
            check_writable(folder)


def own_artifacts(config: Config) -> None:
    """Marks a pipeline root that lies elsewhere as this output's: artifacts are numbered by each output's own store."""
    if config.pipeline_root is None:
        return
    mark, own = filesystem.join(config.artifacts, _OWNER), Path(config.output, _OWNER)
    if not own.exists():
        own.write_text(uuid.uuid4().hex, encoding="utf-8")
    identity = own.read_text(encoding="utf-8")
    try:
        with filesystem.open_read(mark) as stream:
            owner = stream.read().decode()
    except FileNotFoundError:
        owner = identity
        filesystem.make_folder(config.artifacts)
        with filesystem.open_write_atomic(mark) as stream:
            stream.write(identity.encode())
    if owner != identity:
        raise ConfigError(
            f"pipeline_root: {config.artifacts}: holds the artifacts of another output than {config.output}",
            "Each output needs a pipeline_root of its own: their artifacts have the same names. If that output is no "
            f"more, delete what is below {config.artifacts}.",
        )


def run_local(
    config: Config,
    found: Sequence[Drop],
    *,
    use_cache: bool = True,
    beam_runner: BeamRunner = BeamRunner.DIRECT,
    beam_options: Sequence[str] = (),
    console: Console | None = None,
    run_id: str,
) -> RunRecord:
    """Runs the pipeline once.

    Args:
        config: The config.
        found: The months of the window, from `find_drops`.
        use_cache: Whether components whose inputs are unchanged are reused.
        beam_runner: Where Beam's work is done.
        beam_options: Options for Beam, see `beam_arguments`.
        console: Where progress is shown; nowhere if None.
        run_id: From `new_run_id`.

    Returns:
        The record of the run, whose state is `pushed`, `held` or `model_refused`.

    Raises:
        ConfigError: Beam's options do not fit together, its job server cannot be had, or the pipeline root is another
            output's.
        DataRefused: The data is not fit to train on; the record says so too.
        AdclickError: A bucket denies something, or does not answer.
    """
    beam_pipeline_args = beam_arguments(beam_runner, beam_options, config)
    fetch_job_server(beam_runner, beam_pipeline_args)
    check_buckets(config)
    own_artifacts(config)
    schema_file = publish_schema(config)
    records = read_records(config.output)
    found = with_outside_images(found, records)
    drops, months = window(config, schema_file, found, records)
    key = input_key(config, drops)
    judged_by = (earlier.baseline for earlier in reversed(records) if earlier.input_key == key)
    passed_over = find_passed_over(config.data.root, found)
    record = RunRecord(
        run_id=run_id,
        input_key=key,
        config=json.loads(config.model_dump_json()),
        code_version=code_version(),
        baseline=baseline_to_beat(config.push_base, judged_by),
        started=datetime.now(UTC),
        window=months,
        missing_months=gaps(found),
        unread=passed_over.unread,
        litter=passed_over.litter,
    )
    write_record(config.output, record)
    connection = metadata_config(config.output)
    pipeline = create_pipeline(
        config=config,
        drops=drops,
        schema_file=schema_file,
        pipeline_root=config.artifacts,
        push_base=config.push_base,
        baseline=record.baseline,
        beam_pipeline_args=beam_pipeline_args,
        metadata_connection_config=connection,
        enable_cache=use_cache,
        store=creative_store(config),
    )
    record.planned_steps = [component.id for component in pipeline.components]
    steps = Steps(on_change=lambda: _note_progress(config.output, record, steps))
    try:
        with watching(console, len(pipeline.components), steps), readable_worker_errors():
            LocalDagRunner().run(pipeline)
        record.state = "model_refused"
    except ModelRefused as refusal:
        # Refused before it was evaluated: what came of its training is no model.
        logging.getLogger("adclick").info("the model is refused", exc_info=True)
        record.state = "model_refused"
        record.reasons = refusal.message.splitlines()
    except DataRefused as refusal:
        logging.getLogger("adclick").info("the data is refused", exc_info=True)
        record.state = "data_refused"
        record.reasons = refusal.message.splitlines()
        record.refused_month = (steps.running or "").partition("-")[2] or None
        if console is not None:
            for note in record.notes:
                console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
        raise
    except BaseException as error:
        logging.getLogger("adclick").exception("the run failed")
        record.state = "failed"
        record.reasons = [f"{type(error).__name__}: {error}"]
        raise
    finally:
        _take_over(record, steps)
        record.finished = datetime.now(UTC)
        fill_record(record, outputs_of_last_run(connection), drops)
        if record.state == "pushed":
            find_held(record, ModelVersions(config.push_base))
        write_record(config.output, record)
    return record


def _take_over(record: RunRecord, steps: Steps) -> None:
    record.steps = [StepRecord(name=step.name, seconds=step.seconds, reused=step.reused) for step in steps.finished]
    record.running_step = steps.running


def _note_progress(output: str, record: RunRecord, steps: Steps) -> None:
    """Tells those who look at the record meanwhile how far the run is; no run fails for it."""
    _take_over(record, steps)
    try:
        write_record(output, record)
    except OSError:
        logging.getLogger("adclick").warning("how far the run is could not be written", exc_info=True)


def outputs_of_last_run(connection: metadata_store_pb2.ConnectionConfig) -> dict[str, list[types.Artifact]]:
    """By `component.output key`, the artifacts of the newest pipeline run."""
    outputs: dict[str, list[types.Artifact]] = {}
    with tfx_metadata.Metadata(connection) as handle:
        store = handle.store
        runs = store.get_contexts_by_type("pipeline_run")
        if not runs:
            return {}
        newest = max(runs, key=lambda run: run.create_time_since_epoch)
        artifact_types = {kind.id: kind for kind in store.get_artifact_types()}
        for execution in store.get_executions_by_context(newest.id):
            node = node_of(store, execution.id)
            for key, found in outputs_of(store, execution.id).items():
                outputs.setdefault(f"{node}.{key}", []).extend(
                    artifact_utils.deserialize_artifact(artifact_types[one.type_id], one) for one in found
                )
    return outputs
