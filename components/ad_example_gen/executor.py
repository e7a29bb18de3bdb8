"""The AdExampleGen executor: checks a drop's files, runs the Beam graph over them, and accounts for every row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from components import filesystem
from components.ad_example_gen.chunks import DropFile, ReadOptions, open_drop_file
from components.ad_example_gen.drop_files import list_csv_files
from components.ad_example_gen.pipeline import IngestionPlan, ingest, record_files
from components.ad_example_gen.settings import CsvSettings, IngestionSettings, SplitSettings
from components.code_version import CODE_VERSION, code_version
from schema.errors import DataRefused
from schema.feature_table import FeatureTable, parse_feature_table

#: All counts of an ingestion, as JSON, in the quarantine artifact.
COUNTS_FILE = "ingestion.json"
#: The CSV files of the drop, with sizes and hashes, as JSON beside the splits of the examples.
DROP_FILES = "drop_files.json"
SPLITS = ["train", "eval"]
_ROWS = ("rows_in", "rows_examples", "rows_train", "rows_eval", "rows_quarantined", "rows_duplicate")
_BY_NAME = ("quarantined_by_reason", "creatives_by_status", "impressions_by_image_status")
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
            DataRefused: The drop cannot be read as the config says, or leaves nothing to train on or to evaluate on.
        """
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        creatives = artifact_utils.get_single_instance(output_dict["creatives"])
        quarantine = artifact_utils.get_single_instance(output_dict["quarantine"])
        drop_uri = exec_properties["drop_uri"]
        csv = CsvSettings.model_validate_json(exec_properties["csv"])
        ingestion = IngestionSettings.model_validate_json(exec_properties["ingestion"])
        split = SplitSettings.model_validate_json(exec_properties["split"])
        features = parse_feature_table(exec_properties["features"])

        paths = list_csv_files(drop_uri)
        opened = [open_drop_file(path, index, csv, features) for index, path in enumerate(paths)]
        files = [file for file in opened if file is not None]
        if not files:
            raise DataRefused(f"{drop_uri}: every CSV file is empty", "Deliver the drop again.")
        examples.split_names = artifact_utils.encode_split_names(SPLITS)
        split_folders = [artifact_utils.get_split_uri([examples], name) for name in SPLITS]
        work_folder = filesystem.join(quarantine.uri, "work")
        plan = IngestionPlan(
            options=ReadOptions(features, csv, ingestion.max_field_bytes, split_by_time=split.by == "time"),
            ingestion=ingestion,
            split=split,
            image_folder=drop_uri if filesystem.isdir(drop_uri) else drop_uri.rpartition("/")[0],
            drop_bytes=sum(filesystem.size(path) for path in paths),
            train_folder=split_folders[0],
            eval_folder=split_folders[1],
            creatives_folder=creatives.uri,
            quarantine_folder=quarantine.uri,
            work_folder=work_folder,
        )
        folders = [*split_folders, creatives.uri, quarantine.uri]
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
        counts["empty_files"] = len(paths) - len(files)
        counts["eval_from"] = "" if result["eval_from"] is None else str(result["eval_from"])
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


def _counts(found: Mapping[str, int]) -> dict[str, Any]:
    counts: dict[str, Any] = {name: found.get(name, 0) for name in _ROWS}
    counts["rows_examples"] = counts["rows_train"] + counts["rows_eval"]
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


def _check(counts: Mapping[str, Any], drop_uri: str, split: SplitSettings, quarantine_uri: str) -> None:
    """Refuses a drop that leaves one split empty; fails if a row is not accounted for."""
    accounted = counts["rows_examples"] + counts["rows_quarantined"] + counts["rows_duplicate"]
    if accounted != counts["rows_in"]:
        raise RuntimeError(f"{drop_uri}: {counts['rows_in']:,} rows were read and {accounted:,} accounted for")
    if counts["rows_train"] and counts["rows_eval"]:
        return
    if not counts["rows_in"]:
        raise DataRefused(f"{drop_uri}: no CSV file has a row", "Deliver the drop again.")
    if not counts["rows_examples"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts["quarantined_by_reason"].items())
        raise DataRefused(
            f"{drop_uri}: not one of {counts['rows_in']:,} rows can be used: {reasons}\n{_first_rows(quarantine_uri)}",
            "Correct the config (csv.delimiter, csv.header, the roles of the columns) or the drop.",
        )
    rows = f"{drop_uri}: of {counts['rows_examples']:,} rows"
    if split.by == "time":
        raise DataRefused(
            f"{rows} all lie within one minute: they cannot be split by time",
            "Set split.by to hash in the config.",
        )
    raise DataRefused(
        f"{rows} {counts['rows_train']:,} are to train on and {counts['rows_eval']:,} to evaluate on",
        "Deliver more rows, or change split.eval_share or split.column in the config.",
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
