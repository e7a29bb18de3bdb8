"""The Beam graph of batch prediction. Its elements are chunks of rows, as in ingestion, whose reading it shares.

First every chunk is read, checked and set aside; then each image of the drop is embedded once, wherever it is shown;
then each chunk is taken up again, scored and written under a name that follows from its place in the drop.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from adclick.components.ad_example_gen.chunks import DropFile, ReadOptions, TypedChunk
from adclick.components.ad_example_gen.pipeline import (
    ReadDropFiles,
    add_counts,
    chunk_name,
    count_rows,
    image_references,
    read_images,
    set_aside,
    take_up,
    write_quarantine,
)
from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.models.extension import pixels_as_png
from adclick.models.scoring import Scorer
from adclick.schema.feature_table import FeatureTable
from adclick.storage import filesystem

Form = Literal["parquet", "csv"]

#: What is written of each row.
SCHEMA = pa.schema(
    [
        pa.field("impression_id", pa.string(), nullable=False),
        pa.field("click_probability", pa.float32(), nullable=False),
        pa.field("model_version", pa.int64(), nullable=False),
    ]
)
_PROBABILITY_SUM = "probability_sum"


@dataclass(frozen=True)
class PredictionPlan:
    """Everything that the workers need to know.

    Attributes:
        options: How chunks are read.
        ingestion: Limits.
        model_folder: The SavedModel that scores.
        model_version: Its version.
        form: What the shards are written as.
        gzip: Whether they are compressed with gzip.
        image_folder: What image addresses are relative to.
        drop_bytes: Size of the files; decides how finely the work is parted.
        output_folder: Where the shards go.
        quarantine_folder: Where quarantined rows go.
        work_folder: Where chunks are set aside, and where the counts go; the caller's to delete.
    """

    options: ReadOptions
    ingestion: IngestionSettings
    model_folder: str
    model_version: int
    form: Form
    gzip: bool
    image_folder: str
    drop_bytes: int
    output_folder: str
    quarantine_folder: str
    work_folder: str

    @property
    def features(self) -> FeatureTable:
        return self.options.features

    @property
    def counts_file(self) -> str:
        return filesystem.join(self.work_folder, "counts.json")


@dataclass(frozen=True)
class PredictionCounts:
    """What became of the rows of a drop.

    Attributes:
        rows_in: Rows read.
        rows_scored: Of them scored.
        rows_quarantined: Of them quarantined.
        quarantined_by_reason: These by reason.
        creatives_by_status: Image addresses by what came of them.
        mean_probability: The mean click probability of the scored rows; NaN if there is none.
    """

    rows_in: int
    rows_scored: int
    rows_quarantined: int
    quarantined_by_reason: Mapping[str, int]
    creatives_by_status: Mapping[str, int]
    mean_probability: float


def predict_drop(pipeline: beam.Pipeline, files: list[DropFile], plan: PredictionPlan) -> None:
    """Adds batch prediction to a Beam pipeline; `read_counts` gives its counts when the pipeline is done."""
    kept = (
        pipeline
        | "Files" >> beam.Create(files)
        | "ReadDropFiles" >> ReadDropFiles(plan.options, plan.ingestion.chunk_bytes)
        | "SetAside" >> beam.ParDo(_SetAside(plan, files)).with_outputs("counts", "images", main="chunks")
    )
    grouped = {"chunks": kept.chunks}
    counts = [kept.counts]
    if plan.features.image_name is not None:
        embedded = (
            kept.images
            | "GroupImages" >> beam.GroupByKey()
            | "EmbedImages" >> beam.ParDo(_EmbedImages(plan)).with_outputs("counts", main="embeddings")
        )
        grouped["embeddings"] = embedded.embeddings
        counts.append(embedded.counts)
    scored = grouped | "GroupByChunk" >> beam.CoGroupByKey() | "Score" >> beam.ParDo(_Score(plan))
    _ = (
        [*counts, scored]
        | "AllCounts" >> beam.Flatten()
        | "SumCounts" >> beam.CombineGlobally(add_counts)
        | "WriteCounts" >> beam.Map(_write_counts, plan.counts_file)
    )


def _write_counts(counts: Mapping[str, float], path: str) -> None:
    with filesystem.open_write_atomic(path) as stream:
        stream.write(json.dumps(counts).encode())


def read_counts(plan: PredictionPlan) -> PredictionCounts:
    """The counts of a finished pipeline.

    Raises:
        RuntimeError: A row is not accounted for.
    """
    with filesystem.open_read(plan.counts_file) as stream:
        found: dict[str, Any] = json.loads(stream.read())

    def group(name: str) -> dict[str, int]:
        return {key.removeprefix(f"{name}/"): n for key, n in sorted(found.items()) if key.startswith(f"{name}/")}

    rows_in, scored, quarantined = (found.get(name, 0) for name in ("rows_in", "rows_scored", "rows_quarantined"))
    if scored + quarantined != rows_in:
        raise RuntimeError(f"{rows_in:,} rows were read and {scored + quarantined:,} accounted for")
    return PredictionCounts(
        rows_in=rows_in,
        rows_scored=scored,
        rows_quarantined=quarantined,
        quarantined_by_reason=group("quarantined_by_reason"),
        creatives_by_status=group("creatives_by_status"),
        mean_probability=found[_PROBABILITY_SUM] / scored if scored else float("nan"),
    )


class _SetAside(beam.DoFn):
    """Writes a chunk's quarantined rows, sets the others aside, and says which images they show."""

    def __init__(self, plan: PredictionPlan, files: list[DropFile]) -> None:
        super().__init__()
        self._plan = plan
        self._names = {file.index: file.name for file in files}

    def process(self, chunk: TypedChunk) -> Iterator[Any]:
        plan, batch = self._plan, chunk.batch
        name = chunk_name(chunk.file_index, chunk.part)
        write_quarantine(chunk, plan.quarantine_folder)
        yield beam.pvalue.TaggedOutput("counts", dict(count_rows(chunk)))
        if not batch.num_rows:
            return
        if plan.features.identifier_name is None:
            # Without an identifier a row is told by its place.
            file = self._names[chunk.file_index]
            places = pa.array([f"{file}:{line}".encode() for line in chunk.lines.tolist()], pa.binary())
            batch = pa.RecordBatch.from_arrays([*batch.columns, places], [*batch.schema.names, ""])
        set_aside(batch, _chunk_file(plan, name))
        yield name, batch.num_rows
        if plan.features.image_name is not None:
            for part, references in image_references(batch, plan.features.image_name, plan.drop_bytes):
                yield beam.pvalue.TaggedOutput("images", (part, (name, references)))


