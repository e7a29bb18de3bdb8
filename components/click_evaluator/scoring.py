"""Scores held-out examples a batch at a time, and counts what the metrics of every slice are computed from."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from adclick.components.click_evaluator.audience import Draw, draw, merge_draws
from adclick.components.example_files import example_batches, example_decoder
from adclick.models.description import read_description
from adclick.models.features import vocabulary_columns
from adclick.models.loading import load_model
from adclick.models.metrics.counts import FOLDS, SliceCounts, add, check_finite, count
from adclick.models.preprocessing import read_vocabularies
from adclick.schema.signatures import CLICK_PROBABILITY, SERVING_EXAMPLES

#: The columns and values of a slice, ordered by column; empty for all impressions.
SliceKey = tuple[tuple[str, Any], ...]
#: By slice and model.
Counts = dict[tuple[SliceKey, str], SliceCounts]

#: Batches whose counts are kept apart before they are added up.
_BATCHES_TO_ADD = 16


@dataclass(frozen=True)
class ScoredExamples:
    """What comes of scored examples.

    Attributes:
        counts: What the metrics are computed from.
        audience: Examples that were drawn for the audience.
    """

    counts: Counts
    audience: Draw


@dataclass(frozen=True)
class ScoringPlan:
    """What the workers need to know.

    Attributes:
        models: By model name, the folder of its SavedModel.
        candidate: The name of the model whose vocabularies tell known values from new ones.
        slices: For each kind of slice its columns, sorted; `<column>_known` is derived.
    """

    models: Mapping[str, str]
    candidate: str
    slices: tuple[tuple[str, ...], ...]


class ScoreFile(beam.DoFn):  # type: ignore[misc]
    """Takes the path of a TFRecord file of examples and gives its `ScoredExamples`."""

    def __init__(self, plan: ScoringPlan) -> None:
        super().__init__()
        self._plan = plan

    def setup(self) -> None:
        """Loads the models and the candidate's vocabularies."""
        self._models = {name: load_model(folder) for name, folder in self._plan.models.items()}
        folder = self._plan.models[self._plan.candidate]
        description = read_description(folder)
        self._label = description.features.label_name
        self._negative_sampling_rate = description.negative_sampling_rate
        named = {column for columns in self._plan.slices for column in columns}
        features = description.features
        sliced = [name for name in vocabulary_columns(features) if features.known_name(name) in named]
        # By column, how the slices call whether its values are known, and those that are.
        self._vocabularies = {
            name: (features.known_name(name), frozenset(values))
            for name, values in read_vocabularies(folder, features, sliced).items()
        }
        derived = {known_name for known_name, _ in self._vocabularies.values()}
        columns = sorted({*self._vocabularies, *(named - derived)} - {self._label})
        self._decoder = example_decoder(features, [self._label, *columns])

    def process(self, path: str) -> Iterator[ScoredExamples]:
        """Scores the file batch by batch."""
        seed = zlib.crc32(os.path.basename(path).encode())
        random, drawing = np.random.default_rng(seed), np.random.default_rng([seed, 1])
        parts: list[ScoredExamples] = []
        # Drawn anew with each batch, so that what is held does not grow with the parts.
        audience: Draw = []
        for examples in example_batches(path):
            scored = self._score(examples, random, drawing)
            audience = merge_draws([audience, scored.audience])
            parts.append(ScoredExamples(scored.counts, []))
            if len(parts) == _BATCHES_TO_ADD:
                parts = [merge(parts)]
        if parts:
            yield ScoredExamples(merge(parts).counts, audience)

    def _score(self, examples: tf.Tensor, random: np.random.Generator, drawing: np.random.Generator) -> ScoredExamples:
        predictions = {
            name: model.signatures[SERVING_EXAMPLES](examples=examples)[CLICK_PROBABILITY].numpy().astype(np.float64)
            for name, model in self._models.items()
        }
        for name, prediction in predictions.items():
            check_finite(prediction, f"predictions of {name or 'the model'}")
        serialized = examples.numpy().tolist()
        batch = self._decoder.DecodeBatch(serialized)
        clicked = np.zeros(len(examples), bool)
        parents = pc.list_parent_indices(batch[self._label])
        clicked[np.asarray(parents)] = np.asarray(pc.list_flatten(batch[self._label])) == 1
        # An unclicked impression stands for as many as a sampled log left out, so that what is measured is true of all
        # traffic, like the corrected probability that is served.
        weight = np.where(clicked, 1.0, 1 / self._negative_sampling_rate)
        fold = random.integers(0, FOLDS, len(examples))
        columns = {name: _values(batch[name]) for name in batch.schema.names}
        for name, (known_name, vocabulary) in self._vocabularies.items():
            columns[known_name] = _known(columns[name], vocabulary)
        counts = {
            (key, name): count(prediction[rows], clicked[rows], weight[rows], fold[rows])
            for key, rows in _slices(columns, len(examples), self._plan.slices)
            for name, prediction in predictions.items()
        }
        return ScoredExamples(counts, draw(serialized, clicked, self._negative_sampling_rate, drawing))


