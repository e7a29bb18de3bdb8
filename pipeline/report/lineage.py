"""What the metadata store knows of a run's artifacts: their numbers, what made them, when, and in what time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from adclick.pipeline.report.facts import Artifact, LineageFacts, StepFacts
from adclick.pipeline.runs.record import RunRecord

_EXAMPLES = ".examples"


def read_lineage(store_file: Path, record: RunRecord) -> LineageFacts:
    """Looks the run's artifacts up; a reused one leads to the execution of the earlier run that made it.

    Args:
        store_file: The SQLite file; it is only read.
        record: The run.
    """
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(store_file)
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
    store = metadata_store.MetadataStore(config)
    artifacts: list[Artifact] = []
    fingerprints: dict[str, str] = {}
    executions: dict[str, tuple[datetime, float]] = {}
    for output, uris in record.artifacts.items():
        component = output.partition(".")[0]
        for uri in uris:
            for found in store.get_artifacts_by_uri(uri):
                execution = _maker(store, found.id)
                artifacts.append(
                    Artifact(output, found.id, found.type, None if execution is None else execution.id, uri)
                )
                if execution is None:
                    continue
                executions[component] = _time(execution)
                fingerprint = execution.custom_properties["fingerprint"].string_value
                if output.endswith(_EXAMPLES) and fingerprint:
                    fingerprints[component.partition("-")[2]] = fingerprint
    order = {step.name: number for number, step in enumerate(record.steps)}
    artifacts.sort(key=lambda artifact: (order.get(artifact.output.partition(".")[0], len(order)), artifact.output))
    return LineageFacts(tuple(artifacts), fingerprints, executions)


def _maker(store: metadata_store.MetadataStore, artifact: int) -> metadata_store_pb2.Execution | None:
    """The execution that made an artifact; those that reused it have it among their outputs too."""
    made = [
        event.execution_id
        for event in store.get_events_by_artifact_ids([artifact])
        if event.type == metadata_store_pb2.Event.OUTPUT
    ]
    executed = [
        execution
        for execution in store.get_executions_by_id(made)
        if execution.last_known_state != metadata_store_pb2.Execution.CACHED
    ]
    return min(executed, key=lambda execution: execution.create_time_since_epoch, default=None)


def _time(execution: metadata_store_pb2.Execution) -> tuple[datetime, float]:
    start, end = execution.create_time_since_epoch, execution.last_update_time_since_epoch
    return datetime.fromtimestamp(start / 1000, UTC), (end - start) / 1000


def time_steps(record: RunRecord, lineage: LineageFacts) -> Sequence[StepFacts]:
    """The run's steps; one that was reused with what it took when it was executed."""
    steps = []
    for step in record.steps:
        executed, seconds = lineage.executions.get(step.name, (None, None))
        steps.append(StepFacts(step.name, step.seconds, step.reused, seconds, executed))
    return steps
