"""The Beam graph of ingestion. Its elements are chunks, never rows.

First every chunk is read, checked and set aside as an Arrow file, which gives what only all chunks together can tell:
which identifiers come twice, where in time the eval part begins, which images there are. Then each chunk is taken up
again with these answers, encoded and written. Every file is written under a name that follows from its chunk, by
rename: a worker that is run twice does no harm.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from components import filesystem
from components.ad_example_gen.chunks import Chunk, DropFile, ReadOptions, TypedChunk, plan_chunks, read_chunk
from components.ad_example_gen.columns import as_example_column
from components.ad_example_gen.creatives import read_creative
from components.ad_example_gen.csv_records import Bools, Ints
from components.ad_example_gen.settings import IngestionSettings, SplitSettings
from models.bucket import is_bucket_address
from models.creatives import NONE, Creative, write_record
from schema.feature_table import FeatureTable

Hashes = npt.NDArray[np.uint64]

_HASH_STEPS = 1_000_000
_MINUTE = 60
_HASHED_BYTES = 1 << 20
#: Rows encoded at a time; their records are in memory.
_ENCODED_ROWS = 32_768
_IMAGE_THREADS = 8
#: Images in a bucket are waited for, not worked for.
BUCKET_IMAGE_THREADS = 32
_IMAGES_AT_A_TIME = 256
_BYTES_PER_IDENTIFIER_PARTITION = 256 << 20
_BYTES_PER_IMAGE_PARTITION = 8 << 20
_MOST_PARTITIONS = 1_024


@dataclass(frozen=True)
class IngestionPlan:
    """Everything that the workers need to know.

    Attributes:
        options: How chunks are read.
        ingestion: Limits and the form of what is written.
        split: How rows are held out.
        image_folder: What image addresses are relative to.
        drop_bytes: Size of the CSV files; decides how finely the work is parted.
        train_folder: Where examples to train on go.
        eval_folder: Where examples to evaluate on go.
        creatives_folder: Where creatives go.
        quarantine_folder: Where quarantined rows go.
        work_folder: Where chunks are set aside, and where the counts go; the caller's to delete.
    """

    options: ReadOptions
    ingestion: IngestionSettings
    split: SplitSettings
    image_folder: str
    drop_bytes: int
    train_folder: str
    eval_folder: str
    creatives_folder: str
    quarantine_folder: str
    work_folder: str

    @property
    def features(self) -> FeatureTable:
        return self.options.features

    @property
    def counts_file(self) -> str:
        return filesystem.join(self.work_folder, "counts.json")


def _partitions(drop_bytes: int, bytes_each: int) -> int:
    """Into how many parts to cut the work on a drop of so many bytes."""
    return min(max(drop_bytes // bytes_each, 1), _MOST_PARTITIONS)


class ReadDropFiles(beam.PTransform):
    """Reads CSV files: `PCollection[DropFile]` to `PCollection[TypedChunk]`."""

    def __init__(self, options: ReadOptions, chunk_bytes: int) -> None:
        super().__init__()
        self._options = options
        self._chunk_bytes = chunk_bytes

    def expand(self, files: Any) -> Any:
        options, chunk_bytes = self._options, self._chunk_bytes

        def plan(file: DropFile) -> Iterator[Chunk]:
            return plan_chunks(file, options.csv, options.max_field_bytes, chunk_bytes)

        def read(chunk: Chunk) -> Iterator[TypedChunk]:
            return read_chunk(chunk, options, chunk_bytes)

        return files | "Plan" >> beam.FlatMap(plan) | "Spread" >> beam.Reshuffle() | "Read" >> beam.FlatMap(read)


def ingest(pipeline: beam.Pipeline, files: list[DropFile], plan: IngestionPlan) -> None:
    """Adds the whole ingestion to a Beam pipeline; `plan.counts_file` holds its counts when the pipeline is done."""
    features = plan.features
    stored = (
        pipeline
        | "Files" >> beam.Create(files)
        | "ReadDropFiles" >> ReadDropFiles(plan.options, plan.ingestion.chunk_bytes)
        | "Store" >> beam.ParDo(_Store(plan)).with_outputs("counts", "identifiers", "minutes", "images", main="chunks")
    )
    grouped = {"chunks": stored.chunks}
    counts = [stored.counts]
    if features.identifier_name is not None:
        grouped["duplicates"] = (
            stored.identifiers | "GroupIdentifiers" >> beam.GroupByKey() | "FindDuplicates" >> beam.FlatMap(_duplicates)
        )
    if features.image_name is not None:
        created = (
            stored.images
            | "GroupImages" >> beam.GroupByKey()
            | "WriteCreatives" >> beam.ParDo(_WriteCreatives(plan)).with_outputs("counts", main="images")
        )
        grouped["images"] = created.images
        counts.append(created.counts)
    eval_from = (
        stored.minutes
        | "SumMinutes" >> beam.CombineGlobally(add_counts)
        | "ChooseEvalFrom" >> beam.Map(choose_eval_from, plan.split.eval_share)
    )
    written = (
        grouped
        | "GroupByChunk" >> beam.CoGroupByKey()
        | "Encode" >> beam.ParDo(_Encode(plan), beam.pvalue.AsSingleton(eval_from))
    )
    counts.append(written)
    _ = (
        counts
        | "AllCounts" >> beam.Flatten()
        | "SumCounts" >> beam.CombineGlobally(add_counts)
        | "WriteCounts" >> beam.Map(_write_counts, plan.counts_file, beam.pvalue.AsSingleton(eval_from))
    )


def record_files(pipeline: beam.Pipeline, paths: Sequence[str], path: str) -> None:
    """Writes each file's address, size in bytes and SHA-256 as a JSON list."""
    _ = (
        pipeline
        | "Paths" >> beam.Create(paths)
        | "ReshufflePaths" >> beam.Reshuffle()
        | "Hash" >> beam.Map(_describe_file)
        | "AllFiles" >> beam.combiners.ToList()
        | "WriteFiles" >> beam.Map(_write_files, path)
    )


