"""The Beam graph of ingestion. Its elements are chunks, never rows.

First every chunk is read, checked and set aside as an Arrow file, which gives what only all chunks together can tell:
which identifiers come twice, where in time the splits begin, which images there are. Then each chunk is taken up
again with these answers, encoded and written. Every file is written under a name that follows from its chunk, by
rename: a worker that is run twice does no harm.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from adclick.components.ad_example_gen.chunks import Chunk, DropFile, ReadOptions, TypedChunk, plan_chunks, read_chunk
from adclick.components.ad_example_gen.columns import LARGEST_NUMBER, as_example_column
from adclick.components.ad_example_gen.copied_files import sha256_of
from adclick.components.ad_example_gen.creative_store import CreativeStore
from adclick.components.ad_example_gen.creatives import read_creative, recall_creative
from adclick.components.ad_example_gen.image_progress import ImageProgress
from adclick.components.ad_example_gen.missing_images import CAUSES, MissingImages
from adclick.components.ad_example_gen.month_dates import months_outside
from adclick.components.ad_example_gen.outside_images import DropFolder, states_now, write_states
from adclick.components.ad_example_gen.repeated_rows import (
    Hashes,
    IdentifiedRows,
    RepeatedRows,
    describe_conflict,
    find_repeated,
)
from adclick.components.ad_example_gen.settings import IngestionSettings, SplitSettings
from adclick.components.ad_example_gen.sources.csv_records import Bools, Ints
from adclick.components.ad_example_gen.split_times import MINUTE, SplitTimes, choose_split_times
from adclick.components.copy_detector.row_hashes import write_row_hashes
from adclick.components.splits import SPLITS
from adclick.models.creatives import MISSING, NONE, OK, Creative, write_record
from adclick.models.images import decoding_rule
from adclick.schema.feature_table import FeatureTable
from adclick.storage import filesystem
from adclick.storage.bucket import is_bucket_address

_HASH_STEPS = 1_000_000
#: Rows encoded at a time; their records are in memory.
_ENCODED_ROWS = 32_768
#: For a core: one decodes while the other reads; more would take turns at Python's lock.
_IMAGE_THREADS_PER_CORE = 2
#: Images in a bucket are waited for, not worked for.
BUCKET_IMAGE_THREADS = 32
_IMAGES_AT_A_TIME = 256
#: Images that are decoded and that nobody has asked for yet.
_IMAGES_AHEAD = 64
#: Large squares are fewer at a time.
_BYTES_AT_A_TIME = 32 << 20
_BYTES_PER_IDENTIFIER_PARTITION = 256 << 20
_BYTES_PER_IMAGE_PARTITION = 8 << 20
_MOST_PARTITIONS = 1_024
#: Examples kept of each kind of trouble.
_SHOWN = 3
_SHOWN_CHARACTERS = 60
#: So many values tell whether a column repeats them.
_LOOKED_AT = 2_048
_MOST_DISTINCT = 0.75


@dataclass(frozen=True)
class IngestionPlan:
    """Everything that the workers need to know.

    Attributes:
        options: How chunks are read.
        ingestion: Limits and the form of what is written.
        split: How rows are parted.
        span: The month as a number, such as 202610; 0 for a drop that is no month's.
        drop_uri: The folder of files, or one file.
        image_folder: What image addresses are relative to.
        drop_bytes: Size of the files; decides how finely the work is parted.
        split_folders: Where the examples of each split go.
        creatives_folder: Where creatives go.
        quarantine_folder: Where quarantined rows go.
        row_hashes_folder: Where hashes of the examples go, see `components.copy_detector.row_hashes`.
        work_folder: Where chunks are set aside, and where the counts go; the caller's to delete.
        creative_store: The database of creatives that were decoded once, a local file; None to decode all.
    """

    options: ReadOptions
    ingestion: IngestionSettings
    split: SplitSettings
    span: int
    drop_uri: str
    image_folder: str
    drop_bytes: int
    split_folders: Mapping[str, str]
    creatives_folder: str
    quarantine_folder: str
    row_hashes_folder: str
    work_folder: str
    creative_store: str | None = None

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
    """Reads files: `PCollection[DropFile]` to `PCollection[TypedChunk]`."""

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
    shown: list[Any] = []
    if features.identifier_name is not None:
        grouped["repeated"] = (
            stored.identifiers | "GroupIdentifiers" >> beam.GroupByKey() | "FindRepeated" >> beam.FlatMap(_repeated)
        )
    if features.image_name is not None:
        created = (
            stored.images
            | "GroupImages" >> beam.GroupByKey()
            | "WriteCreatives" >> beam.ParDo(_WriteCreatives(plan)).with_outputs("counts", "shown", main="images")
        )
        grouped["images"] = created.images
        counts.append(created.counts)
        shown.append(created.shown)
    split_times = (
        stored.minutes
        | "SumMinutes" >> beam.CombineGlobally(add_counts)
        | "ChooseSplitTimes" >> beam.Map(choose_split_times, plan.split)
    )
    written = (
        grouped
        | "GroupByChunk" >> beam.CoGroupByKey()
        | "Encode"
        >> beam.ParDo(_Encode(plan), beam.pvalue.AsSingleton(split_times)).with_outputs("conflicts", main="counts")
    )
    counts.append(written.counts)
    if features.identifier_name is not None:
        described = (
            written.conflicts
            | "GroupConflicts" >> beam.GroupByKey()
            | "DescribeConflicts" >> beam.FlatMap(_describe_conflicts).with_outputs("shown", main="counts")
        )
        counts.append(described.counts)
        shown.append(described.shown)
    examples = (
        shown
        | "AllShown" >> beam.Flatten(pipeline=pipeline)
        | "ChooseShown" >> beam.combiners.Top.SmallestPerKey(_SHOWN)
    )
    _ = (
        counts
        | "AllCounts" >> beam.Flatten()
        | "SumCounts" >> beam.CombineGlobally(add_counts)
        | "WriteCounts"
        >> beam.Map(_write_counts, plan.counts_file, beam.pvalue.AsSingleton(split_times), beam.pvalue.AsDict(examples))
    )


def record_files(pipeline: beam.Pipeline, paths: Sequence[str], path: str) -> None:
    """Writes each file's address, size in bytes and SHA-256 as a JSON list, in the given order."""
    _ = (
        pipeline
        | "Paths" >> beam.Create(paths)
        | "ReshufflePaths" >> beam.Reshuffle()
        | "Hash" >> beam.Map(_describe_file)
        | "AllFiles" >> beam.combiners.ToList()
        | "WriteFiles" >> beam.Map(_write_files, list(paths), path)
    )