def merge(parts: Sequence[ScoredExamples]) -> ScoredExamples:
    """Adds up the counts of each slice and model, and draws one audience from all that was drawn."""
    grouped: dict[tuple[SliceKey, str], list[SliceCounts]] = {}
    for part in parts:
        for key, counts in part.counts.items():
            grouped.setdefault(key, []).append(counts)
    return ScoredExamples(
        {key: add(several) for key, several in grouped.items()}, merge_draws(part.audience for part in parts)
    )


class MergeScored(beam.CombineFn):  # type: ignore[misc]
    """Puts together what came of all files."""

    def create_accumulator(self) -> ScoredExamples:
        return ScoredExamples({}, [])

    def add_input(self, accumulator: ScoredExamples, part: ScoredExamples) -> ScoredExamples:
        return merge([accumulator, part])

    def merge_accumulators(self, accumulators: Iterable[ScoredExamples]) -> ScoredExamples:
        return merge(list(accumulators))

    def extract_output(self, accumulator: ScoredExamples) -> ScoredExamples:
        return accumulator


@dataclass(frozen=True)
class _Values:
    """A column's values, each as a number of `distinct` beside the row that it stands in."""

    rows: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64]
    distinct: list[Any]


def _values(column: pa.Array) -> _Values:
    encoded = pc.list_flatten(column).dictionary_encode()
    rows = np.asarray(pc.list_parent_indices(column), np.int64)
    return _Values(rows, np.asarray(encoded.indices, np.int64), encoded.dictionary.to_pylist())


def _known(values: _Values, vocabulary: frozenset[bytes]) -> _Values:
    known = np.array([value in vocabulary for value in values.distinct] or [False])
    # Of several values the first one counts.
    rows, first = np.unique(values.rows, return_index=True)
    return _Values(rows, (~known[values.codes[first]]).astype(np.int64), [b"known", b"new"])


def _slices(
    columns: Mapping[str, _Values], rows: int, slices: Sequence[tuple[str, ...]]
) -> Iterator[tuple[SliceKey, npt.NDArray[np.int64]]]:
    """Each slice's key, and the rows that lie in it; a row without a value of a column lies in none of its slices."""
    for names in slices:
        if not names:
            yield (), np.arange(rows)
            continue
        frame = pd.DataFrame({"": np.arange(rows)})
        for name in names:
            values = columns[name]
            found = pd.DataFrame({"": values.rows, name: values.codes}).drop_duplicates()
            frame = frame.merge(found, on="")
        for codes, positions in frame.groupby(list(names)).indices.items():
            numbers = codes if isinstance(codes, tuple) else (codes,)
            key = tuple((name, columns[name].distinct[code]) for name, code in zip(names, numbers, strict=True))
            yield key, frame[""].to_numpy()[positions]
