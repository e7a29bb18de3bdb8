"""One image file to one creative: read once, checked before it is decoded, decoded once, or recalled."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Container
from typing import TypeGuard

from adclick.components.ad_example_gen.creative_store import (
    CHANGED,
    NEW,
    SAME_CONTENT,
    UNCHANGED,
    UNUSABLE,
    CreativeStore,
    StoredCreative,
)
from adclick.components.ad_example_gen.pixel_budget import PixelBudget
from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.models.creatives import CORRUPT, MISSING, OK, OVERSIZED, Creative
from adclick.models.images import CorruptImage, OversizedImage, decode_bytes, decoded_pixels, inspect_image
from adclick.storage import filesystem

_KEY_DIGITS = 32
#: Decoding takes up to some 40 bytes a pixel, where opacity is taken off.
_DECODING = PixelBudget(40_000_000)
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
    encoded = _read(address, settings, lambda limit: filesystem.read(address, limit))
    if isinstance(encoded, Creative):
        return encoded
    key = _key(encoded)
    return Creative(key, OK, address) if key in known else _decode(address, key, encoded, settings)


def recall_creative(address: str, settings: IngestionSettings, store: CreativeStore) -> Creative:
    """Gives the creative that `read_creative` would: from the store if it can, to which it is told if not.

    A file whose state is as before is not opened, and one whose content is known not decoded. What is no good is not
    kept. For errors see `read_creative`.
    """
    before = store.find_address(address)
    state = filesystem.state(address)
    if before is not None and state and before.state == state and _allowed(before.creative, settings):
        store.count(UNCHANGED)
        return before.creative.creative(address)
    is_settled = False

    def read(limit: int) -> bytes:
        nonlocal is_settled
        content, is_settled = filesystem.read_in_state(address, limit, state)
        return content

    encoded = _read(address, settings, read)
    if isinstance(encoded, Creative):
        store.count(UNUSABLE)
        return encoded
    key = _key(encoded)
    stored = store.find_content(key)
    if _allowed(stored, settings):
        store.count(SAME_CONTENT)
    else:
        decoded = _decode(address, key, encoded, settings)
        if decoded.image is None:
            store.count(UNUSABLE)
            return decoded
        stored = StoredCreative(key, len(encoded), decoded.width, decoded.height, decoded.image)
        store.count(NEW if before is None else CHANGED)
    store.keep(address, state if is_settled else "", stored)
    return stored.creative(address)


def _allowed(stored: StoredCreative | None, settings: IngestionSettings) -> TypeGuard[StoredCreative]:
    """Whether there is a creative, and within the limits, which may have been others when it was stored."""
    return (
        stored is not None
        and stored.size <= settings.max_image_bytes
        and stored.width * stored.height <= settings.max_image_pixels
    )


def _read(address: str, settings: IngestionSettings, read: Callable[[int], bytes]) -> bytes | Creative:
    """The bytes of a file, or what it is without them."""
    try:
        encoded = read(settings.max_image_bytes + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None and error.errno not in _ABSENT:
            raise
        return _unread(address, MISSING, _plain(error))
    if len(encoded) > settings.max_image_bytes:
        return _unread(address, OVERSIZED, f"the file has more than {settings.max_image_bytes:,} bytes")
    return encoded


def _key(encoded: bytes) -> str:
    return hashlib.sha256(encoded).hexdigest()[:_KEY_DIGITS]


def _decode(address: str, key: str, encoded: bytes, settings: IngestionSettings) -> Creative:
    try:
        header = inspect_image(encoded, settings.max_image_pixels)
    except OversizedImage as error:
        return Creative(key, OVERSIZED, address, str(error))
    except CorruptImage as error:
        return Creative(key, CORRUPT, address, str(error))
    try:
        with _DECODING.taking(decoded_pixels(header, settings.image_size)):
            decoded = decode_bytes(encoded, header, settings.image_size)
    except CorruptImage as error:
        return Creative(key, CORRUPT, address, str(error), width=header.width, height=header.height)
    return Creative(key, OK, address, image=decoded.pixels, width=decoded.width, height=decoded.height)


def _unread(address: str, status: str, error: str) -> Creative:
    digits = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()[:_KEY_DIGITS]
    return Creative(f"{status}-{digits}", status, address, error)


def _plain(error: OSError | ValueError) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