def _chunk_file(plan: PredictionPlan, name: str) -> str:
    return filesystem.join(plan.work_folder, f"chunk-{name}.arrow")


#: The scorers of this process by folder, for as long as a stage holds them.
_SCORERS: weakref.WeakValueDictionary[str, Scorer] = weakref.WeakValueDictionary()
_LOADING = threading.Lock()


class _WithModel(beam.DoFn):
    """Loads the model, once for all stages of a process."""

    def __init__(self, plan: PredictionPlan) -> None:
        super().__init__()
        self._plan = plan

    def setup(self) -> None:
        folder = self._plan.model_folder
        with _LOADING:
            self._scorer = _SCORERS.get(folder) or Scorer(folder)
            _SCORERS[folder] = self._scorer

    def teardown(self) -> None:
        del self._scorer


#: By image address, the position of its embedding; and the embeddings.
_Embeddings = tuple[dict[bytes, int], npt.NDArray[np.float32]]


class _EmbedImages(_WithModel):
    """Embeds the images of a partition, and tells each chunk its images' embeddings."""

    def process(self, group: tuple[int, Iterable[tuple[str, list[bytes]]]]) -> Iterator[Any]:
        plan, chunks = self._plan, list(group[1])
        references = (reference for _, found in chunks for reference in found)
        positions: dict[bytes, int] = {}
        embeddings = []
        counts: Counter[str] = Counter()
        for some in read_images(references, plan.image_folder, plan.ingestion, self._scorer.known_creatives):
            images = []
            for reference, creative in some:
                positions[reference] = len(positions)
                counts[f"creatives_by_status/{creative.status}"] += 1
                # The key of what the model knows, the pixels of what it does not, nothing of what cannot be shown.
                known = creative.key in self._scorer.known_creatives
                images.append(
                    creative.key.encode() if known else pixels_as_png(creative.image) if creative.image else b""
                )
            embeddings.append(self._scorer.embed(images))
        every = np.concatenate(embeddings)
        for name, found in chunks:
            rows = [positions[reference] for reference in found]
            yield name, ({reference: index for index, reference in enumerate(found)}, every[rows])
        yield beam.pvalue.TaggedOutput("counts", dict(counts))