def _describe_file(path: str) -> dict[str, str | int]:
    digest, size = hashlib.sha256(), 0
    with filesystem.open_read(path) as stream:
        while block := stream.read(_HASHED_BYTES):
            digest.update(block)
            size += len(block)
    return {"path": path, "bytes": size, "sha256": digest.hexdigest()}


def _write_files(files: list[dict[str, str | int]], path: str) -> None:
    with filesystem.open_write_atomic(path) as stream:
        stream.write(json.dumps(sorted(files, key=lambda file: str(file["path"])), indent=1).encode())


def add_counts(counts: Iterable[Mapping[Any, Any]]) -> dict[Any, Any]:
    """Adds up numbers by name."""
    total: Counter[Any] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def _write_counts(counts: Mapping[str, int], path: str, eval_from: int | None) -> None:
    with filesystem.open_write_atomic(path) as stream:
        stream.write(json.dumps({"counts": counts, "eval_from": eval_from}).encode())


def choose_eval_from(rows_by_minute: Mapping[int, int], eval_share: float) -> int | None:
    """Finds where in time to split.

    Args:
        rows_by_minute: Rows of each minute since 1970.
        eval_share: The share of rows that should come at or after the answer.

    Returns:
        The second at the start of the minute that comes closest; None if the rows lie within one minute.
    """
    minutes = np.array(sorted(rows_by_minute), np.int64)
    if len(minutes) < 2:
        return None
    rows = np.array([rows_by_minute[minute] for minute in minutes.tolist()], np.int64)
    later = np.cumsum(rows[::-1])[::-1][1:] / rows.sum()
    return int(minutes[1 + int(np.argmin(np.abs(later - eval_share)))]) * _MINUTE


#: Knuth's 64-bit multiplier (MMIX).
_HASH_MULTIPLIER = np.uint64(6364136223846793005)


