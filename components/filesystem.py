"""The one seam to files: local paths and whatever Apache Beam's FileSystems can open, such as gs://."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

_PARTIAL = ".partial"


def _is_local(path: str) -> bool:
    return FileSystems.get_scheme(path) is None


def join(folder: str, *parts: str) -> str:
    """Joins a folder and relative names; an absolute last part, local or with a scheme, stands for itself."""
    if parts and (os.path.isabs(parts[-1]) or not _is_local(parts[-1])):
        return parts[-1]
    return str(FileSystems.join(folder, *parts))


def exists(path: str) -> bool:
    """Whether there is a file or a folder of this name."""
    return os.path.exists(path) if _is_local(path) else FileSystems.exists(path) or isdir(path)


def isdir(path: str) -> bool:
    """Whether this is a folder; in an object store, whether anything lies below the name."""
    if _is_local(path):
        return os.path.isdir(path)
    return bool(FileSystems.match([join(path, "**")], limits=[1])[0].metadata_list)


def size(path: str) -> int:
    """Size of a file in bytes."""
    return (
        os.path.getsize(path) if _is_local(path) else int(FileSystems.match([path])[0].metadata_list[0].size_in_bytes)
    )


def list_files(folder: str, patterns: Sequence[str] = ("*",)) -> list[str]:
    """Addresses of the files directly in a folder whose names match one of the patterns, sorted by name."""
    if _is_local(folder):
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.is_dir()]
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
    root = folder.rstrip("/") + "/"
    below = (metadata.path[len(root) :] for metadata in FileSystems.match([root + "**"])[0].metadata_list)
    return sorted({path.partition("/")[0] for path in below if "/" in path})


def fingerprint(path: str) -> str:
    """A hash over relative path, size and modification time of a file, or of every file below a folder."""
    if _is_local(path):
        files = sorted(_local_files(path))
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
    """
    if _is_local(path):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise IsADirectoryError(f"not a regular file: {path!r}")
        return open(path, "rb")
    stream: BinaryIO = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return stream


@contextlib.contextmanager
def atomic_path(path: str) -> Iterator[str]:
    """Gives a temporary name beside `path` to write to; it becomes `path` if the block succeeds, and goes if not."""
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
    else:
        with contextlib.suppress(BeamIOError):
            FileSystems.mkdirs(path)


def rename(source: str, target: str) -> None:
    """Renames a file or a folder; nothing may be at `target`. At once on a local disk, a file at a time elsewhere."""
    FileSystems.rename([source], [target])


def delete(path: str) -> None:
    """Deletes a file, or a folder with all that is in it; it may be gone already."""
    with contextlib.suppress(BeamIOError, FileNotFoundError):
        if exists(path):
            FileSystems.delete([path])


def delete_partial(folder: str) -> None:
    """Deletes what writers that were killed left in a folder."""
    if exists(folder):
        for file in list_files(folder, [f"*{_PARTIAL}"]):
            delete(file)
