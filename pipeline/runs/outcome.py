"""What came of a run, from its artifacts: the same for a local run and for one on a platform."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tfx import types

from adclick.components.copy_detector.component import read_copies
from adclick.components.data_gate.component import read_ingestion_counts
from adclick.components.data_gate.limits import notes
from adclick.components.drift_detector.component import DRIFT_FILE
from adclick.components.drift_detector.distances import read_drift
from adclick.components.model_gate.component import refusal_reasons
from adclick.models.evaluation import read_undecided
from adclick.pipeline.drops import Drop
from adclick.pipeline.runs.lineage import evaluation_records
from adclick.pipeline.runs.record import CopiesRecord, DropRecord, RunRecord, UnknownColumn
from adclick.storage import filesystem
from adclick.storage.model_versions import ModelVersions, RollBack


def fill_record(record: RunRecord, outputs: Mapping[str, Sequence[types.Artifact]], drops: Sequence[Drop]) -> None:
    """Fills a record with what a run's artifacts say, and sets its state where it pushed.

    Args:
        record: The record, whose state says how the run ended.
        outputs: By `component.output`, the artifacts.
        drops: The months that were taken, the oldest first.
    """
    record.artifacts = {key: [artifact.uri for artifact in artifacts] for key, artifacts in sorted(outputs.items())}
    for drop in drops:
        examples = outputs.get(f"AdExampleGen-{drop.name}.examples")
        if examples:
            quarantine = outputs[f"AdExampleGen-{drop.name}.quarantine"][0].uri
            record.drops.append(_drop_record(drop, examples[0], quarantine))
    for artifact in outputs.get("CopyDetector.copies", []):
        copies = read_copies(artifact.uri)
        record.copies = CopiesRecord(
            held_out_rows=copies.held_out_rows,
            held_out_in_training=copies.held_out_in_training,
            held_out_equal=copies.held_out_equal,
            notes=copies.describe(),
        )
    for artifact in outputs.get("DriftDetector.drift", []):
        with filesystem.open_read(filesystem.join(artifact.uri, DRIFT_FILE)) as stream:
            report = read_drift(stream.read())
        record.drift = [f"{report.month}: {found.describe()}" for found in report.beyond]
    evaluation = outputs.get("Evaluator.evaluation")
    if not evaluation or record.state not in ("model_refused", "pushed"):
        return
    uri = evaluation[0].uri
    record.evaluation_uri = uri
    record.evaluation = evaluation_records(uri)
    record.reasons = refusal_reasons(uri, outputs["ServingValidator.blessing"][0])
    record.undecided = read_undecided(uri)
    pushed = outputs["ModelPusher.pushed_model"][0]
    if pushed.get_int_custom_property("pushed") == 1:
        record.state = "pushed"
        record.pushed_version = int(pushed.get_string_custom_property("pushed_version"))


def _drop_record(drop: Drop, examples: types.Artifact, quarantine_uri: str) -> DropRecord:
    def counts(name: str) -> dict[str, Any]:
        return json.loads(examples.get_string_custom_property(name) or "{}")

    rows_in = examples.get_int_custom_property("rows_in")
    return DropRecord(
        name=drop.name,
        uri=drop.uri,
        rows_in=rows_in,
        rows_examples=examples.get_int_custom_property("rows_examples"),
        rows_train=examples.get_int_custom_property("rows_train"),
        rows_validation=examples.get_int_custom_property("rows_validation"),
        rows_eval=examples.get_int_custom_property("rows_eval"),
        rows_quarantined=examples.get_int_custom_property("rows_quarantined"),
        rows_duplicate=examples.get_int_custom_property("rows_duplicate"),
        quarantined_by_reason=counts("quarantined_by_reason"),
        creatives_by_status=counts("creatives_by_status"),
        images_by_reading=counts("images_by_reading"),
        quarantine_uri=quarantine_uri,
        notes=notes(read_ingestion_counts(examples)),
        unknown_columns={
            name: UnknownColumn(share_filled=found["filled"] / max(rows_in, 1), values=found["values"])
            for name, found in counts("unknown_columns").items()
        },
    )


def find_held(record: RunRecord, versions: ModelVersions) -> None:
    """Says so where the blessed version is not among those that servers see."""
    version = record.pushed_version
    if version in versions.served:
        return
    record.state = "held"
    if version in versions.withdrawn:
        rollback = next(found for found in reversed(versions.rollbacks) if version in found.withdrawn)
        record.reasons = [f"version {version} was withdrawn by the roll-back of {_when(rollback)}"]
    elif (hold := versions.hold) is not None and version in versions.held:
        record.reasons = [f"version {version} is held back by the roll-back of {_when(hold)}"]
    else:
        record.reasons = [f"version {version}, which an earlier run pushed from the same input, has been removed since"]


def _when(rollback: RollBack) -> str:
    return f"{rollback.time:%Y-%m-%d %H:%M} UTC to version {rollback.served}: {rollback.reason}"