def _describe_file(path: str) -> dict[str, str | int]:
    return {"path": path, "bytes": filesystem.size(path), "sha256": sha256_of(path)}


def _write_files(files: list[dict[str, str | int]], order: list[str], path: str) -> None:
    places = {file: place for place, file in enumerate(order)}
    with filesystem.open_write_atomic(path) as stream:
        stream.write(json.dumps(sorted(files, key=lambda file: places[str(file["path"])]), indent=1).encode())


def add_counts(counts: Iterable[Mapping[Any, Any]]) -> dict[Any, Any]:
    """Adds up numbers by name."""
    total: Counter[Any] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def _write_counts(
    counts: Mapping[str, int], path: str, times: SplitTimes | None, shown: Mapping[str, list[str]]
) -> None:
    result = {"counts": counts, "split_times": times and asdict(times), "shown": shown}
    with filesystem.open_write_atomic(path) as stream:
        stream.write(json.dumps(result).encode())


#: Knuth's 64-bit multiplier (MMIX).
_HASH_MULTIPLIER = np.uint64(6364136223846793005)


def hash_values(values: Any) -> Hashes:
    """64-bit hashes of a typed column, the same on every machine; all missing values share one."""
    if not len(values):
        return np.zeros(0, np.uint64)
    if pa.types.is_list(values.type):
        values = pc.binary_join(values, b"\x1f")
    if pa.types.is_binary(values.type):
        texts = values.fill_null(b"")
        if pc.count_distinct(texts.slice(0, _LOOKED_AT)).as_py() < _MOST_DISTINCT * min(len(texts), _LOOKED_AT):
            # Each is hashed once.
            encoded = texts.dictionary_encode()
            return _hash_texts(encoded.dictionary)[encoded.indices.to_numpy()]
        return _hash_texts(texts)
    return np.asarray(pd.util.hash_array(values.fill_null(0).to_numpy(zero_copy_only=False)), np.uint64)


