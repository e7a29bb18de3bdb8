"""The one seam to files: local paths, gs:// and s3:// addresses, and what else Apache Beam's FileSystems can open."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import itertools
import os
import posixpath
import re
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

from adclick.storage import bucket
from adclick.storage.bucket import is_bucket_address

if TYPE_CHECKING:
    from apache_beam.io.filesystems import FileSystems

_PARTIAL = ".partial"
_COPYING_THREADS = 16
_SETTLED_NANOSECONDS = 2_000_000_000
#: Beam's name for bytes as they are stored.
_UNCOMPRESSED = "uncompressed"
_SCHEME = re.compile(r"[a-zA-Z][-a-zA-Z0-9+.]*://")


def _is_local(path: str) -> bool:
    return _SCHEME.match(path) is None


def _beam() -> type[FileSystems]:
    # It takes two seconds to import, and what only reads local files and buckets never asks it.
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


def join(folder: str, *parts: str) -> str:
    """Joins a folder and relative names; an absolute last part, local or with a scheme, stands for itself."""
    if parts and (os.path.isabs(parts[-1]) or not _is_local(parts[-1])):
        return parts[-1]
    if is_bucket_address(folder):
        # Object names are plain text to a bucket: it would look for a folder called `..`.
        scheme, _, name = folder.partition("://")
        return f"{scheme}://{posixpath.normpath('/'.join([name, *parts]))}"
    return os.path.join(folder, *parts) if _is_local(folder) else str(_beam().join(folder, *parts))


def exists(path: str) -> bool:
    """Whether there is a file or a folder of this name; raises `PermissionError` where that may not be known."""
    if is_bucket_address(path):
        return isfile(path) or isdir(path)
    if not _is_local(path):
        return _beam().exists(path) or isdir(path)
    try:
        os.stat(path)
    except PermissionError:
        raise
    except (OSError, ValueError):
        return False
    return True


def isfile(path: str) -> bool:
    """Whether this is a file or, in a bucket, an object."""
    if is_bucket_address(path):
        return bucket.is_object(path)
    return os.path.isfile(path) if _is_local(path) else bool(_beam().exists(path))


def isdir(path: str) -> bool:
    """Whether this is a folder; in an object store, whether anything lies below the name."""
    if _is_local(path):
        return os.path.isdir(path)
    if is_bucket_address(path):
        return bucket.is_folder(path)
    return bool(_beam().match([join(path, "**")], limits=[1])[0].metadata_list)


def size(path: str) -> int:
    """Size of a file in bytes."""
    if is_bucket_address(path):
        return bucket.stat(path).size
    return os.path.getsize(path) if _is_local(path) else int(_beam().match([path])[0].metadata_list[0].size_in_bytes)


def list_files(folder: str, patterns: Sequence[str] = ("*",)) -> list[str]:
    """Addresses of the files directly in a folder whose names match one of the patterns, sorted by name."""
    if _is_local(folder):
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.is_dir()]
    elif is_bucket_address(folder):
        names, _ = bucket.list_folder(folder)
    else:
        found = _beam().match([join(folder, "*")])[0].metadata_list
        names = [metadata.path.rpartition("/")[2] for metadata in found]
    return [
        join(folder, name)
        for name in sorted(names)
        if any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in patterns)
    ]


def list_entries(folder: str) -> tuple[list[str], list[str]]:
    """Names of the files and of the folders directly in a folder."""
    if _is_local(folder):
        with os.scandir(folder) as entries:
            files, folders = list[str](), list[str]()
            for entry in entries:
                (folders if entry.is_dir() else files).append(entry.name)
        return files, folders
    if is_bucket_address(folder):
        return bucket.list_folder(folder)
    return [path.rpartition("/")[2] for path in list_files(folder)], list_folders(folder)


def first_names(folder: str, limit: int) -> list[str]:
    """Names of some of the files in a folder, in a bucket also of those deeper in it; at most `limit` are looked at."""
    if _is_local(folder):
        with os.scandir(folder) as entries:
            return [entry.name for entry in itertools.islice(entries, limit) if not entry.is_dir()]
    if is_bucket_address(folder):
        return [found.address.rpartition("/")[2] for found in bucket.objects_below(folder, limit)]
    return [path.rpartition("/")[2] for path in list_files(folder)][:limit]


def list_folders(folder: str) -> list[str]:
    """Names of the folders directly in a folder, sorted."""
    if _is_local(folder):
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    if is_bucket_address(folder):
        return bucket.list_folder(folder)[1]
    root = folder.rstrip("/") + "/"
    below = (metadata.path[len(root) :] for metadata in _beam().match([root + "**"])[0].metadata_list)
    return sorted({path.partition("/")[0] for path in below if "/" in path})


def read(path: str, limit: int, generation: str = "") -> bytes:
    """The first bytes of a file, in one request where it is in a bucket; for errors see `open_read`.

    Args:
        path: The file.
        limit: At most so many bytes.
        generation: In a bucket, the only content that is meant, any if empty; see `storage.object_store.Object`.
    """
    if is_bucket_address(path):
        return bucket.read(path, limit, generation=generation)
    with open_read(path) as stream:
        return stream.read(limit)


def state(path: str) -> str:
    """A text that changes when a file is replaced: size and modification time, or generation; empty if not there."""
    try:
        if is_bucket_address(path):
            found = bucket.stat(path)
            return f"{found.size} {found.generation}"
        if _is_local(path):
            status = os.stat(path)
            return f"{status.st_size} {status.st_mtime_ns}"
        (metadata,) = _beam().match([path])[0].metadata_list
        return f"{metadata.size_in_bytes} {metadata.last_updated_in_seconds}"
    except (OSError, ValueError):  # Beam's own error is an OSError.
        return ""


def read_in_state(path: str, limit: int, known: str) -> tuple[bytes, bool]:
    """Reads the first bytes of a file whose state was just asked for, and tells whether they go by that state.

    They do not where the file was changed meanwhile, nor where a further change might leave the state as it is: within
    two seconds of the last one times are not told apart on every disk.

    Args:
        path: The file.
        limit: At most so many bytes.
        known: Its `state`.

    Raises:
        OSError: The file cannot be opened, see `open_read`.
        AdclickError: A bucket denies it, or does not answer.
    """
    if is_bucket_address(path):
        if known:
            with contextlib.suppress(FileNotFoundError):  # Another may be there by now.
                return read(path, limit, known.partition(" ")[2]), True
        return read(path, limit), False
    asked = time.time_ns()
    content = read(path, limit)
    if not known or not _is_local(path):
        return content, False
    is_settled = int(known.partition(" ")[2]) < asked - _SETTLED_NANOSECONDS
    return content, is_settled and state(path) == known


def fingerprint(path: str) -> str:
    """A hash over path, size and modification time, or generation, of a file or of every file below a folder."""
    if _is_local(path):
        files = sorted(_local_files(path))
    elif is_bucket_address(path):
        found_objects = [bucket.stat(path)] if isfile(path) else bucket.objects_below(path)
        files = sorted((found.address, found.size, found.generation) for found in found_objects)
    else:
        patterns = [path, join(path, "**")]
        found = {item.path: item for match in _beam().match(patterns) for item in match.metadata_list}
        files = sorted((name, item.size_in_bytes, str(item.last_updated_in_seconds)) for name, item in found.items())
    digest = hashlib.sha256()
    for name, size, modified in files:
        digest.update(f"{name}\0{size}\0{modified}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _local_files(path: str) -> Iterator[tuple[str, int, str]]:
    within = (os.path.join(folder, name) for folder, _, names in os.walk(path, onerror=_raise) for name in names)
    for file in within if os.path.isdir(path) else [path]:
        with contextlib.suppress(FileNotFoundError):  # a dangling link is not content
            found = os.stat(file)
            yield os.path.relpath(file, path), found.st_size, str(found.st_mtime_ns)


def _raise(error: OSError) -> None:
    raise error


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
    stream: BinaryIO = _beam().open(path, compression_type=_UNCOMPRESSED)
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
        _beam().rename([temporary], [path])
    except BaseException:
        with contextlib.suppress(OSError):
            delete(temporary)
        raise


@contextlib.contextmanager
def open_write_atomic(path: str) -> Iterator[BinaryIO]:
    """Opens a file to write; nobody sees it under its name until it is whole. Folders are made as needed."""
    with (
        atomic_path(path) as temporary,
        _beam().create(temporary, "application/octet-stream", _UNCOMPRESSED) as stream,
    ):
        yield stream


def copy_file(source: str, target: str) -> None:
    """Copies a file from here or a bucket to here or a bucket; folders are made as needed."""
    if not is_bucket_address(source):
        if is_bucket_address(target):
            bucket.upload(source, target)
            return
        make_folder(os.path.dirname(target))
        shutil.copyfile(source, target)
    elif not is_bucket_address(target):
        make_folder(os.path.dirname(target))
        bucket.download(source, target)
    else:
        with tempfile.TemporaryDirectory(prefix="adclick-copy-") as folder:
            file = os.path.join(folder, "file")
            bucket.download(source, file)
            bucket.upload(file, target)


def copy_folder(source: str, target: str, leave_out: Collection[str] = ()) -> None:
    """Copies all that is below a folder, but for the files in `leave_out`, which are paths within it."""
    if is_bucket_address(source):
        prefix = source.rstrip("/") + "/"
        names = [found.address[len(prefix) :] for found in bucket.objects_below(source)]
    else:
        files = (os.path.join(above, file) for above, _, files in os.walk(source) for file in files)
        names = [os.path.relpath(file, source) for file in files]
    wanted = sorted(set(names) - set(leave_out))
    with ThreadPoolExecutor(_COPYING_THREADS) as pool:
        list(pool.map(lambda name: copy_file(join(source, name), join(target, name)), wanted))


def make_folder(path: str) -> None:
    """Makes a folder and those above it; it may be there already."""
    if _is_local(path):
        os.makedirs(path, exist_ok=True)
    elif not is_bucket_address(path):  # which knows no folders
        from apache_beam.io.filesystem import BeamIOError

        with contextlib.suppress(BeamIOError):
            _beam().mkdirs(path)


def rename(source: str, target: str) -> None:
    """Renames a file or a folder; nothing may be at `target`. At once on a local disk, a file at a time elsewhere."""
    if bucket.is_s3_address(source):  # of whose names Beam knows no folders
        if bucket.is_object(source):
            copy_file(source, target)
        else:
            copy_folder(source, target)
        bucket.delete(source)
        return
    _beam().rename([source], [target])


def delete(path: str) -> None:
    """Deletes a file, or a folder with all that is in it; it may be gone already."""
    if is_bucket_address(path):
        bucket.delete(path)
        return
    if _is_local(path):  # Beam would take the path for a pattern
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, onerror=_unless_gone)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
        return
    from apache_beam.io.filesystem import BeamIOError

    with contextlib.suppress(BeamIOError, FileNotFoundError):
        if exists(path):
            _beam().delete([path])


def _unless_gone(_: object, path: str, raised: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(raised[1], FileNotFoundError):
        raise raised[1]


def delete_partial(folder: str) -> None:
    """Deletes what writers that were killed left in a folder; in a bucket they leave nothing."""
    if not is_bucket_address(folder) and exists(folder):
        for file in list_files(folder, [f"*{_PARTIAL}"]):
            delete(file)
