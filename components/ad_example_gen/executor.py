"""The AdExampleGen executor: checks a drop's files, runs the Beam graph over them, and accounts for every row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from adclick.components.ad_example_gen.chunks import (
    DropFile,
    ReadOptions,
    first_values,
    open_drop_file,
    unknown_columns,
)
from adclick.components.ad_example_gen.copied_files import find_copies
from adclick.components.ad_example_gen.drop_files import list_drop
from adclick.components.ad_example_gen.pipeline import IngestionPlan, ingest, record_files
from adclick.components.ad_example_gen.settings import CsvSettings, IngestionSettings, SplitSettings
from adclick.components.code_version import CODE_VERSION, code_version
from adclick.components.copy_detector.row_hashes import ROW_HASHES
from adclick.components.splits import SPLITS
from adclick.schema.errors import DataRefused
from adclick.schema.feature_table import FeatureTable, parse_feature_table
from adclick.storage import filesystem

#: All counts of an ingestion, as JSON, in the quarantine artifact.
COUNTS_FILE = "ingestion.json"
#: The files of the drop that are read, with sizes and hashes, as JSON beside the splits of the examples.
DROP_FILES = "drop_files.json"
_ROWS_OF_SPLITS = tuple(f"rows_{split}" for split in SPLITS)
_REPEATED = ("rows_duplicate", "rows_conflicting", "rows_clicked_later", "rows_of_clicks")
_ROWS = ("rows_in", "rows_examples", *_ROWS_OF_SPLITS, "rows_quarantined", *_REPEATED)
_BY_NAME = (
    "quarantined_by_reason",
    "infinite_by_column",
    "creatives_by_status",
    "images_by_reading",
    "impressions_by_image_status",
    "unusable_images_by_cause",
    "conflicts_by_column",
    "rows_dated_in",
)
_SHOWN_ROWS = 3


class AdExampleGenExecutor(BaseBeamExecutor):
    """Turns a drop into examples, creatives and a quarantine."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Ingests a drop; for the properties and outputs see `AdExampleGen`.

        Raises:
            DataRefused: The drop cannot be read as the config says, or leaves one of the splits empty.
        """
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        creatives = artifact_utils.get_single_instance(output_dict["creatives"])
        quarantine = artifact_utils.get_single_instance(output_dict["quarantine"])
        drop_uri = exec_properties["drop_uri"]
        csv = CsvSettings.model_validate_json(exec_properties["csv"])
        ingestion = IngestionSettings.model_validate_json(exec_properties["ingestion"])
        split = SplitSettings.model_validate_json(exec_properties["split"])
        features = parse_feature_table(exec_properties["features"])

        listing = list_drop(drop_uri)
        paths = listing.paths
        rows_are_unique = features.identifier_name is not None or features.timestamp_name is not None
        copies = find_copies(paths, rows_are_unique=rows_are_unique)
        read = [(index, file) for index, file in enumerate(listing.files) if file.path not in copies]
        opened = [open_drop_file(file, index, csv, features) for index, file in read]
        files = [file for file in opened if file is not None]
        if not files:
            raise DataRefused(f"{drop_uri}: every file is empty", "Deliver the drop again.")
        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        split_folders = {split: artifact_utils.get_split_uri([examples], split) for split in SPLITS}
        work_folder = filesystem.join(quarantine.uri, "work")
        store = exec_properties.get("creative_store")
        is_here = _works_here(self._beam_pipeline_args)
        plan = IngestionPlan(
            options=ReadOptions(features, csv, ingestion.max_field_bytes, split_by_time=split.by == "time"),
            ingestion=ingestion,
            split=split,
            span=exec_properties["span"],
            drop_uri=drop_uri,
            image_folder=drop_uri if filesystem.isdir(drop_uri) else drop_uri.rpartition("/")[0],
            drop_bytes=sum(filesystem.size(path) for path in paths),
            split_folders=split_folders,
            creatives_folder=creatives.uri,
            quarantine_folder=quarantine.uri,
            row_hashes_folder=filesystem.join(examples.uri, ROW_HASHES),
            work_folder=work_folder,
            creative_store=store if is_here else None,
        )
        folders = [*split_folders.values(), creatives.uri, quarantine.uri, plan.row_hashes_folder]
        for folder in [*folders, work_folder]:
            filesystem.make_folder(folder)
        try:
            with self._make_beam_pipeline() as pipeline:
                ingest(pipeline, files, plan)
                record_files(pipeline, paths, filesystem.join(examples.uri, DROP_FILES))
            with filesystem.open_read(plan.counts_file) as stream:
                result = json.loads(stream.read())
        finally:
            filesystem.delete(work_folder)
        for folder in folders:
            filesystem.delete_partial(folder)

        counts = _counts(result["counts"])
        counts["ignored_csv_columns"] = _ignored_columns(files, features)
        counts["unknown_columns"] = _unknown_columns(files, features, csv, ingestion, result["counts"])
        counts["empty_files"] = len(opened) - len(files)
        root = filesystem.join(plan.image_folder, "")
        counts["copied_files"] = {
            copy.removeprefix(root): original.removeprefix(root) for copy, original in sorted(copies.items())
        }
        if store is not None and not is_here and features.image_name is not None:
            result["shown"]["creative_store"] = [f"{store}: not used: Beam's work is done by an engine"]
        counts["examples_of_trouble"] = {name: sorted(set(shown)) for name, shown in result["shown"].items()}
        for name in ("validation_from", "evaluation_from"):
            counts[name] = str(result["split_times"][name]) if result["split_times"] else ""
        with filesystem.open_write_atomic(filesystem.join(quarantine.uri, COUNTS_FILE)) as stream:
            stream.write(json.dumps({"drop_uri": drop_uri, **counts}, indent=2).encode())
        _check(counts, drop_uri, split, quarantine.uri)

        for artifact in (examples, creatives, quarantine):
            artifact.span = exec_properties["span"]
        examples.version = exec_properties["version"]
        examples.set_string_custom_property(CODE_VERSION, code_version())
        examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        for name, value in counts.items():
            if isinstance(value, int):
                examples.set_int_custom_property(name, value)
            else:
                examples.set_string_custom_property(name, value if isinstance(value, str) else json.dumps(value))


def _works_here(beam_arguments: Sequence[str]) -> bool:
    """Whether Beam's work is done by processes of this machine, which may share a database."""
    runner = PipelineOptions(list(beam_arguments)).view_as(StandardOptions).runner
    return runner is None or runner.rpartition(".")[2] in ("FnApiRunner", "DirectRunner")


