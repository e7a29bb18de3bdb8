"""One image file to one creative: read once, checked before it is decoded, decoded once."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Container

from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.models.creatives import CORRUPT, MISSING, OK, OVERSIZED, Creative
from adclick.models.images import CorruptImage, OversizedImage, decode_bytes, inspect_image
from adclick.storage import filesystem

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
        decoded = decode_bytes(encoded, header, settings.image_size)
    except CorruptImage as error:
        return Creative(key, CORRUPT, address, str(error), width=header.width, height=header.height)
    return Creative(key, OK, address, image=decoded.pixels, width=decoded.width, height=decoded.height)


def _unread(address: str, status: str, error: str) -> Creative:
    digits = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()[:_KEY_DIGITS]
    return Creative(f"{status}-{digits}", status, address, error)


def _plain(error: OSError | ValueError) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