def hash_values(values: Any) -> Hashes:
    """64-bit hashes of a typed column, the same on every machine; all missing values share one."""
    if not len(values):
        return np.zeros(0, np.uint64)
    if pa.types.is_list(values.type):
        values = pc.binary_join(values, b"\x1f")
    if pa.types.is_binary(values.type):
        texts = values.fill_null(b"").to_numpy(zero_copy_only=False)
        return np.asarray(pd.util.hash_array(texts, categorize=False), np.uint64)
    return np.asarray(pd.util.hash_array(values.fill_null(0).to_numpy(zero_copy_only=False)), np.uint64)


def _hash_rows(batch: Any, features: FeatureTable) -> Hashes:
    """64-bit hashes of whole rows but for the label."""
    combined = np.zeros(batch.num_rows, np.uint64)
    for name in features.used:
        if name != features.label_name:
            combined = combined * _HASH_MULTIPLIER ^ hash_values(_column(batch, name))
    # A multiplication spreads the last column's bits over all of them.
    return np.asarray((combined * _HASH_MULTIPLIER) >> np.uint64(16))


def _parts(hashes: Hashes, partitions: int) -> Iterator[tuple[int, Ints]]:
    """Positions by partition."""
    if not len(hashes):
        return
    partition = (hashes % np.uint64(partitions)).astype(np.int64)
    order = np.argsort(partition, kind="stable")
    found, firsts = np.unique(partition[order], return_index=True)
    yield from zip(found.tolist(), np.split(order, firsts[1:]), strict=True)


def chunk_name(file_index: int, part: int) -> str:
    """Names a chunk; names sort as the chunks stand in the drop."""
    return f"{file_index:05d}-{part:05d}"


def count_rows(chunk: TypedChunk) -> Counter[str]:
    """The rows of a chunk, and those of them that are quarantined, in all and by reason."""
    counts = Counter({"rows_in": chunk.rows_in, "rows_quarantined": len(chunk.quarantined)})
    counts.update(f"quarantined_by_reason/{row.reason}" for row in chunk.quarantined)
    return counts