def _counts(found: Mapping[str, int]) -> dict[str, Any]:
    counts: dict[str, Any] = {name: found.get(name, 0) for name in _ROWS}
    counts["rows_examples"] = sum(counts[name] for name in _ROWS_OF_SPLITS)
    for group in _BY_NAME:
        counts[group] = {
            name.removeprefix(f"{group}/"): count
            for name, count in sorted(found.items())
            if name.startswith(f"{group}/")
        }
    return counts


def _ignored_columns(files: list[DropFile], features: FeatureTable) -> dict[str, int]:
    """CSV columns that are not read, with the number of files that have them."""
    used = {features.source_of(name) for name in features.used}
    return dict(sorted(Counter(field for file in files for field in file.fields if field not in used).items()))


def _unknown_columns(
    files: list[DropFile],
    features: FeatureTable,
    csv: CsvSettings,
    ingestion: IngestionSettings,
    counts: dict[str, int],
) -> dict[str, dict[str, Any]]:
    """By CSV column that is not declared, in how many rows it holds a value, and its first values."""
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        sources = [source for source in unknown_columns(file, features) if source not in found]
        for source, values in zip(
            sources, first_values(file, sources, csv, ingestion.max_field_bytes) if sources else [], strict=True
        ):
            found[source] = {"filled": counts.get(f"filled_by_unknown_column/{source}", 0), "values": values}
    return dict(sorted(found.items()))


def _check(counts: Mapping[str, Any], drop_uri: str, split: SplitSettings, quarantine_uri: str) -> None:
    """Refuses a drop that leaves one split empty; fails if a row is not accounted for."""
    accounted = counts["rows_examples"] + counts["rows_quarantined"] + counts["rows_duplicate"]
    if accounted != counts["rows_in"]:
        raise RuntimeError(f"{drop_uri}: {counts['rows_in']:,} rows were read and {accounted:,} accounted for")
    if all(counts[name] for name in _ROWS_OF_SPLITS):
        return
    if not counts["rows_in"]:
        raise DataRefused(f"{drop_uri}: no file has a row", "Deliver the drop again.")
    if not counts["rows_examples"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts["quarantined_by_reason"].items())
        raise DataRefused(
            f"{drop_uri}: not one of {counts['rows_in']:,} rows can be used: {reasons}\n{_first_rows(quarantine_uri)}",
            "Correct the config (csv.delimiter, csv.header, the roles of the columns) or the drop.",
        )
    rows = f"{counts['rows_examples']:,} row{'' if counts['rows_examples'] == 1 else 's'}"
    if split.by == "time" and not counts["evaluation_from"]:
        raise DataRefused(
            f"{drop_uri}: the {rows} lie within fewer than {len(SPLITS)} minutes: they cannot be parted by time into "
            "training, validation and evaluation",
            "Set split.by to hash in the config, or deliver rows of a longer time.",
        )
    raise DataRefused(
        f"{drop_uri}: of {rows} {counts['rows_train']:,} are to train on, {counts['rows_validation']:,} to validate on "
        f"and {counts['rows_eval']:,} to evaluate on: each part needs rows",
        "Deliver more rows, or change split.validation_share, split.eval_share"
        f"{' or split.column' if split.by == 'hash' else ''} in the config.",
    )


def _first_rows(quarantine_uri: str) -> str:
    """The first quarantined rows, for a message."""
    lines: list[str] = []
    for path in filesystem.list_files(quarantine_uri, ["quarantine-*.jsonl"]):
        with filesystem.open_read(path) as stream:
            for line in stream:
                row = json.loads(line)
                lines.append(f"{row['file']}:{row['line']}: {row['reason']} {row['field']} {row['value'][:80]!r}")
                if len(lines) == _SHOWN_ROWS:
                    return "\n".join(lines)
    return "\n".join(lines)
