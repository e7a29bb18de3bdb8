"""Objects in buckets: of Google Cloud Storage, gs://bucket/name, and of S3 and what speaks its protocol, s3://…

What differs between stores is in `google_storage` and `s3`; what it is used for, here.
"""

from __future__ import annotations

import contextlib
import io
import os
import uuid
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO

from adclick.schema.errors import ConfigError
from adclick.storage.object_store import BucketDenied, BucketUnavailable, Object, missing, split

if TYPE_CHECKING:
    from adclick.storage.object_store import ObjectStore

__all__ = ["BucketDenied", "BucketUnavailable", "Object"]

GOOGLE, S3 = "gs://", "s3://"
_READ_BYTES = 8 << 20
_THREADS = 16


def is_bucket_address(path: str) -> bool:
    """Whether the address begins with gs:// or s3://."""
    return path.startswith((GOOGLE, S3))


def is_google_address(path: str) -> bool:
    """Whether the address begins with gs://, which TensorFlow and Google's services open themselves."""
    return path.startswith(GOOGLE)


def is_s3_address(path: str) -> bool:
    """Whether the address begins with s3://, for which TensorFlow has no file system."""
    return path.startswith(S3)


def _store(address: str) -> ObjectStore:
    # Each brings its client library, which takes a moment to import.
    if is_s3_address(address):
        from adclick.storage import s3

        return s3
    from adclick.storage import google_storage

    return google_storage


def read(address: str, limit: int | None = None, timeout_seconds: float | None = None, generation: str = "") -> bytes:
    """Reads an object.

    Args:
        address: The object.
        limit: At most so many bytes of its beginning.
        timeout_seconds: How long one answer may take, and all attempts together; the library's defaults if None.
        generation: Which content is meant: none if another is there by now; any if empty.

    Raises:
        FileNotFoundError: There is no such object.
        BucketDenied: The account may not read it.
        BucketUnavailable: It could not be read.
    """
    return _store(address).read(address, 0, limit, generation, timeout_seconds)


def open_read(address: str) -> BinaryIO:
    """Opens an object as it is now; if it is replaced or removed meanwhile, reading on fails.

    Raises:
        FileNotFoundError: There is no such object; also from reading, if it has vanished.
        BucketDenied: The account may not read it.
        BucketUnavailable: It could not be read.
    """
    return io.BufferedReader(_ObjectReader(stat(address)), _READ_BYTES)  # type: ignore[return-value]


class _ObjectReader(io.RawIOBase):
    """One generation of an object."""

    def __init__(self, found: Object) -> None:
        super().__init__()
        self._found = found
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._found.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._found.size - self._position)
        if count <= 0:
            return 0
        address, generation = self._found.address, self._found.generation
        content = _store(address).read(address, self._position, self._position + count, generation, None)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def download(address: str, file: str) -> None:
    """Writes an object to a local file; for errors see `read`."""
    _store(address).download(address, file)


def upload(file: str, address: str) -> None:
    """Writes a local file to an object, which is seen whole or not at all; a large one in parts.

    Raises:
        BucketDenied: The account may not write it.
        BucketUnavailable: It could not be written.
    """
    _store(address).upload(file, address)


def download_folder(address: str, folder: str) -> None:
    """Writes every object below a name to a local folder, which is made; for errors see `read`."""
    prefix = _prefix(address)
    names = [found.address[len(prefix) :] for found in objects_below(address)]
    os.makedirs(folder, exist_ok=True)
    for above in {os.path.dirname(name) for name in names}:
        os.makedirs(os.path.join(folder, above), exist_ok=True)
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda name: download(prefix + name, os.path.join(folder, name)), names))


def upload_folder(folder: str, address: str, leave_out: Collection[str] = ()) -> None:
    """Writes every file below a local folder to an object below a name; for errors see `upload`.

    Args:
        folder: The folder.
        address: The name.
        leave_out: Files that are not written, by their paths in the folder.
    """
    files = (os.path.join(above, file) for above, _, files in os.walk(folder) for file in files)
    names = {os.path.relpath(file, folder) for file in files} - set(leave_out)
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda name: upload(os.path.join(folder, name), _prefix(address) + name), sorted(names)))


def write(address: str, content: bytes) -> None:
    """Writes an object, which is seen whole or not at all; for errors see `upload`."""
    _store(address).write(address, content)


def write_new(address: str, content: bytes) -> bool:
    """Writes an object if there is none of its name; gives whether it did. For errors see `upload`.

    Args:
        address: The object.
        content: What nobody else would write: by it a write is known whose answer was lost.
    """
    if _store(address).write_new(address, content):
        return True
    with contextlib.suppress(FileNotFoundError):
        return read(address) == content
    return False


def stat(address: str) -> Object:
    """Size and generation of an object.

    Raises:
        FileNotFoundError: There is no such object.
        BucketDenied: The account may not read it.
        BucketUnavailable: The bucket could not be asked.
    """
    if not split(address)[1]:
        raise missing(address)
    return _store(address).stat(address)


def is_object(address: str) -> bool:
    """Whether there is an object of this name; for errors see `stat`."""
    with contextlib.suppress(FileNotFoundError):
        stat(address)
        return True
    return False


def is_folder(address: str) -> bool:
    """Whether anything lies below the name."""
    return any(True for _ in _store(address).list_below(_prefix(address), 1))


def objects_below(address: str, limit: int | None = None) -> Iterator[Object]:
    """Every object below the name, or the first `limit`, however deep, sorted by name; markers of folders are none."""
    found = _store(address).list_below(_prefix(address), limit)
    return (each for each in found if not each.address.endswith("/"))


def list_folder(address: str) -> tuple[list[str], list[str]]:
    """Names of the objects and of the folders directly below the name, sorted."""
    prefix = _prefix(address)
    objects, folders = _store(address).list_folder(prefix)
    names = (each[len(prefix) :] for each in objects)
    return sorted(name for name in names if name), sorted(each[len(prefix) :].rstrip("/") for each in folders)


def delete(address: str) -> None:
    """Deletes an object and everything below its name; it may be gone already.

    A SavedModel's own file goes first, so that no server takes what is left for a whole version.
    """
    names = [found.address for found in _store(address).list_below(_prefix(address))]
    names += [address] if split(address)[1] else []
    firsts = [each for each in names if each.endswith("/saved_model.pb")]
    for some in (firsts, [each for each in names if each not in set(firsts)]):
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(_delete_one, some))


def delete_markers(address: str) -> None:
    """Deletes the empty objects at and below a name by which some programs mark folders: their names end in a slash."""
    for found in list(_store(address).list_below(_prefix(address))):
        if found.address.endswith("/") and not found.size:
            _delete_one(found.address)


def _delete_one(address: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        _store(address).delete(address)


def check_writable(folder: str) -> None:
    """Writes an object below a folder and deletes it: the way to know that a run will not fail after an hour.

    Raises:
        BucketDenied: The account may not write, list or delete there.
        BucketUnavailable: The bucket could not be asked.
        ConfigError: There is no such bucket.
    """
    address = f"{folder.rstrip('/')}/.adclick-{uuid.uuid4().hex}"
    try:
        write(address, b"")
        is_folder(folder)
    except FileNotFoundError:
        raise ConfigError(
            f"{folder}: there is no bucket {split(folder)[0]}", "Make the bucket, or correct the config."
        ) from None
    _delete_one(address)


def _prefix(address: str) -> str:
    """The address with the slash that what lies below begins with."""
    return address.rstrip("/") + "/"
