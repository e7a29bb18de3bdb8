"""One image file to one creative: read once, checked before it is decoded, decoded once."""

from __future__ import annotations

import errno
import functools
import hashlib
import threading
from collections.abc import Callable, Container
from typing import Any

import tensorflow as tf

from components.ad_example_gen.settings import IngestionSettings
from models.creatives import CORRUPT, MISSING, OK, OVERSIZED, Creative
from models.images import (
    CorruptImage,
    OversizedImage,
    decode_and_resize,
    inspect_image,
    to_decodable,
    upright_size,
    why_corrupt,
)
from storage import filesystem

_KEY_DIGITS = 32
#: What says that there is no such file for us; anything else is the machine's trouble, not a missing image.
_ABSENT = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
}

_TRACING = threading.Lock()


def decoder(size: int) -> Callable[[bytes], bytes]:
    """A compiled `decode_and_resize` from encoded bytes to pixel bytes; safe to call from several threads."""
    # Threads that start together would otherwise each trace it.
    with _TRACING:
        return _traced_decoder(size)


@functools.lru_cache(maxsize=4)
def _traced_decoder(size: int) -> Callable[[bytes], bytes]:
    function = tf.function(functools.partial(decode_and_resize, size=size), autograph=False)
    decode: Any = function.get_concrete_function(tf.TensorSpec([], tf.string))
    return lambda encoded: bytes(decode(tf.constant(encoded)).numpy().tobytes())


def read_creative(address: str, settings: IngestionSettings, known: Container[str] = ()) -> Creative:
    """Reads an image file; whatever is wrong with it is a status.

    Args:
        address: The file.
        settings: Size of the result, and limits.
        known: Keys of good creatives whose pixels are at hand; such a file is not decoded, and comes without pixels.

    Raises:
        OSError: The file system fails in a way that says nothing about the file.
        AdclickError: A bucket denies the file, or does not answer.
    """
    try:
        encoded = filesystem.read(address, settings.max_image_bytes + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None and error.errno not in _ABSENT:
            raise
        return _unread(address, MISSING, _plain(error))
    if len(encoded) > settings.max_image_bytes:
        return _unread(address, OVERSIZED, f"the file has more than {settings.max_image_bytes:,} bytes")
    key = hashlib.sha256(encoded).hexdigest()[:_KEY_DIGITS]
    if key in known:
        return Creative(key, OK, address)
    try:
        header = inspect_image(encoded, settings.max_image_pixels)
    except OversizedImage as error:
        return Creative(key, OVERSIZED, address, str(error))
    except CorruptImage as error:
        return Creative(key, CORRUPT, address, str(error))
    try:
        decodable = to_decodable(encoded)
        pixels = decoder(settings.image_size)(decodable)
        width, height = upright_size(decodable)
    except CorruptImage as error:
        return Creative(key, CORRUPT, address, str(error), width=header.width, height=header.height)
    except tf.errors.InvalidArgumentError:
        return Creative(key, CORRUPT, address, why_corrupt(encoded), width=header.width, height=header.height)
    return Creative(key, OK, address, image=pixels, width=width, height=height)


def _unread(address: str, status: str, error: str) -> Creative:
    digits = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()[:_KEY_DIGITS]
    return Creative(f"{status}-{digits}", status, address, error)


def _plain(error: OSError | ValueError) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
