"""The CopyDetector component."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from typing import Any

import numpy as np
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import io_utils

from adclick.components.ad_example_gen.executor import DROP_FILES
from adclick.components.artifacts import Copies
from adclick.components.copy_detector.copies import Part, common, copied_rows, copies_between_files, splits_in
from adclick.components.copy_detector.report import CopyReport, SameFile, SharedRows
from adclick.components.copy_detector.row_hashes import ROW_HASHES, RowHashes, read_row_hashes
from adclick.components.month_inputs import takes_months
from adclick.components.splits import EVALUATION, SPLITS, TRAIN, VALIDATION
from adclick.storage import filesystem

COPIES_FILE = "copies.json"

#: Of each month, about so many rows are compared at most; bounds memory and time.
_MOST_ROWS = 1_000_000
_TRAIN = (SPLITS.index(TRAIN),)
_HELD_OUT = (SPLITS.index(VALIDATION), SPLITS.index(EVALUATION))
#: Smaller files may be equal by chance, as those without a row.
_LEAST_BYTES = 1_024


class CopyDetectorSpec(ComponentSpec):  # type: ignore[misc]
    """Inputs, outputs and parameters of CopyDetector."""

    PARAMETERS = {
        "month": ExecutionParameter(type=str),
        "compared_with": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "earlier_examples": ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }
    OUTPUTS = {"copies": ChannelParameter(type=Copies)}


class CopyDetectorExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Compares hashes of rows and of files."""

    @takes_months
    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        newest = artifact_utils.get_single_instance(input_dict["examples"])
        earlier = sorted(input_dict.get("earlier_examples", []), key=lambda artifact: artifact.span)
        copies = artifact_utils.get_single_instance(output_dict["copies"])
        copies.span = newest.span
        names = json.loads(exec_properties["compared_with"])
        report = find_copies(exec_properties["month"], newest, dict(zip(names, earlier, strict=True)))
        io_utils.write_string_file(f"{copies.uri}/{COPIES_FILE}", report.model_dump_json(indent=1))


def find_copies(month: str, newest: types.Artifact, earlier: dict[str, types.Artifact]) -> CopyReport:
    """Looks for the rows and files of a month in the months before it, and in itself.

    Args:
        month: How the newest month is called.
        newest: Its examples.
        earlier: Those of the others by name, the oldest first.
    """
    largest = max(artifact.get_int_custom_property("rows_examples") for artifact in (newest, *earlier.values()))
    share = min(1.0, _MOST_ROWS / max(largest, 1))

    def scaled(rows: float) -> int:
        return round(rows / share)

    rows = read_row_hashes(filesystem.join(newest.uri, ROW_HASHES), share)
    training = [Part.of(rows, splits_in(rows, _TRAIN))]
    held_out = splits_in(rows, _HELD_OUT)
    leaked = np.zeros(len(rows.identifier_splits), np.bool_)
    shared: list[SharedRows] = []
    for name, artifact in earlier.items():
        others = read_row_hashes(filesystem.join(artifact.uri, ROW_HASHES), share)
        by_identifier = 0
        if rows.identifiers is not None and others.identifiers is not None:
            found = common(rows.identifiers, others.identifiers)
            leaked |= found
            by_identifier = int(found.sum())
        if by_identifier:
            shared.append(SharedRows(where=name, rows=scaled(by_identifier), by="identifier"))
        by_columns = copied_rows(Part.of(rows), Part.of(others))
        if by_columns > by_identifier:
            shared.append(SharedRows(where=name, rows=scaled(by_columns), by="columns"))
        training.append(Part.of(others))
    if rows.identifiers is None:
        shared += _shared_by_files(newest, rows, scaled)
    taught = np.concatenate([part.contents for part in training])
    judged = Part.of(rows, held_out)
    by_identifier = int((leaked & np.isin(rows.identifier_splits, _HELD_OUT)).sum())
    # Month by month: what months share among each other says nothing of chance.
    by_columns = min(sum(copied_rows(judged, part) for part in training), len(judged.contents))
    return CopyReport(
        month=month,
        compared_with=tuple(earlier),
        sampled_share=share,
        rows=newest.get_int_custom_property("rows_examples"),
        held_out_rows=sum(newest.get_int_custom_property(f"rows_{SPLITS[number]}") for number in _HELD_OUT),
        held_out_in_training=scaled(max(by_identifier, by_columns)),
        held_out_equal=scaled(int(common(judged.contents, taught).sum())),
        shared=tuple(shared),
        same_files=tuple(_same_files(newest, earlier)),
    )


def _shared_by_files(newest: types.Artifact, rows: RowHashes, scaled: Any) -> list[SharedRows]:
    """Rows that two files of the newest month share."""
    copies = copies_between_files(rows)
    if not copies:
        return []
    names = _names(_drop_files(newest))
    return [
        SharedRows(where=f"both {names[one]} and {names[other]}", rows=scaled(copied), by="columns")
        for (one, other), copied in copies.items()
    ]


def _same_files(newest: types.Artifact, earlier: dict[str, types.Artifact]) -> list[SameFile]:
    files = _drop_files(newest)
    total = sum(file["bytes"] for file in files)
    known: dict[str, tuple[str, str]] = {}
    for month, artifact in earlier.items():
        others = _drop_files(artifact)
        known |= {file["sha256"]: (month, name) for file, name in zip(others, _names(others), strict=True)}
    found = []
    for file, name in zip(files, _names(files), strict=True):
        if file["bytes"] >= _LEAST_BYTES and file["sha256"] in known:
            month, other = known[file["sha256"]]
            found.append(SameFile(file=name, month=month, other=other, share=file["bytes"] / total))
    return found


def _names(files: list[dict[str, Any]]) -> list[str]:
    """The files' addresses relative to the folder that holds them all."""
    paths = [str(file["path"]) for file in files]
    folders = [path.rpartition("/")[0] for path in paths]
    shared = posixpath.commonprefix([folder + "/" for folder in folders])
    folder = shared[: shared.rfind("/") + 1]
    return [path.removeprefix(folder) for path in paths]


def _drop_files(examples: types.Artifact) -> list[dict[str, Any]]:
    """The files of a drop in the order in which they were read."""
    with filesystem.open_read(filesystem.join(examples.uri, DROP_FILES)) as stream:
        found: list[dict[str, Any]] = json.loads(stream.read())
    return found


def read_copies(uri: str) -> CopyReport:
    """The report of a `Copies` artifact."""
    with filesystem.open_read(filesystem.join(uri, COPIES_FILE)) as stream:
        return CopyReport.model_validate_json(stream.read())


class CopyDetector(base_component.BaseComponent):  # type: ignore[misc]
    """Finds rows of the newest month that stand in an earlier month of the window, in two of its files, or in training.

    A row that is held out and trained on makes the evaluation flatter the model. DataGate stops the run where there are
    too many.
    """

    SPEC_CLASS = CopyDetectorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(CopyDetectorExecutor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        earlier_examples: types.BaseChannel | None = None,
        month: str,
        compared_with: Sequence[str],
    ) -> None:
        """Declares the component.

        Args:
            examples: Of the newest month.
            earlier_examples: Of the other months of the window; None if there is none.
            month: How the newest month is called.
            compared_with: How the others are called, the oldest first.
        """
        super().__init__(
            spec=CopyDetectorSpec(
                examples=examples,
                earlier_examples=earlier_examples,
                month=month,
                compared_with=json.dumps(list(compared_with)),
                copies=types.Channel(type=Copies),
            )
        )
