"""The one seam to files: local paths, gs:// addresses, and whatever else Apache Beam's FileSystems can open."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import posixpath
import stat
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from models import bucket
from models.bucket import is_bucket_address

_PARTIAL = ".partial"


def _is_local(path: str) -> bool:
    return FileSystems.get_scheme(path) is None


def join(folder: str, *parts: str) -> str:
    """Joins a folder and relative names; an absolute last part, local or with a scheme, stands for itself."""
    if parts and (os.path.isabs(parts[-1]) or not _is_local(parts[-1])):
        return parts[-1]
    if is_bucket_address(folder):
        # Object names are plain text to a bucket: it would look for a folder called `..`.
        return bucket.SCHEME + posixpath.normpath("/".join([folder.removeprefix(bucket.SCHEME), *parts]))
    return str(FileSystems.join(folder, *parts))


def exists(path: str) -> bool:
    """Whether there is a file or a folder of this name."""
    if is_bucket_address(path):
        return isfile(path) or isdir(path)
    return os.path.exists(path) if _is_local(path) else FileSystems.exists(path) or isdir(path)


def isfile(path: str) -> bool:
    """Whether this is a file or, in a bucket, an object."""
    if is_bucket_address(path):
        return bucket.is_object(path)
    return os.path.isfile(path) if _is_local(path) else bool(FileSystems.exists(path))


def isdir(path: str) -> bool:
    """Whether this is a folder; in an object store, whether anything lies below the name."""
    if _is_local(path):
        return os.path.isdir(path)
    if is_bucket_address(path):
        return bucket.is_folder(path)
    return bool(FileSystems.match([join(path, "**")], limits=[1])[0].metadata_list)


def size(path: str) -> int:
    """Size of a file in bytes."""
    if is_bucket_address(path):
        return bucket.stat(path).size
    return (
        os.path.getsize(path) if _is_local(path) else int(FileSystems.match([path])[0].metadata_list[0].size_in_bytes)
    )


def list_files(folder: str, patterns: Sequence[str] = ("*",)) -> list[str]:
    """Addresses of the files directly in a folder whose names match one of the patterns, sorted by name."""
    if _is_local(folder):
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.is_dir()]
    elif is_bucket_address(folder):
        names, _ = bucket.list_folder(folder)
    else:
        found = FileSystems.match([join(folder, "*")])[0].metadata_list
        names = [metadata.path.rpartition("/")[2] for metadata in found]
    return [
        join(folder, name)
        for name in sorted(names)
        if any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in patterns)
    ]


def list_folders(folder: str) -> list[str]:
    """Names of the folders directly in a folder, sorted."""
    if _is_local(folder):
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    if is_bucket_address(folder):
        return bucket.list_folder(folder)[1]
    root = folder.rstrip("/") + "/"
    below = (metadata.path[len(root) :] for metadata in FileSystems.match([root + "**"])[0].metadata_list)
    return sorted({path.partition("/")[0] for path in below if "/" in path})


def read(path: str, limit: int) -> bytes:
    """The first bytes of a file, in one request where it is in a bucket; for errors see `open_read`."""
    if is_bucket_address(path):
        return bucket.read(path, limit)
    with open_read(path) as stream:
        return stream.read(limit)


def fingerprint(path: str) -> str:
    """A hash over path, size and modification time, or generation, of a file or of every file below a folder."""
    if _is_local(path):
        files = sorted(_local_files(path))
    elif is_bucket_address(path):
        found_objects = [bucket.stat(path)] if isfile(path) else bucket.objects_below(path)
        files = sorted((found.address, found.size, str(found.generation)) for found in found_objects)
    else:
        patterns = [path, join(path, "**")]
        found = {item.path: item for match in FileSystems.match(patterns) for item in match.metadata_list}
        files = sorted((name, item.size_in_bytes, str(item.last_updated_in_seconds)) for name, item in found.items())
    digest = hashlib.sha256()
    for name, size, modified in files:
        digest.update(f"{name}\0{size}\0{modified}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _local_files(path: str) -> Iterator[tuple[str, int, str]]:
    within = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    for file in within if os.path.isdir(path) else [path]:
        with contextlib.suppress(FileNotFoundError):  # a dangling link is not content
            found = os.stat(file)
            yield os.path.relpath(file, path), found.st_size, str(found.st_mtime_ns)


def open_read(path: str) -> BinaryIO:
    """Opens a file's bytes as they are stored, never decompressed.

    Raises:
        OSError: The file cannot be opened; `IsADirectoryError` also for devices and pipes.
        AdclickError: A bucket denies it, or does not answer.
    """
    if _is_local(path):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise IsADirectoryError(f"not a regular file: {path!r}")
        return open(path, "rb")
    if is_bucket_address(path):
        return bucket.open_read(path)
    stream: BinaryIO = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return stream


@contextlib.contextmanager
def atomic_path(path: str) -> Iterator[str]:
    """Gives a temporary name to write to; it becomes `path` if the block succeeds, and goes if not.

    For a bucket, where there is no renaming and an object is whole when it appears, it is that of a local file.
    """
    if is_bucket_address(path):
        with tempfile.TemporaryDirectory(prefix="adclick-upload-") as folder:
            file = os.path.join(folder, posixpath.basename(path))
            yield file
            bucket.upload(file, path)
        return
    temporary = f"{path}.{uuid.uuid4().hex}{_PARTIAL}"
    try:
        yield temporary
        FileSystems.rename([temporary], [path])
    except BaseException:
        delete(temporary)
        raise


@contextlib.contextmanager
def open_write_atomic(path: str) -> Iterator[BinaryIO]:
    """Opens a file to write; nobody sees it under its name until it is whole. Folders are made as needed."""
    with (
        atomic_path(path) as temporary,
        FileSystems.create(temporary, "application/octet-stream", CompressionTypes.UNCOMPRESSED) as stream,
    ):
        yield stream


def make_folder(path: str) -> None:
    """Makes a folder and those above it; it may be there already."""
    if _is_local(path):
        os.makedirs(path, exist_ok=True)
    elif not is_bucket_address(path):  # which knows no folders
        with contextlib.suppress(BeamIOError):
            FileSystems.mkdirs(path)


def rename(source: str, target: str) -> None:
    """Renames a file or a folder; nothing may be at `target`. At once on a local disk, a file at a time elsewhere."""
    FileSystems.rename([source], [target])


def delete(path: str) -> None:
    """Deletes a file, or a folder with all that is in it; it may be gone already."""
    if is_bucket_address(path):
        bucket.delete(path)
        return
    with contextlib.suppress(BeamIOError, FileNotFoundError):
        if exists(path):
            FileSystems.delete([path])


def delete_partial(folder: str) -> None:
    """Deletes what writers that were killed left in a folder; in a bucket they leave nothing."""
    if not is_bucket_address(folder) and exists(folder):
        for file in list_files(folder, [f"*{_PARTIAL}"]):
            delete(file)
