"""Tells an exported model creatives that it has never seen, as the gateway would by sending their images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from adclick.models.creatives import Creative, read_creatives
from adclick.models.export import CREATIVES_ASSET, creative_line
from adclick.schema.signatures import CREATIVE_EMBEDDING, EMBED_CREATIVE
from adclick.storage.literal_path import literal_path

_BATCH = 256


def pixels_as_png(pixels: bytes) -> bytes:
    """Encodes a stored creative, square uint8 RGB, as PNG; without loss."""
    size = round((len(pixels) / 3) ** 0.5)
    image = np.frombuffer(pixels, np.uint8).reshape(size, size, 3)
    return bytes(tf.io.encode_png(image).numpy())


def extend_creatives(model_folder: str, creative_files: Iterable[str]) -> int:
    """Adds the embeddings of unknown creatives to an exported model, in place.

    The model embeds them with its own image tower.

    Args:
        model_folder: A SavedModel of ours, not one that is being served.
        creative_files: TFRecord files of creatives.

    Returns:
        The number of creatives added; 0 for a model without images.
    """
    asset = os.path.join(model_folder, "assets", CREATIVES_ASSET)
    if not tf.io.gfile.exists(asset):
        return 0
    with tf.io.gfile.GFile(asset, "r") as stream:
        text = stream.read()
    known = {line.partition("\t")[0] for line in text.splitlines()}
    embed = tf.saved_model.load(literal_path(model_folder)).signatures[EMBED_CREATIVE]
    (image_name,) = embed.structured_input_signature[1]
    lines = []
    for batch in _batches(_unknown(read_creatives(creative_files), known)):
        images = tf.constant([pixels_as_png(creative.image or b"") for creative in batch])
        embeddings: npt.NDArray[np.float32] = embed(**{image_name: images})[CREATIVE_EMBEDDING].numpy()
        lines += [creative_line(creative.key, row) for creative, row in zip(batch, embeddings, strict=True)]
    with tf.io.gfile.GFile(asset, "w") as stream:
        stream.write(text + "".join(lines))
    return len(lines)


def _unknown(creatives: Iterable[Creative], known: set[str]) -> Iterator[Creative]:
    for creative in creatives:
        if creative.image is not None and creative.key not in known:
            known.add(creative.key)
            yield creative


def _batches(creatives: Iterator[Creative]) -> Iterator[list[Creative]]:
    while batch := list(islice(creatives, _BATCH)):
        yield batch
