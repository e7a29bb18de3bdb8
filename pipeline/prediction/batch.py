"""`adclick batch-predict`: scores a drop with the served model."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import apache_beam as beam
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions

from adclick.components.ad_example_gen.chunks import ReadOptions, open_drop_file
from adclick.components.ad_example_gen.drop_files import list_drop
from adclick.components.ad_example_gen.drop_names import PassedOver
from adclick.components.batch_prediction import (
    Form,
    PredictionCounts,
    PredictionPlan,
    predict_drop,
    read_counts,
    suffix,
    table_writer,
)
from adclick.components.data_gate.limits import quarantine_refusal
from adclick.models.description import read_description
from adclick.pipeline.config.settings import Config, load_config
from adclick.pipeline.drops import Drop, find_drops, find_passed_over
from adclick.pipeline.runs.beam_runner import LOCAL_BEAM_ARGUMENTS
from adclick.schema.errors import ConfigError, DataRefused
from adclick.storage import filesystem
from adclick.storage.local_copy import local_copy
from adclick.storage.push_directory import whole_versions

#: In a folder of predictions, what was scored by which version; written last.
SUMMARY_FILE = "summary.json"
_SHARDS = "predictions-*"


@dataclass(frozen=True)
class BatchPrediction:
    """A finished batch prediction.

    Attributes:
        drop: The drop, such as 2026-10.
        model_version: The version that scored it.
        output: The folder or file of predictions.
        quarantine: The folder of quarantined rows; empty if there is none.
        passed_over: What of the data root was not read.
        counts: What became of the rows.
        seconds: From the model's choice to the last file.
    """

    drop: str
    model_version: int
    output: str
    quarantine: str
    counts: PredictionCounts
    seconds: float
    passed_over: PassedOver = field(default_factory=PassedOver)

    def describe(self) -> str:
        """For people."""
        counts = self.counts
        lines = [
            f"{self.drop}: {counts.rows_scored:,} of {counts.rows_in:,} rows scored by version {self.model_version} in "
            f"{self.seconds:.1f} s ({counts.rows_scored / self.seconds:,.0f} rows/s)",
            f"Mean click probability: {counts.mean_probability:.5f}",
            f"Predictions: {self.output}",
        ]
        if counts.creatives_by_status:
            lines.insert(2, f"Images: {_listed(counts.creatives_by_status)}")
        if self.quarantine:
            lines.append(
                f"Quarantined: {counts.rows_quarantined:,} rows ({_listed(counts.quarantined_by_reason)}): "
                f"{self.quarantine}"
            )
        return "\n".join([*lines, *self.passed_over.describe()])

    def to_json(self) -> str:
        """For programs."""
        return json.dumps(asdict(self), indent=1)


def _listed(counts: object) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in dict(counts).items())  # type: ignore[call-overload]


def run_batch_predict(
    config: Path,
    *,
    output: str,
    data: str | None = None,
    month: str | None = None,
    version: int | None = None,
    form: Form | None = None,
    gzip: bool = False,
    force: bool = False,
    beam_arguments: Sequence[str] = LOCAL_BEAM_ARGUMENTS,
) -> BatchPrediction:
    """Scores a drop; what it cannot score is quarantined as in ingestion. The label is not needed.

    Predictions and quarantine are written beside their places and renamed when they are whole.

    Args:
        config: The config file.
        output: A folder for shards, or, by the ending .parquet, .csv or .csv.gz, one file.
        data: Replaces `data.root`.
        month: The drop; the newest if None.
        version: The pushed version to score with; the newest if None.
        form: Parquet or CSV; by the output's ending, or Parquet, if None.
        gzip: Whether to compress with gzip.
        force: Whether to replace an output that is there.
        beam_arguments: Beam's options.

    Raises:
        ConfigError: The output is there already, or there is no such drop or version.
        DataRefused: The drop cannot be read, or more of its rows are quarantined than the config allows; then the
            quarantine is written, and no prediction.
    """
    started = time.monotonic()
    settings = load_config(config, data_root=data)
    path, chosen, is_file, gzip = _output(output, form, gzip)
    if filesystem.exists(path) and not force:
        raise ConfigError(f"{path} exists", "Give another --output, or --force to replace it.")
    served, folder = _version(settings, version)
    drop = find_drops(settings.data.root, 1, month)[-1]
    quarantine = f"{path.removesuffix('.gz').removesuffix('.csv').removesuffix('.parquet')}-quarantine"
    partial = f"{path}.{uuid.uuid4().hex}.partial"
    plan = _plan(settings, drop, folder, served, "parquet" if is_file else chosen, gzip and not is_file, partial)
    try:
        counts = _predict(plan, settings, drop, beam_arguments)
        has_quarantine = counts.rows_quarantined > 0
        _put(plan.quarantine_folder if has_quarantine else None, quarantine)
        refusal = quarantine_refusal(
            counts.quarantined_by_reason, counts.rows_in, settings.ingestion.max_quarantine_share
        )
        if refusal or not counts.rows_scored:
            raise DataRefused(
                f"{drop.name}: {refusal or 'not one row can be scored'}",
                f"The quarantined rows are in {quarantine}. Correct the drop, or the config's limits.",
            )
        if is_file:
            merged = filesystem.join(partial, f"merged{suffix(chosen, gzip)}")
            _merge(plan.output_folder, merged, chosen, gzip)
        result = BatchPrediction(
            drop.name,
            served,
            path,
            quarantine if has_quarantine else "",
            counts,
            time.monotonic() - started,
            find_passed_over(settings.data.root, [drop]),
        )
        if not is_file:
            with filesystem.open_write_atomic(filesystem.join(plan.output_folder, SUMMARY_FILE)) as stream:
                stream.write(result.to_json().encode())
        _put(merged if is_file else plan.output_folder, path)
    finally:
        filesystem.delete(partial)
    return result


def _output(output: str, form: Form | None, gzip: bool) -> tuple[str, Form, bool, bool]:
    """The absolute output, the form of it, whether it is one file, and whether it is compressed with gzip."""
    path = output if "://" in output else os.path.abspath(output)
    endings: dict[str, Form] = {".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv"}
    ending = next((one for one in endings if path.endswith(one)), None)
    if ending is None:
        return path, form or "parquet", False, gzip
    if form not in (None, endings[ending]) or (gzip and ending == ".csv"):
        wanted = suffix(form or "csv", gzip)
        raise ConfigError(f"--output {output} is to end in {wanted}", "Leave --format out, or name a folder.")
    return path, endings[ending], True, gzip or ending == ".csv.gz"


def _version(config: Config, wanted: int | None) -> tuple[int, str]:
    base = config.push_base
    versions = whole_versions(base)
    if not versions:
        raise ConfigError(f"{base}: holds no pushed version", "Run `adclick run` first.")
    if wanted is not None and wanted not in versions:
        raise ConfigError(f"{base}: holds no version {wanted}", f"There are {', '.join(map(str, versions))}.")
    version = versions[-1] if wanted is None else wanted
    return version, local_copy(os.path.join(base, str(version)))


def _plan(
    config: Config, drop: Drop, model_folder: str, version: int, form: Form, gzip: bool, folder: str
) -> PredictionPlan:
    # The model's own columns: the config may have changed since it was trained.
    features = read_description(model_folder).features
    by_time = config.split.by == "time" and features.timestamp_name is not None
    return PredictionPlan(
        options=ReadOptions(
            features, config.csv, config.ingestion.max_field_bytes, split_by_time=by_time, labelled=False
        ),
        ingestion=config.ingestion,
        model_folder=model_folder,
        model_version=version,
        form=form,
        gzip=gzip,
        image_folder=drop.uri if filesystem.isdir(drop.uri) else drop.uri.rpartition("/")[0],
        drop_bytes=sum(filesystem.size(file) for file in list_drop(drop.uri).paths),
        output_folder=filesystem.join(folder, "predictions"),
        quarantine_folder=filesystem.join(folder, "quarantine"),
        work_folder=filesystem.join(folder, "work"),
    )


def _predict(plan: PredictionPlan, config: Config, drop: Drop, beam_arguments: Sequence[str]) -> PredictionCounts:
    opened = [
        open_drop_file(file, index, config.csv, plan.features, labelled=False)
        for index, file in enumerate(list_drop(drop.uri).files)
    ]
    files = [file for file in opened if file is not None]
    if not files:
        raise DataRefused(f"{drop.uri}: every file is empty", "Deliver the drop again.")
    for folder in (plan.output_folder, plan.quarantine_folder, plan.work_folder):
        filesystem.make_folder(folder)
    with beam.Pipeline(options=PipelineOptions(list(beam_arguments))) as pipeline:
        predict_drop(pipeline, files, plan)
    for folder in (plan.output_folder, plan.quarantine_folder):
        filesystem.delete_partial(folder)
    return read_counts(plan)


def _merge(shards: str, path: str, form: Form, gzip: bool) -> None:
    """Makes one file of all shards, in their order, a shard at a time."""
    with filesystem.open_write_atomic(path) as stream, table_writer(stream, form, gzip) as writer:
        for shard in filesystem.list_files(shards, [_SHARDS]):
            with filesystem.open_read(shard) as source:
                writer.write_table(pq.read_table(source))


def _put(source: str | None, target: str) -> None:
    """Puts a file or folder in its place, or, without one, leaves nothing there; what was there before goes."""
    replaced = f"{target}.{uuid.uuid4().hex}.partial"
    if filesystem.exists(target):
        filesystem.rename(target, replaced)
    if source is not None:
        filesystem.rename(source, target)
    filesystem.delete(replaced)