class _Score(_WithModel):
    """Takes a chunk up again, scores it and writes its shard."""

    def process(self, group: tuple[str, Mapping[str, Iterable[Any]]]) -> Iterator[dict[str, float]]:
        plan, (name, found) = self._plan, group
        batch = take_up(_chunk_file(plan, name))
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        creatives = None
        if plan.features.image_name is not None:
            creatives = self._creatives(columns[plan.features.image_name], found["embeddings"])
        probabilities = self._scorer.score(columns, creatives)
        table = pa.table(
            {
                "impression_id": columns[plan.features.identifier_name or ""].cast(pa.string()),
                "click_probability": probabilities,
                "model_version": np.full(len(probabilities), plan.model_version),
            },
            SCHEMA,
        )
        path = filesystem.join(plan.output_folder, f"predictions-{name}{suffix(plan.form, plan.gzip)}")
        with filesystem.open_write_atomic(path) as stream, table_writer(stream, plan.form, plan.gzip) as writer:
            writer.write_table(table)
        yield {"rows_scored": len(table), _PROBABILITY_SUM: float(probabilities.sum(dtype=np.float64))}

    def _creatives(self, images: Any, embedded: Iterable[_Embeddings]) -> npt.NDArray[np.float32]:
        """The embedding of each row's creative, float32 [rows, width]; of no image, the unknown creative's."""
        positions: dict[bytes | None, int] = {None: 0}
        tables = [self._scorer.embed([b""])]
        for places, embeddings in embedded:
            first = len(positions)
            positions |= {reference: first + place for reference, place in places.items()}
            tables.append(embeddings)
        encoded = images.dictionary_encode()
        rows = np.array([*(positions[one] for one in encoded.dictionary.to_pylist()), 0])
        chosen = rows[encoded.indices.fill_null(len(rows) - 1).to_numpy(zero_copy_only=False)]
        return np.asarray(np.concatenate(tables)[chosen])


def suffix(form: Form, gzip: bool) -> str:
    """The end of a shard's name; Parquet compresses within the file."""
    return ".csv.gz" if form == "csv" and gzip else f".{form}"


@contextmanager
def table_writer(stream: BinaryIO, form: Form, gzip: bool) -> Iterator[Any]:
    """Writes tables of `SCHEMA` to a stream, one after the other, by `write_table`."""
    with ExitStack() as stack:
        if form == "parquet":
            codec = "gzip" if gzip else "snappy"
            yield stack.enter_context(pq.ParquetWriter(stream, SCHEMA, compression=codec))
            return
        sink = stack.enter_context(pa.CompressedOutputStream(stream, "gzip")) if gzip else stream
        yield stack.enter_context(pyarrow.csv.CSVWriter(sink, SCHEMA))
