"""Creatives as they are stored: each distinct image once, decoded, with its key and its status."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import tensorflow as tf

OK = "ok"
MISSING = "missing"
CORRUPT = "corrupt"
OVERSIZED = "oversized"
#: The status of an impression that names no image.
NONE = "none"


@dataclass(frozen=True)
class Creative:
    """An image of a drop.

    Attributes:
        key: Identifies the content: 32 hexadecimal digits of the SHA-256 of the file's bytes; of a file that was not
            read whole, its status, a hyphen and as many digits of the hash of its address.
        status: `ok`, `missing`, `corrupt` or `oversized`.
        source: The file's address.
        error: Why the status is not `ok`, in words.
        cause: The likely cause in one word, where the status does not say it.
        image: The pixels, uint8 RGB, size × size × 3 bytes row by row; None unless the status is `ok`.
        width: Pixels of the original; 0 if unknown.
        height: Pixels of the original; 0 if unknown.
    """

    key: str
    status: str
    source: str
    error: str = ""
    image: bytes | None = None
    width: int = 0
    height: int = 0
    cause: str = ""


def write_record(creative: Creative) -> bytes:
    """A creative as a serialized `tf.Example`."""

    def text(value: str) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode("utf-8", "surrogateescape")]))

    def number(value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    features = {
        "key": text(creative.key),
        "status": text(creative.status),
        "source": text(creative.source),
        "error": text(creative.error),
        "cause": text(creative.cause),
        "width": number(creative.width),
        "height": number(creative.height),
    }
    if creative.image is not None:
        features["image"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[creative.image]))
    return bytes(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def read_record(record: bytes) -> Creative:
    """The creative of a serialized `tf.Example`."""
    features = tf.train.Example.FromString(record).features.feature

    def text(name: str) -> str:
        return str(features[name].bytes_list.value[0].decode("utf-8", "surrogateescape"))

    return Creative(
        key=text("key"),
        status=text("status"),
        source=text("source"),
        error=text("error"),
        image=features["image"].bytes_list.value[0] if "image" in features else None,
        width=features["width"].int64_list.value[0],
        height=features["height"].int64_list.value[0],
        cause=text("cause"),
    )


def read_creatives(paths: Iterable[str]) -> Iterator[Creative]:
    """Reads creatives files in the given order; of several records with one key, only the first."""
    seen: set[str] = set()
    files = list(paths)
    if not files:
        return
    for record in tf.data.TFRecordDataset(files, buffer_size=1 << 20).prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
        creative = read_record(record)
        if creative.key not in seen:
            seen.add(creative.key)
            yield creative
