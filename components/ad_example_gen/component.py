"""The AdExampleGen component."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import executor_spec
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from adclick.components.ad_example_gen.executor import AdExampleGenExecutor
from adclick.components.artifacts import Creatives, Quarantine


class AdExampleGenSpec(ComponentSpec):
    """Outputs and parameters of AdExampleGen; it has no inputs."""

    PARAMETERS = {
        "drop_uri": ExecutionParameter(type=str),
        "span": ExecutionParameter(type=int),
        "version": ExecutionParameter(type=int),
        "fingerprint": ExecutionParameter(type=str),
        "features": ExecutionParameter(type=str),
        "csv": ExecutionParameter(type=str),
        "ingestion": ExecutionParameter(type=str),
        "split": ExecutionParameter(type=str),
        "creative_store": ExecutionParameter(type=str, optional=True),
    }
    INPUTS: dict[str, ChannelParameter] = {}
    OUTPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "creatives": ChannelParameter(type=Creatives),
        "quarantine": ChannelParameter(type=Quarantine),
    }


class AdExampleGen(BaseBeamComponent):
    """Turns a month's drop, rows and the images that they name, into examples for training.

    Outputs:
        examples: `standard_artifacts.Examples`, `tf.Example` records in the splits `train`, `validation` and `eval`.
            Its custom properties count the rows: `rows_in` = `rows_examples` + `rows_quarantined` + `rows_duplicate`,
            and `rows_examples` = `rows_train` + `rows_validation` + `rows_eval`; of the duplicates `rows_conflicting`
            contradict the row that is kept of their identifier, `rows_of_clicks` give the time of its click, and
            `rows_clicked_later` examples are clicked as a duplicate says; as JSON `quarantined_by_reason`,
            `infinite_by_column` (numbers that float32 does not hold), `creatives_by_status` (image addresses),
            `images_by_reading` (image addresses by how they were had, see `creative_store`),
            `impressions_by_image_status`, `unusable_images_by_cause` (addresses), `conflicts_by_column` (of those
            looked at),
            `ignored_csv_columns` (files that have the column), `unknown_columns` (of those that the
            feature table does not declare, the rows filled and the first values), `examples_of_trouble` (some of each
            kind), `rows_dated_in` (rows outside the month, by month), `copied_files` (not read, as they are another
            once more); `empty_files`; `validation_from` and `evaluation_from`, the first seconds of these splits, empty
            if the split is by hash; and `code_version`. `drop_files.json` beside the splits names each file with
            its size and SHA-256, `row_hashes` what tells each example again.
        creatives: The distinct images, see `models.creatives`; beside them the states of those outside the drop's
            folder, see `outside_images`.
        quarantine: The rows that could not be used, as JSON lines, and the counts as `ingestion.json`.
    """

    SPEC_CLASS = AdExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(AdExampleGenExecutor)

    def __init__(
        self,
        *,
        drop_uri: str,
        span: int,
        version: int,
        fingerprint: str,
        features: str,
        csv: str,
        ingestion: str,
        split: str,
        creative_store: str | None = None,
    ) -> None:
        """Declares the component.

        Args:
            drop_uri: The folder of files, or one file.
            span: The month as a number, such as 202610; 0 for an unnamed drop.
            version: The delivery of the month, from 1; a month that is delivered again gets the next.
            fingerprint: `drop_files.drop_fingerprint(drop_uri)`; a drop whose fingerprint is known is not read again.
            features: The feature table's JSON.
            csv: `CsvSettings` as JSON.
            ingestion: `IngestionSettings` as JSON.
            split: `SplitSettings` as JSON.
            creative_store: Where creatives are kept from month to month, see `creative_store`; None to decode all.
        """
        super().__init__(
            spec=AdExampleGenSpec(
                drop_uri=drop_uri,
                span=span,
                version=version,
                fingerprint=fingerprint,
                features=features,
                csv=csv,
                ingestion=ingestion,
                split=split,
                creative_store=creative_store,
                examples=types.Channel(type=standard_artifacts.Examples),
                creatives=types.Channel(type=Creatives),
                quarantine=types.Channel(type=Quarantine),
            )
        )
