"""Where a pushed version comes from, as the metadata store knows it."""

from __future__ import annotations

import json
from typing import Any

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from pydantic import BaseModel, ConfigDict

from adclick.components.ad_example_gen.executor import DROP_FILES
from adclick.components.code_version import CODE_VERSION
from adclick.models.evaluation import read_metrics
from adclick.pipeline.runs.record import MetricRecord, SliceRecord
from adclick.schema.errors import ConfigError
from adclick.storage import filesystem

_BLESSED = "blessed"


class DropFileRecord(BaseModel):
    """A file that was read."""

    model_config = ConfigDict(extra="forbid")

    path: str
    bytes: int
    sha256: str


class MonthLineage(BaseModel):
    """A month that a version was trained or judged on.

    Attributes:
        span: The month as a number, such as 202610.
        version: Which delivery of the month.
        drop: Where it lay.
        fingerprint: Of all its files, images too.
        examples: The artifact of its examples.
        creatives: The artifact of its images; each is keyed by the SHA-256 of its file.
        code_version: The code that read it.
        files: Its files that were read.
    """

    model_config = ConfigDict(extra="forbid")

    span: int
    version: int
    drop: str
    fingerprint: str
    examples: str
    creatives: str
    code_version: str
    files: list[DropFileRecord]


class Lineage(BaseModel):
    """What made a pushed version.

    Attributes:
        version: The version.
        pushed_to: The folder it was pushed to.
        model: The artifact of the model.
        code_version: The code that trained it.
        runs: The pipeline runs that it was pushed or confirmed in, the oldest first.
        months: The data, the oldest month first.
        settings: By component, its parameters: the config as it was used.
        evaluation: The metrics by slice of the candidate, the baseline and their difference.
        blessings: By who gave it, whether the model was blessed.
        baseline: The version that it was compared with; None if there was none.
        artifacts: By `component.output`, the number and address of every artifact behind it.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    version: int
    pushed_to: str
    model: str
    code_version: str
    runs: list[str]
    months: list[MonthLineage]
    settings: dict[str, dict[str, Any]]
    evaluation: list[SliceRecord]
    blessings: dict[str, bool]
    baseline: str | None
    artifacts: dict[str, list[str]]


def lineage_of(connection: metadata_store_pb2.ConnectionConfig, version: int) -> Lineage:
    """Follows a pushed version back through the metadata store to the files it was made from.

    Raises:
        ConfigError: The store knows no such version.
    """
    return _Store(metadata_store.MetadataStore(connection)).lineage(version)


class _Store:
    def __init__(self, store: Any) -> None:
        self._store = store

    def lineage(self, version: int) -> Lineage:
        pushed = next(
            (
                artifact
                for artifact in self._store.get_artifacts_by_type("PushedModel")
                if artifact.custom_properties["pushed_version"].string_value == str(version)
            ),
            None,
        )
        if pushed is None:
            raise ConfigError(f"the metadata store knows no pushed version {version}", "`adclick status` lists them.")
        executions = self._behind(pushed.id)
        outputs: dict[str, list[Any]] = {}
        settings: dict[str, dict[str, Any]] = {}
        for execution in executions:
            node = node_of(self._store, execution.id)
            settings[node] = _parameters(execution)
            for key, artifacts in outputs_of(self._store, execution.id).items():
                outputs[f"{node}.{key}"] = artifacts
        months = [
            self._month(settings[name.partition(".")[0]], artifacts[0], outputs)
            for name, artifacts in outputs.items()
            if name.startswith("AdExampleGen-") and name.endswith(".examples")
        ]
        model = outputs["ClickTrainer.model"][0]
        baseline = settings.get("BaselineModel", {}).get("pushed_version")
        return Lineage(
            version=version,
            pushed_to=pushed.custom_properties["pushed_destination"].string_value,
            model=model.uri,
            code_version=model.custom_properties[CODE_VERSION].string_value,
            runs=self._runs(pushed.id),
            months=sorted(months, key=lambda month: month.span),
            settings=dict(sorted(settings.items())),
            evaluation=evaluation_records(outputs["Evaluator.evaluation"][0].uri),
            blessings={
                name.partition(".")[0]: artifacts[0].custom_properties[_BLESSED].int_value == 1
                for name, artifacts in sorted(outputs.items())
                if name.endswith(".blessing")
            },
            baseline=baseline,
            artifacts={
                name: [f"{artifact.id} {artifact.uri}" for artifact in artifacts]
                for name, artifacts in sorted(outputs.items())
            },
        )

    def _month(self, settings: dict[str, Any], examples: Any, outputs: dict[str, list[Any]]) -> MonthLineage:
        creatives = next(
            artifact
            for name, artifacts in outputs.items()
            for artifact in artifacts
            if name.startswith("AdExampleGen-")
            and name.endswith(".creatives")
            and artifact.properties["span"].int_value == examples.properties["span"].int_value
        )
        return MonthLineage(
            span=examples.properties["span"].int_value,
            version=examples.properties["version"].int_value,
            drop=settings["drop_uri"],
            fingerprint=settings["fingerprint"],
            examples=examples.uri,
            creatives=creatives.uri,
            code_version=examples.custom_properties[CODE_VERSION].string_value,
            files=_drop_files(examples.uri),
        )

    def _behind(self, artifact_id: int) -> list[Any]:
        """The executions that an artifact depends on, each once; those whose results were reused are left out."""
        found: dict[int, Any] = {}
        wanted = {artifact_id}
        while wanted:
            events = self._store.get_events_by_artifact_ids(sorted(wanted))
            makers = {event.execution_id for event in events if event.type == metadata_store_pb2.Event.OUTPUT}
            made = [
                execution
                for execution in self._store.get_executions_by_id(sorted(makers - set(found)))
                if execution.last_known_state == metadata_store_pb2.Execution.COMPLETE
            ]
            found |= {execution.id: execution for execution in made}
            read = self._store.get_events_by_execution_ids([execution.id for execution in made]) if made else []
            wanted = {event.artifact_id for event in read if event.type == metadata_store_pb2.Event.INPUT}
        return list(found.values())

    def _runs(self, artifact_id: int) -> list[str]:
        events = self._store.get_events_by_artifact_ids([artifact_id])
        return sorted(
            context.name
            for execution_id in {event.execution_id for event in events}
            for context in self._store.get_contexts_by_execution(execution_id)
            if context.type == "pipeline_run"
        )


def outputs_of(store: Any, execution_id: int) -> dict[str, list[Any]]:
    """By output key, the artifacts that an execution made or reused, as the metadata store has them."""
    events = [
        event
        for event in store.get_events_by_execution_ids([execution_id])
        if event.type == metadata_store_pb2.Event.OUTPUT
    ]
    artifacts = {found.id: found for found in store.get_artifacts_by_id([event.artifact_id for event in events])}
    outputs: dict[str, list[Any]] = {}
    for event in events:
        outputs.setdefault(event.path.steps[0].key, []).append(artifacts[event.artifact_id])
    return outputs


def node_of(store: Any, execution_id: int) -> str:
    """The component that an execution is of."""
    contexts = store.get_contexts_by_execution(execution_id)
    # A node's context is called after the pipeline and the node.
    return next(str(context.name).partition(".")[2] for context in contexts if context.type == "node")


def _parameters(execution: Any) -> dict[str, Any]:
    """A component's parameters; those that are JSON are parsed."""
    found: dict[str, Any] = {}
    for name, value in sorted(execution.custom_properties.items()):
        if name.startswith("__"):
            continue
        plain = getattr(value, value.WhichOneof("value"))
        try:
            found[name] = json.loads(plain) if isinstance(plain, str) else plain
        except json.JSONDecodeError:
            found[name] = plain
    return found


def _drop_files(examples_uri: str) -> list[DropFileRecord]:
    path = filesystem.join(examples_uri, DROP_FILES)
    if not filesystem.exists(path):
        return []
    with filesystem.open_read(path) as stream:
        content = stream.read()
    return [DropFileRecord.model_validate(found) for found in json.loads(content)]


def evaluation_records(uri: str) -> list[SliceRecord]:
    """The Evaluator's metrics as they are kept; what is not defined is None."""
    return [
        SliceRecord(
            slice=found.slice,
            model=found.model,
            metrics={
                name: MetricRecord.defined(metric.value, metric.lower, metric.upper)
                for name, metric in found.metrics.items()
            },
        )
        for found in read_metrics(uri)
    ]