def write_quarantine(chunk: TypedChunk, folder: str) -> None:
    """Writes the quarantined rows of a chunk, if there are any, as JSON lines to a file of their own."""
    if not chunk.quarantined:
        return
    path = filesystem.join(folder, f"quarantine-{chunk_name(chunk.file_index, chunk.part)}.jsonl")
    with filesystem.open_write_atomic(path) as stream:
        for row in chunk.quarantined:
            stream.write(json.dumps(asdict(row), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")


def set_aside(batch: Any, path: str) -> None:
    """Writes a record batch, to be taken up again."""
    with filesystem.open_write_atomic(path) as stream, pa.ipc.new_file(stream, batch.schema) as writer:
        writer.write_batch(batch)


def take_up(path: str) -> Any:
    """Reads a record batch that was set aside."""
    with filesystem.open_read(path) as stream:
        return pa.ipc.open_file(pa.py_buffer(stream.read())).get_batch(0)


def image_references(batch: Any, image_name: str, drop_bytes: int) -> Iterator[tuple[int, list[bytes]]]:
    """The distinct image addresses of a batch by partition, as many partitions as the size of the drop asks for."""
    references = _column(batch, image_name).drop_null().unique()
    for part, rows in _parts(hash_values(references), _partitions(drop_bytes, _BYTES_PER_IMAGE_PARTITION)):
        yield part, references.take(pa.array(rows)).to_pylist()


def read_images(
    references: Iterable[bytes], folder: str, settings: IngestionSettings, known: Container[str] = ()
) -> Iterator[list[tuple[bytes, Creative]]]:
    """Reads the distinct images among addresses relative to a folder, in their order, some at a time.

    `known` is as for `read_creative`.
    """
    distinct = sorted(set(references))

    def address(reference: bytes) -> str:
        return filesystem.join(folder, reference.decode())

    def read(reference: bytes) -> Creative:
        return read_creative(address(reference), settings, known)

    in_bucket = any(is_bucket_address(address(reference)) for reference in distinct)
    with ThreadPoolExecutor(BUCKET_IMAGE_THREADS if in_bucket else _IMAGE_THREADS) as pool:
        for start in range(0, len(distinct), _IMAGES_AT_A_TIME):
            some = distinct[start : start + _IMAGES_AT_A_TIME]
            yield list(zip(some, pool.map(read, some), strict=True))


class _Store(beam.DoFn):
    """Sets a chunk aside, writes its quarantined rows, and says what concerns all chunks."""

    def __init__(self, plan: IngestionPlan) -> None:
        super().__init__()
        self._plan = plan

    def process(self, chunk: TypedChunk) -> Iterator[Any]:
        plan, features, batch = self._plan, self._plan.features, chunk.batch
        name = chunk_name(chunk.file_index, chunk.part)
        write_quarantine(chunk, plan.quarantine_folder)
        yield beam.pvalue.TaggedOutput("counts", dict(count_rows(chunk)))
        if not batch.num_rows:
            return
        set_aside(batch, _stored_file(plan, name))
        yield name, batch.num_rows
        if features.identifier_name is not None:
            hashes = hash_values(_column(batch, features.identifier_name))
            for part, rows in _parts(hashes, _partitions(plan.drop_bytes, _BYTES_PER_IDENTIFIER_PARTITION)):
                found = (chunk.file_index, chunk.part, rows.astype(np.int32), hashes[rows])
                yield beam.pvalue.TaggedOutput("identifiers", (part, found))
        if features.timestamp_name is not None and plan.split.by == "time":
            minutes, rows = np.unique(_column(batch, features.timestamp_name).to_numpy() // _MINUTE, return_counts=True)
            yield beam.pvalue.TaggedOutput("minutes", dict(zip(minutes.tolist(), rows.tolist(), strict=True)))
        if features.image_name is not None:
            for part, references in image_references(batch, features.image_name, plan.drop_bytes):
                yield beam.pvalue.TaggedOutput("images", (part, (name, references)))


def _stored_file(plan: IngestionPlan, name: str) -> str:
    return filesystem.join(plan.work_folder, f"chunk-{name}.arrow")


def _column(batch: Any, name: str) -> Any:
    return batch.column(batch.schema.get_field_index(name))


def _duplicates(group: tuple[int, Iterable[tuple[int, int, Ints, Hashes]]]) -> Iterator[tuple[str, Ints]]:
    """Rows whose identifier came earlier in the drop, by chunk."""
    chunks = sorted(group[1], key=lambda chunk: chunk[:2])
    hashes = np.concatenate([chunk[3] for chunk in chunks])
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    repeated = np.sort(order[1:][ordered[1:] == ordered[:-1]])
    firsts = np.cumsum([0, *(len(chunk[2]) for chunk in chunks)])
    for chunk, first, end in zip(chunks, firsts[:-1], firsts[1:], strict=True):
        here = repeated[np.searchsorted(repeated, first) : np.searchsorted(repeated, end)]
        if len(here):
            yield chunk_name(chunk[0], chunk[1]), chunk[2][here - first]


_ImageAnswers = dict[bytes, tuple[str, str]]


class _WriteCreatives(beam.DoFn):
    """Reads the images of a partition, writes them as creatives, and tells each chunk its images' keys and statuses."""

    def __init__(self, plan: IngestionPlan) -> None:
        super().__init__()
        self._plan = plan

    def process(self, group: tuple[int, Iterable[tuple[str, list[bytes]]]]) -> Iterator[Any]:
        partition, chunks = group[0], list(group[1])
        references = (reference for _, found in chunks for reference in found)
        answers: _ImageAnswers = {}
        written: set[str] = set()
        path = filesystem.join(self._plan.creatives_folder, f"creatives-{partition:05d}")
        counts: Counter[str] = Counter()
        with filesystem.atomic_path(path) as temporary, tf.io.TFRecordWriter(temporary) as writer:
            for some in read_images(references, self._plan.image_folder, self._plan.ingestion):
                for reference, creative in some:
                    answers[reference] = creative.key, creative.status
                    counts[f"creatives_by_status/{creative.status}"] += 1
                    if creative.key not in written:
                        writer.write(write_record(creative))
                        written.add(creative.key)
        for name, found in chunks:
            yield name, {reference: answers[reference] for reference in found}
        yield beam.pvalue.TaggedOutput("counts", dict(counts))


class _Encode(beam.DoFn):
    """Takes a chunk up again, drops its duplicates and writes its examples to their splits."""

    def __init__(self, plan: IngestionPlan) -> None:
        super().__init__()
        self._plan = plan

    def process(
        self, group: tuple[str, Mapping[str, Iterable[Any]]], eval_from: int | None
    ) -> Iterator[dict[str, int]]:
        plan = self._plan
        name, found = group
        batch = take_up(_stored_file(plan, name))
        kept = np.ones(batch.num_rows, np.bool_)
        for rows in found.get("duplicates", ()):
            kept[rows] = False
        held_out = self._held_out(batch, eval_from)
        counts = Counter({"rows_duplicate": int((~kept).sum())})
        if plan.features.image_name is not None:
            answers: _ImageAnswers = {}
            for some in found["images"]:
                answers.update(some)
            batch = _with_image_keys(batch, plan.features, answers)
        for split, folder, chosen in (
            ("train", plan.train_folder, kept & ~held_out),
            ("eval", plan.eval_folder, kept & held_out),
        ):
            if chosen.any():
                mask = pa.array(chosen)
                columns = batch.columns if chosen.all() else [column.filter(mask) for column in batch.columns]
                part = pa.RecordBatch.from_arrays(columns, batch.schema.names)
                counts[f"rows_{split}"] += self._write(folder, name, part)
                if plan.features.image_name is not None:
                    for status in _column(part, plan.features.image_status_name).value_counts().to_pylist():
                        counts[f"impressions_by_image_status/{status['values'].decode()}"] += status["counts"]
        yield dict(counts)

    def _held_out(self, batch: Any, eval_from: int | None) -> Bools:
        split, features = self._plan.split, self._plan.features
        if split.by == "hash":
            column = split.column or features.identifier_name
            hashes = _hash_rows(batch, features) if column is None else hash_values(_column(batch, column))
            return np.asarray(hashes % np.uint64(_HASH_STEPS) < np.uint64(round(split.eval_share * _HASH_STEPS)))
        if eval_from is None:
            return np.zeros(batch.num_rows, np.bool_)
        return np.asarray(_column(batch, features.timestamp_name or "").to_numpy() >= eval_from)

    def _write(self, folder: str, name: str, batch: Any) -> int:
        compress = self._plan.ingestion.compress
        path = filesystem.join(folder, f"data_tfrecord-{name}{'.gz' if compress else ''}")
        encoder = RecordBatchToExamplesEncoder()
        rows = 0
        with (
            filesystem.atomic_path(path) as temporary,
            tf.io.TFRecordWriter(temporary, "GZIP" if compress else "") as writer,
        ):
            write: Callable[[bytes], None] = writer.write
            for start in range(0, batch.num_rows, _ENCODED_ROWS):
                some = batch.slice(start, _ENCODED_ROWS)
                columns = [as_example_column(column) for column in some.columns]
                for example in encoder.encode(pa.RecordBatch.from_arrays(columns, batch.schema.names)):
                    write(example)
                    rows += 1
        return rows


def _with_image_keys(batch: Any, features: FeatureTable, answers: _ImageAnswers) -> Any:
    """The batch with creative keys for image addresses, and the column of their statuses."""
    position = batch.schema.get_field_index(features.image_name)
    encoded = batch.column(position).dictionary_encode()
    known = [answers[reference] for reference in encoded.dictionary.to_pylist()]
    keys = pa.array([key for key, _ in known], pa.binary())
    statuses = pa.array([*(status for _, status in known), NONE], pa.binary())
    columns = list(batch.columns)
    columns[position] = keys.take(encoded.indices)
    columns.append(statuses.take(encoded.indices.fill_null(len(known))))
    return pa.RecordBatch.from_arrays(columns, [*batch.schema.names, features.image_status_name])
