"""Training data: transformed once into memory-mapped columns, then read in shuffled batches.

Memory is bounded by a block of rows, never by the data set: the columns and the creatives' pixels live in files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from adclick.models.creatives import read_creatives
from adclick.models.features import InputLayout, text_columns
from adclick.models.network import CATEGORIES, MULTIPLES, NUMBERS, TEXTS
from adclick.models.preprocessing import ColumnTransform
from adclick.models.requests import parse_examples
from adclick.models.text_store import Texts, TextStore
from adclick.schema.feature_table import FeatureTable

_TRANSFORM_ROWS = 8_192
#: Rows are shuffled within windows of this many, and the windows among each other.
_SHUFFLE_ROWS = 1_048_576


class TrainingCreatives:
    """The distinct creatives of the window: their keys, and their pixels in a memory-mapped file.

    Attributes:
        keys: Creative keys as bytes, sorted.
        images: uint8 [number of keys, size, size, 3], in the order of `keys`.
    """

    def __init__(self, paths: Iterable[str], image_size: int, folder: Path) -> None:
        pixels = image_size * image_size * 3
        file = folder / "creatives.uint8"
        keys: dict[bytes, int] = {}
        with file.open("wb") as stream:
            for creative in read_creatives(paths):
                key = creative.key.encode()
                if creative.image is None or key in keys:
                    continue
                stream.write(creative.image)
                keys[key] = len(keys)
            if not keys:
                stream.write(bytes(pixels))
        stored = np.memmap(file, np.uint8, "r").reshape(-1, image_size, image_size, 3)
        order = sorted(keys)
        self.keys: npt.NDArray[np.bytes_] = np.array(order, dtype=np.bytes_)
        self._rows = np.array([keys[key] for key in order], dtype=np.int64)
        self._stored = stored

    def __len__(self) -> int:
        return len(self.keys)

    def images(self, positions: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """Pixels of the creatives at these positions of `keys`, uint8 [n, size, size, 3]."""
        if not len(self):
            return np.zeros((len(positions), *self._stored.shape[1:]), np.uint8)
        return np.asarray(self._stored[self._rows[positions]])

    def positions(self, keys: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int32]:
        """Positions in `keys`, -1 where a key is not there."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int32)
        found = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[found] == keys, found, -1).astype(np.int32)