def _hash_texts(texts: Any) -> Hashes:
    return np.asarray(pd.util.hash_array(texts.to_numpy(zero_copy_only=False), categorize=False), np.uint64)


def _hash_contents(batch: Any, features: FeatureTable) -> tuple[Hashes, Hashes]:
    """64-bit hashes of rows but for identifier and label, and but for the time too."""
    combined, timeless = np.zeros(batch.num_rows, np.uint64), np.zeros(batch.num_rows, np.uint64)
    for name in features.used:
        if name not in (features.label_name, features.identifier_name):
            hashes = hash_values(_column(batch, name))
            combined = combined * _HASH_MULTIPLIER ^ hashes
            if name != features.timestamp_name:
                timeless = timeless * _HASH_MULTIPLIER ^ hashes
    return combined, timeless


def _hash_rows(batch: Any, features: FeatureTable) -> Hashes:
    """48-bit hashes of rows but for identifier and label, whose remainders are as good as random."""
    # A multiplication spreads the last column's bits over all of them.
    return np.asarray((_hash_contents(batch, features)[0] * _HASH_MULTIPLIER) >> np.uint64(16))


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
    """The rows of a chunk, and those of them that are quarantined, in all and by reason; and its infinite numbers."""
    counts = Counter({"rows_in": chunk.rows_in, "rows_quarantined": len(chunk.quarantined)})
    counts.update(f"quarantined_by_reason/{row.reason}" for row in chunk.quarantined)
    counts.update({f"filled_by_unknown_column/{name}": rows for name, rows in chunk.filled.items()})
    for name, column in zip(chunk.batch.schema.names, chunk.batch.columns, strict=True):
        if pa.types.is_float32(column.type):
            infinite = pc.sum(pc.greater_equal(pc.abs(column), pa.scalar(LARGEST_NUMBER, pa.float32()))).as_py()
            if infinite:
                counts[f"infinite_by_column/{name}"] = infinite
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
    references: Iterable[bytes],
    folder: str,
    settings: IngestionSettings,
    known: Container[str] = (),
    store: CreativeStore | None = None,
    on_read: Callable[[], None] = lambda: None,
) -> Iterator[list[tuple[bytes, Creative]]]:
    """Reads the distinct images among addresses relative to a folder, in their order, some at a time.

    The next ones are read and decoded while the caller is busy with some.

    Args:
        references: The addresses.
        folder: What they are relative to.
        settings: Size of the result, and limits.
        known: As for `read_creative`.
        store: From where creatives are recalled; then `known` counts for nothing.
        on_read: Is called after each image.
    """
    distinct = sorted(set(references))

    def address(reference: bytes) -> str:
        return filesystem.join(folder, reference.decode())

    def read(reference: bytes) -> Creative:
        if store is not None:
            return recall_creative(address(reference), settings, store)
        return read_creative(address(reference), settings, known)

    missing = MissingImages(folder)
    most = max(_BYTES_AT_A_TIME // (3 * settings.image_size**2), 1)
    at_a_time, ahead = min(_IMAGES_AT_A_TIME, most), min(_IMAGES_AHEAD, most)
    in_bucket = any(is_bucket_address(address(reference)) for reference in distinct)
    threads = BUCKET_IMAGE_THREADS if in_bucket else _IMAGE_THREADS_PER_CORE * len(os.sched_getaffinity(0))
    pool = ThreadPoolExecutor(threads)
    try:
        creatives = _in_order(pool, read, distinct, ahead)
        for start in range(0, len(distinct), at_a_time):
            some = distinct[start : start + at_a_time]
            taken = []
            for reference in some:
                taken.append((reference, _with_cause(next(creatives), reference, missing)))
                on_read()
            yield taken
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, read: Callable[[bytes], Creative], references: Sequence[bytes], ahead: int
) -> Iterator[Creative]:
    """Reads images in a pool, at most so many ahead of the caller that memory stays bounded."""
    waiting: deque[Future[Creative]] = deque()
    for reference in references:
        waiting.append(pool.submit(read, reference))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _with_cause(creative: Creative, reference: bytes, missing: MissingImages) -> Creative:
    """The creative, with the likely cause if its file is missing."""
    if creative.status != MISSING:
        return creative
    cause = missing.cause(reference.decode())
    return replace(creative, cause=cause, error=CAUSES[cause])


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
        contents, timeless = _hash_contents(batch, features)
        hashes = None
        if features.identifier_name is not None:
            hashes = hash_values(_column(batch, features.identifier_name))
        set_aside(_with_hashes(batch, contents, hashes), _stored_file(plan, name))
        yield name, batch.num_rows
        if hashes is not None:
            clicked = _column(batch, features.label_name).to_numpy() == 1
            seconds = np.zeros(batch.num_rows, np.int64)
            if features.timestamp_name is not None:
                seconds = _column(batch, features.timestamp_name).fill_null(0).to_numpy()
            for part, rows in _parts(hashes, _partitions(plan.drop_bytes, _BYTES_PER_IDENTIFIER_PARTITION)):
                found = IdentifiedRows(
                    chunk.file_index,
                    chunk.part,
                    rows.astype(np.int32),
                    hashes[rows],
                    timeless[rows],
                    seconds[rows],
                    clicked[rows],
                )
                yield beam.pvalue.TaggedOutput("identifiers", (part, found))
        if features.timestamp_name is not None:
            outside = months_outside(_column(batch, features.timestamp_name).drop_null().to_numpy(), plan.span)
            yield beam.pvalue.TaggedOutput("counts", {f"rows_dated_in/{month}": n for month, n in outside.items()})
        if features.timestamp_name is not None and plan.split.by == "time":
            minutes, rows = np.unique(_column(batch, features.timestamp_name).to_numpy() // MINUTE, return_counts=True)
            yield beam.pvalue.TaggedOutput("minutes", dict(zip(minutes.tolist(), rows.tolist(), strict=True)))
        if features.image_name is not None:
            for part, references in image_references(batch, features.image_name, plan.drop_bytes):
                yield beam.pvalue.TaggedOutput("images", (part, (name, references)))


def _with_hashes(batch: Any, contents: Hashes, identifiers: Hashes | None) -> Any:
    """The batch with hashes of its rows as its last columns."""
    hashes = [pa.array(found, pa.uint64()) for found in (contents, identifiers) if found is not None]
    names = [f"hashes_{number}" for number in range(len(hashes))]
    return pa.RecordBatch.from_arrays([*batch.columns, *hashes], [*batch.schema.names, *names])


def _without_hashes(batch: Any, features: FeatureTable) -> tuple[Any, Hashes, Hashes | None]:
    """A batch as it was before `_with_hashes`, the hashes of its contents and of its identifiers."""
    columns, names = list(batch.columns), list(batch.schema.names)
    identifiers = None
    if features.identifier_name is not None:
        identifiers, _ = columns.pop().to_numpy(), names.pop()
    contents, _ = columns.pop().to_numpy(), names.pop()
    return pa.RecordBatch.from_arrays(columns, names), contents, identifiers


def _stored_file(plan: IngestionPlan, name: str) -> str:
    return filesystem.join(plan.work_folder, f"chunk-{name}.arrow")


def _column(batch: Any, name: str) -> Any:
    return batch.column(batch.schema.get_field_index(name))


def _repeated(group: tuple[int, Iterable[IdentifiedRows]]) -> Iterator[tuple[str, RepeatedRows]]:
    """The rows of a partition whose identifiers repeat, by chunk."""
    for found in find_repeated(group[1]):
        yield chunk_name(found.file_index, found.part), found


def _describe_conflicts(
    group: tuple[int, Iterable[tuple[bool, str, dict[str, str]]]],
) -> Iterator[Any]:
    """Of the rows of one identifier that were looked at, how they differ."""
    rows = sorted(group[1], key=lambda row: not row[0])
    (_, identifier, first), (_, _, other) = rows[0], rows[-1]
    differing, text = describe_conflict(identifier, first, other)
    yield beam.pvalue.TaggedOutput("shown", ("conflicting_rows", text))
    yield {f"conflicts_by_column/{name}": 1 for name in differing}


_ImageAnswers = dict[bytes, tuple[str, str]]


class _WriteCreatives(beam.DoFn):
    """Reads the images of a partition, writes them as creatives, and tells each chunk its images' keys and statuses."""

    def __init__(self, plan: IngestionPlan) -> None:
        super().__init__()
        self._plan = plan
        self._progress: ImageProgress | None = None

    def process(self, group: tuple[int, Iterable[tuple[str, list[bytes]]]]) -> Iterator[Any]:
        partition, chunks = group[0], list(group[1])
        references = {reference for _, found in chunks for reference in found}
        if self._progress is None:
            partitions = _partitions(self._plan.drop_bytes, _BYTES_PER_IMAGE_PARTITION)
            self._progress = ImageProgress(self._plan.drop_uri, partitions)
        self._progress.begin(len(references))
        answers: _ImageAnswers = {}
        written: set[str] = set()
        path = filesystem.join(self._plan.creatives_folder, f"creatives-{partition:05d}")
        counts: Counter[str] = Counter()
        self._note_outside_images(partition, sorted(references))
        with (
            self._open_store() as store,
            filesystem.atomic_path(path) as temporary,
            tf.io.TFRecordWriter(temporary) as writer,
        ):
            for some in read_images(
                references, self._plan.image_folder, self._plan.ingestion, store=store, on_read=self._progress.add
            ):
                for reference, creative in some:
                    answers[reference] = creative.key, creative.status
                    counts[f"creatives_by_status/{creative.status}"] += 1
                    if creative.status != OK:
                        reason = creative.cause or creative.status
                        counts[f"unusable_images_by_cause/{reason}"] += 1
                        text = reference.decode()
                        shown = text if creative.cause else f"{text}: {creative.error}"
                        yield beam.pvalue.TaggedOutput("shown", (f"unusable_images/{reason}", shown))
                    if creative.key not in written:
                        writer.write(write_record(creative))
                        written.add(creative.key)
        if store is not None:
            counts.update({f"images_by_reading/{how}": images for how, images in store.counts.items()})
            for trouble in store.troubles:
                yield beam.pvalue.TaggedOutput("shown", ("creative_store", trouble))
        for name, found in chunks:
            yield name, {reference: answers[reference] for reference in found}
        yield beam.pvalue.TaggedOutput("counts", dict(counts))

    def _open_store(self) -> contextlib.AbstractContextManager[CreativeStore | None]:
        if self._plan.creative_store is None:
            return contextlib.nullcontext()
        return CreativeStore(self._plan.creative_store, decoding_rule(self._plan.ingestion.image_size))

    def _note_outside_images(self, partition: int, references: Iterable[bytes]) -> None:
        """Writes the states of the images that the fingerprint of the drop's folder does not cover, before a look."""
        folder = DropFolder(self._plan.drop_uri, is_folder=self._plan.drop_uri == self._plan.image_folder)
        addresses = [filesystem.join(self._plan.image_folder, reference.decode()) for reference in references]
        outside = [address for address in addresses if not folder.covers(address)]
        if outside:
            path = filesystem.join(self._plan.creatives_folder, f"outside_images-{partition:05d}.jsonl")
            write_states(path, zip(outside, states_now(outside), strict=True))


class _Encode(beam.DoFn):
    """Takes a chunk up again, drops its duplicates and writes its examples to their splits."""

    def __init__(self, plan: IngestionPlan) -> None:
        super().__init__()
        self._plan = plan

    def process(self, group: tuple[str, Mapping[str, Iterable[Any]]], times: SplitTimes | None) -> Iterator[Any]:
        plan = self._plan
        name, found = group
        batch, contents, hashes = _without_hashes(take_up(_stored_file(plan, name)), plan.features)
        kept, clicked = np.ones(batch.num_rows, np.bool_), np.zeros(batch.num_rows, np.bool_)
        counts: Counter[str] = Counter()
        for repeated in found.get("repeated", ()):
            kept[repeated.dropped] = False
            clicked[repeated.clicked] = True
            counts["rows_conflicting"] += repeated.conflicting
            counts["rows_of_clicks"] += repeated.of_clicks
            for row, (identifier, is_first) in repeated.looked_at.items():
                shown = (is_first, *_as_texts(batch, row, plan.features))
                yield beam.pvalue.TaggedOutput("conflicts", (identifier, shown))
        counts["rows_duplicate"] = int((~kept).sum())
        counts["rows_clicked_later"] = int(clicked.sum())
        if clicked.any():
            batch = _with_clicks(batch, plan.features.label_name, clicked)
        split_of_row = self._split_of_row(batch, times)
        write_row_hashes(
            plan.row_hashes_folder,
            name,
            None if hashes is None else hashes[kept],
            contents[kept],
            split_of_row[kept],
            _column(batch, plan.features.label_name).to_numpy()[kept] == 1,
        )
        if plan.features.image_name is not None:
            answers: _ImageAnswers = {}
            for some in found["images"]:
                answers.update(some)
            batch = _with_image_keys(batch, plan.features, answers)
        for number, split in enumerate(SPLITS):
            chosen = kept & (split_of_row == number)
            if chosen.any():
                mask = pa.array(chosen)
                columns = batch.columns if chosen.all() else [column.filter(mask) for column in batch.columns]
                part = pa.RecordBatch.from_arrays(columns, batch.schema.names)
                counts[f"rows_{split}"] += self._write(plan.split_folders[split], name, part)
                if plan.features.image_name is not None:
                    for status in _column(part, plan.features.image_status_name).value_counts().to_pylist():
                        counts[f"impressions_by_image_status/{status['values'].decode()}"] += status["counts"]
        yield dict(counts)

    def _split_of_row(self, batch: Any, times: SplitTimes | None) -> Ints:
        """Each row's position in `SPLITS`."""
        split, features = self._plan.split, self._plan.features
        if split.by == "hash":
            column = split.column or features.identifier_name
            hashes = _hash_rows(batch, features) if column is None else hash_values(_column(batch, column))
            steps = (hashes % np.uint64(_HASH_STEPS)).astype(np.int64)
            # Evaluation's come first, so that which these are does not depend on the share of validation.
            bounds = np.round(np.cumsum([split.eval_share, split.validation_share]) * _HASH_STEPS)
            return np.asarray(len(SPLITS) - 1 - np.searchsorted(bounds, steps, side="right"))
        if times is None:
            return np.zeros(batch.num_rows, np.int64)
        seconds = _column(batch, features.timestamp_name or "").to_numpy()
        return np.asarray(np.searchsorted([times.validation_from, times.evaluation_from], seconds, side="right"))

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


def _with_clicks(batch: Any, label_name: str, clicked: Bools) -> Any:
    """The batch with some more rows clicked."""
    position = batch.schema.get_field_index(label_name)
    columns = list(batch.columns)
    columns[position] = pa.array(np.where(clicked, 1, columns[position].to_numpy()), pa.int64())
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _as_texts(batch: Any, row: int, features: FeatureTable) -> tuple[str, dict[str, str]]:
    """A row's identifier, and its other values but the label as texts by column."""

    def text(name: str) -> str:
        value = _column(batch, name)[row].as_py()
        parts = value if isinstance(value, list) else [value]
        return "|".join(
            "" if part is None else part.decode("utf-8", "replace") if isinstance(part, bytes) else f"{part:.9g}"
            for part in parts
        )[:_SHOWN_CHARACTERS]

    others = [name for name in features.used if name not in (features.label_name, features.identifier_name)]
    return text(features.identifier_name or ""), {name: text(name) for name in others}


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
