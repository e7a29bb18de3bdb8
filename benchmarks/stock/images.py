"""CsvExampleGen with each impression's image in its example: a custom executor, as TFX documents for other formats."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx.components.example_gen.base_example_gen_executor import BaseExampleGenExecutor
from tfx.components.example_gen.csv_example_gen.executor import Executor as CsvExecutor
from tfx.types import standard_component_specs

from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.models.images import decode_bytes, inspect_image
from benchmarks.click_log import IMAGE

PIXELS = "pixels"
_LIMITS = IngestionSettings()
#: Edge of the stored images in pixels, adclick's default.
IMAGE_SIZE = _LIMITS.image_size


class CsvAndImagesExecutor(BaseExampleGenExecutor):  # type: ignore[misc]
    """Reads the CSV files as CsvExampleGen does and adds the pixels of the image that each row names."""

    def GetInputSourceToExamplePTransform(self) -> Callable[..., beam.PTransform]:
        """What the base class calls for each input split."""
        return _CsvAndImagesToExample


@beam.typehints.with_input_types(beam.Pipeline)
@beam.typehints.with_output_types(tf.train.Example)
class _CsvAndImagesToExample(beam.PTransform):  # type: ignore[misc]
    def __init__(self, exec_properties: dict[str, Any], split_pattern: str) -> None:
        super().__init__()
        self._csv = CsvExecutor().GetInputSourceToExamplePTransform()(exec_properties, split_pattern)
        self._folder = exec_properties[standard_component_specs.INPUT_BASE_KEY]

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return pipeline | "Csv" >> self._csv | "AddImage" >> beam.ParDo(_AddImage(self._folder))


@beam.typehints.with_input_types(tf.train.Example)
@beam.typehints.with_output_types(tf.train.Example)
class _AddImage(beam.DoFn):  # type: ignore[misc]
    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder

    def process(self, example: tf.train.Example) -> Iterator[tf.train.Example]:
        address = example.features.feature[IMAGE].bytes_list.value[0].decode()
        with open(os.path.join(self._folder, address), "rb") as stream:
            encoded = stream.read()
        decoded = decode_bytes(encoded, inspect_image(encoded, _LIMITS.max_image_pixels), IMAGE_SIZE)
        example.features.feature[PIXELS].bytes_list.value.append(decoded.pixels)
        yield example