@dataclass(frozen=True)
class Columns:
    """Transformed impressions as arrays with a row each.

    Attributes:
        categories: int32 [rows, single-valued fields].
        multiples: int32 [rows, total width of multi-valued fields].
        numbers: float32 [rows, quantities].
        creative: int32 [rows], the position of the creative in the store, -1 for none.
        clicked: float32 [rows].
        texts: The texts; None without any.
    """

    categories: npt.NDArray[np.int32]
    multiples: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.float32]
    creative: npt.NDArray[np.int32]
    clicked: npt.NDArray[np.float32]
    texts: Texts | None = None

    def __len__(self) -> int:
        return len(self.clicked)

    def take(self, rows: slice | npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Columns:
        """The impressions of these rows."""
        return Columns(
            self.categories[rows],
            self.multiples[rows],
            self.numbers[rows],
            self.creative[rows],
            self.clicked[rows],
            None if self.texts is None else self.texts.take(rows),
        )

    def joined(self, later: Columns) -> Columns:
        """These impressions and then others, in memory."""
        arrays = {
            field.name: np.concatenate([getattr(self, field.name), getattr(later, field.name)])
            for field in fields(Columns)
            if field.name != "texts"
        }
        texts = None if self.texts is None or later.texts is None else self.texts.joined(later.texts)
        return Columns(**arrays, texts=texts)

    def last(self, count: int) -> Columns:
        """The newest impressions, `count` at most."""
        return self.take(slice(max(0, len(self) - count), None))


class Reader:
    """Parses and transforms examples in the network's input form; its graph is traced once for all files.

    Attributes:
        texts: The distinct texts that were read; None without any.
    """

    def __init__(self, transform: ColumnTransform, features: FeatureTable) -> None:
        self._transform = transform
        self._features = features
        self._text_names = text_columns(features)
        self.texts = TextStore(transform.layout.texts) if self._text_names else None
        # The graph has no Python control flow to convert, and looking for it takes seconds.
        self.parse = tf.function(self._parse, [tf.TensorSpec([None], tf.string)], autograph=False)

    @property
    def layout(self) -> InputLayout:
        return self._transform.layout

    def _parse(self, records: tf.Tensor) -> dict[str, tf.Tensor]:
        features = self._features
        raw = parse_examples(records, features, labelled=True)
        clicked = tf.cast(tf.maximum(raw[features.label_name], 0), tf.float32)
        parts = {**self._transform(raw)._asdict(), "clicked": clicked}
        if features.image_name is not None:
            parts["creative"] = raw[features.image_name]
        if self._text_names:
            parts["texts"] = tf.stack([raw[name] for name in self._text_names], axis=1)
        return parts


def read_columns(
    files: Sequence[str], reader: Reader, store: TrainingCreatives | None, folder: Path, name: str
) -> Columns:
    """Transforms example files into memory-mapped columns.

    Args:
        files: TFRecord files of `tf.Example`, gzipped where the name ends in `.gz`.
        reader: How they are parsed.
        store: The creatives, where the table has an image.
        folder: Where the arrays are kept.
        name: Distinguishes the arrays of several calls in one folder.
    """
    layout = reader.layout
    widths = {
        "categories": (np.int32, len(layout.singles)),
        "multiples": (np.int32, sum(field.width for field in layout.multiples)),
        "numbers": (np.float32, len(layout.numbers)),
        "creative": (np.int32, None),
        "clicked": (np.float32, None),
    }
    if reader.texts is not None:
        widths["texts"] = (np.int32, len(layout.texts))
    writers = {part: (folder / f"{name}.{part}").open("wb") for part in widths}
    rows = 0
    try:
        for records in record_datasets(files):
            parsed = records.batch(_TRANSFORM_ROWS).map(reader.parse, num_parallel_calls=tf.data.AUTOTUNE)
            for found in parsed.prefetch(2).as_numpy_iterator():
                count = len(found["clicked"])
                rows += count
                if store is None:
                    found["creative"] = np.full(count, -1, np.int32)
                else:
                    found["creative"] = store.positions(found["creative"].astype(np.bytes_))
                if reader.texts is not None:
                    found["texts"] = reader.texts.positions(found["texts"])
                for part, writer in writers.items():
                    writer.write(np.ascontiguousarray(found[part]).tobytes())
    finally:
        for writer in writers.values():
            writer.close()

    def column(part: str) -> npt.NDArray[Any]:
        dtype, width = widths[part]
        shape = (rows,) if width is None else (rows, width)
        return np.memmap(folder / f"{name}.{part}", dtype, "r", shape=shape) if all(shape) else np.zeros(shape, dtype)

    columns = {part: column(part) for part in widths if part != "texts"}
    return Columns(**columns, texts=None if reader.texts is None else Texts(column("texts"), reader.texts))


def record_datasets(files: Sequence[str]) -> Iterator[tf.data.Dataset]:
    """The serialized examples of TFRecord files, gzipped where their names end in `.gz`; those first."""
    for compression in ("GZIP", ""):
        chosen = sorted(file for file in files if file.endswith(".gz") == (compression == "GZIP"))
        if chosen:
            yield tf.data.TFRecordDataset(chosen, compression, 1 << 20)


@dataclass(frozen=True)
class Hiding:
    """Hides a share of what a training batch shows, so that the network learns what unknown means.

    Attributes:
        rates: By single-valued field, the share of values to hide; 0 where the field has no unknown bucket.
        unknown: By single-valued field, the number of its unknown bucket, -1 where it has none.
        creative_rate: The share of creatives to hide.
    """

    rates: npt.NDArray[np.float64]
    unknown: npt.NDArray[np.int32]
    creative_rate: float

    @staticmethod
    def of(layout: InputLayout, rate: float, rates: Mapping[str, float] | None = None) -> Hiding:
        """Hides every field at `rate`, but for those that `rates` names."""
        by_field = [0.0 if f.unknown is None else (rates or {}).get(f.name, rate) for f in layout.singles]
        unknown = np.array([-1 if f.unknown is None else f.unknown for f in layout.singles], np.int32)
        return Hiding(np.array(by_field), unknown, rate)


@dataclass(frozen=True)
class TrainingBatch:
    """Impressions in the network's input form, and the images to embed anew.

    Attributes:
        inputs: The network's inputs but for the creatives; of texts, their places in the store, int32 [b, fields].
        creative: int32 [b], 1 + the creative's position in the store, 0 for none.
        fresh: int32 [k], what `creative` says of the distinct creatives whose images come along.
        fresh_slot: int32 [b], 1 + the position of the impression's creative in `fresh`, 0 where it is not there.
        images: uint8 [k, size, size, 3]; where k is 0 and there is a store, one image that counts for nothing.
        clicked: float32 [b].
    """

    inputs: dict[str, npt.NDArray[np.generic]]
    creative: npt.NDArray[np.int32]
    fresh: npt.NDArray[np.int32]
    fresh_slot: npt.NDArray[np.int32]
    images: npt.NDArray[np.uint8]
    clicked: npt.NDArray[np.float32]


def batches(
    columns: Columns,
    store: TrainingCreatives | None,
    batch_size: int,
    *,
    seed: int | None = None,
    hiding: Hiding | None = None,
    fresh: int = 0,
) -> Iterator[TrainingBatch]:
    """Gives one pass over the data.

    Args:
        columns: The impressions.
        store: The creatives.
        batch_size: Impressions per batch.
        seed: Shuffles with this seed; in stored order if None.
        hiding: What to hide; nothing if None.
        fresh: At most so many of a batch's distinct creatives bring their images, chosen at random.
    """
    rows = len(columns)
    random = np.random.default_rng(seed)
    windows = np.arange(0, rows, _SHUFFLE_ROWS)
    if seed is not None:
        random.shuffle(windows)
    for start in windows.tolist():
        order = np.arange(start, min(start + _SHUFFLE_ROWS, rows))
        if seed is not None:
            random.shuffle(order)
        for first in range(0, len(order), batch_size):
            yield _batch(columns, store, order[first : first + batch_size], random, hiding, fresh)


def _batch(
    columns: Columns,
    store: TrainingCreatives | None,
    chosen: npt.NDArray[np.int64],
    random: np.random.Generator,
    hiding: Hiding | None,
    fresh: int,
) -> TrainingBatch:
    categories = columns.categories[chosen]
    creative = columns.creative[chosen] + 1
    if hiding is not None:
        categories = np.where(random.random(categories.shape) < hiding.rates, hiding.unknown, categories)
        creative = np.where(random.random(len(chosen)) < hiding.creative_rate, np.int32(0), creative)
    inputs: dict[str, npt.NDArray[np.generic]] = {CATEGORIES: categories, NUMBERS: columns.numbers[chosen]}
    if columns.multiples.shape[1]:
        inputs[MULTIPLES] = columns.multiples[chosen]
    if columns.texts is not None:
        inputs[TEXTS] = columns.texts.positions[chosen]
    clicked = columns.clicked[chosen]
    distinct = np.zeros(0, np.int32)
    if store is not None and fresh:
        distinct = np.unique(creative[creative > 0])
        if len(distinct) > fresh:
            distinct = np.sort(random.choice(distinct, fresh, replace=False))
    slots = np.zeros(int(creative.max(initial=0)) + 1, np.int32)
    slots[distinct] = np.arange(1, len(distinct) + 1)
    # At least one: a convolution of none fails in TensorFlow's fused kernels.
    positions = distinct - 1 if len(distinct) else np.zeros(1, np.int32)
    images = np.zeros((0, 0, 0, 3), np.uint8) if store is None else store.images(positions)
    return TrainingBatch(inputs, creative, distinct, slots[creative], images, clicked)
