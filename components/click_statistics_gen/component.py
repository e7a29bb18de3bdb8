"""The ClickStatisticsGen component."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.components.statistics_gen.executor import DEFAULT_FILE_NAME
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from adclick.components.artifacts import FeatureAnalysis
from adclick.components.example_files import example_decoder, read_schema, record_batches, split_files
from adclick.models.analysis import Analysis, Analyzer, merge, write_analysis
from adclick.schema.feature_table import FeatureTable, parse_feature_table
from adclick.storage import filesystem

#: The accumulators of TFDV's generators, and the analysis, of some of a split's rows.
_Part = tuple[list[Any], Analysis]


class ClickStatisticsGenSpec(ComponentSpec):  # type: ignore[misc]
    """Inputs, outputs and parameters of ClickStatisticsGen."""

    PARAMETERS = {"features": ExecutionParameter(type=str)}
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "schema": ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {
        "statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "analysis": ChannelParameter(type=FeatureAnalysis),
    }


class ClickStatisticsGenExecutor(BaseBeamExecutor):
    """Reads each split once, in batches, and gives them to TFDV's own generators and to our analyzer."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        statistics = artifact_utils.get_single_instance(output_dict["statistics"])
        analysis = artifact_utils.get_single_instance(output_dict["analysis"])
        for artifact in (statistics, analysis):
            artifact.split_names = examples.split_names
            artifact.span = examples.span
        schema = read_schema(input_dict["schema"]).SerializeToString()
        features = parse_feature_table(exec_properties["features"])
        splits = artifact_utils.decode_split_names(examples.split_names)
        folders = {
            split: (artifact_utils.get_split_uri([statistics], split), artifact_utils.get_split_uri([analysis], split))
            for split in splits
        }
        files = [(split, path) for split in splits for path in split_files([examples], split)]
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(files)
                | "Reshuffle" >> beam.Reshuffle()
                | "Describe" >> beam.ParDo(_DescribeFile(schema, features))
                | "Merge" >> beam.CombinePerKey(_MergeParts(schema))
                | "Write" >> beam.Map(_write, folders=folders, schema=schema)
            )


def _generators(schema: bytes) -> list[Any]:
    return list(
        stats_impl.get_generators(tfdv.StatsOptions(schema=schema_pb2.Schema.FromString(schema)), in_memory=True)
    )


class _DescribeFile(beam.DoFn):  # type: ignore[misc]
    def __init__(self, schema: bytes, features: FeatureTable) -> None:
        super().__init__()
        self._schema = schema
        self._features = features

    def process(self, element: tuple[str, str]) -> Iterator[tuple[str, _Part]]:
        split, path = element
        columns = [*self._features.used]
        if self._features.image_name is not None:
            columns.append(self._features.image_status_name)
        generators = _generators(self._schema)
        accumulators = [generator.create_accumulator() for generator in generators]
        analyzer = Analyzer(self._features)
        for batch in record_batches(path, example_decoder(self._features, columns)):
            accumulators = [
                generator.add_input(accumulator, batch)
                for generator, accumulator in zip(generators, accumulators, strict=True)
            ]
            analyzer.add(batch)
        compact = [generator.compact(found) for generator, found in zip(generators, accumulators, strict=True)]
        yield split, (compact, analyzer.result())


class _MergeParts(beam.CombineFn):  # type: ignore[misc]
    def __init__(self, schema: bytes) -> None:
        super().__init__()
        self._schema = schema

    def create_accumulator(self) -> list[_Part]:
        return []

    def add_input(self, accumulator: list[_Part], part: _Part) -> list[_Part]:
        return self.merge_accumulators([accumulator, [part]])

    def merge_accumulators(self, accumulators: Iterable[list[_Part]]) -> list[_Part]:
        parts = [part for accumulator in accumulators for part in accumulator]
        if len(parts) < 2:
            return parts
        accumulators_by_generator = zip(*(part[0] for part in parts), strict=True)
        merged = [
            generator.merge_accumulators(list(found))
            for generator, found in zip(_generators(self._schema), accumulators_by_generator, strict=True)
        ]
        return [(merged, merge([part[1] for part in parts]))]

    def extract_output(self, accumulator: list[_Part]) -> _Part:
        return accumulator[0]


def _write(element: tuple[str, _Part], folders: dict[str, tuple[str, str]], schema: bytes) -> None:
    split, part = element
    statistics_folder, analysis_folder = folders[split]
    statistics = stats_impl.extract_statistics_output(part[0], _generators(schema))
    filesystem.make_folder(statistics_folder)
    with filesystem.open_write_atomic(os.path.join(statistics_folder, DEFAULT_FILE_NAME)) as stream:
        stream.write(statistics.SerializeToString())
    write_analysis(part[1], analysis_folder)


class ClickStatisticsGen(base_beam_component.BaseBeamComponent):  # type: ignore[misc]
    """Statistics of a month's examples.

    Outputs:
        statistics: `standard_artifacts.ExampleStatistics`, what TFX's StatisticsGen gives: TFDV's statistics by split.
        analysis: `FeatureAnalysis`, counts, moments and quantiles by split.
    """

    SPEC_CLASS = ClickStatisticsGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(ClickStatisticsGenExecutor)

    def __init__(self, *, examples: types.BaseChannel, schema: types.BaseChannel, features: str) -> None:
        """Declares the component.

        Args:
            examples: One month.
            schema: The curated schema.
            features: The feature table's JSON.
        """
        super().__init__(
            spec=ClickStatisticsGenSpec(
                examples=examples,
                schema=schema,
                features=features,
                statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
                analysis=types.Channel(type=FeatureAnalysis),
            )
        )
